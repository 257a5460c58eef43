//! On this machine's own kernel: whole starts beside crun, LXC and bare namespaces, which `native` has, and then the launcher
//! alone, which its own tests have. What is measured are the programs as they are shipped, because what a start costs is
//! also how its program was compiled and linked.

use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::Tool;
use crate::{cross, provision, report};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// Times single starts on this machine.
pub(super) fn main() -> ExitCode {
    println!("load of this machine before: {}", load());
    let directory = report::directory("bench", Arch::Amd64);
    let native = Cache::open().map_err(Into::into).and_then(|cache| super::native::measure(&cache, &directory));
    match &native {
        Ok(true) => {}
        Ok(false) => println!("   not as quick as it is to be, or not compared"),
        Err(error) => eprintln!("bench: {error}"),
    }
    match tool().and_then(|tool| Ok(tool.output()?)) {
        Ok(tables) => {
            println!("{tables}load of this machine after: {}", load());
            if matches!(native, Ok(true)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The load of the machine that measures.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn tool() -> Result<Tool, Box<dyn Error>> {
    let cache = Cache::open()?;
    let launcher = cross::build(&cache, Arch::Amd64, &[cross::Program { package: "yado", binary: None }])?;
    let launcher = launcher.into_iter().next().ok_or("no program was built")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = "test --quiet --release --package yado-container --test hosted -- --bench";
    let tool = Tool::new(cargo).in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).args(words.split(' '));
    let tool = tool.env("YADO_BENCH_LAUNCHER", launcher.path);
    // Unpacked and not installed: LXC's package makes a bridge on the machine.
    match provision::peers(&cache, Arch::Amd64) {
        Ok(tree) => Ok(tool.env("YADO_BENCH_LXC", tree)),
        Err(error) => {
            eprintln!("without LXC: {error}");
            Ok(tool)
        }
    }
}
