//! Asks netd for the interfaces of the new network namespace. The request is sent as soon as the namespace exists; the answer is
//! read when everything else is done.

use crate::payload_channel::{FromPayload, PayloadChannel, Received, lost};
use crate::report::{Stopwatch, at, show};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use yado_spec::LaunchRequest;
use yado_spec::instance::{Nic, NicKind};
use yado_sys::packet;
use yado_wire::network::{self, MAX_NICS, NetReply, NetRequest, NicRequest};
use yado_wire::{AboutInstance, Failure, MAX_FRAME_BYTES, Step};

/// How long netd may take to accept a connection, and to answer. Usually it answers in milliseconds. When the system starts, it
/// answers when its bridges and rules are made, which takes some seconds on a slow board.
const DEADLINE: Duration = Duration::from_secs(30);

/// The interfaces of one start.
pub(crate) enum Nics<'a> {
    /// The instance has no interfaces, and netd is not asked.
    None,
    /// netd was not asked yet: the payload's network namespace did not exist.
    Unasked(&'a LaunchRequest),
    /// netd was asked, and has not answered.
    Asked(Attaching),
}

impl Nics<'_> {
    /// Those that are wanted.
    pub(crate) fn of(request: &LaunchRequest) -> Nics<'_> {
        if request.spec.nics.is_empty() { Nics::None } else { Nics::Unasked(request) }
    }

    /// Asks netd, if the network namespace of the payload (`pid`) exists by now. Never waits for the payload.
    pub(crate) fn ask_early(
        &mut self,
        channel: &PayloadChannel,
        pid: i32,
        stopwatch: &mut Stopwatch,
    ) -> Result<(), Failure> {
        match self {
            Nics::Unasked(_) if channel.has_message()? => self.ask(channel, pid, stopwatch),
            Nics::None | Nics::Unasked(_) | Nics::Asked(_) => Ok(()),
        }
    }

    /// Waits until the network namespace of the payload exists, and asks netd, unless that was done.
    pub(crate) fn ask(
        &mut self,
        channel: &PayloadChannel,
        pid: i32,
        stopwatch: &mut Stopwatch,
    ) -> Result<(), Failure> {
        let Nics::Unasked(request) = *self else { return Ok(()) };
        show(Step::Namespaces);
        let Some(Received { message: FromPayload::Network, .. }) = channel.receive_from_payload(Step::Namespaces)?
        else {
            return Err(lost(Step::Namespaces));
        };
        let attaching = stopwatch.step(Step::Network, || {
            let path = format!("/proc/{pid}/ns/net");
            let namespace = File::open(&path).map_err(at(Step::Network, &path))?;
            ask(request, &namespace.into())
        })?;
        *self = Nics::Asked(attaching);
        Ok(())
    }

    /// Waits for netd's answer, if it was asked.
    pub(crate) fn wait(&self, stopwatch: &mut Stopwatch) -> Result<(), Failure> {
        match self {
            Nics::Asked(attaching) => stopwatch.step(Step::Network, || attaching.wait()),
            Nics::None | Nics::Unasked(_) => Ok(()),
        }
    }
}

/// netd was asked for the interfaces, and has not answered yet.
#[derive(Debug)]
pub(crate) struct Attaching {
    socket: OwnedFd,
    netd: String,
}

/// Asks netd for the instance's interfaces in this namespace.
fn ask(request: &LaunchRequest, namespace: &OwnedFd) -> Result<Attaching, Failure> {
    let spec = &request.spec;
    let Some(netd) = &request.paths.netd else {
        return Err(Failure::refused(Step::Network, spec.name.as_str(), "it has nics, but netd is not running"));
    };
    let too_many = |()| Failure::refused(Step::Network, spec.name.as_str(), &format!("more than {MAX_NICS} nics"));
    let mut nics = heapless::Vec::new();
    spec.nics.iter().try_for_each(|nic| nics.push(nic_request(nic)).map_err(drop)).map_err(too_many)?;
    let instance = AboutInstance { id: request.id, name: spec.name.clone() };
    let attach = yado_wire::encode(&NetRequest::Attach { instance, run: request.run, nics })
        .ok_or_else(|| Failure::refused(Step::Network, spec.name.as_str(), "nics longer than a packet"))?;
    let busy =
        || Failure::refused(Step::Network, netd, &format!("netd takes no request within {} s", DEADLINE.as_secs()));
    let socket = packet::connect_within(Path::new(netd), DEADLINE).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => busy(),
        _ => Failure::from_io(Step::Network, netd, &error),
    })?;
    let sent = packet::send(&socket, &attach, &[namespace.as_fd()]).map_err(at(Step::Network, netd))?;
    sent.ok_or_else(busy)?;
    Ok(Attaching { socket, netd: netd.clone() })
}

/// The request for a nic of the spec. The name of the device is left out: netd knows the interface by the interface's name.
fn nic_request(nic: &Nic) -> NicRequest {
    let Nic { name: _, interface, kind, hwaddr, mtu, host_name, ipv4_address } = nic;
    let kind = match kind.clone() {
        NicKind::Network { network } => network::NicKind::Network { network },
        NicKind::Bridged { parent } => network::NicKind::Bridged { parent },
        NicKind::Macvlan { parent } => network::NicKind::Macvlan { parent },
        NicKind::Physical { parent } => network::NicKind::Physical { parent },
    };
    NicRequest {
        name: interface.clone(),
        kind,
        hwaddr: *hwaddr,
        mtu: *mtu,
        host_name: host_name.clone(),
        ipv4_address: ipv4_address.map(|address| address.octets()),
    }
}

impl Attaching {
    fn wait(&self) -> Result<(), Failure> {
        let refused = |reason: &str| Err(Failure::refused(Step::Network, &self.netd, reason));
        let mut buffer = vec![0; MAX_FRAME_BYTES];
        let Some(answer) = packet::recv(&self.socket, &mut buffer).map_err(at(Step::Network, &self.netd))? else {
            return refused(&format!("no answer within {} s", DEADLINE.as_secs()));
        };
        if answer.is_end() {
            return refused("netd closed the connection without an answer");
        }
        match yado_wire::decode(&buffer[..answer.len]) {
            Ok(NetReply::Attached) => Ok(()),
            Ok(NetReply::Failed(failure)) => Err(failure),
            Ok(NetReply::Link(_) | NetReply::NetworkFailed { .. } | NetReply::Done) => {
                refused("an answer to another question")
            }
            Err(error) => refused(&error.to_string()),
        }
    }
}
