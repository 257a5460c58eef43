//! `yado rescue`: talks to init itself, without the API, for the day when nothing else answers.

mod apply;
mod connection;
mod console;
mod control;
mod detach_key;
mod events;
mod exec;
mod links;
mod logs;
pub(crate) mod plain;
mod relay;
mod status;
mod status_view;
mod terminal;
mod update;

use crate::command_line::Outcome;
use crate::lazy::Lazy;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use yado_wire::InstanceName;

pub(crate) use apply::{apply, instances};
pub(crate) use links::{NetworkFailure, reload};
pub(crate) use status_view::failure_json;
pub(crate) use update::{StartedUpdater, running as running_updater, stop as stop_updater};

/// init's socket on a board.
pub(crate) const SOCKET: &str = "/run/yado/init.sock";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, global = true, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// The project of the instances that are named or shown; without it NAME is in the project default, and PROJECT_NAME in another
    #[arg(long, global = true, value_name = "PROJECT")]
    project: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the system, its instances, services and links
    Status(Lazy<status::Arguments>),
    /// Show what init's log ring holds
    Logs(Lazy<logs::Arguments>),
    /// Run a command in a running instance; its exit code becomes ours (125 to 127: it was not run)
    Exec(Lazy<exec::Arguments>),
    /// A login shell in a running instance, as its root or another user
    Shell(Lazy<exec::ShellArguments>),
    /// Start instances; returns when their init runs
    Start(Lazy<control::StartArguments>),
    /// Stop instances: ask, wait, then kill; returns when they are gone
    Stop(Lazy<control::StopArguments>),
    /// Stop instances and start them again
    Restart(Lazy<control::RestartArguments>),
    /// Make what runs what is configured (yado apply also takes files)
    Apply(Lazy<crate::apply::ApplyOptions>),
    /// Attach to an instance's console; ctrl-a q leaves it
    Console(Lazy<console::Arguments>),
    /// Show what happened, then what happens
    Events(Lazy<events::Arguments>),
    /// Stop all instances in order, then reboot
    Reboot,
    /// Stop all instances in order, then power off
    Poweroff,
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Arguments { socket, project, mut verb } = arguments;
    if let Some(project) = project {
        verb.set_project(&project)?;
    }
    match verb {
        Verb::Status(Lazy(arguments)) => status::run(&socket, &arguments),
        Verb::Logs(Lazy(arguments)) => logs::run(&socket, arguments),
        Verb::Exec(Lazy(arguments)) => exec::run(&socket, arguments),
        Verb::Shell(Lazy(arguments)) => exec::run_shell(&socket, arguments),
        Verb::Start(Lazy(arguments)) => control::start(&socket, arguments),
        Verb::Stop(Lazy(arguments)) => control::stop(&socket, arguments),
        Verb::Restart(Lazy(arguments)) => control::restart(&socket, arguments),
        Verb::Apply(Lazy(how)) => crate::apply::run_rescue(&socket, &how),
        Verb::Console(Lazy(arguments)) => console::run(&socket, arguments),
        Verb::Events(Lazy(arguments)) => events::run(&socket, &arguments),
        Verb::Reboot => control::reboot(&socket),
        Verb::Poweroff => control::poweroff(&socket),
    }
}

impl Verb {
    fn set_project(&mut self, project: &str) -> Result<(), String> {
        if let Verb::Status(Lazy(arguments)) = self {
            if arguments.instance.is_none() {
                arguments.project = Some(project.to_owned());
                return Ok(());
            }
        }
        let names = self.instances();
        if names.is_empty() {
            return Err("--project says whose instance is meant: name one".to_owned());
        }
        for name in names {
            *name = InstanceName::in_project(project, name.as_str())
                .map_err(|error| format!("--project {project}: {name}: {error}"))?;
        }
        Ok(())
    }

    /// Those that are named.
    fn instances(&mut self) -> Vec<&mut InstanceName> {
        match self {
            Verb::Status(Lazy(arguments)) => arguments.instance.iter_mut().collect(),
            Verb::Logs(Lazy(arguments)) => arguments.instance.iter_mut().collect(),
            Verb::Exec(Lazy(arguments)) => vec![&mut arguments.instance],
            Verb::Shell(Lazy(arguments)) => vec![&mut arguments.instance],
            Verb::Start(Lazy(arguments)) => arguments.instances.iter_mut().collect(),
            Verb::Stop(Lazy(arguments)) => arguments.instances.iter_mut().collect(),
            Verb::Restart(Lazy(arguments)) => arguments.instances.iter_mut().collect(),
            Verb::Console(Lazy(arguments)) => vec![&mut arguments.instance],
            Verb::Apply(_) | Verb::Events(_) | Verb::Reboot | Verb::Poweroff => Vec::new(),
        }
    }
}

/// For clap: an instance's name on the command line.
pub(crate) fn parse_instance(text: &str) -> Result<InstanceName, String> {
    InstanceName::parse(text).map_err(|error| error.to_string())
}
