//! `qemu-tests build`: cross builds by hand, and the floor check.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::build::{Program, SHIPPED, build};
use super::failure::BuildError;
use super::floor::floor_check;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::command_line::parse;

/// Build static programs for a device.
#[derive(Debug, Parser)]
#[command(name = "build", no_binary_name = true)]
struct Arguments {
    /// For which architecture; all without this
    #[arg(long)]
    target: Option<Arch>,
    /// Only this package; the two shipped ones without this
    #[arg(long, short)]
    package: Option<String>,
    /// Only this binary of the package
    #[arg(long, requires = "package")]
    bin: Option<String>,
    /// Check that the workspace compiles with rustc 1.85, and build nothing
    #[arg(long, conflicts_with_all = ["target", "package"])]
    floor: bool,
}

/// Runs the command.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments: Arguments = match parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("build: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BuildError> {
    let cache = Cache::open()?;
    if arguments.floor {
        return floor_check(&cache);
    }
    let wanted = arguments.package.as_deref();
    let one = wanted.map(|package| [Program { package, binary: arguments.bin.as_deref() }]);
    let programs = one.as_ref().map_or(&SHIPPED[..], |one| &one[..]);
    let targets = arguments.target.map_or_else(|| Arch::ALL.to_vec(), |arch| vec![arch]);
    for arch in targets {
        for artifact in build(&cache, arch, programs)? {
            let size_bytes = std::fs::metadata(&artifact.path).map_or(0, |metadata| metadata.len());
            println!("{:<12} {arch:<6} {size_bytes:>8} {}", artifact.name, artifact.path.display());
        }
    }
    Ok(())
}
