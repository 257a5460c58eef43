//! The instance's `/dev`: a small tmpfs with the nodes that every container has, and those of its devices. It is made from
//! outside, because nobody inside a user namespace may make a node. Each file is created with its final owner: changing owners
//! later would go by a path, which the instance could redirect.

use crate::devices::{Node, NodeSource};
use crate::instance_root::as_ids;
use crate::layer::make_directory;
use crate::report::{at, at_new};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::io::Errno;
use yado_sys::device_filter::{DeviceKind, DeviceRule};
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_wire::{Failure, Step};

/// The nodes that LXD gives every container: name, major, minor. Everybody inside may use them.
const STANDARD: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Nodes that every container gets if this kernel has them: name, major, minor, name in sysfs. A tunnel belongs to the network
/// namespace in which it is made, and blocks nobody. LXD also gives `fuse`, which can block: whatever touches a file of a FUSE
/// server in the container waits for its answer, even the end of the container itself. An instance that needs FUSE declares a
/// `unix-char` device with `source = "/dev/fuse"` and `mode = "0666"`.
const WHERE_PRESENT: [(&str, u32, u32, &str); 1] = [("net/tun", 10, 200, "/sys/class/misc/tun")];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Two mounts of one tmpfs.
#[derive(Debug)]
pub(crate) struct DevDirectory {
    /// Our mount, for as long as the instance runs. What the instance mounts on its own `/dev` or below is not visible here.
    pub(crate) ours: OwnedFd,
    /// Detached; the payload attaches it.
    pub(crate) theirs: OwnedFd,
}

/// Makes `/dev` of a new instance. The working directory is the runtime directory.
pub(crate) fn make(base: u32, nodes: &[Node]) -> Result<DevDirectory, Failure> {
    let ours = new_tmpfs(base)?;
    let standard = as_ids(base, base, || fill(&ours)).map_err(at(Step::Mount, "/dev"))?;
    standard.map_err(|(name, errno)| at(Step::Mount, name)(errno))?;
    for node in nodes {
        make_node(&ours, node, base).map_err(at(Step::Device, &node.path))?;
    }
    // Before 6.15 the kernel copies no mount that is attached nowhere.
    make_directory(CWD, "dev", 0o700).map_err(at(Step::Mount, "dev"))?;
    mount::attach_at(&ours, "dev").map_err(at(Step::Mount, "dev"))?;
    let theirs = mount::clone_tree(ours.as_fd(), "", Depth::One).map_err(at(Step::Mount, "dev"))?;
    Ok(DevDirectory { ours, theirs })
}

fn new_tmpfs(base: u32) -> Result<OwnedFd, Failure> {
    let owner = base.to_string();
    let options = [
        FsOption::Value("source", "dev"),
        FsOption::Value("mode", "0755"),
        FsOption::Value("uid", &owner),
        FsOption::Value("gid", &owner),
        // LXC's size: nothing but nodes and a few sockets belongs here.
        FsOption::Value("size", "500k"),
        // Twice the most nodes that the record can hold. PID 1 has the last mount of it, so unmounting must be fast.
        FsOption::Value("nr_inodes", "2048"),
    ];
    mount::new_file_system("tmpfs", &options, Attributes::MOUNT_ATTR_NOSUID).map_err(at_new(Step::Mount, "/dev"))
}

/// Makes the standard nodes, links and directories. On failure: what could not be made.
fn fill(dev: &OwnedFd) -> Result<(), (&'static str, Errno)> {
    let make_char = |name: &'static str, major, minor| {
        let number = makedev(major, minor);
        rustix::fs::mknodat(dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)
            .map_err(|errno| (name, errno))
    };
    let make_directory = |name| make_directory(dev.as_fd(), name, 0o755).map_err(|errno| (name, errno));
    for (name, major, minor) in STANDARD {
        make_char(name, major, minor)?;
    }
    for (name, major, minor, class) in WHERE_PRESENT {
        if rustix::fs::access(class, rustix::fs::Access::EXISTS).is_ok() {
            if let Some((directory, _)) = name.rsplit_once('/') {
                make_directory(directory)?;
            }
            make_char(name, major, minor)?;
        }
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name).map_err(|errno| (name, errno))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        make_directory(name)?;
    }
    // The mount point for the console's pty.
    rustix::fs::mknodat(dev, "console", FileType::RegularFile, Mode::from_raw_mode(0o620), 0)
        .map_err(|errno| ("console", errno))
}

/// Makes the node of a declared device, and the directories above it.
pub(crate) fn make_node(dev: &OwnedFd, node: &Node, base: u32) -> Result<(), Errno> {
    let NodeSource { kind, major, minor } = node.source;
    let kind = match kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    for (end, _) in node.path.match_indices('/') {
        let (parent, name) = open_parent(dev, &node.path[..end])?;
        as_owner(base, 0, 0, || make_directory(parent.as_fd(), name, 0o755))?;
    }
    let (parent, name) = open_parent(dev, &node.path)?;
    let mode = Mode::from_raw_mode(node.mode.into());
    as_owner(base, node.uid, node.gid, || {
        match rustix::fs::mknodat(&parent, name, kind, mode, makedev(major, minor)) {
            // An older node of this name may stand for another device by now.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                rustix::fs::mknodat(&parent, name, kind, mode, makedev(major, minor))
            }
            answer => answer,
        }
    })
}

/// Makes something under the ids that will own it.
fn as_owner(base: u32, uid: u32, gid: u32, make: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    let (Some(uid), Some(gid)) = (base.checked_add(uid), base.checked_add(gid)) else { return Err(Errno::INVAL) };
    as_ids(uid, gid, make).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::PERM))?
}

/// Removes a node. It is no error if the node is already gone, or if the instance has put something else there.
pub(crate) fn remove_node(dev: &OwnedFd, path: &str) -> Result<(), Errno> {
    let removed =
        open_parent(dev, path).and_then(|(parent, name)| rustix::fs::unlinkat(&parent, name, AtFlags::empty()));
    match removed {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The directory that holds `path`, and the name in it. Root inside may rearrange `/dev`, so no link is followed and no mount is
/// crossed.
fn open_parent<'a>(dev: &OwnedFd, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
    let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok((rustix::fs::openat2(dev, directory, flags, Mode::empty(), resolve)?, name))
}

/// The devices that may be opened: the standard nodes, all ptys of the instance, and its devices.
pub(crate) fn rules(nodes: &[Node]) -> Vec<DeviceRule> {
    // 5:0 is `tty`, 5:2 `ptmx`. 5:1 would be the system's console; the instance's own is a pty.
    const TTY_AUX_MAJOR: u32 = 5;
    const PTY_SLAVE_MAJOR: u32 = 136;
    let char = |major, minor| DeviceRule { kind: DeviceKind::Char, major, minor };
    let mut rules = vec![char(PTY_SLAVE_MAJOR, None), char(TTY_AUX_MAJOR, Some(2))];
    rules.extend(STANDARD.map(|(_, major, minor)| char(major, Some(minor))));
    rules.extend(WHERE_PRESENT.map(|(_, major, minor, _)| char(major, Some(minor))));
    rules.extend(nodes.iter().map(|Node { source: NodeSource { kind, major, minor }, .. }| DeviceRule {
        kind: *kind,
        major: *major,
        minor: Some(*minor),
    }));
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_device_may_be_opened_and_is_listed_once() {
        let node = |path: &str| Node {
            path: path.to_owned(),
            source: NodeSource { kind: DeviceKind::Block, major: 8, minor: 1 },
            uid: 0,
            gid: 0,
            mode: 0o660,
        };
        let rules = rules(&[node("sda1"), node("disk")]);
        let block: Vec<_> = rules.iter().filter(|rule| rule.kind == DeviceKind::Block).collect();
        assert_eq!(block, [&DeviceRule { kind: DeviceKind::Block, major: 8, minor: Some(1) }]);
        assert!(rules.contains(&DeviceRule { kind: DeviceKind::Char, major: 1, minor: Some(3) }));
        assert!(!rules.iter().any(|rule| rule.kind == DeviceKind::Char && rule.major == 1 && rule.minor.is_none()));
        let system_console = DeviceRule { kind: DeviceKind::Char, major: 5, minor: Some(1) };
        assert!(!rules.contains(&system_console));
    }
}
