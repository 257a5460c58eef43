//! The command line as a whole: which verbs there are, and what becomes of their errors.

use crate::{check, check_kernel, compile, help, image, key, rescue};
use clap::{CommandFactory, Parser, Subcommand};
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// What a verb ends with: an exit code of its own, or what went wrong, which is printed once, here.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Runs signed, full-OS containers on small devices
#[derive(Debug, Parser)]
#[command(name = "yado", version, max_term_width = 100, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Rescue(rescue::Arguments),
    Image(image::Arguments),
    Key(key::Arguments),
    Check(check::Arguments),
    Compile(compile::Arguments),
    CheckKernel(check_kernel::Arguments),
    Help(help::Arguments),
}

/// The part `yado`; `args` without the program's name.
pub fn main(args: &[OsString]) -> ExitCode {
    let program = OsString::from("yado");
    let command_line = match CommandLine::try_parse_from(std::iter::once(&program).chain(args)) {
        Ok(command_line) => command_line,
        Err(error) => {
            // A closed standard output leaves nothing to be told to anybody.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match run(command_line.verb) {
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
        Verb::Rescue(arguments) => rescue::run(arguments),
        Verb::Image(arguments) => image::run(arguments),
        Verb::Key(arguments) => key::run(arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Compile(arguments) => compile::run(&arguments),
        Verb::CheckKernel(arguments) => check_kernel::run(&arguments),
        Verb::Help(arguments) => help::run(&arguments, CommandLine::command()),
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

    fn check_help(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(check_help);
    }
}
