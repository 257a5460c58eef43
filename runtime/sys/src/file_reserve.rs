//! Files kept for our own use on a file system whose number of files is fixed, as ext4's is: empty ones in a directory at its
//! top that only root enters. ext4 keeps bytes for root, and no inodes; so whoever may make files there can take all of them.
//! Where none is left, one of these is renamed to where ours is wanted. None is ever removed for it: what becomes free is taken
//! at once by whoever waits for it in a loop.

use crate::volume;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// At the top of the file system.
const DIRECTORY: &str = ".reserved-files";

/// More than we make anew before somebody notices; what takes another file's place gives its own back.
const FILES: u32 = 64;

/// A file of the reserve may be written by whom the mode says, but only its owner writes to it, as a umask of 022 has it: what
/// the process's own is cannot be asked without changing it.
const NOBODY_ELSE_WRITES: u32 = !0o022;

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
    for place in places(&directory) {
        match File::options().write(true).create_new(true).mode(0o600).open(place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Whether [`fill`] has something to make. Only what the kernel has in memory is looked at, once it was filled.
pub fn is_short(top: &Path) -> bool {
    let is_fixed = volume::usage(top).is_ok_and(|usage| usage.total_files != 0);
    is_fixed && places(&top.join(DIRECTORY)).any(|place| !place.exists())
}

/// Opens an empty file to write to, made with this mode where it is missing, by the reserve if need be.
pub fn open_or_make(path: &Path, mode: u32) -> io::Result<File> {
    open(path, mode, File::options().write(true).create(true).truncate(false)).map(|(file, _)| file)
}

/// Opens a file with `options`, which make it with this mode where it is missing. Where the file system takes no more files, one
/// of the reserve is made it: then with its place there, for a file that is not needed any more.
pub(crate) fn open(path: &Path, mode: u32, options: &mut OpenOptions) -> io::Result<(File, Option<PathBuf>)> {
    let options = options.mode(mode);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let place = move_one_to(path).ok_or(error)?;
            let file = options.open(path)?;
            // It may have been another file before.
            file.set_len(0)?;
            file.set_permissions(Permissions::from_mode(mode & NOBODY_ELSE_WRITES))?;
            Ok((file, Some(place)))
        }
        opened => opened.map(|file| (file, None)),
    }
}

/// `None`: it is not files that are missing, or there is no reserve, or nothing is left of it.
fn move_one_to(path: &Path) -> Option<PathBuf> {
    let near = path.parent()?;
    // Somebody else may make and remove files all the time. Where it is bytes that are missing, the rename fails too, or what is
    // written then, and nothing is lost.
    if u64::from(FILES) <= volume::usage(near).ok()?.free_files {
        return None;
    }
    let device = fs::metadata(near).ok()?.dev();
    let directory = near.ancestors().map(|above| above.join(DIRECTORY)).find(|directory| directory.is_dir())?;
    if fs::metadata(&directory).ok()?.dev() != device {
        return None;
    }
    places(&directory).find(|place| fs::rename(place, path).is_ok())
}

fn places(directory: &Path) -> impl Iterator<Item = PathBuf> + use<'_> {
    (0..FILES).map(|number| directory.join(number.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mount::{Attributes, FsOption, new_file_system};
    use crate::{loop_device, replace_file};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

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
        assert_eq!(fs::metadata(&ids).unwrap().permissions().mode() & 0o777, 0o644);
        // A file that has another name stays as it is, and is no part of the reserve.
        let linked = top.join("state/linked");
        fs::hard_link(&ids, &linked).unwrap();
        replace_file::replace(&ids, 0o666, b"one").unwrap();
        assert_eq!((left(&top), fs::read_to_string(&linked).unwrap()), (FILES as usize - 1, "199".to_owned()));
        assert_eq!(fs::metadata(&ids).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(is_short(&top));
        // A directory cannot be replaced, and what was taken for it is back.
        assert!(replace_file::replace(&top.join("container"), 0o644, b"").is_err());
        assert!(top.join("container").is_dir());
        for number in 1..FILES {
            let path = top.join(format!("state/{number}"));
            let made = open_or_make(&path, 0o600).unwrap();
            let metadata = made.metadata().unwrap();
            assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (0, 0o600));
        }
        assert_eq!(left(&top), 0);
        assert_eq!(replace_file::replace(&ids, 0o644, b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&ids).unwrap(), "one", "the old one is as it was");
        assert_eq!(fill(&top).unwrap_err().kind(), io::ErrorKind::StorageFull);
        // When there is room again it is filled again.
        fs::remove_dir_all(top.join("container")).unwrap();
        fill(&top).unwrap();
        assert!(left(&top) == FILES as usize && !is_short(&top));
    }

    #[test]
    fn who_makes_files_in_a_loop_gets_none_of_the_reserve() {
        let Some((_mount, top)) = ext4(256) else { return };
        fill(&top).unwrap();
        fs::create_dir(top.join("state")).unwrap();
        let ids = top.join("state/ids");
        replace_file::replace(&ids, 0o644, b"0").unwrap();
        take_all(&top);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let taking = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut taken = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        taken += take_all(&top);
                    }
                    taken
                })
            });
            let replaced =
                (1..=300).try_for_each(|number| replace_file::replace(&ids, 0o644, format!("{number}").as_bytes()));
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(taking.map(|taking| taking.join().unwrap()), [0, 0]);
            replaced.unwrap();
        });
        assert_eq!((left(&top), fs::read_to_string(&ids).unwrap()), (FILES as usize, "300".to_owned()));
    }

    #[test]
    fn where_bytes_are_missing_the_reserve_stays() {
        // Fewer are free than are kept.
        let Some((_mount, top)) = ext4(128) else { return };
        fill(&top).unwrap();
        assert!(volume::usage(&top).unwrap().free_files < u64::from(FILES));
        // Now, because a directory takes bytes.
        fs::create_dir(top.join("container")).unwrap();
        let filled = File::create(top.join("bytes")).and_then(|mut file| io::copy(&mut io::repeat(1), &mut file));
        assert_eq!(filled.unwrap_err().kind(), io::ErrorKind::StorageFull);
        for take_inodes in [false, true] {
            if take_inodes {
                take_all(&top);
            }
            for number in 0..5 {
                let error = replace_file::replace(&top.join(format!("{number}")), 0o644, &[1; 1 << 20]).unwrap_err();
                assert_eq!((error.kind(), left(&top)), (io::ErrorKind::StorageFull, FILES as usize), "{take_inodes}");
            }
        }
    }

    #[test]
    fn what_is_no_want_of_files_takes_nothing_out_of_the_reserve() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(DIRECTORY)).unwrap();
        File::create(directory.path().join(DIRECTORY).join("0")).unwrap();
        assert!(open_or_make(&directory.path().join("missing/file"), 0o600).is_err());
        assert_eq!(move_one_to(&directory.path().join("file")), None);
        assert_eq!(left(directory.path()), 1);
    }
}
