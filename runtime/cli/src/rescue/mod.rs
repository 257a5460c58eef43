//! `yado rescue`: talks to init itself, without the API, for the day when nothing else answers.

mod connection;
mod console;
mod control;
mod detach_key;
mod events;
mod exec;
mod links;
mod logs;
mod relay;
mod status;
mod status_view;
mod terminal;

use crate::command_line::Outcome;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use yado_wire::InstanceName;

/// Talk to init itself: works when nothing else does
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/yado/init.sock")]
    socket: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Status(status::Arguments),
    Logs(logs::Arguments),
    Exec(exec::Arguments),
    Start(control::StartArguments),
    Stop(control::StopArguments),
    Restart(control::RestartArguments),
    Console(console::Arguments),
    Events(events::Arguments),
    /// Stop all instances in order, then reboot
    Reboot,
    /// Stop all instances in order, then power off
    Poweroff,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { socket, verb } = arguments;
    match verb {
        Verb::Status(arguments) => status::run(&socket, &arguments),
        Verb::Logs(arguments) => logs::run(&socket, arguments),
        Verb::Exec(arguments) => exec::run(&socket, arguments),
        Verb::Start(arguments) => control::start(&socket, arguments),
        Verb::Stop(arguments) => control::stop(&socket, arguments),
        Verb::Restart(arguments) => control::restart(&socket, arguments),
        Verb::Console(arguments) => console::run(&socket, arguments),
        Verb::Events(arguments) => events::run(&socket, &arguments),
        Verb::Reboot => control::reboot(&socket),
        Verb::Poweroff => control::poweroff(&socket),
    }
}

/// For clap: an instance's name on the command line.
fn parse_instance(text: &str) -> Result<InstanceName, String> {
    InstanceName::parse(text).map_err(|error| error.to_string())
}
