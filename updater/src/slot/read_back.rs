//! The last look: everything that was written, and everything that was left, is read from the disk itself and compared with the
//! signed hashes, from the root hash down. A thread reads while this one hashes, so the slower of the two is what it takes.

use super::aligned_buffer::AlignedBuffer;
use super::error::WriteImageError;
use super::hash_tree::{GROUP_BYTES, HashTree, Part, block_of, hash_of, sha256};
use super::storage::Storage;
use crate::progress::{Progress, Stage};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use yado_image::header::BLOCK_BYTES;

/// One is read while the other is hashed.
const BUFFERS: usize = 2;
/// Of the thread: it calls only the kernel.
const STACK_BYTES: usize = 64 * 1024;

/// Compares the payload, and with it every block of the tree, with the root hash.
pub(crate) fn read_back(
    storage: &dyn Storage,
    tree: &mut HashTree,
    progress: &mut dyn Progress,
) -> Result<(), WriteImageError> {
    let Some(payload) = tree.parts().first().copied() else { return Ok(()) };
    let (empty, to_fill) = sync_channel(BUFFERS);
    let (filled, to_check) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = empty.send(AlignedBuffer::new(GROUP_BYTES));
    }
    thread::scope(|scope| {
        let reader = thread::Builder::new().stack_size(STACK_BYTES);
        match reader.spawn_scoped(scope, move || read_groups(storage, payload, &to_fill, &filled)) {
            Ok(_) => check_groups(storage, tree, payload, to_check, empty, progress),
            Err(source) => Err(read_error(storage, 0, source)),
        }
    })
}

type Read = io::Result<AlignedBuffer>;

/// Ends when nobody wants more.
fn read_groups(storage: &dyn Storage, part: Part, to_fill: &Receiver<AlignedBuffer>, filled: &SyncSender<Read>) {
    for group in 0..part.groups() {
        let Ok(mut buffer) = to_fill.recv() else { return };
        let bytes = part.blocks_of(group) * BLOCK_BYTES as usize;
        let answer = storage.read(part.offset_of(group), &mut buffer[..bytes]).map(|()| buffer);
        if filled.send(answer).is_err() {
            return;
        }
    }
}

/// Takes both ends: when it returns they are closed, also after an error, and so the reader ends.
fn check_groups(
    storage: &dyn Storage,
    tree: &mut HashTree,
    part: Part,
    to_check: Receiver<Read>,
    empty: SyncSender<AlignedBuffer>,
    progress: &mut dyn Progress,
) -> Result<(), WriteImageError> {
    for group in 0..part.groups() {
        let hashes = tree.hashes(storage, part, group)?;
        let offset = part.offset_of(group);
        let answer = to_check.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        let buffer = answer.map_err(|source| read_error(storage, offset, source))?;
        for index in 0..part.blocks_of(group) {
            if sha256(block_of(&buffer, index)) != hash_of(&hashes, index) {
                let offset = offset + index as u64 * BLOCK_BYTES;
                return Err(WriteImageError::Different { path: storage.path().to_owned(), offset });
            }
        }
        let _ = empty.send(buffer);
        let all = part.blocks * BLOCK_BYTES;
        progress.advance(Stage::ReadBack, (offset + GROUP_BYTES as u64).min(all), all);
    }
    Ok(())
}

fn read_error(storage: &dyn Storage, offset: u64, source: io::Error) -> WriteImageError {
    WriteImageError::Read { path: storage.path().to_owned(), offset, source }
}
