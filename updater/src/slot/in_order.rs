//! A source that gives the image once, from its first byte to its last: a pipe, an archive, a server without ranges. What says
//! whether the bytes are right comes last. So what differs is written as it comes, and nothing of it counts before all was compared:
//! the slot is denied all the while, and has no header.

use super::aligned_buffer::AlignedBuffer;
use super::block_set::BlockSet;
use super::error::WriteImageError;
use super::hash_tree::{BLOCK, GROUP_BLOCKS, GROUP_BYTES, block_of};
use super::write_image::Counts;
use super::writer::Writer;
use crate::progress::{Progress, Stage};
use crate::source::{FileName, Source, SourceError};
use std::io;
use yado_image::header::{BLOCK_BYTES, HeaderBlock};

/// Writes all of the image but its header, which is the answer.
pub(crate) fn write_in_order(
    writer: &mut Writer<'_>,
    (source, file): (&mut dyn Source, FileName),
    image_bytes: u64,
    counts: &mut Counts,
    progress: &mut dyn Progress,
) -> Result<HeaderBlock, WriteImageError> {
    let body_bytes = image_bytes.saturating_sub(BLOCK_BYTES);
    let mut body = Body {
        writer,
        counts,
        arrived: AlignedBuffer::new(GROUP_BYTES),
        held: AlignedBuffer::new(GROUP_BYTES),
        filled: 0,
        offset: 0,
    };
    let (mut header, mut header_filled) = ([0; BLOCK], 0);
    let mut failed = None;
    let answer = source.read(file, 0..image_bytes, &mut |bytes| {
        let left = usize::try_from(body_bytes - body.offset - body.filled as u64).unwrap_or(usize::MAX);
        let (of_body, of_header) = bytes.split_at(left.min(bytes.len()));
        let taken = body.take(of_body);
        progress.advance(Stage::Write, body.offset + body.filled as u64, image_bytes);
        if let Err(error) = taken {
            failed = Some(error);
            return Err(io::Error::other("what came is not taken"));
        }
        let room = header.get_mut(header_filled..header_filled + of_header.len());
        let room = room.ok_or_else(|| io::Error::other("more came than was asked for"))?;
        room.copy_from_slice(of_header);
        header_filled += of_header.len();
        Ok(())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    if let Err(error) = answer {
        // The next time this source gives all of it once more, and another one only what is lacking.
        body.filled -= body.filled % BLOCK;
        body.write()?;
        body.writer.flush()?;
        return Err(error.into());
    }
    if header_filled < BLOCK {
        let bytes = body.offset + (body.filled + header_filled) as u64;
        return Err(SourceError::Short { file, bytes }.into());
    }
    body.write()?;
    Ok(header)
}

struct Body<'b, 'w> {
    writer: &'b mut Writer<'w>,
    counts: &'b mut Counts,
    arrived: AlignedBuffer,
    held: AlignedBuffer,
    filled: usize,
    /// Where what has arrived begins.
    offset: u64,
}

impl Body<'_, '_> {
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), WriteImageError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at((GROUP_BYTES - self.filled).min(bytes.len()));
            self.arrived[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == GROUP_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Writes those of the blocks that differ from what is there.
    fn write(&mut self) -> Result<(), WriteImageError> {
        let blocks = BlockSet::first((self.filled / BLOCK).min(GROUP_BLOCKS));
        let held = &mut self.held[..self.filled];
        let is_read = self.writer.storage().read(self.offset, held).is_ok();
        let (held, arrived) = (&self.held, &self.arrived);
        let kept = blocks.filter(|index| is_read && block_of(held, index) == block_of(arrived, index));
        for run in blocks.without(kept).runs() {
            let offset = self.offset + (run.start * BLOCK) as u64;
            self.writer.write(offset, &self.arrived[run.start * BLOCK..run.end * BLOCK])?;
        }
        self.counts.kept_blocks += kept.len();
        self.counts.fetched_blocks += blocks.without(kept).len();
        self.offset += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}
