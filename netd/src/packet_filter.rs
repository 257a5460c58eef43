//! Keeps the packet filter as the networks need it: which tables there should be on this kernel, and the settings that belong to
//! them.

use crate::daemon::{Netd, SETTLE};
use crate::failures::PendingFailure;
use crate::firewall::conntrack;
use crate::firewall::limits::{DhcpPorts, limit_connections, port_budgets};
use crate::firewall::rules::{Others, Ruleset, ruleset};
use crate::reconcile::is_of;
use crate::saved::Attachment;
use std::fs;
use std::io;
use yado_sys::clock::since_boot;
use yado_sys::machine;

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// `ENOENT`, `EOPNOTSUPP` and `EAFNOSUPPORT`: what nf_tables answers for an expression or a family that it does not know and
/// finds no module for.
const UNKNOWN: [i32; 3] = [2, 95, 97];

/// The tables of this machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// What may pass, and how many connections there may be.
    rules: Ruleset,
    /// What the ports of bridges may send; `None`: the kernel cannot limit it.
    ports: Option<Ruleset>,
}

/// What this kernel cannot limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unlimited {
    /// It lacks `nft_connlimit` or `nft_limit`.
    connections: bool,
    /// It lacks `nft_limit`, `nft_meta_bridge` or filters on bridges.
    ports: bool,
}

impl Netd {
    /// Puts the rules there, if they are not.
    pub(crate) fn put_rules(&mut self, failures: &mut Vec<PendingFailure>) {
        let wanted = self.tables();
        if self.rules.as_ref() != Some(&wanted) {
            let stands = self.rules.take();
            match self.put_tables(wanted, stands) {
                Ok(stand) => self.rules = Some(stand),
                Err(error) => failures.push(PendingFailure::of_all("firewall tables yado", &error)),
            }
        }
        if self.rules.is_none() {
            return;
        }
        self.set_conntrack();
        let is_routing = self.bridges().filter_map(|b| b.ipv4.as_ref()).any(|ipv4| ipv4.routing);
        // Only where rules say for whom. Never switched off again: whoever else routes on this machine may rely on it.
        if is_routing && fs::read(IP_FORWARD).is_ok_and(|now| now.starts_with(b"0")) {
            if let Err(error) = fs::write(IP_FORWARD, "1") {
                failures.push(PendingFailure::of_all(&format!("write {IP_FORWARD}"), &error));
            }
        }
    }

    fn tables(&self) -> Tables {
        let others = if self.arguments.is_hosted { Others::Undecided } else { Others::Denied };
        let mut rules = ruleset(self.bridges(), others);
        if !self.unlimited.connections {
            // Before the kernel tracks anything it does not say for how many it has room.
            let size = conntrack::table_size().unwrap_or_else(|| conntrack::size_for(machine::memory_bytes()));
            limit_connections(&mut rules, self.bridges(), others, size);
        }
        let ports = (!self.unlimited.ports).then(|| port_budgets(self.bridges(), &self.dhcp_ports()));
        Tables { rules, ports }
    }

    fn dhcp_ports(&self) -> DhcpPorts {
        if !self.arguments.is_hosted {
            return DhcpPorts::All;
        }
        let external = self.bridges().flat_map(|bridge| &bridge.external_interfaces).map(|port| port.to_string());
        let is_on_ours = |attachment: &&Attachment| self.bridges().any(|bridge| is_of(attachment, bridge));
        let attached = self.attachments.iter().filter(is_on_ours);
        let attached = attached.filter_map(|attachment| attachment.host_link.clone());
        DhcpPorts::Named(external.chain(attached).collect())
    }

    /// Returns what stands: where the kernel lacks what limits need, the tables without them.
    fn put_tables(&mut self, mut wanted: Tables, stands: Option<Tables>) -> io::Result<Tables> {
        let is_unknown = |error: &io::Error| error.raw_os_error().is_some_and(|errno| UNKNOWN.contains(&errno));
        // What stands is not put there again: its sets would forget what they have counted.
        let is_there = stands.is_some_and(|stands| stands.rules == wanted.rules);
        let replaced = if is_there { Ok(()) } else { self.firewall.replace(&wanted.rules) };
        match replaced {
            Ok(()) => {}
            Err(error) if !self.unlimited.connections && is_unknown(&error) => {
                tracing::warn!(
                    "the kernel cannot limit connections (nft_limit, nft_connlimit): {error}; one container can use the table \
                     of connections up"
                );
                self.unlimited.connections = true;
                wanted = self.tables();
                self.firewall.replace(&wanted.rules)?;
            }
            Err(error) => return Err(error),
        }
        let Some(ports) = &wanted.ports else { return Ok(wanted) };
        match self.firewall.replace(ports) {
            Ok(()) => {}
            Err(error) if is_unknown(&error) => {
                tracing::warn!(
                    "the kernel cannot limit what ports of bridges send (nft_limit, nft_meta_bridge, \
                     NF_TABLES_BRIDGE): {error}; one container can take all of netd's time"
                );
                self.unlimited.ports = true;
                wanted.ports = None;
            }
            Err(error) => return Err(error),
        }
        Ok(wanted)
    }

    /// Once, when the rules have made the kernel track connections.
    fn set_conntrack(&mut self) {
        if self.is_conntrack_set || self.arguments.is_hosted {
            return;
        }
        self.is_conntrack_set = true;
        if let Err((path, error)) = conntrack::set(machine::memory_bytes()) {
            tracing::warn!("write {path}: {error}");
        }
        // The networks' shares are of the new size.
        self.look_soon(since_boot() + SETTLE);
    }
}
