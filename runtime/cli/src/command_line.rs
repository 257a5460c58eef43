//! The command line as a whole: which verbs there are, and what becomes of their errors.

use crate::lazy::Lazy;
use crate::{apply, check, check_kernel, compile, help, image, key, release, rescue, system, update};
use clap::{CommandFactory, Parser, Subcommand};
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// What a verb ends with: an exit code of its own, or what went wrong, which is printed once, here.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// What the binary can do besides, in parts that have command lines of their own.
const OTHER_PARTS: &str =
    "On a device, `yado system slots` shows the slots, and which of them the boot loader starts next.";

/// Runs signed, full-OS containers on small devices
#[derive(Debug, Parser)]
#[command(name = "yado", version, max_term_width = 100, disable_help_subcommand = true, after_help = OTHER_PARTS)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make what runs what is configured, and show what changes
    Apply(Lazy<apply::Arguments>),
    /// Install releases, try them, keep them or go back
    Update(Lazy<update::Arguments>),
    /// Show the slots, and whether the boot loader does what updates need
    System(Lazy<system::Arguments>),
    /// Talk to init itself: works when nothing else does
    Rescue(Lazy<rescue::Arguments>),
    /// Make signed images, and look into them
    Image(Lazy<image::Arguments>),
    /// Make signed releases of images, and look into them
    Release(Lazy<release::Arguments>),
    /// Make the keys that sign images and releases
    Key(Lazy<key::Arguments>),
    /// Say what is wrong with configuration files: file, line, key, value, and what would be right
    Check(Lazy<check::Arguments>),
    /// Compile TOML to specs: NAME.bin or NAME.err each, and networks.bin (exit code 3: some are bad)
    Compile(Lazy<compile::Arguments>),
    /// Say what the kernel lacks, what it is for, and why
    CheckKernel(Lazy<check_kernel::Arguments>),
    /// Show help: of a verb (`help rescue exec`), of all keys (`help keys`), of one (`help keys limits.memory`)
    Help(Lazy<help::Arguments>),
}

/// The part `yado`; `args` without the program's name.
pub fn main(args: &[OsString]) -> ExitCode {
    if let Some(arguments) = rescue::plain::read(args) {
        return end(rescue::run(arguments));
    }
    let program = OsString::from("yado");
    let command_line = match CommandLine::try_parse_from(std::iter::once(&program).chain(args)) {
        Ok(command_line) => command_line,
        Err(error) => {
            // A closed standard output leaves nothing to be told to anybody.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    end(run(command_line.verb))
}

fn end(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) if is_closed_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yado: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Outcome {
    match verb {
        Verb::Apply(Lazy(arguments)) => apply::run(&arguments),
        Verb::Update(Lazy(arguments)) => update::run(arguments),
        Verb::System(Lazy(arguments)) => system::run(&arguments),
        Verb::Rescue(Lazy(arguments)) => rescue::run(arguments),
        Verb::Image(Lazy(arguments)) => image::run(arguments),
        Verb::Release(Lazy(arguments)) => release::run(arguments),
        Verb::Key(Lazy(arguments)) => key::run(arguments),
        Verb::Check(Lazy(arguments)) => check::run(&arguments),
        Verb::Compile(Lazy(arguments)) => compile::run(&arguments),
        Verb::CheckKernel(Lazy(arguments)) => check_kernel::run(&arguments),
        Verb::Help(Lazy(arguments)) => help::run(&arguments, CommandLine::command()),
    }
}

/// The reader of our standard output has gone, as in `yado … | head`.
fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_verb_and_option_has_help() {
        let mut root = CommandLine::command();
        root.build();
        root.clone().debug_assert();
        check_help(&root);
    }

    #[test]
    fn what_is_read_by_hand_is_what_clap_reads() {
        for line in [
            "rescue start web",
            "rescue --socket /tmp/s stop web db",
            "rescue restart a b c",
            "rescue start help",
            "rescue status",
            "rescue status web",
            "rescue status --format json",
            "rescue --socket /tmp/s status --format table web",
            // These are left to clap.
            "rescue stop -f web",
            "rescue start",
            "rescue start -- web",
            "rescue start --help",
            "rescue start 9web",
            "rescue start web --socket x",
            "rescue --socket=/x start web",
            "rescue --socket start web",
            "rescue --socket -x start web",
            "rescue status web db",
            "rescue status --format xml",
            "rescue status --format JSON",
            "rescue status --format=json",
            "rescue status --format",
            "rescue status web --format json",
            "rescue",
            "check start web",
            "",
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let parsed = CommandLine::try_parse_from(std::iter::once(OsString::from("yado")).chain(words.clone()));
            match (rescue::plain::read(&words), parsed) {
                (Some(ours), Ok(CommandLine { verb: Verb::Rescue(Lazy(theirs)) })) => {
                    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{line}");
                }
                (Some(ours), other) => panic!("{line}: {ours:?} {other:?}"),
                (None, _) => {}
            }
        }
        let read =
            |words: &[&str]| rescue::plain::read(&words.iter().map(OsString::from).collect::<Vec<_>>()).is_some();
        assert!(read(&["rescue", "start", "web"]) && read(&["rescue", "--socket", "/s", "stop", "a", "b"]));
        assert!(read(&["rescue", "status"]) && read(&["rescue", "status", "--format", "json", "web"]));
        assert!(!read(&["rescue", "--socket", "", "start", "web"]) && !read(&["rescue", "start", "web", "-x"]));
    }

    fn check_help(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(check_help);
    }
}
