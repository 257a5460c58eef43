//! Removing a tree of directories of which others chose the names and the depth, as control groups below a container's are.
//!
//! Each step goes through a descriptor and a name of one component, so no path becomes too long; one descriptor is open at a
//! time, and nothing recurses, so depth costs nothing. [`remove`] removes directories only: what else lies in them is not touched.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;

/// Deeper than any tree that we let be made; a tree that grows while it is descended into ends here.
const MAX_DEPTH: u32 = 512;

/// So many names of directories are held at a time, of at most 255 bytes each.
const MAX_NAMES: usize = 1000;

/// How far one call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The directory is gone.
    Done,
    /// As many directories as were allowed are gone, and some are left: call again.
    More,
}

/// Removes the directory `path` and all directories below it, at most `max_removals` of them. A directory that is not there is
/// removed.
///
/// # Errors
/// `ResourceBusy`: a directory that has no directories in it any more cannot be removed; of control groups, processes are in it.
/// `InvalidData`: the tree is deeper than 512. Others as the kernel has them.
pub fn remove(path: &Path, max_removals: u32) -> io::Result<Removal> {
    let mut removals = max_removals;
    loop {
        match rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Removal::Done),
            Err(error) if !is_not_empty(error) => return Err(error.into()),
            Err(_) => {}
        }
        let directory = match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Removal::Done),
            opened => opened?,
        };
        if removals == 0 {
            return Ok(Removal::More);
        }
        let before = removals;
        if remove_below(directory, &mut removals)? == Removal::More {
            return Ok(Removal::More);
        }
        if removals == before {
            // Nothing was in it, and it cannot be removed.
            return Err(io::ErrorKind::ResourceBusy.into());
        }
    }
}

/// Removes the directory `path` and everything in it, files too, and says how many files and directories these were. Links are not
/// followed, and mounts not crossed. Whatever depth and names others chose: what lies deeper is moved to the top, so that one
/// descriptor is open besides the top's, and of what lies side by side a bounded number of names is held. A directory that is not
/// there is removed.
///
/// # Errors
/// As the kernel has them; `ResourceBusy` for what is mounted there.
pub fn remove_all(path: &Path) -> io::Result<u64> {
    let top = match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        opened => opened?,
    };
    let (mut removed, mut moved) = (0u64, 0u64);
    loop {
        let directories = empty_of_files(&top, &mut removed)?;
        if directories.is_empty() {
            break;
        }
        for name in directories {
            let directory = rustix::fs::openat(&top, &name, DIRECTORY, Mode::empty())?;
            loop {
                let below = empty_of_files(&directory, &mut removed)?;
                if below.is_empty() {
                    break;
                }
                for name in below {
                    // A name that is taken by something else is passed over.
                    loop {
                        moved = moved.saturating_add(1);
                        let free = format!("removed-{moved}");
                        match rustix::fs::renameat_with(&directory, &name, &top, free, RenameFlags::NOREPLACE) {
                            Err(Errno::EXIST) => {}
                            done => break done?,
                        }
                    }
                }
            }
            rustix::fs::unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
            removed = removed.saturating_add(1);
        }
    }
    rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR)?;
    Ok(removed.saturating_add(1))
}

/// Removes what is no directory until there are [`MAX_NAMES`] directories, and gives the names of these; none: it is empty.
fn empty_of_files(directory: &OwnedFd, removed: &mut u64) -> io::Result<Vec<CString>> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut directories = Vec::new();
    let reopened = rustix::fs::openat(directory, c".", DIRECTORY, Mode::empty())?;
    let mut entries = RawDir::new(&reopened, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) => *removed = removed.saturating_add(1),
            Err(Errno::ISDIR) => {
                directories.push(name.to_owned());
                if directories.len() == MAX_NAMES {
                    break;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directories)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `EBUSY` is how a control group says it, of groups in it as well as of processes.
fn is_not_empty(error: Errno) -> bool {
    matches!(error, Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY)
}

/// What reading a directory came to.
enum Pass {
    /// No directory is in it any more.
    Empty,
    /// One that could not be removed.
    Nested(CString),
    /// No removals are left.
    Spent,
}

fn remove_below(top: OwnedFd, removals: &mut u32) -> io::Result<Removal> {
    let mut current = top;
    let mut depth = 0_u32;
    // How many removals were left when `current` was entered from above.
    let mut at_entry = None;
    loop {
        match remove_children(current.as_fd(), removals)? {
            Pass::Spent => return Ok(Removal::More),
            Pass::Nested(name) => {
                let deeper = depth.saturating_add(1);
                if MAX_DEPTH < deeper {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                match rustix::fs::openat(&current, &name, DIRECTORY, Mode::empty()) {
                    Ok(nested) => (current, depth, at_entry) = (nested, deeper, Some(*removals)),
                    // It went by itself meanwhile: look again.
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Pass::Empty if at_entry == Some(*removals) => return Err(io::ErrorKind::ResourceBusy.into()),
            Pass::Empty => {
                let Some(above) = depth.checked_sub(1) else { return Ok(Removal::Done) };
                current = rustix::fs::openat(&current, c"..", DIRECTORY, Mode::empty())?;
                (depth, at_entry) = (above, None);
            }
        }
    }
}

/// Removes what can be removed at once, up to the first directory that cannot.
fn remove_children(directory: BorrowedFd<'_>, removals: &mut u32) -> io::Result<Pass> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    // Reading begins at the front, also when this descriptor was read before.
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            continue;
        }
        if *removals == 0 {
            return Ok(Pass::Spent);
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) => *removals = removals.saturating_sub(1),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) if is_not_empty(error) => return Ok(Pass::Nested(name.to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Pass::Empty)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("yado-tree-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn nest(&self, first: &str, depth: usize) {
            let name = "n".repeat(250);
            fs::create_dir(self.0.join(first)).unwrap();
            let mut current = rustix::fs::open(self.0.join(first), DIRECTORY, Mode::empty()).unwrap();
            for _ in 0..depth {
                rustix::fs::mkdirat(&current, &*name, Mode::RWXU).unwrap();
                current = rustix::fs::openat(&current, &*name, DIRECTORY, Mode::empty()).unwrap();
            }
        }
    }

    #[test]
    fn what_is_too_deep_for_any_path_goes_with_all_that_is_in_it() {
        let tree = Scratch::new("all");
        tree.nest("deep", 3000);
        fs::write(tree.0.join("removed-1"), "its own").unwrap();
        fs::create_dir(tree.0.join("removed-2")).unwrap();
        fs::write(tree.0.join("removed-2/file"), "").unwrap();
        let outside = Scratch::new("outside");
        fs::write(outside.0.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&outside.0, tree.0.join("deep/link")).unwrap();
        // The tree itself, what is in it and below: a link, two directories with a file, and the nested ones.
        assert_eq!(remove_all(&tree.0).unwrap(), 1 + 3001 + 1 + 1 + 2);
        assert!(!tree.0.exists() && outside.0.join("kept").exists());
        assert_eq!(remove_all(&tree.0).unwrap(), 0, "it is gone");
        fs::create_dir(&tree.0).unwrap();
    }

    #[test]
    fn of_however_many_directories_some_names_are_held_at_a_time() {
        let tree = Scratch::new("wide");
        for number in 0..2 * MAX_NAMES + 1 {
            fs::create_dir(tree.0.join(format!("{number}"))).unwrap();
        }
        let top = rustix::fs::open(&tree.0, DIRECTORY, Mode::empty()).unwrap();
        assert_eq!(empty_of_files(&top, &mut 0).unwrap().len(), MAX_NAMES);
        // As many in one of them, and a file behind.
        for number in 0..2 * MAX_NAMES + 1 {
            fs::create_dir(tree.0.join(format!("7/{number}"))).unwrap();
        }
        fs::write(tree.0.join("7/file"), "").unwrap();
        assert_eq!(remove_all(&tree.0).unwrap(), 2 * (2 * MAX_NAMES as u64 + 1) + 2);
        assert!(!tree.0.exists());
        fs::create_dir(&tree.0).unwrap();
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn calls(path: &Path, max_removals: u32) -> usize {
        (1..).find(|_| remove(path, max_removals).unwrap() == Removal::Done).unwrap()
    }

    #[test]
    fn a_tree_whose_path_is_too_long_is_removed_in_portions() {
        let scratch = Scratch::new("deep");
        for (at, first) in ["a", "b", "c"].iter().enumerate() {
            scratch.nest(first, 40 + at);
        }
        for number in 0..100 {
            fs::create_dir(scratch.0.join(format!("flat-{number}"))).unwrap();
        }
        // 3 + 40 + 41 + 42 + 100 are in it; the last call removes the rest and the directory.
        let calls = calls(&scratch.0, 20);
        assert!((11..=12).contains(&calls), "{calls}");
        assert!(!scratch.0.exists());
        assert_eq!(remove(&scratch.0, 20).unwrap(), Removal::Done);
    }

    #[test]
    fn one_removal_for_a_call_ends_as_well() {
        let scratch = Scratch::new("one");
        scratch.nest("a", 100);
        assert!((101..=102).contains(&calls(&scratch.0, 1)));
    }

    #[test]
    fn what_is_no_directory_is_left_and_told() {
        let scratch = Scratch::new("file");
        scratch.nest("a", 2);
        fs::create_dir_all(scratch.0.join("b/c")).unwrap();
        fs::write(scratch.0.join("b/c/file"), "").unwrap();
        assert_eq!(remove(&scratch.0, 20).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert!(scratch.0.join("b/c/file").exists());
        fs::remove_file(scratch.0.join("b/c/file")).unwrap();
        assert_eq!(remove(&scratch.0, 20).unwrap(), Removal::Done);
    }

    #[test]
    fn a_link_is_not_followed() {
        let scratch = Scratch::new("link");
        fs::create_dir_all(scratch.0.join("other/inside")).unwrap();
        fs::create_dir(scratch.0.join("tree")).unwrap();
        std::os::unix::fs::symlink("../other", scratch.0.join("tree/link")).unwrap();
        assert_eq!(remove(&scratch.0.join("tree"), 20).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert!(scratch.0.join("other/inside").exists());
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let scratch = Scratch::new("endless");
        scratch.nest("a", 600);
        assert_eq!(remove(&scratch.0, 20).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
