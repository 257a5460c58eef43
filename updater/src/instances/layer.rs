//! The writable layer of an instance in an update: the new image gets a copy, and what was there before lies aside as it was.

use super::sides::{Sides, failed, sync};
use super::tree_copy::{self, Size};
use super::{InstancesError, TreeError};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::Path;
use yado_spec::directory_name::OWNER;
use yado_sys::volume::{self, Usage};

/// What copies of layers leave free on the data partition, as images do: a tenth of it within these.
const MIN_KEPT_BYTES: u64 = 4 << 20;
const MAX_KEPT_BYTES: u64 = 512 << 20;

/// As the launcher makes it.
const LAYER_MODE: u32 = 0o700;

/// What the instance has written. The overlay's own `work` beside it is emptied at each start.
const UPPER: &str = "upper";

/// Where names of files that have several are kept while they are copied.
const LINKS: &str = "links";

/// What a layer takes; a layer that is not there takes nothing.
pub(super) fn size(layer: &Path) -> Result<Size, InstancesError> {
    match fs::symlink_metadata(layer.join(UPPER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Size::default()),
        Err(source) => Err(failed("look at", &layer.join(UPPER))(source)),
        Ok(_) => tree_copy::measure(&layer.join(UPPER)).map_err(in_layer(layer)),
    }
}

/// Makes a copy of the layer aside, whole and on the disk. What a copy that was cut has left is removed, and begun anew: the
/// instance may have run since.
pub(super) fn copy_aside(sides: &Sides) -> Result<(), InstancesError> {
    let Sides { place, aside } = sides;
    sides.make_place(LAYER_MODE)?;
    sides.remove_aside()?;
    let size = size(place)?;
    refuse_without_room(place, size)?;
    DirBuilder::new().mode(LAYER_MODE).create(aside).map_err(failed("create", aside))?;
    let found = fs::metadata(place).map_err(failed("look at", place))?;
    chown(aside, Some(found.uid()), Some(found.gid())).map_err(failed("give to its owner", aside))?;
    match fs::read_link(place.join(OWNER)) {
        Ok(owner) => symlink(owner, aside.join(OWNER)).map_err(failed("create", &aside.join(OWNER)))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("read", &place.join(OWNER))(source)),
    }
    if place.join(UPPER).is_dir() {
        tree_copy::copy(&place.join(UPPER), &aside.join(UPPER), &aside.join(LINKS), size).map_err(in_layer(place))?;
    }
    let synced = File::open(aside).and_then(|aside| rustix::fs::syncfs(aside).map_err(io::Error::from));
    synced.map_err(failed("sync", aside))?;
    aside.parent().map_or(Ok(()), sync)
}

/// Seen before anything is written: root could fill the disk to its last block.
fn refuse_without_room(layer: &Path, size: Size) -> Result<(), InstancesError> {
    let Usage { total_bytes, free_bytes, total_files, free_files, .. } =
        volume::usage(layer).map_err(failed("look at", layer))?;
    let kept_bytes = (total_bytes / 10).clamp(MIN_KEPT_BYTES, MAX_KEPT_BYTES);
    let has_files = total_files == 0 || size.files.saturating_add(16) <= free_files;
    let has_bytes = size.bytes <= free_bytes.saturating_sub(kept_bytes) || shares_blocks(layer);
    match has_files && has_bytes {
        true => Ok(()),
        false => Err(InstancesError::NoRoom { layer: layer.to_owned(), size, free_bytes, free_files, kept_bytes }),
    }
}

/// Whether a copy takes no blocks: tried, because no number of a file system tells it.
fn shares_blocks(layer: &Path) -> bool {
    let try_it = || -> io::Result<()> {
        let above = layer.parent().unwrap_or(layer);
        let (one, other) = (above.join(".share-1"), above.join(".share-2"));
        fs::write(&one, [1; 4096])?;
        let cloned = File::create(&other).and_then(|other| Ok(rustix::fs::ioctl_ficlone(other, File::open(&one)?)?));
        fs::remove_file(&one).and(fs::remove_file(&other)).and(cloned)
    };
    try_it().is_ok()
}

fn in_layer(layer: &Path) -> impl FnOnce(TreeError) -> InstancesError {
    let layer = layer.to_owned();
    move |source| InstancesError::Layer { layer, source }
}
