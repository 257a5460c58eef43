//! Stores the contents of files and links: compressed where that makes them smaller, else as they are, with a short
//! tail behind the inode where it fits.

use super::BLOCK;
use super::inode::Stored;
use super::output::Output;
use super::parallel_compression::ParallelCompression;
use super::tree::Content;
use super::write::{Compression, Problem};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Where contents come from and how they are stored.
pub(super) struct Contents<'tree> {
    archive: Option<&'tree File>,
    compression: Compression,
    /// Those that [`is_tried`] names, in the order in which they are stored.
    compressor: Option<ParallelCompression<'tree>>,
}

/// Whether compressing it is tried: one block cannot become less.
pub(super) fn is_tried(content: &Content) -> bool {
    (BLOCK as u64) < content.bytes()
}

impl<'tree> Contents<'tree> {
    /// Files in an archive are read from this one.
    pub(super) fn new(
        archive: Option<&'tree File>,
        compression: Compression,
        compressor: Option<ParallelCompression<'tree>>,
    ) -> Contents<'tree> {
        Contents { archive, compression, compressor }
    }

    /// Stores a regular file whose inode takes `head_bytes`.
    pub(super) fn store_file(
        &mut self,
        content: &Content,
        head_bytes: usize,
        output: &mut Output<'_>,
    ) -> Result<Stored, Problem> {
        let bytes = content.bytes();
        let tail = match self.compression {
            Compression::None => Tail::OwnBlock,
            Compression::Lz4 { .. } => {
                if let (true, Some(compressor)) = (is_tried(content), &mut self.compressor) {
                    if let Some(clusters) = compressor.next()? {
                        let stored =
                            Stored::Compressed { blocks: clusters.blocks(), index: clusters.index(output.block()) };
                        output.write(&clusters.bytes)?;
                        return Ok(stored);
                    }
                }
                Tail::BehindInode
            }
        };
        let reader = Reader::open(content, self.archive).map_err(|source| Problem::Read { source })?;
        let mut reader = reader.ok_or(Problem::NoArchive)?;
        let stored = store_plain(&mut reader, bytes, head_bytes, tail, output)?;
        // A file that has grown meanwhile would be cut.
        match reader.read(&mut [0]).map_err(|source| Problem::Read { source })? {
            0 => Ok(stored),
            _ => Err(Problem::Changed),
        }
    }
}

/// Stores a symbolic link's target.
pub(super) fn store_link(target: &[u8], head_bytes: usize, output: &mut Output<'_>) -> Result<Stored, Problem> {
    store_plain(&mut &target[..], target.len() as u64, head_bytes, Tail::BehindInode, output)
}

/// Whether the last, partial block may stand behind the inode.
enum Tail {
    OwnBlock,
    BehindInode,
}

fn store_plain(
    reader: &mut dyn Read,
    bytes: u64,
    head_bytes: usize,
    tail: Tail,
    output: &mut Output<'_>,
) -> Result<Stored, Problem> {
    let tail_bytes = (bytes % BLOCK as u64) as usize;
    let inline = matches!(tail, Tail::BehindInode) && 0 < tail_bytes && head_bytes + tail_bytes <= BLOCK;
    let mut left = if inline { bytes - tail_bytes as u64 } else { bytes };
    let block = output.block();
    let mut buffer = vec![0; (left.min(COPY_BYTES as u64)) as usize];
    while 0 < left {
        let part = &mut buffer[..left.min(COPY_BYTES as u64) as usize];
        reader.read_exact(part).map_err(read_problem)?;
        output.write(part)?;
        left -= part.len() as u64;
    }
    output.pad()?;
    if !inline {
        return Ok(Stored::Plain { block });
    }
    let mut tail = vec![0; tail_bytes];
    reader.read_exact(&mut tail).map_err(read_problem)?;
    Ok(Stored::Inline { block, tail })
}

/// A whole number of blocks.
const COPY_BYTES: usize = 64 * BLOCK;

/// A file that ends too soon has changed.
pub(super) fn read_problem(source: io::Error) -> Problem {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => Problem::Changed,
        _ => Problem::Read { source },
    }
}

/// The first bytes of a regular file, at most so many. One in an archive that is not given is empty.
pub fn read_beginning(content: &Content, archive: Option<&File>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(reader) = Reader::open(content, archive)? {
        reader.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A file, or the part of the archive that is one.
pub(super) enum Reader<'archive> {
    File(File),
    Part { file: &'archive File, offset: u64, left: u64 },
}

impl<'archive> Reader<'archive> {
    /// `None`: it lies in an archive that was not given.
    pub(super) fn open(content: &Content, archive: Option<&'archive File>) -> io::Result<Option<Reader<'archive>>> {
        match content {
            Content::Path { path, bytes: _ } => Ok(Some(Reader::File(File::open(path)?))),
            Content::Archive { offset, bytes } => {
                Ok(archive.map(|file| Reader::Part { file, offset: *offset, left: *bytes }))
            }
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::File(file) => file.read(buffer),
            Reader::Part { file, offset, left } => {
                let length = (buffer.len() as u64).min(*left) as usize;
                let count = file.read_at(&mut buffer[..length], *offset)?;
                *offset += count as u64;
                *left -= count as u64;
                Ok(count)
            }
        }
    }
}
