//! Writes an image, in this order: its end is fetched and its signatures are checked; the old header is cleared; the tree, the
//! payload and the rest are written; all of it is flushed, read back past the cache, and compared with the root hash; and last of
//! all the header is written and read back, which makes the target an image.

use super::aligned_buffer::AlignedBuffer;
use super::blocks::Blocks;
use super::error::WriteImageError;
use super::hash_tree::{BLOCK, HashTree};
use super::in_order::write_in_order;
use super::old_image::OldImage;
use super::read_back::read_back;
use super::storage::Storage;
use super::writer::Writer;
use crate::progress::Progress;
use crate::source::{FileName, Ranges, Source, SourceError};
use std::fs::File;
use yado_image::header::{BLOCK_BYTES, HeaderBlock};
use yado_image::{Header, ImageKind, KeyId, Keys, OpenError, Wanted, open};

/// What a verified release names.
#[derive(Debug, Clone)]
pub struct ImageToWrite {
    /// SHA-256 of its header.
    pub fingerprint: [u8; 32],
    /// Its length.
    pub bytes: u64,
    /// A system goes into a slot, a container into a file.
    pub kind: ImageKind,
    /// How many trusted keys must have signed it.
    pub threshold: usize,
}

/// Where the blocks of an image came from, payload and tree together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The target held them.
    pub kept_blocks: u64,
    /// From an older image, or zeros.
    pub copied_blocks: u64,
    /// From the source.
    pub fetched_blocks: u64,
    /// What was written to the target, with headers and all.
    pub written_bytes: u64,
}

/// An image that is on the disk as it was signed.
#[derive(Debug)]
pub struct Written {
    /// What was signed.
    pub header: Header,
    /// The text of its manifest.
    pub manifest: Vec<u8>,
    /// Who signed.
    pub signers: Vec<KeyId>,
    /// What it took.
    pub counts: Counts,
}

/// Writes the image to the target. `old` holds another image of which equal blocks are copied.
///
/// # Errors
/// A slot that was begun has no header. Whoever calls again goes on with what is there.
pub fn write_image(
    image: &ImageToWrite,
    keys: &Keys,
    source: &mut dyn Source,
    target: &mut dyn Storage,
    old: Option<&File>,
    progress: &mut dyn Progress,
) -> Result<Written, WriteImageError> {
    refuse_too_big(image, target)?;
    let mut wanted = match image.kind {
        ImageKind::System => Wanted::system(),
        ImageKind::Container => Wanted::container(image.fingerprint),
    };
    (wanted.fingerprint, wanted.threshold) = (Some(image.fingerprint), image.threshold);
    let file = FileName::Image(image.fingerprint);
    match source.ranges() {
        Ranges::Any => write_by_ranges(image, &wanted, keys, (source, file), target, old, progress),
        Ranges::Whole => write_whole(image, &wanted, keys, (source, file), target, progress),
    }
}

fn write_by_ranges(
    image: &ImageToWrite,
    wanted: &Wanted,
    keys: &Keys,
    (source, file): (&mut dyn Source, FileName),
    target: &mut dyn Storage,
    old: Option<&File>,
    progress: &mut dyn Progress,
) -> Result<Written, WriteImageError> {
    let header_at = image.bytes - BLOCK_BYTES;
    let block = fetch(source, file, header_at, BLOCK)?;
    let block: HeaderBlock = block.try_into().map_err(|_| SourceError::Short { file, bytes: header_at })?;
    let header = open::check_header(&block, image.bytes, wanted).map_err(WriteImageError::Image)?;
    let between_at = header.layout.manifest_offset();
    let between = fetch(source, file, between_at, (header_at - between_at) as usize)?;
    let (signers, manifest) =
        open::check_signed(&block, &header, between.clone(), keys, wanted).map_err(WriteImageError::Image)?;

    let writer = writer(image, target);
    let old = old.and_then(OldImage::open);
    let mut blocks = Blocks::new(writer, HashTree::of(&header), (source, file), old, progress, image.bytes);
    for part in blocks.tree.parts().to_vec().into_iter().rev() {
        blocks.complete(part)?;
    }
    let Blocks { mut writer, mut tree, counts, progress, .. } = blocks;
    write_if_different(&mut writer, between_at, &between)?;
    writer.flush()?;
    read_back(writer.storage(), &mut tree, progress)?;
    check(writer.storage(), between_at, &between)?;
    let counts = finish(image, &block, writer, counts)?;
    Ok(Written { header, manifest, signers, counts })
}

fn write_whole(
    image: &ImageToWrite,
    wanted: &Wanted,
    keys: &Keys,
    source: (&mut dyn Source, FileName),
    target: &mut dyn Storage,
    progress: &mut dyn Progress,
) -> Result<Written, WriteImageError> {
    let mut writer = writer(image, target);
    let mut counts = Counts::default();
    let block = write_in_order(&mut writer, source, image.bytes, &mut counts, progress)?;
    writer.flush()?;
    let header = open::check_header(&block, image.bytes, wanted).map_err(WriteImageError::Image)?;
    let between_at = header.layout.manifest_offset();
    let between = read(writer.storage(), between_at, (image.bytes - BLOCK_BYTES - between_at) as usize)?;
    let (signers, manifest) =
        open::check_signed(&block, &header, between, keys, wanted).map_err(WriteImageError::Image)?;
    read_back(writer.storage(), &mut HashTree::of(&header), progress)?;
    let counts = finish(image, &block, writer, counts)?;
    Ok(Written { header, manifest, signers, counts })
}

/// A slot has room for its header besides the image, unless that ends where the slot does.
fn refuse_too_big(image: &ImageToWrite, target: &dyn Storage) -> Result<(), WriteImageError> {
    let (image_bytes, target_bytes) = (image.bytes, target.bytes());
    if image_bytes < BLOCK_BYTES {
        return Err(WriteImageError::Image(OpenError::TooShort { size_bytes: image_bytes }));
    }
    let fits = match image.kind {
        ImageKind::System => image_bytes == target_bytes || image_bytes <= target_bytes.saturating_sub(BLOCK_BYTES),
        ImageKind::Container => image_bytes == target_bytes,
    };
    match fits {
        true => Ok(()),
        false => Err(WriteImageError::TooBig { path: target.path().to_owned(), image_bytes, target_bytes }),
    }
}

fn writer<'t>(image: &ImageToWrite, target: &'t mut dyn Storage) -> Writer<'t> {
    match image.kind {
        ImageKind::System => Writer::of_slot(target),
        ImageKind::Container => Writer::of_file(target),
    }
}

/// The header makes it an image: at the image's end, and in a slot at the slot's.
fn finish(
    image: &ImageToWrite,
    block: &HeaderBlock,
    mut writer: Writer<'_>,
    counts: Counts,
) -> Result<Counts, WriteImageError> {
    let image_end = image.bytes - BLOCK_BYTES;
    let target_end = writer.storage().bytes() - BLOCK_BYTES;
    for offset in [image_end, target_end] {
        write_if_different(&mut writer, offset, block)?;
    }
    writer.flush()?;
    for offset in [image_end, target_end] {
        check(writer.storage(), offset, block)?;
    }
    Ok(Counts { written_bytes: writer.written_bytes(), ..counts })
}

fn fetch(source: &mut dyn Source, file: FileName, offset: u64, length: usize) -> Result<Vec<u8>, WriteImageError> {
    let mut bytes = Vec::with_capacity(length);
    source.read(file, offset..offset + length as u64, &mut |piece| {
        if length - bytes.len() < piece.len() {
            return Err(std::io::Error::other("more came than was asked for"));
        }
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(SourceError::Short { file, bytes: offset + bytes.len() as u64 }.into()),
    }
}

fn write_if_different(writer: &mut Writer<'_>, offset: u64, bytes: &[u8]) -> Result<(), WriteImageError> {
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        let offset = offset + (index * BLOCK) as u64;
        // What cannot be read is written: that may mend it.
        let is_held = read(writer.storage(), offset, block.len()).is_ok_and(|held| held == block);
        if !is_held {
            writer.write(offset, block)?;
        }
    }
    Ok(())
}

fn check(storage: &dyn Storage, offset: u64, bytes: &[u8]) -> Result<(), WriteImageError> {
    match read(storage, offset, bytes.len())? == bytes {
        true => Ok(()),
        false => Err(WriteImageError::Different { path: storage.path().to_owned(), offset }),
    }
}

fn read(storage: &dyn Storage, offset: u64, length: usize) -> Result<Vec<u8>, WriteImageError> {
    let mut buffer = AlignedBuffer::new(length);
    let answer = storage.read(offset, &mut buffer);
    answer.map_err(|source| WriteImageError::Read { path: storage.path().to_owned(), offset, source })?;
    Ok(buffer.to_vec())
}
