//! Images that were in use a moment ago. Whoever starts one again so soon, as a restart does, finds its verity device, its file
//! system and the pages that were verified already; its signatures are checked at each start all the same. The kernel
//! takes the pages back whenever it needs them.

use crate::moment::Moment;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an image stays after its last instance has ended: longer than a quick restart takes, and short enough that
/// whoever removes an image gets its space soon.
const KEEP: Duration = Duration::from_secs(10);

/// Each takes a loop device, a device of the mapper and a superblock.
pub(crate) const MOST: usize = 8;

/// Mounts of images that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct WarmImages {
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    until: Moment,
    mount: OwnedFd,
}

impl WarmImages {
    /// Keeps the mount of the image in `path` for a while. Of one image the latest is enough.
    pub(crate) fn keep(&mut self, path: &Path, mount: OwnedFd, now: Moment) {
        self.kept.retain(|kept| kept.path != path);
        if MOST <= self.kept.len() {
            self.kept.remove(0);
        }
        self.kept.push(Kept { path: path.to_owned(), until: now.saturating_add(KEEP), mount });
    }

    /// Takes back the mount of the image in `path`: it is in use again.
    pub(crate) fn take(&mut self, path: &Path) -> Option<OwnedFd> {
        let at = self.kept.iter().position(|kept| kept.path == path)?;
        Some(self.kept.remove(at).mount)
    }

    /// Lets go of those whose time is over.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.kept.retain(|kept| now < kept.until);
    }

    /// Lets go of all.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }

    /// When the next one's time is over.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.kept.iter().map(|kept| kept.until).min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn descriptor() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn paths(images: &WarmImages) -> Vec<&str> {
        images.kept.iter().map(|kept| kept.path.to_str().unwrap()).collect()
    }

    #[test]
    fn an_image_is_kept_once_and_for_its_time() {
        let mut images = WarmImages::default();
        let at = Moment::from_secs;
        images.keep(Path::new("/a"), descriptor(), at(1));
        images.keep(Path::new("/b"), descriptor(), at(2));
        images.keep(Path::new("/a"), descriptor(), at(3));
        assert_eq!(paths(&images), ["/b", "/a"]);
        assert_eq!(images.deadline(), Some(at(12)));
        images.expire(at(12));
        assert_eq!(paths(&images), ["/a"]);
        assert!(images.take(Path::new("/b")).is_none());
        assert!(images.take(Path::new("/a")).is_some());
        assert_eq!(images.deadline(), None);
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let mut images = WarmImages::default();
        for number in 0..20 {
            images.keep(Path::new(&format!("/{number}")), descriptor(), Moment::ZERO);
        }
        assert_eq!(images.kept.len(), MOST);
        assert_eq!(paths(&images)[0], "/12");
        images.clear();
        assert_eq!(images.deadline(), None);
    }
}
