//! The same comparison on this machine's own kernel: the launcher's tests have it, with crun and with bare namespaces. It
//! is built as it is shipped, because what a start costs is also how its program was compiled.

use crate::command::Tool;
use std::path::Path;
use std::process::ExitCode;

/// Times single starts on this machine.
pub(super) fn main() -> ExitCode {
    println!("load of this machine before: {}", super::load());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let measured = Tool::new(cargo)
        .in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["test", "--quiet", "--release", "--package", "yado-container", "--test", "hosted", "--", "--bench"])
        .output();
    match measured {
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
