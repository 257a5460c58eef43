//! Mounts by descriptor: a file system is made, dressed and then attached, and never seen half done.
//!
//! What rustix lacks is `mount_setattr(2)`; the rest here is about errors that say what the kernel said.

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use rustix::mount::MountAttrFlags as Attributes;

/// An option of a new file system.
#[derive(Debug, Clone, Copy)]
pub enum FsOption<'a> {
    /// `name`.
    Flag(&'a str),
    /// `name=value`.
    Value(&'a str, &'a str),
}

/// Why there is no new mount: which option or call was refused, by which error, and what the file system said about it.
#[derive(Debug)]
pub struct NewMountError {
    /// `open`, `option NAME`, `create` or `mount`.
    pub at: String,
    /// The kernel's answer.
    pub source: io::Error,
    /// The messages that the file system left for us, if any.
    pub messages: String,
}

impl fmt::Display for NewMountError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.at, self.source)?;
        if !self.messages.is_empty() {
            write!(out, " ({})", self.messages)?;
        }
        Ok(())
    }
}

impl std::error::Error for NewMountError {}

/// A new, detached mount of a file system of this kind. It is gone with its descriptor unless it is attached.
pub fn new_file_system(
    kind: &str,
    options: &[FsOption<'_>],
    attributes: Attributes,
) -> Result<OwnedFd, NewMountError> {
    let failed = |at: String, errno: Errno| NewMountError { at, source: errno.into(), messages: String::new() };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| failed(format!("open {kind}"), errno))?;
    let with_messages =
        |at: String, errno: Errno| NewMountError { messages: messages(&context), ..failed(at, errno) };
    for option in options {
        let (name, set) = match *option {
            FsOption::Flag(name) => (name, rustix::mount::fsconfig_set_flag(&context, name)),
            FsOption::Value(name, value) => (name, rustix::mount::fsconfig_set_string(&context, name, value)),
        };
        set.map_err(|errno| with_messages(format!("option {name}"), errno))?;
    }
    rustix::mount::fsconfig_create(&context).map_err(|errno| with_messages("create".to_owned(), errno))?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| with_messages("mount".to_owned(), errno))
}

/// What the file system has to say: one message a read, `e ` for an error before each (Documentation/filesystems/mount_api).
fn messages(context: &OwnedFd) -> String {
    const MAX_MESSAGES: usize = 8;
    let mut said = String::new();
    let mut buffer = [0; 256];
    for _ in 0..MAX_MESSAGES {
        let Ok(len) = rustix::io::read(context, &mut buffer) else { break };
        let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(text.trim_start_matches("e ").trim_end());
    }
    said
}

/// Whether the mounts below come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount only.
    One,
    /// It and all below.
    Tree,
}

/// A detached copy of the mount at `path`, to be attached elsewhere: a bind mount in the making. A relative path starts at
/// `directory`; an empty one is `directory` itself.
pub fn clone_tree(directory: BorrowedFd<'_>, path: &str, depth: Depth) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let flags = match depth {
        Depth::One => flags,
        Depth::Tree => flags | OpenTreeFlags::AT_RECURSIVE,
    };
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// Attaches a detached mount on what `target` is open on.
pub fn attach(mount: &impl AsFd, target: &impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", target, c"", flags)?)
}

/// Attaches a detached mount at a path of which we trust every component; a relative one starts at the working directory.
pub fn attach_at(mount: &impl AsFd, path: impl rustix::path::Arg) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Attaches a mount at a relative path of which we trust every component, starting at what `directory` is open on. A mount
/// that is attached already is moved, with all below it.
pub fn attach_below(mount: &impl AsFd, directory: &impl AsFd, path: &str) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount, c"", directory, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Changes attributes of a mount (of all below it too).
pub fn set_attributes(mount: &impl AsFd, depth: Depth, attributes: Attributes) -> io::Result<()> {
    let change = libc::mount_attr { attr_set: attributes.bits().into(), ..nothing() };
    mount_setattr(mount.as_fd(), c"", depth, &change)
}

/// Takes attributes off a mount (off all below it too).
pub fn clear_attributes(mount: &impl AsFd, depth: Depth, attributes: Attributes) -> io::Result<()> {
    let change = libc::mount_attr { attr_clr: attributes.bits().into(), ..nothing() };
    mount_setattr(mount.as_fd(), c"", depth, &change)
}

/// Maps the owners of a detached mount's files by a user namespace: what id 0 owns on disk, that namespace's root owns.
pub fn map_owners(mount: &impl AsFd, user_namespace: &impl AsFd, depth: Depth) -> io::Result<()> {
    let userns_fd = user_namespace.as_fd().as_raw_fd() as u64;
    let change = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..nothing() };
    mount_setattr(mount.as_fd(), c"", depth, &change)
}

/// Nothing that is mounted here from now on is seen in another mount namespace, nor the other way round.
pub fn make_all_private() -> io::Result<()> {
    let change = libc::mount_attr { propagation: MS_PRIVATE, ..nothing() };
    mount_setattr(CWD, c"/", Depth::Tree, &change)
}

/// All mounts of this mount namespace as a system has them that nobody contains: what is mounted in one is also mounted in the
/// copies that mount namespaces below take.
pub fn make_all_shared() -> io::Result<()> {
    let change = libc::mount_attr { propagation: MS_SHARED, ..nothing() };
    mount_setattr(CWD, c"/", Depth::Tree, &change)
}

/// From now on what is mounted on this mount is also mounted on the copies of it that other mount namespaces take.
pub fn make_shared(mount: &impl AsFd) -> io::Result<()> {
    let change = libc::mount_attr { propagation: MS_SHARED, ..nothing() };
    mount_setattr(mount.as_fd(), c"", Depth::One, &change)
}

/// mount(2)'s; libc's own are as wide as a `long`, the field has always 64 bits.
const MS_PRIVATE: u64 = 1 << 18;
const MS_SHARED: u64 = 1 << 20;

fn nothing() -> libc::mount_attr {
    libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 }
}

fn mount_setattr(directory: BorrowedFd<'_>, path: &CStr, depth: Depth, change: &libc::mount_attr) -> io::Result<()> {
    let flags = match depth {
        Depth::One => libc::AT_EMPTY_PATH,
        Depth::Tree => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: `path` is a C string, `change` is live, its size is given, and the kernel only reads both.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(change),
            size_of::<libc::mount_attr>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes the working directory, which must be a mount point, the root of this mount namespace, and drops all that was
/// mounted before: pivot_root(2), "pivot_root(".", ".")".
pub fn pivot_to_working_directory() -> io::Result<()> {
    rustix::process::pivot_root(c".", c".")?;
    // The old root now lies on top of the new one.
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_systems_own_words_are_in_the_error() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return;
        }
        let options = [FsOption::Value("size", "1M"), FsOption::Value("sise", "1M")];
        let error = new_file_system("tmpfs", &options, Attributes::empty()).unwrap_err();
        assert_eq!((error.at.as_str(), error.source.raw_os_error()), ("option sise", Some(libc::EINVAL)));
        assert!(error.messages.contains("Unknown parameter 'sise'"), "{error}");
        let error = new_file_system("no-such-fs", &[], Attributes::empty()).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_detached_mount_works_without_a_place_in_the_tree() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return;
        }
        let mount = new_file_system("tmpfs", &[], Attributes::MOUNT_ATTR_NOSUID).unwrap();
        rustix::fs::mkdirat(&mount, c"a", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        set_attributes(&mount, Depth::One, Attributes::MOUNT_ATTR_RDONLY).unwrap();
        assert_eq!(rustix::fs::mkdirat(&mount, c"b", rustix::fs::Mode::empty()), Err(Errno::ROFS));
    }
}
