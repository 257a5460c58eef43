//! `yado rescue start|stop|restart|reboot|poweroff`: requests that are done or refused.

use super::connection::Connection;
use super::parse_instance;
use crate::command_line::Outcome;
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use yado_wire::InstanceName;
use yado_wire::rescue::Request;

#[derive(Debug, Args)]
pub(super) struct StartArguments {
    /// The instance's name; there may be several
    #[arg(required = true, value_name = "NAME", value_parser = parse_instance)]
    pub(super) instances: Vec<InstanceName>,
}

#[derive(Debug, Args)]
pub(super) struct StopArguments {
    /// The instance's name; there may be several
    #[arg(required = true, value_name = "NAME", value_parser = parse_instance)]
    pub(super) instances: Vec<InstanceName>,
    /// Wait for so long before killing; by default as each instance says
    #[arg(long, value_name = "SECONDS")]
    pub(super) timeout: Option<u32>,
    /// Do not ask, kill
    #[arg(long, short)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestartArguments {
    /// The instance's name; there may be several
    #[arg(required = true, value_name = "NAME", value_parser = parse_instance)]
    pub(super) instances: Vec<InstanceName>,
}

pub(super) fn start(socket: &Path, arguments: StartArguments) -> Outcome {
    for_each(socket, arguments.instances, Request::Start)
}

pub(super) fn stop(socket: &Path, arguments: StopArguments) -> Outcome {
    let StopArguments { instances, timeout, force } = arguments;
    for_each(socket, instances, |instance| Request::Stop { instance, timeout_s: timeout, force })
}

pub(super) fn restart(socket: &Path, arguments: RestartArguments) -> Outcome {
    for_each(socket, arguments.instances, Request::Restart)
}

pub(super) fn reboot(socket: &Path) -> Outcome {
    ask(socket, &Request::Reboot)
}

pub(super) fn poweroff(socket: &Path) -> Outcome {
    ask(socket, &Request::Poweroff)
}

/// One after the other, and all of them: one that fails is named and does not keep the rest from their turn.
fn for_each(socket: &Path, instances: Vec<InstanceName>, request: impl Fn(InstanceName) -> Request) -> Outcome {
    let mut code = ExitCode::SUCCESS;
    for instance in instances {
        let name = instance.clone();
        if let Err(error) = ask(socket, &request(instance)) {
            eprintln!("yado: {name}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Without a time limit: how long a start or a stop may take is the instance's affair, and init ends it.
fn ask(socket: &Path, request: &Request) -> Outcome {
    Connection::ask_init(socket, request, &[])?.wait_until_done()?;
    Ok(ExitCode::SUCCESS)
}
