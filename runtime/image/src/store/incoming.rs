//! An image that is put together piece by piece: after a cut what is there of it is there again, and whoever goes on compares it with
//! the hash tree. There is one at a time: what is left of another one goes when the next begins.

use super::{Images, PlaceError, at, remove};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use yado_sys::replace_file::put_in_place;
use yado_wire::hex;

const PREFIX: &str = ".incoming-";
/// Of stat(2)'s `st_blocks`.
const SECTOR_BYTES: u64 = 512;
/// As that of an image that came whole.
const MODE: u32 = 0o644;

/// An image that is not whole yet. Its file stays when this is dropped.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: File,
    fingerprint: [u8; 32],
}

impl Incoming {
    /// To read and write.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is meanwhile.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it.
    pub fn remove(self) -> Result<(), PlaceError> {
        remove(&self.path)
    }
}

impl Images {
    /// The file for the image of this fingerprint and length, if there is room for what it does not hold yet. A new one shares all
    /// blocks with `old` where the file system can do that: then only what differs takes room.
    pub fn incoming(
        &self,
        fingerprint: &[u8; 32],
        image_bytes: u64,
        old: Option<&File>,
    ) -> Result<Incoming, PlaceError> {
        let path = self.directory.join(format!("{PREFIX}{}", hex::encode(fingerprint)));
        self.remove_incoming_but(Some(&path))?;
        // It may be another's, as all names there.
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            remove(&path)?;
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(MODE);
        let file = options.open(&path).map_err(at("create", &path))?;
        let found = file.metadata().map_err(at("look at", &path))?;
        self.refuse_without_room(image_bytes.saturating_sub(found.blocks().saturating_mul(SECTOR_BYTES)))
            .inspect_err(|_| drop(fs::remove_file(&path)))?;
        if let (0, Some(old)) = (found.len(), old) {
            // Where it cannot, the same blocks are copied.
            let _ = rustix::fs::ioctl_ficlone(&file, old);
        }
        file.set_len(image_bytes).map_err(at("write", &path))?;
        Ok(Incoming { path, file, fingerprint: *fingerprint })
    }

    /// Makes it the image of its fingerprint, now that it was verified and is on the disk; answers with its place. The rename makes it
    /// real. What runs from one that it takes the place of goes on.
    pub fn keep(&self, incoming: Incoming) -> Result<PathBuf, PlaceError> {
        let place = self.directory_of(&incoming.fingerprint)?.join("image");
        put_in_place(&incoming.path, &place).map_err(at("create", &place))?;
        self.sync()?;
        Ok(place)
    }

    /// Removes what was left of images that never became whole.
    pub fn remove_incoming(&self) -> Result<(), PlaceError> {
        self.remove_incoming_but(None)
    }

    fn remove_incoming_but(&self, kept: Option<&Path>) -> Result<(), PlaceError> {
        let entries = fs::read_dir(&self.directory).map_err(at("read", &self.directory))?;
        for entry in entries {
            let path = entry.map_err(at("read", &self.directory))?.path();
            let is_incoming =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
            if is_incoming && kept != Some(path.as_path()) {
                match fs::remove_file(&path) {
                    // Somebody else's.
                    Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                    removed => removed.map_err(at("remove", &path))?,
                }
            }
        }
        Ok(())
    }
}
