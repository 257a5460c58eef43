//! `yado release`: makes signed releases of images, for boards to update to, and looks into them.

#[cfg(feature = "builder")]
mod build;
mod place;
mod show;
mod sign;

use crate::command_line::Outcome;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[cfg(feature = "builder")]
    Build(Box<build::Arguments>),
    Sign(sign::Arguments),
    Show(show::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    match arguments.verb {
        #[cfg(feature = "builder")]
        Verb::Build(arguments) => build::run(*arguments),
        Verb::Sign(arguments) => sign::run(&arguments),
        Verb::Show(arguments) => show::run(&arguments),
    }
}
