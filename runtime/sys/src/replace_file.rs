//! Replacing a file as a whole: a reader finds the old one or the new one, also after the power was cut.

use crate::file_reserve;
use crate::regular_file::AT_ONCE;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Writes a file of this mode aside, syncs it, renames it, and syncs the directory. The rename makes the change real. After an
/// error the old file is as it was, or, when only the directory could not be synced, one of the two is there. Where the file
/// system takes no more files, the new one is one of its [`file_reserve`], and the old one goes there.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let aside = aside_of(path);
    // What lies there may be another's, on a disk that was elsewhere. The name is ours, and what is no file in it goes.
    if fs::symlink_metadata(&aside).is_ok_and(|found| !found.is_file()) {
        let _ = fs::remove_file(&aside);
    }
    let flags = AT_ONCE.bits() as i32;
    let options = &mut File::options();
    let (mut file, place) =
        file_reserve::open(&aside, mode, options.write(true).create(true).truncate(true).custom_flags(flags))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    let Some(place) = place else {
        // Best effort: what was written aside is overwritten next time anyhow.
        return written.and_then(|()| put_in_place(&aside, path)).inspect_err(|_| drop(fs::remove_file(&aside)));
    };
    let done = written.and_then(|()| exchange(&aside, path)).and_then(|()| sync_directory_of(path));
    // The old file, if there was one to keep, or else what failed. As above.
    let _ = fs::rename(&aside, place);
    done
}

/// As [`replace`], for what no cut of the power needs to leave: nothing is synced, and no files are kept.
///
/// On a host it may lie on a disk all the same. The old file and the new one are exchanged there, and the old one is removed:
/// over a file, ext4 renames only after it has found the new one's blocks and sent it to the disk (`auto_da_alloc`), which takes
/// three times as long as all the rest.
pub fn replace_unsynced(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let aside = aside_of(path);
    let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
    let done = file.write_all(content).and_then(|()| exchange(&aside, path));
    // The old file, or what failed. If it stays it is overwritten next time.
    let _ = fs::remove_file(&aside);
    done
}

/// Removes what a [`replace`] of this file that was cut off has left beside it, and says whether there was something. Nobody may
/// be replacing the file meanwhile.
pub fn remove_cut_off(path: &Path) -> bool {
    fs::remove_file(aside_of(path)).is_ok()
}

/// The last two of those steps, for what was written aside on the same file system, and synced: a file, or a link.
pub fn put_in_place(aside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(aside, path)?;
    sync_directory_of(path)
}

/// As a rename, after which the old file is at `aside`; what is no file of its own is only replaced.
fn exchange(aside: &Path, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(old) if old.is_file() && old.nlink() == 1 => {
            match renameat_with(CWD, aside, CWD, path, RenameFlags::EXCHANGE) {
                // The file system does not know how to.
                Err(Errno::INVAL) => fs::rename(aside, path),
                answer => Ok(answer?),
            }
        }
        Ok(_) | Err(_) => fs::rename(aside, path),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Hidden, so that whoever reads the directory's files does not meet it.
fn aside_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn make_fifo(path: &Path) {
        rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    }

    #[test]
    fn the_new_content_is_there_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        type Replace = fn(&Path, u32, &[u8]) -> io::Result<()>;
        let (synced, unsynced): (Replace, Replace) = (replace, replace_unsynced);
        for (content, replace) in [("old", synced), ("new", unsynced), ("newer", unsynced)] {
            replace(&path, 0o600, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
        // What waits where it is written aside is neither waited for nor followed.
        let aside = aside_of(&path);
        std::os::unix::fs::symlink("elsewhere", &aside).unwrap();
        replace(&path, 0o600, b"newer").unwrap();
        assert!(!directory.path().join("elsewhere").exists());
        make_fifo(&aside);
        replace(&path, 0o600, b"newest").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "newest");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // What cannot be taken away so is in the way, and nothing is lost.
        fs::create_dir(&aside).unwrap();
        assert!(replace(&path, 0o600, b"x").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "newest");
        fs::remove_dir(&aside).unwrap();
        // It cannot take the place of a directory.
        let taken = directory.path().join("directory");
        fs::create_dir_all(taken.join("inside")).unwrap();
        for replace in [synced, unsynced] {
            assert!(replace(&taken, 0o600, b"x").is_err());
        }
        assert!(taken.join("inside").exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
