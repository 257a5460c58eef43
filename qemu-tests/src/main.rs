//! The dispatch table of `cargo demo`, `cargo accept` and the steps below them. Each command parses its own
//! arguments.

use std::ffi::OsString;
use std::process::ExitCode;

struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[OsString]) -> ExitCode,
}

const COMMANDS: &[Command] = &[
    Command { name: "demo", about: "boot a board and show the main job", run: qemu_tests::demo::main },
    Command { name: "accept", about: "set up what is needed and run every test", run: qemu_tests::accept::main },
    Command {
        name: "provision",
        about: "fetch and build what the boards need, into the cache",
        run: qemu_tests::provision::main,
    },
    Command { name: "bench", about: "measure time, memory and size", run: qemu_tests::bench::main },
    Command { name: "build", about: "build static programs for a device", run: qemu_tests::cross::main },
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let name = args.next();
    let rest: Vec<OsString> = args.collect();
    let found = COMMANDS.iter().find(|command| name.as_deref().is_some_and(|name| name == command.name));
    match found {
        Some(command) => (command.run)(&rest),
        None => {
            print_usage();
            ExitCode::from(2)
        }
    }
}

fn print_usage() {
    eprintln!("usage: qemu-tests COMMAND …\n");
    for Command { name, about, .. } in COMMANDS {
        eprintln!("  {name:<10} {about}");
    }
}
