//! How every command here reads its arguments.

use std::ffi::OsString;
use std::process::ExitCode;

/// Reads `args`, without the program's name. After `--help` or a mistake all is said, and only the exit code is left.
pub(crate) fn parse<T: clap::Parser>(args: &[OsString]) -> Result<T, ExitCode> {
    T::try_parse_from(args).map_err(|error| {
        // A closed standard output leaves nothing to be told to anybody.
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
    })
}
