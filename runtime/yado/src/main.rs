//! The one binary for everything but PID 1: it becomes the part it is called by, or, called `yado`, the part that its first
//! argument names, or else the command. The choice is the first thing it does, so the launcher pays for nothing else.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// musl's allocator maps and unmaps memory for every few objects. For a command that lives some milliseconds on a slow
/// processor that is a good part of its life.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What the binary can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `yado`: the command.
    Command,
    /// `yado-container`: the launcher.
    Container,
    /// `yado-netd`: the network daemon.
    Netd,
    /// `yado-updater`: slots and releases.
    Updater,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    match choose(&args) {
        #[cfg(feature = "cli")]
        (Part::Command, rest) => yado_cli::main(rest),
        #[cfg(feature = "container")]
        (Part::Container, rest) => yado_container::main(rest),
        #[cfg(feature = "netd")]
        (Part::Netd, rest) => yado_netd::main(rest),
        #[cfg(feature = "updater")]
        (Part::Updater, rest) => yado_updater::main(rest),
        #[allow(unreachable_patterns, reason = "reached only when a part was left out")]
        (part, _) => {
            eprintln!("yado: built without the part {part:?}");
            ExitCode::from(2)
        }
    }
}

/// The part to become, and its arguments.
fn choose(args: &[OsString]) -> (Part, &[OsString]) {
    let Some((program, rest)) = args.split_first() else {
        return (Part::Command, &[]);
    };
    let called = Path::new(program).file_name().and_then(|name| name.to_str());
    if let Some(part) = called.and_then(|name| name.strip_prefix("yado-")).and_then(named) {
        return (part, rest);
    }
    match rest.split_first().and_then(|(first, others)| Some((named(first.to_str()?)?, others))) {
        Some(chosen) => chosen,
        None => (Part::Command, rest),
    }
}

fn named(name: &str) -> Option<Part> {
    match name {
        "container" => Some(Part::Container),
        "netd" => Some(Part::Netd),
        "updater" => Some(Part::Updater),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_then_the_first_argument_then_it_is_the_command() {
        let cases: &[(&[&str], Part, &[&str])] = &[
            (&["yado-container", "run"], Part::Container, &["run"]),
            (&["/usr/bin/yado-netd"], Part::Netd, &[]),
            (&["/usr/bin/yado", "updater", "status"], Part::Updater, &["status"]),
            (&["yado", "netd", "netd"], Part::Netd, &["netd"]),
            (&["yado-container", "netd"], Part::Container, &["netd"]),
            (&["yado", "rescue", "container"], Part::Command, &["rescue", "container"]),
            (&["yado-armhf", "check"], Part::Command, &["check"]),
            (&["yado"], Part::Command, &[]),
            (&[], Part::Command, &[]),
        ];
        for (words, part, rest) in cases {
            let args: Vec<OsString> = words.iter().map(OsString::from).collect();
            let rest: Vec<OsString> = rest.iter().map(OsString::from).collect();
            assert_eq!(choose(&args), (*part, rest.as_slice()), "{words:?}");
        }
    }
}
