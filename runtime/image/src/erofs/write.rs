//! A whole file system from a tree: first the contents of the files in the tree's order, then those of the
//! directories, then the inodes, and at last the superblock, which says where the inodes begin. Everything is written
//! once, from the second block on; only the superblock goes back to the first.

use super::BLOCK;
use super::contents::{Contents, is_tried, store_link};
use super::directory::{self, Entry};
use super::inode::{Inode, Stored, XattrError, device_number, encode_xattrs, type_bits};
use super::metadata::{Area, UNIT_BYTES};
use super::output::Output;
use super::parallel_compression::{CompressionSettings, ParallelCompression};
use super::superblock::Superblock;
use super::tree::{Body, Content, Place, Tree};
use core::fmt;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::thread;
use yado_lz4::Level;

/// How to write a tree.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to compress.
    pub compression: Compression,
    /// How many threads compress; the bytes are the same for any number.
    pub threads: NonZeroUsize,
    /// What the files' times become.
    pub times: Times,
}

/// Times in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Of the file system itself, and of what has none of its own.
    pub made: u64,
    /// No file has a later one; `None`: each has its own.
    pub latest: Option<u64>,
}

impl Times {
    /// When a file was changed last, if that is not [`Times::made`].
    fn of_file(self, modified: Option<u64>) -> Option<u64> {
        let kept = modified?.min(self.latest.unwrap_or(u64::MAX));
        (kept != self.made).then_some(kept)
    }
}

/// Whether and how files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, and each file begins at a block of its own: the least change from one image to the next.
    None,
    /// LZ4 in clusters of at most this many blocks, 1 to 16. 1 is quickest to read in small pieces, 16 is smallest.
    Lz4 {
        /// Blocks of 4 KiB.
        cluster_blocks: u8,
        /// How long to look for something smaller.
        level: Level,
    },
}

/// Writes the file system to an empty file and answers with its length in blocks. Contents that lie in an archive are
/// read from `archive`. `on_stored` is told again and again how many bytes of content are stored.
pub fn write(
    tree: &Tree,
    archive: Option<&File>,
    options: &Options,
    file: &File,
    on_stored: &dyn Fn(u64),
) -> Result<u64, WriteError> {
    let whole = |problem| WriteError { path: String::new(), problem };
    let mut output = Output::new(file).map_err(whole)?;
    let mut written = store_all(tree, archive, options, &mut output, on_stored)?;
    for index in 0..written.inodes.len() {
        let place = written.inodes[index].place;
        if let Body::Directory(_) = tree.node(place).body {
            let content = directory::encode(&written.entries(tree, place));
            let stored =
                store_directory(&content, &written.inodes[index].inode.stored, &mut output).map_err(whole)?;
            written.inodes[index].inode.stored = stored;
        }
    }
    let metadata_block = output.block();
    let mut metadata = Vec::new();
    for (Numbered { place: _, unit, inode }, number) in written.inodes.iter().zip(1..) {
        let encoded = inode.encode(number, options.times.made);
        let start = unit * UNIT_BYTES;
        metadata.resize(metadata.len().max(start + encoded.len()), 0);
        metadata[start..start + encoded.len()].copy_from_slice(&encoded);
    }
    output.write(&metadata).and_then(|()| output.pad()).map_err(whole)?;
    let superblock = Superblock {
        root: 0,
        inodes: written.inodes.len() as u64,
        timestamp: options.times.made,
        blocks: output.block(),
        metadata_block,
        cluster_blocks: match options.compression {
            Compression::None => 0,
            Compression::Lz4 { cluster_blocks, level: _ } => u16::from(cluster_blocks),
        },
    };
    let blocks = u64::from(output.block());
    output.finish(&superblock.encode()).map_err(whole)?;
    Ok(blocks)
}

/// Why a tree could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// The file in the tree; empty where it is not about one.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What can go wrong with one file, or with the output.
#[derive(Debug)]
pub enum Problem {
    /// Its content cannot be read.
    Read {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Its content is no longer as long as it was when the tree was read.
    Changed,
    /// The archive ends within its content.
    Cut,
    /// Its content lies in an archive that was not given.
    NoArchive,
    /// One of its extended attributes.
    Xattr {
        /// Which and why.
        source: XattrError,
    },
    /// A device number that no kernel has.
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// More blocks in a cluster than the format can have, or none.
    ClusterBlocks {
        /// How many were asked for.
        found: u8,
    },
    /// The output cannot be written.
    Write {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The output would be more than 64 GiB.
    TooBig,
}

impl fmt::Display for WriteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WriteError { path, problem } = self;
        if !path.is_empty() {
            write!(out, "{path}: ")?;
        }
        match problem {
            Problem::Read { source } => write!(out, "read: {source}"),
            Problem::Changed => write!(out, "changed its length while it was packed"),
            Problem::Cut => write!(out, "the archive is cut short in it"),
            Problem::NoArchive => write!(out, "its content is in an archive that was not given"),
            Problem::Xattr { source } => write!(out, "{source}"),
            Problem::Device { major, minor } => write!(out, "no such device number: {major}:{minor}"),
            Problem::ClusterBlocks { found } => {
                write!(out, "clusters have 1 to {MAX_CLUSTER_BLOCKS} blocks, not {found}")
            }
            Problem::Write { source } => write!(out, "write the file system: {source}"),
            Problem::TooBig => write!(out, "the file system would be more than 64 GiB"),
        }
    }
}

impl std::error::Error for WriteError {}

/// The most blocks in a cluster. The format has more; these keep reading cheap.
const MAX_CLUSTER_BLOCKS: u8 = 16;

/// All inodes, in order, with their places in the metadata area.
struct Written {
    inodes: Vec<Numbered>,
    index: HashMap<Place, usize>,
    /// What `..` leads to.
    parents: HashMap<Place, Place>,
}

struct Numbered {
    place: Place,
    unit: usize,
    inode: Inode,
}

impl Written {
    /// A directory's entries with the places they lead to.
    fn entries<'tree>(&self, tree: &'tree Tree, directory: Place) -> Vec<Entry<'tree, u64>> {
        let parent = self.parents.get(&directory).copied().unwrap_or(directory);
        let mut entries = list(tree, directory, parent);
        entries.sort_by_key(|entry| entry.name);
        entries
            .into_iter()
            .map(|Entry { name, target, kind }| Entry {
                name,
                target: self.inodes[self.index[&target]].unit as u64,
                kind,
            })
            .collect()
    }
}

/// Stores the contents of all files and finds a place for every inode. The contents of directories need these places,
/// so only their lengths are settled here.
fn store_all(
    tree: &Tree,
    archive: Option<&File>,
    options: &Options,
    output: &mut Output<'_>,
    on_stored: &dyn Fn(u64),
) -> Result<Written, WriteError> {
    let settings = match options.compression {
        Compression::None => None,
        Compression::Lz4 { cluster_blocks: found, .. } if found == 0 || MAX_CLUSTER_BLOCKS < found => {
            return Err(WriteError { path: String::new(), problem: Problem::ClusterBlocks { found } });
        }
        Compression::Lz4 { cluster_blocks, level } => {
            Some(CompressionSettings { cluster_blocks: cluster_blocks.into(), level })
        }
    };
    let order = tree.in_order();
    let tried = order.iter().filter_map(|place| match &tree.node(*place).body {
        Body::File(content) => Some(content).filter(|content| is_tried(content)),
        _ => None,
    });
    let tried: VecDeque<&Content> = tried.collect();
    thread::scope(|scope| {
        let compressor =
            settings.map(|settings| ParallelCompression::start(scope, tried, archive, settings, options.threads));
        let contents = Contents::new(archive, options.compression, compressor);
        store_in_order(tree, order, contents, options.times, output, on_stored)
    })
}

fn store_in_order(
    tree: &Tree,
    order: Vec<Place>,
    mut contents: Contents<'_>,
    times: Times,
    output: &mut Output<'_>,
    on_stored: &dyn Fn(u64),
) -> Result<Written, WriteError> {
    let (links, parents) = count_links(tree, &order);
    let mut area = Area::default();
    let mut written = Written { inodes: Vec::new(), index: HashMap::new(), parents };
    let mut stored_bytes = 0_u64;
    for place in order {
        let inode = store_one(tree, place, links[&place], times, &mut contents, output)
            .map_err(|problem| WriteError { path: tree.path_of(place), problem: told_of(tree, place, problem) })?;
        if let Body::File(content) = &tree.node(place).body {
            stored_bytes = stored_bytes.saturating_add(content.bytes());
            on_stored(stored_bytes);
        }
        written.index.insert(place, written.inodes.len());
        written.inodes.push(Numbered { place, unit: area.place(&inode), inode });
    }
    Ok(written)
}

/// An archive does not change while it is read, it only ends too early.
fn told_of(tree: &Tree, place: Place, problem: Problem) -> Problem {
    match (problem, &tree.node(place).body) {
        (Problem::Changed, Body::File(Content::Archive { .. })) => Problem::Cut,
        (problem, _) => problem,
    }
}

fn store_one(
    tree: &Tree,
    place: Place,
    links: u32,
    times: Times,
    contents: &mut Contents<'_>,
    output: &mut Output<'_>,
) -> Result<Inode, Problem> {
    let node = tree.node(place);
    let (kind, _) = type_bits(&node.body);
    let mut inode = Inode {
        mode: kind | node.mode,
        uid: node.uid,
        gid: node.gid,
        links,
        bytes: match &node.body {
            Body::File(content) => content.bytes(),
            Body::Symlink(target) => target.len() as u64,
            Body::Directory(_) => {
                let mut entries = list(tree, place, place);
                entries.sort_by_key(|entry| entry.name);
                directory::content_bytes(&entries) as u64
            }
            Body::CharDevice { .. } | Body::BlockDevice { .. } | Body::Fifo | Body::Socket => 0,
        },
        modified: times.of_file(node.modified),
        xattrs: encode_xattrs(node).map_err(|source| Problem::Xattr { source })?,
        stored: Stored::Special { device: 0 },
    };
    let head_bytes = inode.head_bytes();
    inode.stored = match &node.body {
        Body::File(content) => contents.store_file(content, head_bytes, output)?,
        Body::Symlink(target) => store_link(target, head_bytes, output)?,
        Body::Directory(_) => room_for_directory(inode.bytes as usize, head_bytes),
        &Body::CharDevice { major, minor } | &Body::BlockDevice { major, minor } => {
            let device = device_number(major, minor).ok_or(Problem::Device { major, minor })?;
            Stored::Special { device }
        }
        Body::Fifo | Body::Socket => Stored::Special { device: 0 },
    };
    Ok(inode)
}

/// The entries of a directory with the nodes they lead to, not in order yet.
fn list(tree: &Tree, directory: Place, parent: Place) -> Vec<Entry<'_, Place>> {
    let (_, directory_kind) = type_bits(&tree.node(directory).body);
    let mut entries = vec![
        Entry { name: b".", target: directory, kind: directory_kind },
        Entry { name: b"..", target: parent, kind: directory_kind },
    ];
    if let Body::Directory(children) = &tree.node(directory).body {
        entries.extend(children.iter().map(|(name, &target)| {
            let (_, kind) = type_bits(&tree.node(target).body);
            Entry { name, target, kind }
        }));
    }
    entries
}

/// A directory's storage with its final length, to be filled by [`store_directory`].
fn room_for_directory(bytes: usize, head_bytes: usize) -> Stored {
    let tail_bytes = bytes % BLOCK;
    if 0 < tail_bytes && head_bytes + tail_bytes <= BLOCK {
        Stored::Inline { block: 0, tail: vec![0; tail_bytes] }
    } else {
        Stored::Plain { block: 0 }
    }
}

/// Writes a directory's content into the room it was given.
fn store_directory(content: &[u8], room: &Stored, output: &mut Output<'_>) -> Result<Stored, Problem> {
    let block = output.block();
    let inline_bytes = match room {
        Stored::Inline { block: _, tail } => tail.len(),
        Stored::Plain { .. } | Stored::Compressed { .. } | Stored::Special { .. } => 0,
    };
    let (blocks, tail) = content.split_at(content.len() - inline_bytes);
    output.write(blocks)?;
    output.pad()?;
    if tail.is_empty() { Ok(Stored::Plain { block }) } else { Ok(Stored::Inline { block, tail: tail.to_vec() }) }
}

/// How many names each node has, and the directory above each directory.
fn count_links(tree: &Tree, order: &[Place]) -> (HashMap<Place, u32>, HashMap<Place, Place>) {
    let mut links = HashMap::from([(Tree::ROOT, 2)]);
    let mut parents = HashMap::new();
    for &place in order {
        let Body::Directory(children) = &tree.node(place).body else { continue };
        for &child in children.values() {
            let is_directory = matches!(tree.node(child).body, Body::Directory(_));
            if is_directory {
                // Its own `.`, and its `..` in the directory above.
                *links.entry(child).or_insert(0) += 2;
                *links.entry(place).or_insert(0) += 1;
                parents.insert(child, place);
            } else {
                *links.entry(child).or_insert(0) += 1;
            }
        }
    }
    (links, parents)
}
