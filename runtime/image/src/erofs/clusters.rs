//! One file's content in compressed clusters, and the index that finds them: 8 bytes for every 4 KiB of the file.
//!
//! A cluster is a whole number of blocks and stands for as much of the file as fits, beginning anywhere in its first
//! 4 KiB. What would not become smaller is stored as it is, 4 KiB at a time. Each 4 KiB of the file has one index entry:
//! if a cluster begins there, where it begins and its block; else how far it is to the entry that says so.

use super::BLOCK;
use std::io::{self, Read};
use yado_lz4::Encoder;

/// What became of a file's content.
#[derive(Debug)]
pub(super) struct Clusters {
    /// Whole blocks, in order.
    pub(super) bytes: Vec<u8>,
    extents: Vec<Extent>,
    cluster_blocks: usize,
}

/// One cluster.
#[derive(Debug)]
struct Extent {
    head: Head,
    /// So many bytes of the file it stands for.
    taken: usize,
    blocks: usize,
}

impl Clusters {
    /// How many blocks it takes.
    pub(super) fn blocks(&self) -> u32 {
        (self.bytes.len() / BLOCK) as u32
    }

    /// The index, with the header that stands before it, if the first block lies there.
    pub(super) fn index(&self, first_block: u32) -> Vec<u8> {
        let mut index = Index::new(self.cluster_blocks);
        let mut block = first_block;
        for Extent { head, taken, blocks } in &self.extents {
            index.add(*head, block, *taken, *blocks);
            block += *blocks as u32;
        }
        index.finish()
    }
}

/// Reads `bytes` bytes and compresses them into clusters of at most `cluster_blocks` blocks. That is given up as soon as it
/// cannot become smaller than the content itself: then the answer is `None`.
pub(super) fn compress(
    content: &mut dyn Read,
    bytes: u64,
    cluster_blocks: usize,
    encoder: &mut Encoder,
) -> io::Result<Option<Clusters>> {
    let mut window = Window::new(content, bytes, (EXTENT_BYTES_PER_BLOCK * cluster_blocks).min(MAX_EXTENT_BYTES));
    let index_bytes = (bytes.div_ceil(BLOCK as u64) as usize) * INDEX_ENTRY_BYTES + INDEX_HEADER_BYTES;
    let (mut out, mut extents) = (Vec::new(), Vec::new());
    let mut cluster = Vec::new();
    while let Some((from, to)) = window.next_extent(encoder)? {
        cluster.clear();
        let mut taken = 0;
        if BLOCK < to - from {
            taken = encoder.compress(&window.bytes, (from, to), cluster_blocks * BLOCK, &mut cluster);
        }
        let blocks = cluster.len().div_ceil(BLOCK);
        if blocks * BLOCK < taken {
            out.resize(out.len() + blocks * BLOCK - cluster.len(), 0);
            out.extend(&cluster);
            extents.push(Extent { head: Head::Lz4, taken, blocks });
        } else {
            taken = (to - from).min(BLOCK);
            out.extend(&window.bytes[from..from + taken]);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
            extents.push(Extent { head: Head::Plain, taken, blocks: 1 });
        }
        window.start += taken;
        if bytes <= (out.len() + index_bytes) as u64 {
            return Ok(None);
        }
    }
    Ok(Some(Clusters { bytes: out, extents, cluster_blocks }))
}

/// A cluster never stands for more of the file than this for each of its blocks, so that reading one page of it does
/// not cost much more than that of time and memory.
const EXTENT_BYTES_PER_BLOCK: usize = 64 << 10;
const MAX_EXTENT_BYTES: usize = 256 << 10;

/// The part of the content that is in memory.
struct Window<'content> {
    content: &'content mut dyn Read,
    /// How much of it has not been read.
    unread: u64,
    bytes: Vec<u8>,
    /// What lies before has been compressed.
    start: usize,
    extent_bytes: usize,
}

impl<'content> Window<'content> {
    fn new(content: &'content mut dyn Read, unread: u64, extent_bytes: usize) -> Window<'content> {
        Window { content, unread, bytes: Vec::new(), start: 0, extent_bytes }
    }

    /// Where the next cluster's input begins and the furthest it may go, after reading more if that is needed.
    fn next_extent(&mut self, encoder: &mut Encoder) -> io::Result<Option<(usize, usize)>> {
        if self.bytes.len() - self.start < self.extent_bytes && 0 < self.unread {
            self.bytes.drain(..self.start);
            self.start = 0;
            let wanted = ((READ_BYTES - self.bytes.len()) as u64).min(self.unread);
            let before = self.bytes.len();
            self.bytes.resize(before + wanted as usize, 0);
            self.content.read_exact(&mut self.bytes[before..])?;
            self.unread -= wanted;
            encoder.scan(&self.bytes);
        }
        let end = self.bytes.len().min(self.start + self.extent_bytes);
        Ok((self.start < end).then_some((self.start, end)))
    }
}

/// So much of a file is in memory; several times the longest extent, because each reading scans the rest again.
const READ_BYTES: usize = 4 * MAX_EXTENT_BYTES;

/// The index as it grows.
struct Index {
    bytes: Vec<u8>,
    big: bool,
    /// Where in its 4 KiB the next cluster begins.
    offset: usize,
}

/// How a cluster is stored.
#[derive(Debug, Clone, Copy)]
enum Head {
    Plain,
    Lz4,
}

impl Index {
    fn new(cluster_blocks: usize) -> Index {
        let big = 1 < cluster_blocks;
        let mut bytes = vec![0; INDEX_HEADER_BYTES];
        bytes[4] = if big { ADVISE_BIG_CLUSTERS } else { 0 };
        Index { bytes, big, offset: 0 }
    }

    /// One cluster that stands for the next `taken` bytes.
    fn add(&mut self, head: Head, block: u32, taken: usize, blocks: usize) {
        let end = self.offset + taken;
        let kind = match head {
            Head::Plain => TYPE_PLAIN,
            Head::Lz4 => TYPE_LZ4,
        };
        self.entry(kind, self.offset as u16, block);
        // The entries up to the one in which the next cluster begins.
        let span = end / BLOCK;
        for behind in 1..span {
            let to_head = if behind == 1 && self.big { BLOCK_COUNT | blocks } else { behind };
            self.entry(TYPE_INSIDE, 0, to_head as u32 | ((span - behind) as u32) << 16);
        }
        // A last cluster that does not reach the end of its 4 KiB has no entry after it.
        self.offset = if span == 0 { 0 } else { end % BLOCK };
    }

    /// The index with its last entry: where the file ends, if not at a multiple of 4 KiB.
    fn finish(mut self) -> Vec<u8> {
        if self.offset != 0 {
            self.entry(TYPE_PLAIN, self.offset as u16, 0);
        }
        self.bytes
    }

    fn entry(&mut self, kind: u16, offset: u16, place: u32) {
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend(place.to_le_bytes());
    }
}

const INDEX_ENTRY_BYTES: usize = 8;
/// 8 bytes of settings and 8 that are not used.
const INDEX_HEADER_BYTES: usize = 16;
/// Setting: the entry after a cluster's first says how many blocks it has.
const ADVISE_BIG_CLUSTERS: u8 = 2;
/// The mark of that number.
const BLOCK_COUNT: usize = 1 << 11;

const TYPE_PLAIN: u16 = 0;
const TYPE_LZ4: u16 = 1;
const TYPE_INSIDE: u16 = 2;
