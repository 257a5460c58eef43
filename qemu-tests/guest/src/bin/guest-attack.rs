//! Makes the attempts of `qemu_guest::attack` from inside a container and prints what came of each, one line for each:
//! name, verdict, errno or figure. Judging is for whoever runs it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    qemu_guest::attack::main(&words)
}
