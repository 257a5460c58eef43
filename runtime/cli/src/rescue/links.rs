//! What netd says of links and networks, for `status`.

use super::connection::{Connection, Daemon, ExchangeError};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use yado_wire::network::{LinkNote, LinkRole, LinkStatus, NetReply, NetRequest};
use yado_wire::{Failure, Step};

/// A status is for the day when something hangs: it does not wait long for netd.
const NETD_TIMEOUT: Duration = Duration::from_secs(3);

/// More than netd can have: it attaches some thousand interfaces.
const MAX_LINKS: usize = 8192;

/// Taking the networks on means some hundred questions to the kernel.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const HEADINGS: [&str; 6] = ["LINK", "ROLE", "STATE", "ADDRESSES", "GATEWAY", "NAME SERVERS"];

/// Asks netd, whose socket stands beside init's, and does not wait for its answer.
pub(super) fn ask(init_socket: &Path) -> Result<Connection<NetReply>, ExchangeError> {
    let path = init_socket.with_file_name("netd.sock");
    let connection = Connection::ask(Daemon::Netd, &path, &NetRequest::Status, &[])?;
    connection.set_timeout(NETD_TIMEOUT)?;
    Ok(connection)
}

/// The answer to [`ask`], of so many links and within so long altogether.
pub(super) fn read(connection: &Connection<NetReply>) -> Result<Vec<LinkStatus>, ExchangeError> {
    let begun = Instant::now();
    let mut links = Vec::new();
    loop {
        match connection.next()?.0 {
            NetReply::Link(_) if links.len() == MAX_LINKS || NETD_TIMEOUT < begun.elapsed() => {
                return Err(connection.endless());
            }
            NetReply::Link(link) => links.push(link),
            NetReply::Done => return Ok(links),
            NetReply::Failed(failure) => return Err(ExchangeError::Refused(Box::new(failure))),
            NetReply::Attached | NetReply::NetworkFailed { .. } => return Err(connection.unexpected()),
        }
    }
}

/// Has netd, whose socket is in `run`, read the networks anew, and says what is not as it is configured; that netd does not
/// answer, too. Nothing where there is no netd: one that starts later reads them then.
pub(crate) fn reload(run: &Path) -> Vec<NetworkFailure> {
    let path = run.join("netd.sock");
    if !path.exists() {
        return Vec::new();
    }
    let mut failures = Vec::new();
    if let Err(error) = ask_to_reload(&path, &mut failures) {
        let failure = Failure::refused(Step::Network, "netd", &error.to_string());
        failures.push(NetworkFailure { network: None, failure });
    }
    failures
}

fn ask_to_reload(path: &Path, failures: &mut Vec<NetworkFailure>) -> Result<(), ExchangeError> {
    let connection: Connection<NetReply> = Connection::ask(Daemon::Netd, path, &NetRequest::Reload, &[])?;
    connection.set_timeout(RELOAD_TIMEOUT)?;
    loop {
        match connection.next()?.0 {
            NetReply::NetworkFailed { network, failure } => {
                failures.push(NetworkFailure { network: network.map(|name| name.to_string()), failure });
            }
            NetReply::Done => return Ok(()),
            NetReply::Failed(failure) => {
                failures.push(NetworkFailure { network: None, failure });
                return Ok(());
            }
            NetReply::Attached | NetReply::Link(_) => return Err(connection.unexpected()),
        }
    }
}

/// Why a network is not as it is configured.
#[derive(Debug)]
pub(crate) struct NetworkFailure {
    /// Which one; `None`: all of them.
    pub(crate) network: Option<String>,
    pub(crate) failure: Failure,
}

pub(super) fn row(link: &LinkStatus) -> Vec<String> {
    let LinkStatus { name, role, is_up, addresses, gateways, nameservers, lease_left_s: _, note } = link;
    let role = match role {
        LinkRole::Uplink => "uplink".to_owned(),
        LinkRole::Network => "network".to_owned(),
        LinkRole::Nic { instance, name } => format!("{name} of {}", instance.name),
    };
    vec![
        name.to_string(),
        role,
        state(*is_up, note.as_ref()),
        cell(addresses.iter().map(prefix)),
        cell(gateways.iter().map(IpAddr::to_string)),
        cell(nameservers.iter().map(IpAddr::to_string)),
    ]
}

pub(super) fn json(link: &LinkStatus) -> Value {
    let LinkStatus { name, role, is_up, addresses, gateways, nameservers, lease_left_s, note } = link;
    let (role, instance, nic) = match role {
        LinkRole::Uplink => ("uplink", None, None),
        LinkRole::Network => ("network", None, None),
        LinkRole::Nic { instance, name } => ("nic", Some(instance.name.as_str()), Some(name.as_str())),
    };
    json!({
        "name": name.as_str(),
        "role": role,
        "instance": instance,
        "nic": nic,
        "is_up": is_up,
        "addresses": addresses.iter().map(prefix).collect::<Vec<_>>(),
        "gateways": gateways.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
        "nameservers": nameservers.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
        "lease_left_s": lease_left_s,
        "note": note.as_ref().map(say_note),
    })
}

fn state(is_up: bool, note: Option<&LinkNote>) -> String {
    let state = if is_up { "up" } else { "down" };
    note.map_or_else(|| state.to_owned(), |note| format!("{state}, {}", say_note(note)))
}

fn say_note(note: &LinkNote) -> String {
    match note {
        LinkNote::Moved { from } => format!("moved from {}", prefix(from)),
        LinkNote::Collides { with } => format!("collides with {}", prefix(with)),
        LinkNote::HeldDown { left_s } => format!("held down for {left_s} s"),
        LinkNote::NoAddressLeft { of } => format!("none of {of} addresses is free"),
    }
}

fn cell(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn prefix((address, length): &(IpAddr, u8)) -> String {
    format!("{address}/{length}")
}
