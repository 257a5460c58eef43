//! One inode as it stands on disk: the inode itself, its extended attributes, and behind them either the tail of its
//! content or the index of its clusters.

use super::BLOCK;
use super::tree::{Body, Node};
use core::fmt;
use std::collections::BTreeMap;

/// How an inode's content is stored.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// In blocks of its own from this one on. Its length need not be a whole number of them.
    Plain {
        /// First block.
        block: u32,
    },
    /// The whole blocks from this one on, the rest behind the inode.
    Inline {
        /// First block.
        block: u32,
        /// What stands behind the inode.
        tail: Vec<u8>,
    },
    /// Compressed into clusters.
    Compressed {
        /// How many blocks they take.
        blocks: u32,
        /// The index that stands behind the inode.
        index: Vec<u8>,
    },
    /// No content: a device, pipe or socket. The number is the device's, as the kernel encodes it.
    Special {
        /// Device number.
        device: u32,
    },
}

/// An inode with all but its place.
#[derive(Debug)]
pub(super) struct Inode {
    /// Type and permission bits.
    pub(super) mode: u16,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// How many names it has.
    pub(super) links: u32,
    /// Length of its content.
    pub(super) bytes: u64,
    /// When its content was changed last, if that is not the superblock's time.
    pub(super) modified: Option<u64>,
    /// Its attributes, encoded.
    pub(super) xattrs: Vec<u8>,
    /// Its content.
    pub(super) stored: Stored,
}

impl Inode {
    /// How many bytes it takes in the metadata area.
    pub(super) fn encoded_bytes(&self) -> usize {
        let head = self.head_bytes();
        match &self.stored {
            Stored::Plain { block: _ } | Stored::Special { device: _ } => head,
            Stored::Inline { block: _, tail } => head + tail.len(),
            Stored::Compressed { blocks: _, index } => head.next_multiple_of(INDEX_ALIGNMENT) + index.len(),
        }
    }

    /// The first part, which has to lie in one block with an inline tail.
    pub(super) fn head_bytes(&self) -> usize {
        self.inode_bytes() + self.xattrs.len()
    }

    /// Its bytes. The number is what `stat` shows where the place does not fit into 32 bits. The short form has no time: it is
    /// the superblock's, `superblock_time`.
    pub(super) fn encode(&self, number: u32, superblock_time: u64) -> Vec<u8> {
        let Inode { mode, uid, gid, links, bytes, modified, xattrs, stored } = self;
        let (layout, place) = match stored {
            Stored::Plain { block } => (LAYOUT_PLAIN, *block),
            Stored::Inline { block, tail: _ } => (LAYOUT_INLINE, *block),
            Stored::Compressed { blocks, index: _ } => (LAYOUT_COMPRESSED_FULL, *blocks),
            Stored::Special { device } => (LAYOUT_PLAIN, *device),
        };
        let long = self.inode_bytes() == LONG_BYTES;
        let mut out = Vec::with_capacity(self.encoded_bytes());
        out.extend(((layout << 1) | u16::from(long)).to_le_bytes());
        out.extend(xattr_count(xattrs).to_le_bytes());
        out.extend(mode.to_le_bytes());
        if long {
            out.extend([0; 2]);
            out.extend(bytes.to_le_bytes());
            out.extend(place.to_le_bytes());
            out.extend(number.to_le_bytes());
            out.extend(uid.to_le_bytes());
            out.extend(gid.to_le_bytes());
            out.extend(modified.unwrap_or(superblock_time).to_le_bytes());
            out.extend([0; 4]);
            out.extend(links.to_le_bytes());
            out.extend([0; 16]);
        } else {
            out.extend((*links as u16).to_le_bytes());
            out.extend((*bytes as u32).to_le_bytes());
            out.extend([0; 4]);
            out.extend(place.to_le_bytes());
            out.extend(number.to_le_bytes());
            out.extend((*uid as u16).to_le_bytes());
            out.extend((*gid as u16).to_le_bytes());
            out.extend([0; 4]);
        }
        out.extend(xattrs);
        match stored {
            Stored::Plain { .. } | Stored::Special { .. } => {}
            Stored::Inline { block: _, tail } => out.extend(tail),
            Stored::Compressed { blocks: _, index } => {
                out.resize(out.len().next_multiple_of(INDEX_ALIGNMENT), 0);
                out.extend(index);
            }
        }
        out
    }

    fn inode_bytes(&self) -> usize {
        let short = self.uid.max(self.gid).max(self.links) <= u32::from(u16::MAX)
            && self.bytes <= u64::from(u32::MAX)
            && self.modified.is_none();
        if short { SHORT_BYTES } else { LONG_BYTES }
    }
}

/// The type bits of a node's mode, and the number for it in directories.
pub(super) fn type_bits(body: &Body) -> (u16, u8) {
    match body {
        Body::File(_) => (0o100_000, 1),
        Body::Directory(_) => (0o040_000, 2),
        Body::CharDevice { .. } => (0o020_000, 3),
        Body::BlockDevice { .. } => (0o060_000, 4),
        Body::Fifo => (0o010_000, 5),
        Body::Socket => (0o140_000, 6),
        Body::Symlink(_) => (0o120_000, 7),
    }
}

/// The kernel's 32-bit form of a device number; `None` if it does not fit.
pub(super) fn device_number(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// A node's extended attributes as they stand behind its inode.
pub(super) fn encode_xattrs(node: &Node) -> Result<Vec<u8>, XattrError> {
    let entries = encode_entries(&node.xattrs)?;
    if entries.is_empty() {
        return Ok(entries);
    }
    // A filter that nobody set, and no attributes shared with other inodes.
    let encoded = [[0; XATTR_HEADER_BYTES].as_slice(), &entries].concat();
    if MAX_XATTRS_BYTES < encoded.len() { Err(XattrError::TooMany) } else { Ok(encoded) }
}

/// Why an extended attribute cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XattrError {
    /// Its name begins with none of user., trusted., security. and is no POSIX ACL.
    UnknownNamespace {
        /// The name.
        name: String,
    },
    /// Name or value are longer than the kernel allows.
    TooLong {
        /// The name.
        name: String,
    },
    /// All of them together are too long.
    TooMany,
}

impl fmt::Display for XattrError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XattrError::UnknownNamespace { name } => write!(out, "extended attribute {name}: unknown namespace"),
            XattrError::TooLong { name } => write!(out, "extended attribute {name}: name or value too long"),
            XattrError::TooMany => write!(out, "extended attributes of more than 64 KiB"),
        }
    }
}

fn encode_entries(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, XattrError> {
    let mut out = Vec::new();
    for (name, value) in xattrs {
        let printable = || name.escape_ascii().to_string();
        let (index, suffix) = XATTR_PREFIXES
            .iter()
            .find_map(|&(prefix, index)| Some((index, name.strip_prefix(prefix)?)))
            .ok_or_else(|| XattrError::UnknownNamespace { name: printable() })?;
        let suffix_bytes = u8::try_from(suffix.len()).map_err(|_| XattrError::TooLong { name: printable() })?;
        let value_bytes = u16::try_from(value.len()).map_err(|_| XattrError::TooLong { name: printable() })?;
        out.extend([suffix_bytes, index]);
        out.extend(value_bytes.to_le_bytes());
        out.extend(suffix);
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    Ok(out)
}

/// The length of the attributes in the unit the inode has for it: 0, or 1 for the header and 1 for each 4 bytes.
fn xattr_count(xattrs: &[u8]) -> u16 {
    if xattrs.is_empty() { 0 } else { ((xattrs.len() - XATTR_HEADER_BYTES) / 4 + 1) as u16 }
}

const SHORT_BYTES: usize = 32;
const LONG_BYTES: usize = 64;
const INDEX_ALIGNMENT: usize = 8;

const LAYOUT_PLAIN: u16 = 0;
const LAYOUT_COMPRESSED_FULL: u16 = 1;
const LAYOUT_INLINE: u16 = 2;

const XATTR_HEADER_BYTES: usize = 12;

/// The kernel's limit for all attributes of a file together; it also keeps the count within 16 bits.
const MAX_XATTRS_BYTES: usize = 16 * BLOCK;

/// The kernel's numbers for the namespaces of attributes.
const XATTR_PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];
