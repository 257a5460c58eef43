//! The updater without the rest of `yado`: its tests start it as a process of its own.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    yado_updater::main(&args)
}
