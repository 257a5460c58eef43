//! What a restarted netd must know of its predecessor: attachments and leases, in `netd.state`. After a reboot there is
//! nothing to know: the links are gone, and runs and leases are counted on the boot clock, which begins anew. On a host of
//! somebody else the file may lie on a disk and outlive the boot, so it says of which boot it is. A file of another boot or
//! version, or a torn one, is as none: links are found by looking, and leases come back by asking.

use crate::dhcp::lease::Lease;
use crate::dhcp::server::Leases;
use crate::runs::Runs;
use crate::subnets::Move;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use yado_wire::names::clipped;
use yado_wire::network::NicKind;
use yado_wire::{InstanceName, Text};

/// Everything written down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Of which boot all this is: the kernel's `boot_id`.
    pub boot: Text<36>,
    /// Interfaces of instances.
    pub attachments: Vec<Attachment>,
    /// The last known run of each instance.
    pub runs: Runs,
    /// Leases of each bridge, by its name.
    pub leases: Vec<(Text<15>, Leases)>,
    /// Leases of uplinks, by the link's hardware address.
    pub uplinks: Vec<([u8; 6], Lease)>,
    /// Host links that are, or were, inside an instance.
    pub borrowed: Vec<Borrowed>,
    /// Networks that have another address than the configured one.
    pub moves: Vec<Move>,
}

/// One interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Whose.
    pub instance: InstanceName,
    /// Its name inside.
    pub nic: Text<15>,
    /// What it is connected to.
    pub kind: NicKind,
    /// Its hardware address.
    pub hwaddr: [u8; 6],
    /// The host's end of a pair; by it we see whether the instance is still there.
    pub host_link: Option<String>,
    /// The address that DHCP always gives it.
    pub fixed_ipv4: Option<Ipv4Addr>,
}

/// A host link that was moved into an instance. The kernel gives it back when the namespace ends, under the name it had
/// inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrowed {
    /// The name it had on the host.
    pub name: Text<15>,
    /// How it is recognised.
    pub permanent_hwaddr: [u8; 6],
}

/// `YNS` and the version.
const MAGIC: [u8; 4] = *b"YNS\x03";
/// More was never written: 16 bridges of 512 leases at 20 bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Saved {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        // Vectors of plain values into a growing vector: serialising cannot fail.
        postcard::to_extend(self, MAGIC.to_vec()).unwrap_or_default()
    }

    /// Reads what [`Saved::encode`] wrote; anything else is nothing.
    pub fn decode(bytes: &[u8]) -> Option<Saved> {
        match postcard::take_from_bytes(bytes.strip_prefix(&MAGIC)?) {
            Ok((saved, [])) => Some(saved),
            Ok((_, _)) | Err(_) => None,
        }
    }

    /// Reads the file at `path`, if it is of this `boot`.
    pub fn read(path: &Path, boot: &str) -> Saved {
        let is_sensible = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_BYTES);
        let bytes = if is_sensible { fs::read(path).unwrap_or_default() } else { Vec::new() };
        let saved = Saved::decode(&bytes).filter(|saved| saved.boot == boot);
        saved.unwrap_or_else(|| Saved { boot: clipped(boot), ..Saved::default() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_wire::network::RunNumber;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_nothing() {
        let saved = Saved {
            boot: clipped("one"),
            attachments: vec![Attachment {
                instance: InstanceName::parse("busybox").unwrap(),
                nic: clipped("eth0"),
                kind: NicKind::Network { network: clipped("yado0") },
                hwaddr: [0, 0x16, 0x3e, 1, 2, 3],
                host_link: Some("veth01020304".to_owned()),
                fixed_ipv4: Some(Ipv4Addr::new(10, 158, 0, 9)),
            }],
            runs: Runs::default(),
            leases: vec![(clipped("yado0"), Leases::default())],
            uplinks: Vec::new(),
            moves: Vec::new(),
            borrowed: vec![Borrowed { name: clipped("eth1"), permanent_hwaddr: [0x52, 0x54, 0, 1, 2, 3] }],
        };
        let bytes = saved.encode();
        assert_eq!(Saved::decode(&bytes), Some(saved));
        for len in 0..bytes.len() {
            assert_eq!(Saved::decode(&bytes[..len]), None, "cut at {len}");
        }
        assert_eq!(Saved::decode(&[&bytes[..], &[0]].concat()), None);
        let nothing = |boot| Saved { boot: clipped(boot), ..Saved::default() };
        assert_eq!(Saved::read(Path::new("/nonexistent/netd.state"), "one"), nothing("one"));
    }

    #[test]
    fn what_another_boot_wrote_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netd.state");
        let mut saved = Saved { boot: clipped("one"), ..Saved::default() };
        let instance = InstanceName::parse("busybox").unwrap();
        saved.runs.begin(&instance, RunNumber(5_000_000)).unwrap();
        fs::write(&path, saved.encode()).unwrap();
        assert_eq!(Saved::read(&path, "one"), saved);
        let mut after = Saved::read(&path, "two");
        assert_eq!(after, Saved { boot: clipped("two"), ..Saved::default() });
        assert_eq!(after.runs.begin(&instance, RunNumber(1_000_000)), Ok(()), "run numbers begin anew");
    }
}
