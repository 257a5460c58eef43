//! Reuses the mount of an image from an earlier start. init keeps the mount and gives it to the launcher, with the identity of
//! the file that was mounted. The signatures are still checked at each start, so that an image whose key is no longer trusted
//! does not start.
//!
//! With `verify = block` it is enough that the file is the same (its inode number is not given to another file while the mount
//! exists): its blocks are verified whenever they are read.
//!
//! With `verify = start` the image was hashed once, and the mounted bytes must be those that were hashed. Below `DIR/system` and
//! `DIR/data` only the host's root can change a file, and root can do anything to us. What is guarded against is an accident: a
//! copy over the image, or a restored backup. So the mount is reused only if
//! - device, inode number, length and times of the file are the same before it was hashed, after it was hashed, and now. The
//!   change time cannot be set; only the clock can be set back;
//! - the change time was two seconds old when hashing began, so that a later change gets another time: file times advance once a
//!   tick, and on some file systems once a second;
//! - nobody had the file open or mapped for writing when hashing began: writes to a mapped page do not change the times;
//! - the file system updates times for every writer: no network file system, no FAT.
//!
//! Changes below the file system are not noticed: a disk that rots, or a write to the block device. That is so during a run, too:
//! pages that were hashed once are read again when the kernel needs their memory. `verify = block` verifies each block whenever
//! it is read.

use crate::layer::make_directory;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, FileType, inotify};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use yado_spec::file_identity::{FileIdentity, FileTime};
use yado_sys::file_lease;
use yado_sys::mount::{self, Depth};

/// Where a mount is attached to be copied, in the runtime directory, which is the working directory.
pub(crate) const PLACE: &str = "image";

/// What init is told to keep for the next start.
#[derive(Debug)]
pub(crate) enum Keep {
    /// The mount that init gave, or a copy of it if that was used up.
    Given(Option<OwnedFd>),
    /// A new mount, for as long as the file is the same. `watch`: readable when the file is changed or removed.
    New { mount: OwnedFd, identity: FileIdentity, watch: Option<OwnedFd> },
    /// Nothing.
    Nothing,
}

/// Two mounts of one file system: one for the instance, and one for init.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) for_instance: OwnedFd,
    /// `None`: the original mount can be used again.
    pub(crate) for_init: Option<OwnedFd>,
}

/// Copies a detached mount. Only Linux 6.15 and later can copy it directly. For older kernels it is attached in our own mount
/// namespace first, and then nobody else can use it any more.
pub(crate) fn copy(mount: &OwnedFd) -> io::Result<Copies> {
    match mount::clone_tree(mount.as_fd(), "", Depth::One) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => copy_attached(mount),
        answer => Ok(Copies { for_instance: answer?, for_init: None }),
    }
}

fn copy_attached(mount: &OwnedFd) -> io::Result<Copies> {
    make_directory(CWD, PLACE, 0o700)?;
    mount::attach_at(mount, PLACE)?;
    let copy = || mount::clone_tree(mount.as_fd(), "", Depth::One);
    Ok(Copies { for_instance: copy()?, for_init: Some(copy()?) })
}

/// The identity of the file, with its size and times now.
pub(crate) fn identity(file: &File) -> Result<FileIdentity, Errno> {
    let stat = rustix::fs::fstat(file)?;
    let time = |seconds, nanoseconds| FileTime { seconds, nanoseconds };
    Ok(FileIdentity {
        device: stat.st_dev as _,
        inode: stat.st_ino as _,
        size_bytes: stat.st_size as u64,
        modified: time(stat.st_mtime, stat.st_mtime_nsec as u32),
        changed: time(stat.st_ctime, stat.st_ctime_nsec as u32),
    })
}

/// Call it before hashing: the file's identity, if the same identity after hashing proves that nobody has written to the file.
pub(crate) fn identity_that_tells(file: &File) -> Option<FileIdentity> {
    let identity = identity(file).ok()?;
    let is_sure = tells_of_changes(file)
        && is_settled(&identity, SystemTime::now().duration_since(UNIX_EPOCH).ok()?)
        && file_lease::has_writer(file).is_ok_and(|has_writer| !has_writer);
    is_sure.then_some(identity)
}

/// Whether a change from now on would get another change time. `now`: time since 1970.
fn is_settled(identity: &FileIdentity, now: Duration) -> bool {
    /// A second is the longest that a clock of these file systems stands still (ext4 with small inodes).
    const SETTLING_S: i64 = 2;
    let last = identity.changed.seconds.max(identity.modified.seconds);
    i64::try_from(now.as_secs()).is_ok_and(|now| last.saturating_add(SETTLING_S) < now)
}

/// File systems that update the change time whoever writes: `linux/magic.h`.
fn tells_of_changes(file: &File) -> bool {
    const KNOWN: [u64; 7] = [
        0xef53,      // ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0xf2f5_2010, // f2fs
        0xca45_1a4e, // bcachefs
        0x0102_1994, // tmpfs
        0x794c_7630, // overlayfs, of a container that we are in
    ];
    let is_file = rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    is_file && rustix::fs::fstatfs(file).is_ok_and(|found| KNOWN.contains(&(found.f_type as u64)))
}

/// An inotify watch for changes of the file, also for its removal: who removes an image wants its space back, and the mount keeps
/// it. `None`: there are too many watches (a user may have 128); then the space is freed when the mount is dropped.
pub(crate) fn watch(file: &File) -> Option<OwnedFd> {
    use inotify::{CreateFlags, WatchFlags};
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    // A removal changes the number of links; the file itself stays, because it is mounted.
    let changes = WatchFlags::ATTRIB | WatchFlags::MODIFY | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
    inotify::add_watch(&watch, format!("/proc/self/fd/{}", file.as_raw_fd()), changes).ok()?;
    Some(watch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_sys::clone::{self, Namespaces};
    use yado_sys::mount::Attributes;

    #[test]
    fn a_change_two_seconds_after_the_last_one_has_another_time() {
        let at = |seconds| FileTime { seconds, nanoseconds: 999_999_999 };
        let identity = |modified, changed| FileIdentity {
            device: 1,
            inode: 2,
            size_bytes: 3,
            modified: at(modified),
            changed: at(changed),
        };
        for (identity, now, is) in [
            (identity(100, 100), 103, true),
            (identity(100, 100), 102, false),
            (identity(100, 101), 103, false),
            (identity(101, 100), 103, false),
            // A clock that was set back, and times that are none.
            (identity(100, 100), 50, false),
            (identity(i64::MAX, 0), 50, false),
            (identity(i64::MIN, i64::MIN), 0, true),
        ] {
            assert_eq!(is_settled(&identity, Duration::from_secs(now)), is, "{identity:?} {now}");
        }
    }

    #[test]
    fn a_mount_that_must_be_attached_to_be_copied_goes_from_hand_to_hand() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return;
        }
        let mut mount = mount::new_file_system("tmpfs", &[], Attributes::empty()).unwrap();
        make_directory(mount.as_fd(), "mark", 0o755).unwrap();
        for _ in 0..3 {
            // Each launcher has a mount namespace of its own; here it is a thread.
            let launcher = std::thread::spawn(move || {
                clone::unshare(Namespaces::NEWNS).unwrap();
                mount::make_all_private().unwrap();
                let runtime = tempfile::tempdir().unwrap();
                rustix::process::chdir(runtime.path()).unwrap();
                let copies = copy_attached(&mount).unwrap();
                rustix::fs::statat(&copies.for_instance, "mark", rustix::fs::AtFlags::empty()).unwrap();
                assert!(copy_attached(&mount).is_err(), "it is attached already");
                rustix::mount::unmount(PLACE, rustix::mount::UnmountFlags::DETACH).unwrap();
                copies.for_init.unwrap()
            });
            mount = launcher.join().unwrap();
        }
        rustix::fs::statat(&mount, "mark", rustix::fs::AtFlags::empty()).unwrap();
    }
}
