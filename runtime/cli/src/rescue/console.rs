//! `yado rescue console`: an instance's console here, until ctrl-a q.

use super::connection::{Connection, ExchangeError};
use super::logs::for_each_record;
use super::parse_instance;
use super::relay::{Flow, Relay, Wake};
use super::terminal::RawTerminal;
use crate::command_line::Outcome;
use crate::output::{self, printable};
use clap::Args;
use nix::sys::signal::Signal;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use yado_wire::InstanceName;
use yado_wire::rescue::{Reply, Request};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Take it from whoever has it
    #[arg(long, short)]
    force: bool,
    /// Print what it showed so far, also of an instance that has ended, and do not attach
    #[arg(long)]
    show_log: bool,
    /// The instance's name
    #[arg(value_name = "NAME", value_parser = parse_instance)]
    pub(super) instance: InstanceName,
}

pub(super) fn run(socket: &Path, arguments: Arguments) -> Outcome {
    let Arguments { force, show_log, instance } = arguments;
    if show_log { show(socket, instance) } else { attach(socket, instance, force) }
}

/// From the log ring, which keeps the console's lines: it takes the console from nobody.
fn show(socket: &Path, instance: InstanceName) -> Outcome {
    let identifier = format!("instance/{instance}");
    for_each_record(socket, Some(instance), false, |record| {
        if record.identifier == identifier.as_str() {
            output::print(&format!("{}\n", printable(&record.message)))?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn attach(socket: &Path, instance: InstanceName, force: bool) -> Outcome {
    const TYPED: usize = 0;
    const SHOWN: usize = 1;

    let stream = open(socket, instance, force)?;
    let is_terminal = io::stdin().is_terminal();
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let typed = if is_terminal { Flow::typed } else { Flow::new };
    let mut relay = Relay::new(vec![
        typed(stdin, stream.try_clone()?),
        Flow::new(stream, io::stdout().as_fd().try_clone_to_owned()?),
    ]);
    if is_terminal {
        eprintln!("attached; ctrl-a q leaves");
    }
    relay.watch(&[Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT])?;
    let _raw = if is_terminal { Some(RawTerminal::enter(&io::stdin())?) } else { None };
    while !relay.flow(SHOWN).is_over() && !relay.flow(TYPED).is_detached() {
        match relay.wait(None, None)? {
            Wake::Moved | Wake::Quiet | Wake::Control => {}
            Wake::Signal(_) => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The console's stream; init hands it over with its answer.
fn open(socket: &Path, instance: InstanceName, force: bool) -> Result<OwnedFd, ExchangeError> {
    let connection = Connection::ask_init(socket, &Request::Console { instance, force }, &[])?;
    let stream = match connection.next()? {
        (Reply::Console, descriptors) => descriptors.into_iter().next().ok_or_else(|| connection.unexpected())?,
        (Reply::Refused(failure), _) => return Err(ExchangeError::Refused(Box::new(failure))),
        _ => return Err(connection.unexpected()),
    };
    match connection.next()? {
        (Reply::Done, _) => Ok(stream),
        _ => Err(connection.unexpected()),
    }
}
