//! Writes erofs file systems, the payload of an image: from a directory or a tar archive, without root, the same
//! bytes for the same tree. The format is used in its oldest form (Linux 5.4 and later read it; with clusters of more
//! than one block, 5.13): inodes, inline extended attributes, and LZ4 with the plain index of 8 bytes for 4 KiB.

mod tree;

mod from_directory;
mod from_tar;
mod pax;

mod write;

mod clusters;
mod contents;
mod directory;
mod inode;
mod metadata;
mod output;
mod parallel_compression;
mod superblock;

pub use contents::read_beginning;
pub use from_directory::{DirectoryError, read_directory};
pub use from_tar::{EntryError, TarError, read_tar};
pub use inode::XattrError;
pub use pax::{Record, parse_pax};
pub use tree::{Body, Content, Node, Owners, Place, Tree, TreeError};
pub use write::{Compression, Options, Problem, Times, WriteError, write};
pub use yado_lz4::Level;

/// The one block size.
const BLOCK: usize = crate::header::BLOCK_BYTES as usize;
