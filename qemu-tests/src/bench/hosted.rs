//! The same comparison on this machine's own kernel: the launcher's tests have it, with crun, LXC and bare namespaces. It is
//! built as it is shipped, because what a start costs is also how its program was compiled.

use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::Tool;
use crate::provision;
use std::path::Path;
use std::process::ExitCode;

/// Times single starts on this machine.
pub(super) fn main() -> ExitCode {
    println!("load of this machine before: {}", super::load());
    match tool().output() {
        Ok(tables) => {
            println!("{tables}load of this machine after: {}", super::load());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tool() -> Tool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = "test --quiet --release --package yado-container --test hosted -- --bench";
    let tool = Tool::new(cargo).in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).args(words.split(' '));
    // Unpacked and not installed: LXC's package makes a bridge on the machine.
    match Cache::open().map_err(Into::into).and_then(|cache| provision::peers(&cache, Arch::Amd64)) {
        Ok(tree) => tool.env("YADO_BENCH_LXC", tree),
        Err(error) => {
            eprintln!("without LXC: {error}");
            tool
        }
    }
}
