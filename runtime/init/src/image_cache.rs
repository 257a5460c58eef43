//! Mounts of images that were verified: whoever starts one again finds its file system, with `verify = block` its verity
//! device, and the pages that were read. All instances of an image share them. Signatures are checked at each start all the
//! same. What the launcher compares before it uses one again is its own affair (`kept_image`).
//!
//! A mount is kept until the machine's memory runs short, its file is changed or removed, the system shuts down, or as many
//! others were used since. The pages themselves the kernel takes back whenever it needs them.

use crate::deferred_close::DeferredClose;
use crate::launch::{Launch, LaunchId};
use crate::supervisor::Supervisor;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use yado_spec::file_identity::FileIdentity;
use yado_spec::launch_request::Verify;
use yado_wire::launch::ImageMount;

/// How many that no instance uses are kept. Each takes a superblock, with `verify = block` a loop device and a device of the
/// mapper besides: some 100 KiB, of which the kernel gives nothing back by itself.
const MAX_UNUSED: usize = 8;

/// What the table holds open of one image: its mount, and what tells that its file changes.
pub(crate) const PER_IMAGE: usize = 2;

/// The most images: as many as instances can use, and those that none uses.
pub(crate) const MAX_IMAGES: usize = MAX_UNUSED + yado_wire::MAX_INSTANCES;

/// Numbers kept images; never used again.
pub(crate) type CachedImageId = u32;

/// Says that an instance uses an image.
#[derive(Debug, Clone)]
pub(crate) struct ImageUse(#[expect(dead_code, reason = "it is only counted")] Rc<()>);

/// The mounts, the one that was used last at the end.
#[derive(Debug, Default)]
pub(crate) struct ImageCache {
    images: Vec<CachedImage>,
    next: CachedImageId,
}

#[derive(Debug)]
struct CachedImage {
    id: CachedImageId,
    path: PathBuf,
    /// To let go of a file system with its devices takes the kernel a while: a closer does it.
    mount: DeferredClose,
    /// The file that it is good for.
    identity: FileIdentity,
    /// Readable when that file is changed or removed.
    watch: Option<DeferredClose>,
    /// Shared with those who use it.
    uses: Rc<()>,
}

impl CachedImage {
    fn is_used(&self) -> bool {
        1 < Rc::strong_count(&self.uses)
    }
}

impl ImageCache {
    /// Keeps a new mount of the image in `path`, in the place of an older one.
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

    /// The image in `path` is used once more.
    pub(crate) fn take(&mut self, path: &Path) -> Option<ImageUse> {
        let at = self.images.iter().position(|kept| kept.path == path)?;
        let kept = self.images.remove(at);
        let used = ImageUse(Rc::clone(&kept.uses));
        self.images.push(kept);
        Some(used)
    }

    /// The mount of the image in `path`, and the file that it is good for.
    pub(crate) fn get(&self, path: &Path) -> Option<(FileIdentity, BorrowedFd<'_>)> {
        let kept = self.images.iter().find(|kept| kept.path == path)?;
        Some((kept.identity, kept.mount.as_fd()))
    }

    /// A launcher used up the mount, and gave another one of the same.
    fn replace_mount(&mut self, path: &Path, mount: DeferredClose) {
        if let Some(kept) = self.images.iter_mut().find(|kept| kept.path == path) {
            // It belongs to a mount namespace that is gone or goes, and the file system stays.
            drop(std::mem::replace(&mut kept.mount, mount).into_harmless());
        }
    }

    /// Lets go of those that were unused for longest, where there are too many.
    pub(crate) fn trim(&mut self) {
        let unused = self.images.iter().filter(|kept| !kept.is_used()).count();
        let mut too_many = unused.saturating_sub(MAX_UNUSED);
        self.images.retain(|kept| {
            let goes = 0 < too_many && !kept.is_used();
            too_many = too_many.saturating_sub(usize::from(goes));
            !goes
        });
    }

    /// Lets go of all that nobody uses. Whether there were any.
    pub(crate) fn release_unused(&mut self) -> bool {
        let before = self.images.len();
        self.images.retain(CachedImage::is_used);
        self.images.len() != before
    }

    /// Its file is another one now, or gone: no start uses it any more.
    pub(crate) fn forget(&mut self, id: CachedImageId) {
        self.images.retain(|kept| kept.id != id);
    }

    /// Lets go of all.
    pub(crate) fn clear(&mut self) {
        self.images.clear();
    }

    /// What tells that files of images change.
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
        // Their files lie on the data partition, which is about to be unmounted.
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

    /// Whether another start is about to verify the image of an instance: with `verify = start` it is waited for, or each
    /// would hash the whole, and have pages of its own.
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
