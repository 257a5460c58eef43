//! Gives an instance its interfaces. First everything is checked that can be checked; then the links are made one by one. Links
//! that can be removed again come first, so that a failure leaves nothing: pairs are deleted. A macvlan or a moved link that came
//! before a failure is in the new namespace, which the launcher gives up, and is deleted or returned with it.

use crate::link::hwaddr::{self, Seed};
use crate::link::kernel::{Inside, Kernel};
use crate::link::observed::{Link, LinkKind, Observed};
use crate::link::plan::plan_closed_port;
use crate::nic::{Connection, Nic};
use crate::saved::Attachment;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use yado_spec::network::{BridgeSpec, Ipv4Prefix};
use yado_wire::{AboutInstance, Failure, MAX_INSTANCES, Step};

/// One interface, checked, with everything decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What is recorded of it.
    pub attachment: Attachment,
    /// The bridge, the macvlan's parent, or the link that moves.
    pub parent: u32,
    /// In bytes: what was asked for, else the parent's; `None`: the link that moves keeps its own.
    pub mtu: Option<u32>,
}

/// Why an instance has no interfaces.
#[derive(Debug)]
pub enum AttachError {
    /// It asks for what cannot be; nothing was touched.
    Refused {
        /// The link, name or interface it is about.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel knows no links of this kind; what had been made was taken away again.
    NoDriver {
        /// The module that makes them.
        module: &'static str,
        /// The interface it was about.
        object: String,
    },
    /// The kernel refused; what had been made was taken away again.
    Kernel {
        /// The interface it was about.
        object: String,
        /// The kernel's answer to the step that failed.
        source: io::Error,
    },
}

/// What `RTM_NEWLINK` answers for a kind that the kernel does not know and found no module for.
const EOPNOTSUPP: i32 = 95;

/// Interfaces of all instances together; a board that wants more has another purpose.
pub const MAX_ATTACHMENTS: usize = 2 * MAX_INSTANCES;

/// Checks what is asked for and decides names and addresses. `others` are the attachments of other instances.
pub fn plan_attach(
    instance: &AboutInstance,
    nics: &[Nic],
    bridges: &[BridgeSpec],
    others: &[Attachment],
    observed: &Observed,
) -> Result<Vec<Planned>, AttachError> {
    if MAX_ATTACHMENTS < others.len() + nics.len() {
        return Err(refused(instance.name.as_str(), "too many interfaces on this machine"));
    }
    let mut planned: Vec<Planned> = Vec::new();
    for nic in nics {
        let one = plan_nic(instance, nic, bridges, observed)?;
        let taken = others.iter().chain(planned.iter().map(|planned| &planned.attachment));
        check_free(&one.attachment, taken)?;
        planned.push(one);
    }
    planned.sort_by_key(|planned| match planned.attachment.connection {
        Connection::Network { .. } | Connection::Bridged { .. } => 0,
        Connection::Macvlan { .. } => 1,
        Connection::Physical { .. } => 2,
    });
    Ok(planned)
}

/// Makes the planned interfaces in the namespace `netns`.
pub async fn attach(
    kernel: &Kernel,
    planned: &[Planned],
    observed: &Observed,
    netns: BorrowedFd<'_>,
) -> Result<(), AttachError> {
    for (at, one) in planned.iter().enumerate() {
        let result = attach_one(kernel, one, observed, netns).await;
        if let Err(error) = result {
            for made in &planned[..=at] {
                delete_pair(kernel, &made.attachment).await;
            }
            return Err(kernel_refused(&one.attachment, error));
        }
    }
    Ok(())
}

/// Takes the pair of an attachment away, if it has one and it is still there.
pub async fn delete_pair(kernel: &Kernel, attachment: &Attachment) {
    let Some(name) = &attachment.host_link else { return };
    let Ok(Some(link)) = kernel.link_called(name).await else { return };
    if link.kind == LinkKind::Veth {
        // It may have gone with its namespace this moment.
        let _ = kernel.delete_aside(link.index).await;
    }
}

async fn attach_one(
    kernel: &Kernel,
    planned: &Planned,
    observed: &Observed,
    netns: BorrowedFd<'_>,
) -> io::Result<()> {
    let Planned { attachment, parent, mtu } = planned;
    let inside = Inside { netns, name: &attachment.nic, hwaddr: Some(attachment.hwaddr), mtu: *mtu };
    match (&attachment.connection, &attachment.host_link) {
        (Connection::Network { .. } | Connection::Bridged { .. }, Some(host_link)) => {
            // Left by a predecessor that was killed half-way, or by the instance's last run.
            if let Some(stale) = observed.link(host_link).filter(|link| link.kind == LinkKind::Veth) {
                kernel.delete_aside(stale.index).await?;
            }
            let hwaddr = hwaddr::host_hwaddr(attachment.instance.name.as_str(), &attachment.nic);
            kernel.create_veth(host_link, hwaddr, *parent, inside).await?;
            for step in plan_closed_port(host_link, attachment.hwaddr) {
                kernel.apply(&step).await?;
            }
            Ok(())
        }
        (Connection::Macvlan { .. }, _) => kernel.create_macvlan(*parent, attachment.hwaddr, inside).await,
        (Connection::Physical { .. } | Connection::Network { .. } | Connection::Bridged { .. }, _) => {
            kernel.move_link(*parent, inside).await
        }
    }
}

fn kernel_refused(attachment: &Attachment, source: io::Error) -> AttachError {
    let object = format!("{} of {}", attachment.nic, attachment.instance.name.as_str());
    let module = match attachment.connection {
        Connection::Network { .. } | Connection::Bridged { .. } => Some("veth"),
        Connection::Macvlan { .. } => Some("macvlan"),
        Connection::Physical { .. } => None,
    };
    match module.filter(|_| source.raw_os_error() == Some(EOPNOTSUPP)) {
        Some(module) => AttachError::NoDriver { module, object },
        None => AttachError::Kernel { object, source },
    }
}

fn plan_nic(
    instance: &AboutInstance,
    nic: &Nic,
    bridges: &[BridgeSpec],
    observed: &Observed,
) -> Result<Planned, AttachError> {
    check_name(&nic.name)?;
    let parent_name = match &nic.connection {
        Connection::Network { network } => network,
        Connection::Bridged { parent } | Connection::Macvlan { parent } | Connection::Physical { parent } => parent,
    };
    let parent = observed.link(parent_name).ok_or_else(|| refused(parent_name, "no such link"))?;
    let made_up = |seed: Seed| hwaddr::instance_hwaddr(instance.name.as_str(), &nic.name, seed);
    let host_link = || {
        nic.host_name.as_ref().map_or_else(|| hwaddr::host_name(instance.name.as_str(), &nic.name), |n| n.to_string())
    };
    let (hwaddr, host_link) = match &nic.connection {
        Connection::Network { network } => {
            let bridge = bridges.iter().find(|bridge| bridge.name == *network);
            let bridge = bridge.ok_or_else(|| refused(network, "no such network"))?;
            check_bridge(parent)?;
            check_address(nic, bridge.ipv4.as_ref().map(|ipv4| ipv4.address))?;
            (made_up(outside_seed(&bridge.external_interfaces, observed)), Some(host_link()))
        }
        Connection::Bridged { .. } => {
            check_bridge(parent)?;
            check_address(nic, None)?;
            (made_up(parent.hwaddr.unwrap_or_default()), Some(host_link()))
        }
        Connection::Macvlan { .. } => {
            check_address(nic, None)?;
            (made_up(parent.hwaddr.unwrap_or_default()), None)
        }
        Connection::Physical { .. } => {
            check_address(nic, None)?;
            if parent.is_bridge() || parent.port.is_some() {
                return Err(refused(parent_name, "a bridge or a port of one cannot move into an instance"));
            }
            let own = parent.hwaddr.ok_or_else(|| refused(parent_name, "not an Ethernet link"))?;
            (own, None)
        }
    };
    if let Some(name) = &host_link {
        check_name(name)?;
        if observed.link(name).is_some_and(|link| link.kind != LinkKind::Veth) {
            return Err(refused(name, "the name is taken by another link"));
        }
    }
    let hwaddr = nic.hwaddr.unwrap_or(hwaddr);
    // The lowest bit of the first byte marks groups; the kernel refuses such an address, and a zero one.
    if hwaddr[0] & 1 != 0 || hwaddr == [0; 6] {
        return Err(refused(&nic.name, "hwaddr: not an address of a single interface"));
    }
    let mtu = nic.mtu.map(u32::from).or(match nic.connection {
        Connection::Physical { .. } => None,
        Connection::Network { .. } | Connection::Bridged { .. } | Connection::Macvlan { .. } => Some(parent.mtu),
    });
    let attachment = Attachment {
        instance: instance.clone(),
        nic: nic.name.clone(),
        connection: nic.connection.clone(),
        hwaddr,
        host_link,
        fixed_ipv4: nic.fixed_ipv4,
    };
    Ok(Planned { attachment, parent: parent.index, mtu })
}

/// What tells this machine's interfaces from another's on the same cable: the address of the first port that leads outside.
pub fn outside_seed(external_interfaces: &[yado_wire::Text<15>], observed: &Observed) -> Seed {
    let first = external_interfaces.iter().find_map(|name| observed.link(name));
    first.and_then(|link| link.permanent_hwaddr().or(link.hwaddr)).unwrap_or_default()
}

fn check_free<'a>(one: &Attachment, mut taken: impl Iterator<Item = &'a Attachment>) -> Result<(), AttachError> {
    let Some(other) = taken.find(|other| {
        let is_same_place = other.connection == one.connection;
        (other.instance.id == one.instance.id && other.nic == one.nic)
            || other.hwaddr == one.hwaddr && is_same_place
            || one.host_link.is_some() && other.host_link == one.host_link
            || one.fixed_ipv4.is_some() && other.fixed_ipv4 == one.fixed_ipv4 && is_same_place
    }) else {
        return Ok(());
    };
    let reason = format!(
        "name, hwaddr, host_name or ipv4.address is that of {} of {}",
        other.nic,
        other.instance.name.as_str()
    );
    Err(refused(&one.nic, &reason))
}

fn check_bridge(link: &Link) -> Result<(), AttachError> {
    if link.is_bridge() { Ok(()) } else { Err(refused(&link.name, "not a bridge")) }
}

/// `ipv4.address` is handed out by our DHCP server, so it needs a network of ours.
fn check_address(nic: &Nic, network: Option<Ipv4Prefix>) -> Result<(), AttachError> {
    let Some(address) = nic.fixed_ipv4 else { return Ok(()) };
    let Some(network) = network else {
        return Err(refused(&nic.name, "ipv4.address: only on a network with addresses"));
    };
    let reserved = [network.network(), network.broadcast(), network.address()];
    if !network.contains(address) || reserved.contains(&address) {
        let reason = format!("ipv4.address {address} is not free in {network}");
        return Err(refused(&nic.name, &reason));
    }
    Ok(())
}

/// What the kernel takes as a link's name (`dev_valid_name`).
fn check_name(name: &str) -> Result<(), AttachError> {
    let is_valid = !name.is_empty()
        && name.len() <= 15
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%');
    if is_valid { Ok(()) } else { Err(refused(name, "not a name that a link can have")) }
}

fn refused(object: &str, reason: &str) -> AttachError {
    AttachError::Refused { object: object.to_owned(), reason: reason.to_owned() }
}

impl AttachError {
    /// As it travels to whoever asked.
    pub fn failure(&self) -> Failure {
        match self {
            AttachError::Refused { object, reason } => Failure::refused(Step::Network, object, reason),
            AttachError::NoDriver { module, object } => {
                let failure = Failure::refused(Step::Module, module, &no_driver(object));
                Failure { errno: EOPNOTSUPP, ..failure }.in_vain()
            }
            AttachError::Kernel { object, source } => Failure::from_io(Step::Network, object, source),
        }
    }
}

fn no_driver(object: &str) -> String {
    format!("{object} needs it, and it is not installed or a boot parameter keeps it out: see yado check-kernel")
}

impl fmt::Display for AttachError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttachError::Refused { object, reason } => write!(out, "{object}: {reason}"),
            AttachError::NoDriver { module, object } => write!(out, "module {module}: {}", no_driver(object)),
            AttachError::Kernel { object, source } => write!(out, "{object}: {source}"),
        }
    }
}

impl std::error::Error for AttachError {}

#[cfg(test)]
#[path = "attach_tests.rs"]
mod tests;
