//! Stores the contents of files and links: compressed where that makes them smaller, else as they are, with a short
//! tail behind the inode where it fits.

use super::BLOCK;
use super::clusters;
use super::inode::Stored;
use super::lz4::Encoder;
use super::output::Output;
use super::tree::Content;
use super::write::{Compression, Problem};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Where contents come from and how they are stored.
pub(super) struct Contents<'archive> {
    archive: Option<&'archive File>,
    compression: Compression,
    encoder: Encoder,
    compressed: Vec<u8>,
}

impl<'archive> Contents<'archive> {
    /// Files in an archive are read from this one.
    pub(super) fn new(archive: Option<&'archive File>, compression: Compression) -> Contents<'archive> {
        Contents { archive, compression, encoder: Encoder::new(), compressed: Vec::new() }
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
            Compression::Lz4 { cluster_blocks } => {
                if (BLOCK as u64) < bytes {
                    if let Some(stored) = self.store_compressed(content, cluster_blocks, output)? {
                        return Ok(stored);
                    }
                }
                Tail::BehindInode
            }
        };
        let mut reader = self.open(content)?;
        let stored = store_plain(&mut reader, bytes, head_bytes, tail, output)?;
        // A file that has grown meanwhile would be cut.
        match reader.read(&mut [0]).map_err(|source| Problem::Read { source })? {
            0 => Ok(stored),
            _ => Err(Problem::Changed),
        }
    }

    fn store_compressed(
        &mut self,
        content: &Content,
        cluster_blocks: u8,
        output: &mut Output<'_>,
    ) -> Result<Option<Stored>, Problem> {
        let mut reader = self.open(content)?;
        self.compressed.clear();
        let clusters = clusters::compress(
            &mut reader,
            content.bytes(),
            usize::from(cluster_blocks),
            output.block(),
            &mut self.encoder,
            &mut self.compressed,
        )
        .map_err(read_problem)?;
        let Some(clusters::Clusters { blocks, index }) = clusters else { return Ok(None) };
        output.write(&self.compressed)?;
        Ok(Some(Stored::Compressed { blocks, index }))
    }

    fn open(&self, content: &Content) -> Result<Reader<'archive>, Problem> {
        match content {
            Content::Path { path, bytes: _ } => {
                File::open(path).map(Reader::File).map_err(|source| Problem::Read { source })
            }
            Content::Archive { offset, bytes } => {
                let file = self.archive.ok_or(Problem::NoArchive)?;
                Ok(Reader::Part { file, offset: *offset, left: *bytes })
            }
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

fn read_problem(source: io::Error) -> Problem {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => Problem::Changed,
        _ => Problem::Read { source },
    }
}

/// A file, or the part of the archive that is one.
enum Reader<'archive> {
    File(File),
    Part { file: &'archive File, offset: u64, left: u64 },
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
