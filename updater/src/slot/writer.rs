//! Writing to the target, and what must be gone before the first byte of it changes.

use super::aligned_buffer::AlignedBuffer;
use super::error::WriteImageError;
use super::hash_tree::BLOCK;
use super::storage::Storage;
use yado_image::header::BLOCK_BYTES;

/// The target while an image is written to it.
pub(crate) struct Writer<'s> {
    storage: &'s mut dyn Storage,
    /// Where the header of an older image may stand that the next bytes would make a lie.
    header_to_clear: Option<u64>,
    written_bytes: u64,
}

impl<'s> Writer<'s> {
    /// A target of which nothing stands at a place of its own.
    pub(crate) fn of_file(storage: &'s mut dyn Storage) -> Writer<'s> {
        Writer { storage, header_to_clear: None, written_bytes: 0 }
    }

    /// A partition whose last block says what is in it.
    pub(crate) fn of_slot(storage: &'s mut dyn Storage) -> Writer<'s> {
        let header_at = storage.bytes().saturating_sub(BLOCK_BYTES);
        Writer { storage, header_to_clear: Some(header_at), written_bytes: 0 }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.storage
    }

    /// How many bytes were written so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes. Before the first byte, the old image's header is cleared, and that is on the disk: so after a cut nothing there is
    /// taken for an image.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteImageError> {
        if let Some(header_at) = self.header_to_clear {
            let mut held = AlignedBuffer::new(BLOCK);
            let is_clear = self.storage.read(header_at, &mut held).is_ok() && held.iter().all(|byte| *byte == 0);
            if !is_clear {
                self.write_now(header_at, &[0; BLOCK])?;
                self.flush()?;
            }
            self.header_to_clear = None;
        }
        self.write_now(offset, bytes)
    }

    pub(crate) fn flush(&mut self) -> Result<(), WriteImageError> {
        let flushed = self.storage.flush();
        flushed.map_err(|source| WriteImageError::Flush { path: self.storage.path().to_owned(), source })
    }

    fn write_now(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteImageError> {
        let written = self.storage.write(offset, bytes);
        written.map_err(|source| WriteImageError::Write { path: self.storage.path().to_owned(), offset, source })?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}
