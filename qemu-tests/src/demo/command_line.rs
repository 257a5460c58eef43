//! The command line of `cargo demo`.

use super::{Visitor, run};
use crate::arch::Arch;
use crate::board::{BuildError, remove_disk};
use crate::cache::Cache;
use crate::command_line::parse;
use crate::length::Length;
use crate::report::{self, Report};
use crate::steps::Wanted;
use crate::update::{self, Course};
use clap::Parser;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Builds everything, boots a board in QEMU, and shows the main job.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", no_binary_name = true)]
struct Arguments {
    /// Which board: arm64 or armhf
    #[arg(long, default_value_t = Arch::Arm64)]
    arch: Arch,
    /// Shows updates instead: one release after the other, the good ones kept and the bad ones left
    #[arg(long, conflicts_with = "interactive")]
    update: bool,
    /// Gives you the board's console before it is powered off
    #[arg(long)]
    interactive: bool,
    /// Keeps the board's disk for a look at it
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub fn main(args: &[OsString]) -> ExitCode {
    let Arguments { arch, update, interactive, keep } = match parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let directory = report::directory(if update { "update" } else { "demo" }, arch);
    let visitor = if interactive { Visitor::AtConsole } else { Visitor::None };
    let shown = if update { show_updates(arch, &directory) } else { show(arch, visitor, &directory) };
    let report = match shown {
        Ok(report) => report,
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    report.print_summary();
    println!("serial log, report: {}", directory.display());
    if let Err(error) = report.write(&directory.join("report.json")) {
        eprintln!("demo: write the report: {error}");
        return ExitCode::FAILURE;
    }
    if !keep {
        remove_disks(&directory);
    }
    if report.is_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(arch: Arch, visitor: Visitor, directory: &Path) -> Result<Report, BuildError> {
    std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
    run(&Cache::open()?, arch, visitor, directory, &Wanted::All)
}

fn show_updates(arch: Arch, directory: &Path) -> Result<Report, BuildError> {
    update::run(&Cache::open()?, arch, directory, Course::Usual, Length::Short, &Wanted::All)
}

/// Disks are large and only of use to somebody who looks for a fault.
fn remove_disks(directory: &Path) {
    remove_disk(directory, &["stick.img"]);
}
