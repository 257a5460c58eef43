//! Mounts of verified images, kept from one start to the next. The next start reuses the file system, with `verify = block` the
//! verity device, and the pages that were read. All instances of an image share them. Signatures are still checked at each
//! start, and the launcher checks that the file has not changed before it reuses a mount (`container/src/cached_image.rs`).
//!
//! A mount is dropped when the machine's memory runs short, when its file is changed or removed, when the system shuts down, or
//! when [`MAX_UNUSED`] others were used since. The kernel takes back the pages whenever it needs them.

use crate::deferred_close::DeferredClose;
use crate::launch::{Launch, LaunchId};
use crate::supervisor::Supervisor;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use yado_spec::file_identity::FileIdentity;
use yado_spec::launch_request::Verify;
use yado_wire::launch::ImageMount;

/// How many unused mounts are kept. Each takes a superblock, and with `verify = block` a loop device and a mapper device: some
/// 100 KiB, which the kernel does not reclaim by itself.
const MAX_UNUSED: usize = 8;

/// Descriptors of one image: its mount, and the watch of its file.
pub(crate) const PER_IMAGE: usize = 2;

/// The most images: as many as instances can use, and those that none uses.
pub(crate) const MAX_IMAGES: usize = MAX_UNUSED + yado_wire::MAX_INSTANCES;

/// Numbers cached images; a number is never used twice.
pub(crate) type CachedImageId = u32;

/// As long as an instance has this, it uses the image.
#[derive(Debug, Clone)]
pub(crate) struct ImageUse(#[expect(dead_code, reason = "it is only counted")] Rc<()>);

/// The mounts, least recently used first.
#[derive(Debug, Default)]
pub(crate) struct ImageCache {
    images: Vec<CachedImage>,
    next: CachedImageId,
}

#[derive(Debug)]
struct CachedImage {
    id: CachedImageId,
    path: PathBuf,
    /// A closer closes it: unmounting a file system and its devices is slow.
    mount: DeferredClose,
    /// The file that was mounted. Another file at the same path needs another mount.
    identity: FileIdentity,
    /// Readable when that file is changed or removed.
    watch: Option<DeferredClose>,
    /// Shared with the [`ImageUse`]s.
    uses: Rc<()>,
}

impl CachedImage {
    fn is_used(&self) -> bool {
        1 < Rc::strong_count(&self.uses)
    }
}

impl ImageCache {
    /// Keeps a new mount of the image in `path`; an older one is dropped.
    pub(crate) fn put(
        &mut self,
        path: &Path,
        identity: FileIdentity,
        mount: DeferredClose,
        watch: Option<DeferredClose>,
    ) -> ImageUse {
        self.images.retain(|kept| kept.path != path);
        let (id, uses) = (self.next, Rc::default());
        self.next = self.next.wrapping_add(1);
        let used = ImageUse(Rc::clone(&uses));
        self.images.push(CachedImage { id, path: path.to_owned(), mount, identity, watch, uses });
        used
    }

    /// Notes that an instance uses the image in `path`.
    pub(crate) fn take(&mut self, path: &Path) -> Option<ImageUse> {
        let at = self.images.iter().position(|kept| kept.path == path)?;
        let kept = self.images.remove(at);
        let used = ImageUse(Rc::clone(&kept.uses));
        self.images.push(kept);
        Some(used)
    }

    /// The mount of the image in `path`, and which file it is a mount of.
    pub(crate) fn get(&self, path: &Path) -> Option<(FileIdentity, BorrowedFd<'_>)> {
        let kept = self.images.iter().find(|kept| kept.path == path)?;
        Some((kept.identity, kept.mount.as_fd()))
    }

    /// A launcher has moved the mount into its instance, and sent a copy of it.
    fn replace_mount(&mut self, path: &Path, mount: DeferredClose) {
        if let Some(kept) = self.images.iter_mut().find(|kept| kept.path == path) {
            // Closing it is fast: the file system stays mounted elsewhere.
            drop(std::mem::replace(&mut kept.mount, mount).into_harmless());
        }
    }

    /// Drops the least recently used mounts beyond [`MAX_UNUSED`].
    pub(crate) fn trim(&mut self) {
        let unused = self.images.iter().filter(|kept| !kept.is_used()).count();
        let mut too_many = unused.saturating_sub(MAX_UNUSED);
        self.images.retain(|kept| {
            let goes = 0 < too_many && !kept.is_used();
            too_many = too_many.saturating_sub(usize::from(goes));
            !goes
        });
    }

    /// Drops all unused mounts. Returns whether there were any.
    pub(crate) fn release_unused(&mut self) -> bool {
        let before = self.images.len();
        self.images.retain(CachedImage::is_used);
        self.images.len() != before
    }

    /// The image's file was changed or removed: no later start uses the mount.
    pub(crate) fn forget(&mut self, id: CachedImageId) {
        self.images.retain(|kept| kept.id != id);
    }

    /// Drops all mounts.
    pub(crate) fn clear(&mut self) {
        self.images.clear();
    }

    /// Descriptors that become readable when the file of an image is changed or removed.
    pub(crate) fn watches(&self) -> impl Iterator<Item = (CachedImageId, &DeferredClose)> {
        self.images.iter().filter_map(|kept| Some((kept.id, kept.watch.as_ref()?)))
    }
}

impl Supervisor {
    /// A launcher has verified and mounted an instance's image.
    pub(crate) fn take_image(&mut self, id: LaunchId, told: ImageMount, descriptors: Vec<DeferredClose>) {
        let Some(launch) = self.launches.iter_mut().find(|launch| launch.id == id) else { return };
        launch.awaits_image = false;
        let Some(run) = self.instances.run_mut(launch.instance) else { return };
        let path = &run.image_file;
        // The image files are on the data partition, which is about to be unmounted.
        if self.shutdown.is_some() {
            return;
        }
        let mut descriptors = descriptors.into_iter();
        let mount = descriptors.next();
        match (told, mount) {
            (ImageMount::New(identity), Some(mount)) => {
                run.image = Some(self.image_cache.put(path, identity.into(), mount, descriptors.next()));
            }
            (ImageMount::Given, Some(mount)) => self.image_cache.replace_mount(path, mount),
            (ImageMount::Given, None) | (ImageMount::New(_) | ImageMount::Nothing, _) => {}
        }
    }

    /// Whether another start is verifying the same image. With `verify = start` the second start waits for the first, or both
    /// would hash the whole file, and each would have its own pages.
    pub(crate) fn is_image_being_verified(&self, image: Option<&Path>) -> bool {
        let is_this = |launch: &Launch| {
            launch.awaits_image
                && !launch.is_given_up()
                && self
                    .instances
                    .get(launch.instance)
                    .and_then(|other| other.run.as_ref())
                    .map(|run| &*run.image_file)
                    == image
        };
        self.paths.verify() == Verify::Start && self.launches.iter().any(is_this)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::deferred_close::{CloseBy, Discarded};
    use yado_spec::file_identity::FileTime;

    fn identity(inode: u64) -> FileIdentity {
        let time = FileTime { seconds: 5, nanoseconds: 6 };
        FileIdentity { device: 1, inode, size_bytes: 3, modified: time, changed: time }
    }

    fn put(images: &mut ImageCache, path: &str) -> ImageUse {
        let mount = Discarded::default().hold(std::fs::File::open("/dev/null").unwrap().into(), CloseBy::Closer);
        images.put(Path::new(path), identity(path.len() as u64), mount, None)
    }

    fn paths(images: &ImageCache) -> Vec<&str> {
        images.images.iter().map(|kept| kept.path.to_str().unwrap()).collect()
    }

    #[test]
    fn of_an_image_the_newest_mount_is_kept_for_all_that_use_it() {
        let mut images = ImageCache::default();
        let first = put(&mut images, "/a");
        let second = images.take(Path::new("/a")).unwrap();
        drop(put(&mut images, "/b"));
        assert!(images.release_unused() && !images.release_unused());
        assert_eq!(paths(&images), ["/a"]);
        drop(first);
        assert!(!images.release_unused(), "the second one uses it");
        let other = put(&mut images, "/a");
        drop(second);
        assert!(!images.release_unused(), "the new one is used");
        drop(other);
        assert!(images.release_unused() && images.get(Path::new("/a")).is_none());
    }

    #[test]
    fn those_that_were_unused_for_longest_go_first_and_those_in_use_never() {
        let mut images = ImageCache::default();
        let used = put(&mut images, "/used");
        let names: Vec<String> = (0..MAX_UNUSED + 2).map(|number| format!("/{number}")).collect();
        for name in &names {
            drop(put(&mut images, name));
        }
        drop(images.take(Path::new("/0")).unwrap());
        images.trim();
        assert_eq!(paths(&images)[..3], ["/used", "/3", "/4"]);
        assert_eq!(paths(&images).last(), Some(&"/0"));
        assert_eq!(images.images.len(), MAX_UNUSED + 1);
        drop(used);
        images.trim();
        assert_eq!(paths(&images)[0], "/3");
    }

    #[test]
    fn what_is_forgotten_is_not_given_to_a_start_and_a_later_one_is_not_taken_for_it() {
        let mut images = ImageCache::default();
        let used = put(&mut images, "/a");
        let id = images.images[0].id;
        images.forget(id);
        assert!(images.get(Path::new("/a")).is_none());
        drop(used);
        drop(put(&mut images, "/a"));
        images.forget(id);
        assert_eq!(images.get(Path::new("/a")).unwrap().0, identity(2));
    }
}
