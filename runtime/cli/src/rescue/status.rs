//! `yado rescue status`: what init and netd know, asked once.

use super::connection::{ANSWER_TIMEOUT, Connection, ExchangeError};
use super::links;
use super::status_view::{render_json, render_one_json, render_one_table, render_table};
use crate::command_line::Outcome;
use crate::output::{self, Format};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use yado_sys::scheduling;
use yado_wire::InstanceName;
use yado_wire::last_reset::{self, LastReset};
use yado_wire::network::LinkStatus;
use yado_wire::rescue::{InstanceStatus, Reply, Request, ServiceStatus, SystemStatus};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only this instance, and which keys it runs with are not those that are configured
    #[arg(value_name = "NAME", value_parser = super::parse_instance)]
    pub(super) instance: Option<InstanceName>,
    /// Only those of this project, if none is named.
    #[arg(skip)]
    pub(super) project: Option<String>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
}

/// Everything that is shown.
pub(super) struct Status {
    pub(super) system: SystemStatus,
    pub(super) instances: Vec<InstanceStatus>,
    pub(super) services: Vec<ServiceStatus>,
    /// Why the system was started; `None`: it is hosted, or init has not found out yet.
    pub(super) last_reset: Option<LastReset>,
    /// The links, or why netd did not tell.
    pub(super) links: Result<Vec<LinkStatus>, String>,
}

pub(super) fn run(socket: &Path, arguments: &Arguments) -> Outcome {
    // It is asked most where instances keep the processor busy, and is short whatever they do. Who may not, waits for its turn.
    let _ = scheduling::run_before_others();
    if let Some(name) = &arguments.instance {
        return show_one(socket, name, arguments.format);
    }
    let mut status = read(socket)?;
    if let Some(project) = &arguments.project {
        status.instances.retain(|instance| instance.name.project() == project);
    }
    match arguments.format {
        Format::Table => output::print(&render_table(&status))?,
        Format::Json => output::print_json(&render_json(&status))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One instance, and what of its configuration waits for its next start.
fn show_one(socket: &Path, name: &InstanceName, format: Format) -> Outcome {
    let StatusReply { system, instances, services: _ } = ask(socket)?;
    let instance = instances.into_iter().find(|instance| instance.name == *name);
    let instance = instance.ok_or_else(|| format!("{name}: there is no such instance"))?;
    let compared = crate::apply::compare(socket, system.mode, &instance)?;
    match format {
        Format::Table => output::print(&render_one_table(&instance, &compared))?,
        Format::Json => output::print_json(&render_one_json(&instance, &compared))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(socket: &Path) -> Result<Status, ExchangeError> {
    // Both are asked before either is waited for: on a busy board each answer costs some turns of the processor.
    let asked = links::ask(socket);
    let StatusReply { system, instances, services } = ask(socket)?;
    let links = asked.and_then(|connection| links::read(&connection)).map_err(|error| error.to_string());
    Ok(Status { system, instances, services, last_reset: read_last_reset(socket), links })
}

/// Init leaves it beside its socket.
fn read_last_reset(socket: &Path) -> Option<LastReset> {
    let file = File::open(socket.with_file_name(last_reset::FILE)).ok()?;
    let mut text = String::new();
    file.take(last_reset::MAX_BYTES as u64).read_to_string(&mut text).ok()?;
    LastReset::parse(&text)
}

/// What init itself tells.
pub(super) struct StatusReply {
    pub(super) system: SystemStatus,
    pub(super) instances: Vec<InstanceStatus>,
    pub(super) services: Vec<ServiceStatus>,
}

/// Asks init.
pub(super) fn ask(socket: &Path) -> Result<StatusReply, ExchangeError> {
    let connection = Connection::ask_init(socket, &Request::Status, &[])?;
    connection.set_timeout(ANSWER_TIMEOUT)?;
    let (mut system, mut instances, mut services) = (None, Vec::new(), Vec::new());
    loop {
        match connection.next()?.0 {
            Reply::System(status) => system = Some(status),
            Reply::Instance(status) => instances.push(status),
            Reply::Service(status) => services.push(status),
            Reply::Done => break,
            Reply::Refused(failure) => return Err(ExchangeError::Refused(Box::new(failure))),
            Reply::Log(_)
            | Reply::Event(_)
            | Reply::Console
            | Reply::Exited(_)
            | Reply::Applied(_)
            | Reply::Health(_) => {
                return Err(connection.unexpected());
            }
        }
    }
    let system = system.ok_or_else(|| connection.unexpected())?;
    Ok(StatusReply { system, instances, services })
}
