//! Files kept for our own use on a file system whose number of files is fixed, as ext4's is: empty ones in a directory at its
//! top that only root enters. ext4 keeps bytes for root, and no inodes; so whoever may make files there can take all of them.
//! Where none is left, one of these is removed and ours takes its place.

use crate::volume;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// At the top of the file system.
const DIRECTORY: &str = ".reserved-files";

/// More than we make anew before somebody notices; what takes another file's place gives its own back.
const FILES: u32 = 64;

/// So often a file of the reserve is removed for one of ours: somebody else may be quicker to take what became free.
const MAX_TRIES: usize = 16;

/// Makes what is missing of the reserve below `top`, the top of a file system; nothing where the number of files is not fixed. It
/// may wait for the disk.
pub fn fill(top: &Path) -> io::Result<()> {
    if volume::usage(top)?.total_files == 0 {
        return Ok(());
    }
    let directory = top.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for number in 0..FILES {
        make(&directory.join(number.to_string()))?;
    }
    Ok(())
}

/// What was taken out of the reserve; put back, as far as there is room, when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<PathBuf>);

impl Drop for Taken {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = make(path);
        }
    }
}

/// Makes a file by `make`, at `path`. Where the file system takes no more files, it gets the place of one of the reserve. Drop
/// what is returned when another file has become free, or at once.
pub(crate) fn make_at<T>(path: &Path, mut make: impl FnMut() -> io::Result<T>) -> io::Result<(T, Taken)> {
    let mut taken = Taken::default();
    loop {
        match make() {
            Ok(made) => return Ok((made, taken)),
            Err(error) if error.kind() == io::ErrorKind::StorageFull && taken.0.len() < MAX_TRIES => {
                let Some(removed) = remove_one(path) else { return Err(error) };
                taken.0.push(removed);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens an empty file to write to, made where it is missing, by the reserve if need be.
pub fn open_or_make(path: &Path) -> io::Result<File> {
    let open = || File::options().write(true).create(true).truncate(false).open(path);
    make_at(path, open).map(|(file, _)| file)
}

/// `None`: it is not files that are missing, or there is no reserve, or nothing is left of it.
fn remove_one(path: &Path) -> Option<PathBuf> {
    let near = path.parent()?;
    // Somebody else may make and remove files all the time.
    if u64::from(FILES) <= volume::usage(near).ok()?.free_files {
        return None;
    }
    let device = fs::metadata(near).ok()?.dev();
    let directory = near.ancestors().map(|above| above.join(DIRECTORY)).find(|directory| directory.is_dir())?;
    if fs::metadata(&directory).ok()?.dev() != device {
        return None;
    }
    fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).find(|path| fs::remove_file(path).is_ok())
}

fn make(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mount::{Attributes, FsOption, new_file_system};
    use crate::{loop_device, replace_file};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    /// A new ext4 for so many files, mounted nowhere. `None`: it cannot be had here, and why was printed.
    fn ext4(files: u32) -> Option<(OwnedFd, PathBuf)> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(32 << 20).unwrap();
        let mut mke2fs = Command::new("/sbin/mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-N", &files.to_string()]).arg(image.path());
        match mke2fs.status() {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                println!("SKIPPED: /sbin/mke2fs: {error}");
                return None;
            }
        }
        let device = match loop_device::attach_writable(image.as_file()) {
            Ok(device) => device,
            Err(error) => {
                println!("SKIPPED: no loop device: {error}");
                return None;
            }
        };
        let source = FsOption::Value("source", &device.path);
        let mounted = new_file_system("ext4", &[source], Attributes::empty()).unwrap();
        let top = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        Some((mounted, top))
    }

    /// As a container that makes empty files until there are no more.
    fn take_all(top: &Path) -> usize {
        let directory = top.join("container");
        fs::create_dir_all(&directory).unwrap();
        let free = (0..).find(|number| !directory.join(number.to_string()).exists()).unwrap();
        (free..).take_while(|number| File::create(directory.join(number.to_string())).is_ok()).count()
    }

    fn left(top: &Path) -> usize {
        fs::read_dir(top.join(DIRECTORY)).unwrap().count()
    }

    #[test]
    fn our_files_are_replaced_and_made_where_somebody_has_taken_all_inodes() {
        let Some((_mount, top)) = ext4(256) else { return };
        fill(&top).unwrap();
        assert_eq!(left(&top), FILES as usize);
        assert_eq!(fs::metadata(top.join(DIRECTORY)).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(top.join("state")).unwrap();
        let ids = top.join("state/ids");
        replace_file::replace(&ids, 0o644, b"0").unwrap();
        assert!(0 < take_all(&top));
        // The kernel says so to everybody, root too.
        let refused = File::create(top.join("state/plain")).unwrap_err();
        assert_eq!((refused.kind(), volume::usage(&top).unwrap().free_files), (io::ErrorKind::StorageFull, 0));
        for number in 1..200 {
            let text = format!("{number}");
            replace_file::replace(&ids, 0o644, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&ids).unwrap(), text);
        }
        assert_eq!(left(&top), FILES as usize, "each gave back what it took");
        // Somebody takes at once what becomes free.
        replace_file::replace(&ids, 0o644, b"one").unwrap();
        for number in 0..FILES {
            drop(open_or_make(&top.join(format!("state/{number}"))).unwrap());
            take_all(&top);
        }
        assert_eq!(left(&top), 0);
        assert_eq!(replace_file::replace(&ids, 0o644, b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&ids).unwrap(), "one", "the old one is as it was");
        assert_eq!(fill(&top).unwrap_err().kind(), io::ErrorKind::StorageFull);
        // When there is room again it is filled again.
        fs::remove_dir_all(top.join("container")).unwrap();
        fill(&top).unwrap();
        assert_eq!(left(&top), FILES as usize);
    }

    #[test]
    fn what_is_no_want_of_files_takes_nothing_out_of_the_reserve() {
        let directory = tempfile::tempdir().unwrap();
        let full = || -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
        assert!(make_at(&directory.path().join("file"), full).is_err());
        fs::create_dir(directory.path().join(DIRECTORY)).unwrap();
        make(&directory.path().join(DIRECTORY).join("0")).unwrap();
        let path = directory.path().join("file");
        assert!(
            make_at(&path, full).is_err() && make_at(&path, || Err::<(), _>(io::ErrorKind::NotFound.into())).is_err()
        );
        assert_eq!(left(directory.path()), 1);
    }
}
