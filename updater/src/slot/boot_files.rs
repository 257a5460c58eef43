//! The files that the boot loader needs of a slot (kernel, initramfs, device tree), in the slot's boot partition: those that its
//! system image's manifest names, by their SHA-256, and no others.
//!
//! The partition is mounted where nobody sees it, and only while this works. Each file is written aside, synced and renamed. Then the
//! partition is mounted anew, read-only, and everything is read again: the kernel keeps nothing of a file system that was unmounted,
//! nor of a device that nobody has open, so these bytes come from the disk. All the while the slot is denied: what is in the way of
//! the new files may go first.

mod error;
mod partition;
pub(crate) mod process;

use crate::progress::{Progress, Stage};
use crate::source::{FileName, Source};
use partition::{Access, Mounted};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use yado_image::release;

pub use error::BootFilesError;

/// What it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootFilesWritten {
    /// Files that were there.
    pub kept_files: u64,
    /// Files that were fetched.
    pub fetched_files: u64,
    /// Bytes of them.
    pub fetched_bytes: u64,
}

/// Makes the boot partition hold these files, by their names, and nothing else.
///
/// # Errors
/// The slot must stay denied.
pub fn write_boot_files(
    files: &BTreeMap<String, release::BootFile>,
    device: &Path,
    source: &mut dyn Source,
    progress: &mut dyn Progress,
) -> Result<BootFilesWritten, BootFilesError> {
    let wanted: Vec<BootFile<'_>> = files.iter().map(|(name, file)| BootFile { name, file: *file }).collect();
    partition::refuse_in_use(device)?;
    let before = look(device, &wanted)?;
    let kept_files = (wanted.len() - before.lacking.len()) as u64;
    let mut written = BootFilesWritten { kept_files, ..BootFilesWritten::default() };
    if before.is_complete() {
        return Ok(written);
    }
    refuse_too_small(device, &before)?;

    let mounted = Mounted::mount(device, Access::Write)?;
    for name in &before.others {
        mounted.remove(name)?;
    }
    let total_bytes = before.lacking.iter().map(|lacking| lacking.file.bytes).sum();
    for file in &before.lacking {
        mounted.make_room(file.name, Some(file.file.bytes))?;
        progress.advance(Stage::BootFiles, written.fetched_bytes, total_bytes);
        written.fetched_bytes += fetch(&mounted, file, source, |bytes| {
            let done = written.fetched_bytes + bytes;
            progress.advance(Stage::BootFiles, done, total_bytes);
        })?;
        written.fetched_files += 1;
    }
    mounted.sync()?;
    drop(mounted);
    match look(device, &wanted)? {
        after if after.is_complete() => Ok(written),
        after => Err(BootFilesError::Different {
            device: device.to_owned(),
            name: after.lacking.first().map_or_else(|| after.others.join(", "), |file| file.name.to_owned()),
        }),
    }
}

#[derive(Debug, Clone, Copy)]
struct BootFile<'n> {
    name: &'n str,
    file: release::BootFile,
}

/// What is in the partition.
#[derive(Debug)]
struct Found<'n> {
    lacking: Vec<BootFile<'n>>,
    /// What is not wanted there, and what has the name of a wanted one and is another.
    others: Vec<String>,
    /// Free, and taken by what goes.
    room_bytes: u64,
    /// A file takes a whole number of these.
    block_bytes: u64,
}

impl Found<'_> {
    fn is_complete(&self) -> bool {
        self.lacking.is_empty() && self.others.is_empty()
    }
}

/// Mounts it, reads all of it, and leaves it as it was.
fn look<'n>(device: &Path, wanted: &[BootFile<'n>]) -> Result<Found<'n>, BootFilesError> {
    let mounted = Mounted::mount(device, Access::Read)?;
    let usage = mounted.usage()?;
    let mut lacking = Vec::new();
    for file in wanted {
        if mounted.sha256(file.name)? != Some(file.file.sha256) {
            lacking.push(*file);
        }
    }
    let is_kept = |name: &str| wanted.iter().any(|file| file.name == name);
    let is_lacking = |name: &str| lacking.iter().any(|file| file.name == name);
    let (mut others, mut room_bytes) = (Vec::new(), usage.free_bytes);
    for (name, bytes) in mounted.entries()? {
        if !is_kept(&name) {
            room_bytes += bytes.next_multiple_of(usage.block_bytes);
            others.push(name);
        } else if is_lacking(&name) {
            // It is replaced, or goes first where there is no room for both.
            room_bytes += bytes.next_multiple_of(usage.block_bytes);
        }
    }
    Ok(Found { lacking, others, room_bytes, block_bytes: usage.block_bytes })
}

fn refuse_too_small(device: &Path, found: &Found<'_>) -> Result<(), BootFilesError> {
    let lengths = found.lacking.iter().map(|lacking| lacking.file.bytes);
    let needed_bytes = lengths.map(|bytes| bytes.next_multiple_of(found.block_bytes)).sum::<u64>();
    match needed_bytes <= found.room_bytes {
        true => Ok(()),
        false => {
            let (device, room_bytes) = (device.to_owned(), found.room_bytes);
            Err(BootFilesError::TooSmall { device, needed_bytes, room_bytes })
        }
    }
}

/// Writes the file aside, and gives it its name when it is the right one and on the disk. Answers with its length.
fn fetch(
    mounted: &Mounted,
    file: &BootFile<'_>,
    source: &mut dyn Source,
    mut on_bytes: impl FnMut(u64),
) -> Result<u64, BootFilesError> {
    let (aside, place) = (mounted.path(".new"), mounted.path(file.name));
    let failed = |source| BootFilesError::Write { name: file.name.to_owned(), source };
    let mut out = File::create(&aside).map_err(failed)?;
    let (mut hash, mut bytes, mut write_error) = (Sha256::new(), 0, None);
    let name = FileName::Boot(file.file.sha256);
    let answer = source.read(name, 0..file.file.bytes, &mut |piece| {
        hash.update(piece);
        bytes += piece.len() as u64;
        on_bytes(bytes);
        out.write_all(piece).map_err(|error| {
            write_error = Some(error);
            io::Error::other("the file cannot be written")
        })
    });
    if let Some(error) = write_error {
        return Err(failed(error));
    }
    answer.map_err(BootFilesError::Source)?;
    let sha256: [u8; 32] = hash.finalize().into();
    if sha256 != file.file.sha256 {
        return Err(BootFilesError::WrongBytes { name: file.name.to_owned() });
    }
    out.sync_all().and_then(|()| fs::rename(&aside, &place)).map_err(failed)?;
    Ok(bytes)
}
