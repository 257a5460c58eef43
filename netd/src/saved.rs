//! The state that a restarted netd takes over from the last one: attachments and leases, in `netd.state`. After a reboot there is
//! nothing to take over: the links are gone, and runs and leases are counted on the boot clock, which starts again. On a host the
//! file may be on a disk and survive a reboot; so it names the boot that it belongs to, and the file of another boot is ignored.
//!
//! A file that cannot be read is reported, and does little harm: links are found by reading them, leases by asking for them, and
//! what the last netd configured on uplinks stays until they have leases again.

mod v5;

use crate::dhcp::lease::Lease;
use crate::dhcp::server::Leases;
use crate::nic::Connection;
use crate::run_numbers::RunNumbers;
use crate::subnets::Move;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::Path;
use v5::StateV5;
use yado_wire::hash::fnv64;
use yado_wire::names::clipped;
use yado_wire::{AboutInstance, Text};

/// Everything written down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// Of which boot all this is: the kernel's `boot_id`.
    pub boot: Text<36>,
    /// Interfaces of instances.
    pub attachments: Vec<Attachment>,
    /// The last known run of each instance.
    pub runs: RunNumbers,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Whose.
    pub instance: AboutInstance,
    /// Its name inside.
    pub nic: Text<15>,
    /// What it is connected to.
    pub connection: Connection,
    /// Its hardware address.
    pub hwaddr: [u8; 6],
    /// The host's end of a pair; by it we see whether the instance is still there.
    pub host_link: Option<String>,
    /// The address that DHCP always gives it.
    pub fixed_ipv4: Option<Ipv4Addr>,
}

/// A host link that was moved into an instance. The kernel gives it back when the namespace ends, under the name it had
/// inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrowed {
    /// The name it had on the host.
    pub name: Text<15>,
    /// How it is recognised.
    pub permanent_hwaddr: [u8; 6],
}

/// Why there is nothing to know from a file that is there.
#[derive(Debug)]
pub enum SavedError {
    /// The kernel does not give it.
    Read(io::Error),
    /// Longer than netd ever wrote it.
    TooLong,
    /// Another file.
    Magic,
    /// A netd of another version wrote it.
    Version {
        /// Which.
        found: u8,
    },
    /// Cut off, or changed by somebody else.
    Damaged,
}

/// What the file begins with. The version follows, then the FNV-1a of the body in eight bytes, little endian, then the body.
const MAGIC: &[u8] = b"YNS";
/// Rises with every change of the body, whose types then are a new module in place of the old one: what another version wrote is
/// not read.
const VERSION: u8 = 5;
/// More was never written: 16 bridges of 512 leases at 20 bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Saved {
    /// Nothing, in this boot.
    pub fn nothing(boot: &str) -> Saved {
        Saved { boot: clipped(boot), ..Saved::default() }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        // Vectors of plain values into a growing vector: serialising cannot fail.
        let body = postcard::to_extend(&StateV5::from(self), Vec::new()).unwrap_or_default();
        [MAGIC, &[VERSION], &fnv64(body.iter().copied()).to_le_bytes(), &body].concat()
    }

    /// Reads what [`Saved::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Saved, SavedError> {
        let (&found, rest) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first).ok_or(SavedError::Magic)?;
        if found != VERSION {
            return Err(SavedError::Version { found });
        }
        let (sum, body) = rest.split_first_chunk().ok_or(SavedError::Damaged)?;
        if u64::from_le_bytes(*sum) != fnv64(body.iter().copied()) {
            return Err(SavedError::Damaged);
        }
        match postcard::take_from_bytes::<StateV5>(body) {
            Ok((state, [])) => state.into_saved().ok_or(SavedError::Damaged),
            Ok((_, _)) | Err(_) => Err(SavedError::Damaged),
        }
    }

    /// Reads the file at `path`. None, or one of another boot, is nothing.
    pub fn read(path: &Path, boot: &str) -> Result<Saved, SavedError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::nothing(boot)),
            Err(error) => return Err(SavedError::Read(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(SavedError::Read)?;
        if MAX_BYTES < bytes.len() as u64 {
            return Err(SavedError::TooLong);
        }
        let saved = Saved::decode(&bytes)?;
        Ok(if saved.boot == boot { saved } else { Saved::nothing(boot) })
    }
}

impl fmt::Display for SavedError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SavedError::Read(error) => write!(out, "{error}"),
            SavedError::TooLong => write!(out, "longer than {MAX_BYTES} bytes"),
            SavedError::Magic => out.write_str("not a state of netd"),
            SavedError::Version { found } => write!(out, "of version {found}, this netd reads {VERSION}"),
            SavedError::Damaged => out.write_str("damaged"),
        }
    }
}

impl std::error::Error for SavedError {}

#[cfg(test)]
#[path = "saved/saved_tests.rs"]
mod tests;
