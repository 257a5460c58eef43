//! A stick's file system: which kind it is by its own first bytes, and mounted so that nothing of it is written, executed or followed.

use super::devices::Stick;
use rustix::fs::OFlags;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use yado_sys::mount::{Attributes, FsOption, NewMountError, new_file_system};

/// Why it is not mounted.
#[derive(Debug)]
pub enum MountError {
    /// Its node is not there, cannot be read, or is another's by now.
    Device {
        /// Which.
        device: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It has none that sticks have.
    NoFileSystem {
        /// Which device.
        device: PathBuf,
    },
    /// It was not unmounted after it was written: part of it stands in its journal alone, and to replay that would write.
    InUse {
        /// Which device.
        device: PathBuf,
    },
    /// The kernel has no such file system, or takes it for a broken one.
    Refused {
        /// Which.
        device: PathBuf,
        /// What.
        kind: &'static str,
        /// What the kernel said.
        source: NewMountError,
    },
}

/// A kind of file system, and how it is known.
struct Kind {
    name: &'static str,
    /// Bytes, and where they stand.
    marks: &'static [(usize, &'static [u8])],
    options: &'static [FsOption<'static>],
}

/// In this order: a boot sector stands on many.
const KINDS: &[Kind] = &[
    Kind {
        name: "ext4",
        // ext4(5): `s_magic`, 56 bytes into the superblock, which is 1024 bytes into the device.
        marks: &[(1080, &[0x53, 0xef])],
        // Its journal is never replayed, and an error is never the panic that its superblock may ask for.
        options: &[FsOption::Flag("noload"), FsOption::Value("errors", "continue")],
    },
    Kind { name: "exfat", marks: &[(3, b"EXFAT   "), BOOT_SECTOR], options: &[] },
    Kind { name: "vfat", marks: &[(82, b"FAT"), BOOT_SECTOR], options: &[] },
    Kind { name: "vfat", marks: &[(54, b"FAT"), BOOT_SECTOR], options: &[] },
    // ECMA-119, 8.1: the volume descriptors begin at the 17th sector.
    Kind { name: "iso9660", marks: &[(16 * 2048 + 1, b"CD001")], options: &[] },
];

const BOOT_SECTOR: (usize, &[u8]) = (510, &[0x55, 0xaa]);

/// So far it must be read to know it.
const START_BYTES: usize = 17 * 2048;

/// A detached mount of it: gone with the last descriptor, however this process ends.
pub(super) fn mount(stick: &Stick) -> Result<OwnedFd, MountError> {
    let device = PathBuf::from("/dev").join(&stick.name);
    let failed = |source: io::Error| MountError::Device { device: device.clone(), source };
    let kind = {
        // What somebody else has mounted would be shared with us, cache and all.
        let file =
            File::options().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(&device).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        if !found.file_type().is_block_device() || number != stick.number {
            return Err(failed(io::Error::other("it is another device by now")));
        }
        let mut start = vec![0; START_BYTES];
        let length = read_start(&file, &mut start).map_err(failed)?;
        let kind = kind_of(&start[..length]);
        if kind.is_some_and(|kind| kind.name == "ext4") && is_in_use(&start) {
            return Err(MountError::InUse { device });
        }
        kind
    };
    let kind = kind.ok_or_else(|| MountError::NoFileSystem { device: device.clone() })?;
    let path = device.to_string_lossy();
    let attributes = Attributes::MOUNT_ATTR_RDONLY
        .union(Attributes::MOUNT_ATTR_NOSUID)
        .union(Attributes::MOUNT_ATTR_NODEV)
        .union(Attributes::MOUNT_ATTR_NOEXEC)
        .union(Attributes::MOUNT_ATTR_NOATIME)
        .union(Attributes::MOUNT_ATTR_NOSYMFOLLOW);
    let options = [&[FsOption::Value("source", &path), FsOption::Flag("ro")], kind.options].concat();
    let mount = new_file_system(kind.name, &options, attributes);
    let mount = mount.map_err(|source| MountError::Refused { device: device.clone(), kind: kind.name, source })?;
    // Between the two looks at its node another one may have been plugged in.
    if stick.is_there() { Ok(mount) } else { Err(failed(io::Error::other("it is another device by now"))) }
}

/// Of a small one less is there.
fn read_start(file: &File, start: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = start.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// By its superblock, ext4 has something to write even where it is mounted read-only: a journal (`INCOMPAT_RECOVER` of
/// `s_feature_incompat`), or files of which no name is left (`s_last_orphan`, and `ORPHAN_PRESENT` of `s_feature_ro_compat`).
fn is_in_use(start: &[u8]) -> bool {
    let word = |offset: usize| {
        let bytes = start.get(1024 + offset..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    word(0x60) & 0x4 != 0 || word(0xe8) != 0 || word(0x64) & 0x1_0000 != 0
}

fn kind_of(start: &[u8]) -> Option<&'static Kind> {
    let stands = |(offset, bytes): &(usize, &[u8])| start.get(*offset..).is_some_and(|rest| rest.starts_with(bytes));
    KINDS.iter().find(|kind| kind.marks.iter().all(stands))
}

impl fmt::Display for MountError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountError::Device { device, source } => write!(out, "{}: {source}", device.display()),
            MountError::NoFileSystem { device } => {
                write!(out, "{}: none of FAT, exFAT, ext4 and ISO 9660", device.display())
            }
            MountError::InUse { device } => {
                write!(
                    out,
                    "{}: it was not unmounted where it was written; mount it there and unmount it",
                    device.display()
                )
            }
            MountError::Refused { device, kind, source } => {
                write!(out, "mount {} as {kind}: {source}", device.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn file_systems_are_known_by_their_bytes_whoever_made_them() {
        let makers: [(&str, &[&str], &str); 4] = [
            ("mke2fs", &["-q", "-F", "-t", "ext4"], "ext4"),
            ("mkfs.vfat", &["-F", "32", "-S", "512"], "vfat"),
            ("mkfs.vfat", &["-F", "16", "-S", "512"], "vfat"),
            ("mkfs.vfat", &["-F", "12", "-S", "4096"], "vfat"),
        ];
        for (program, arguments, kind) in makers {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("stick");
            File::create(&path).unwrap().set_len(64 << 20).unwrap();
            match Command::new(program).args(arguments).arg(&path).output() {
                Err(_) => println!("SKIPPED: {program} is not installed"),
                Ok(made) => {
                    assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
                    let mut start = vec![0; START_BYTES];
                    read_start(&File::open(&path).unwrap(), &mut start).unwrap();
                    assert_eq!(kind_of(&start).map(|kind| kind.name), Some(kind), "{program} {arguments:?}");
                }
            }
        }
    }

    /// The kernel's own word of how it is mounted.
    #[test]
    fn a_file_system_that_wants_a_panic_at_errors_gets_none_and_is_read_only() {
        if !rustix::process::geteuid().is_root() {
            return println!("SKIPPED: mounting needs root");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stick");
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        for (program, arguments) in
            [("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096"][..]), ("tune2fs", &["-e", "panic"])]
        {
            let made = Command::new(program).args(arguments).arg(&path).output().unwrap();
            assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
        }
        let image = File::options().read(true).write(true).open(&path).unwrap();
        let device = match yado_sys::loop_device::attach_writable(&image) {
            Ok(device) => device,
            Err(error) => return println!("SKIPPED: no loop device: {error}"),
        };
        let name = device.path.rsplit('/').next().unwrap();
        let sysfs = std::fs::canonicalize(PathBuf::from("/sys/class/block").join(name)).unwrap();
        let plug = std::fs::read_to_string(sysfs.join("diskseq")).unwrap().trim().parse().unwrap();
        let rdev = std::fs::metadata(&device.path).unwrap().rdev();
        let number = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
        let stick = Stick { name: name.to_owned(), plug, not_taken: None, number, sysfs };
        let mounted = mount(&stick).unwrap();
        let options = std::fs::read_to_string(format!("/proc/fs/ext4/{name}/options")).unwrap();
        let has = |option: &str| options.lines().any(|line| line == option);
        assert!(has("ro") && has("errors=continue") && !has("errors=panic"), "{options}");
        let top = std::os::fd::AsRawFd::as_raw_fd(&mounted);
        let written = File::create(format!("/proc/self/fd/{top}/file"));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(matches!(mount(&Stick { plug: plug + 1, ..stick }), Err(MountError::Device { .. })), "in use");
        drop(mounted);
        let before = Stick { name: name.to_owned(), plug: plug + 1, not_taken: None, number, sysfs: "/none".into() };
        let error = mount(&before).unwrap_err().to_string();
        assert!(error.contains("another device by now"), "{error}");
    }

    #[test]
    fn any_first_bytes_of_a_stick_are_looked_at_without_harm() {
        let mut ext4 = vec![0; 2048];
        ext4[1080..1082].copy_from_slice(&[0x53, 0xef]);
        let mut fat = vec![0; 512];
        fat[510..].copy_from_slice(&[0x55, 0xaa]);
        crate::fuzzing::fuzz("stick", &[ext4, fat], &["EXFAT   ", "FAT", "CD001"], |start| {
            let kind = kind_of(start).map(|kind| kind.name);
            let in_use = is_in_use(start);
            assert!(kind.is_none() || start.len() > 500, "{kind:?} {in_use}");
        });
    }

    #[test]
    fn the_two_that_no_program_makes_here_are_known_by_their_standards_and_nothing_else_is_known() {
        let mut start = vec![0; START_BYTES];
        assert_eq!(kind_of(&start).map(|kind| kind.name), None);
        start[16 * 2048 + 1..][..5].copy_from_slice(b"CD001");
        assert_eq!(kind_of(&start).map(|kind| kind.name), Some("iso9660"));
        start[510..512].copy_from_slice(&[0x55, 0xaa]);
        start[3..11].copy_from_slice(b"EXFAT   ");
        assert_eq!(kind_of(&start).map(|kind| kind.name), Some("exfat"));
        assert!(kind_of(&start[..511]).is_none() && kind_of(&[]).is_none());
    }
}
