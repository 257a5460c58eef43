//! The control group in which a command in a running instance starts. The launcher itself stays outside: what an instance does
//! to its groups may keep a command from running, but not the launcher from reporting that.

use crate::report::at;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io::{self, Read};
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_wire::{Failure, Step};

/// Names of leaf groups for commands. A cgroup2 group that has enabled controllers for its children takes no processes itself:
/// then a command goes into a leaf beside them, as with LXC. There is more than one name because an instance may have made a
/// group of this name itself, which it could freeze or limit.
const LEAVES: [&str; 8] = [".yado", ".yado-1", ".yado-2", ".yado-3", ".yado-4", ".yado-5", ".yado-6", ".yado-7"];

/// The group that a command was started in.
#[derive(Debug)]
pub(crate) struct CommandGroup(OwnedFd);

/// Forks into the instance's group at `path`.
pub(crate) fn fork(path: &str, parent: Parent) -> Result<(Forked, CommandGroup), Failure> {
    let failed = |error: io::Error| at(Step::Cgroup, path)(error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = rustix::fs::open(path, flags, Mode::empty()).map_err(at(Step::Cgroup, path))?;
    match clone::fork(Namespaces::empty(), parent, Some(group.as_fd())) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let leaf = open_leaf(&group).map_err(at(Step::Cgroup, path))?;
            let forked = clone::fork(Namespaces::empty(), parent, Some(leaf.as_fd())).map_err(failed)?;
            Ok((forked, CommandGroup(leaf)))
        }
        forked => Ok((forked.map_err(failed)?, CommandGroup(group))),
    }
}

impl CommandGroup {
    /// Whether nothing in it runs.
    pub(crate) fn is_frozen(&self) -> bool {
        /// cgroup.events holds two short lines.
        const MAX_BYTES: u64 = 256;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut events = String::new();
        rustix::fs::openat(&self.0, "cgroup.events", flags, Mode::empty())
            .is_ok_and(|file| std::fs::File::from(file).take(MAX_BYTES).read_to_string(&mut events).is_ok())
            && events.lines().any(|line| line == "frozen 1")
    }
}

/// Makes a leaf that belongs to the host's root: nobody inside may write to its files.
fn open_leaf(group: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for name in LEAVES {
        match rustix::fs::mkdirat(group, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let leaf = match rustix::fs::openat2(group, name, flags, Mode::empty(), resolve) {
            // Empty groups are removed by whoever owns the one above.
            Err(Errno::NOENT) => continue,
            leaf => leaf?,
        };
        if rustix::fs::fstat(&leaf)?.st_uid == 0 {
            return Ok(leaf);
        }
    }
    Err(Errno::EXIST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown};

    #[test]
    fn a_command_goes_into_no_leaf_that_the_instance_has_made() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let group: OwnedFd = fs::File::open(directory.path()).unwrap().into();
        let place = |name: &str| directory.path().join(name);
        let number = |leaf: &OwnedFd| rustix::fs::fstat(leaf).unwrap().st_ino;
        let inode = |name: &str| fs::metadata(place(name)).unwrap().ino();
        assert_eq!(number(&open_leaf(&group).unwrap()), inode(".yado"));
        assert_eq!(number(&open_leaf(&group).unwrap()), inode(".yado"), "the second command's is the first one's");
        chown(place(".yado"), Some(1_000_000), Some(1_000_000)).unwrap();
        assert_eq!(number(&open_leaf(&group).unwrap()), inode(".yado-1"));
        for name in &LEAVES[1..] {
            fs::create_dir_all(place(name)).unwrap();
            chown(place(name), Some(1_000_000), Some(1_000_000)).unwrap();
        }
        assert_eq!(open_leaf(&group).unwrap_err(), Errno::EXIST, "all are the instance's");
    }
}
