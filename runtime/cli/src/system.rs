//! `yado system`: the slots of this device, and whether its boot loader does what updates need.

use crate::command_line::Outcome;
use crate::output::Format;
use crate::part;
use crate::rescue;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, global = true, value_name = "PATH", default_value = rescue::SOCKET)]
    socket: PathBuf,
    /// How to show it
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the slots, what is in them, and which the boot loader starts next
    Slots,
    /// Prove that the boot loader's state can be changed: write a mark, read it back, and say what is missing
    CheckBoot,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { socket, format, verb } = arguments;
    let verb = match verb {
        Verb::Slots => "slots",
        Verb::CheckBoot => "check-boot",
    };
    part::show_updater(verb, socket, *format)
}
