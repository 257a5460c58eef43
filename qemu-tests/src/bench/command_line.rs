//! The command line of `cargo bench-board`.

use super::{BenchReport, hosted, run};
use crate::arch::Arch;
use crate::board::{BuildError, remove_disk};
use crate::cache::Cache;
use crate::command_line::parse;
use crate::report;
use clap::Parser;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Measures time, memory and size: on a board in QEMU, or of single starts on this machine
#[derive(Debug, Parser)]
#[command(name = "cargo bench-board", no_binary_name = true)]
struct Arguments {
    /// Which board: arm64 or armhf
    #[arg(long, default_value_t = Arch::Arm64, conflicts_with = "hosted")]
    arch: Arch,
    /// Times single starts on this machine's own kernel instead, beside crun, LXC and bare namespaces
    #[arg(long)]
    hosted: bool,
}

/// Runs the command.
pub fn main(args: &[OsString]) -> ExitCode {
    let Arguments { arch, hosted } = match parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if hosted {
        return hosted::main();
    }
    let directory = report::directory("bench", arch);
    let report = match measure(arch, &directory) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("serial log, report: {}", directory.display());
    for failure in &report.failures {
        println!("not measured: {failure}");
    }
    if let Err(error) = report.write(&directory.join("report.json")) {
        eprintln!("bench: write the report: {error}");
        return ExitCode::FAILURE;
    }
    remove_disks(&directory);
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(arch: Arch, directory: &Path) -> Result<BenchReport, BuildError> {
    run(&Cache::open()?, arch, directory)
}

/// Disks are large and of no use afterwards.
fn remove_disks(directory: &Path) {
    remove_disk(directory, &["data.ext4"]);
    for name in ["data.tree", "systemd-lxc"] {
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
}
