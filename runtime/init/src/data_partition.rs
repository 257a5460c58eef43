//! The data partition: deciding what is on it, mounting it, and replacing it if it cannot be used.
//!
//! Without it the system still boots: a file system in memory, bounded in size, is mounted in its place. Everything else works as
//! usual, but data is lost at the next reboot. The status says so.

pub(crate) mod format_mark;
pub mod superblock;

use crate::modules::Loader;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use superblock::{Content, HEAD_BYTES};
use yado_sys::mount::{Attributes, FsOption, new_file_system};
use yado_sys::{file_reserve, loop_device, machine, mount, volume};
use yado_wire::{Failure, Step};

/// The partition's GPT name.
pub(crate) const PARTITION: &str = "data";

/// What a blank one is formatted with, and what is repaired.
pub(crate) const PREFERRED: &str = "ext4";

pub(crate) const MOUNT_POINT: &str = "/data";

/// The stand-in is a sixth of the memory: on a 64 MB device some 10 MB, of which only what is written is used.
const VOLATILE_SHARE: u64 = 6;

/// The stand-in is not larger than this.
const MAX_VOLATILE_BYTES: u64 = 256 << 20;

/// With less room than this, a layer's directories cannot be counted on to be made.
const MIN_FREE_BYTES: u64 = 64 * 1024;

/// No program is executed from it, no device opened. An instance's root lies above it on a mount of its own, and its programs
/// are executed there.
const ATTRIBUTES: Attributes =
    Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV).union(Attributes::MOUNT_ATTR_NOEXEC);

/// What is on `device`. A formatting that was cut off counts as blank.
pub(crate) fn read_content(device: &Path) -> io::Result<Content> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(device)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let is_cut_off = format_mark::find(device)?.is_some_and(|mark| !superblock::covers(&head, mark));
    Ok(if is_cut_off { Content::Blank } else { superblock::judge(&head) })
}

/// Mounts `device` in a child of PID 1's, which shares its mounts: it may replay a journal, longer than the watchdog waits.
/// What fails is printed.
pub(crate) fn run_mount(device: &Path, kind: &str) -> ExitCode {
    // The kernel may ask for modules no more.
    Loader::new().load(&format!("fs-{kind}"));
    match mount(device, kind) {
        Ok(()) => {
            // Best effort, and it may be full: what it has is used.
            let _ = run_fill_reserve();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}", failure.reason);
            ExitCode::FAILURE
        }
    }
}

/// Makes what is missing of the reserve of files on it, in a child of PID 1's. What fails is printed.
pub(crate) fn run_fill_reserve() -> ExitCode {
    match file_reserve::fill(Path::new(MOUNT_POINT)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("files kept for the system: {error}");
            ExitCode::FAILURE
        }
    }
}

fn mount(device: &Path, kind: &str) -> Result<(), Failure> {
    let source = device.to_string_lossy();
    let failed = |reason: String, errno: Option<i32>| {
        let mut failure = Failure::refused(Step::Data, &source, &reason);
        failure.errno = errno.unwrap_or(0);
        failure
    };
    let options = [FsOption::Value("source", &source)];
    let mounted = new_file_system(kind, &options, ATTRIBUTES)
        .map_err(|error| failed(format!("mount as {kind}: {error}"), error.source.raw_os_error()))?;
    mount::attach_at(&mounted, MOUNT_POINT)
        .map_err(|error| failed(format!("mount on {MOUNT_POINT}: {error}"), error.raw_os_error()))
}

/// Makes the file for the stand-in, sparse.
pub(crate) fn create_volatile(path: &Path) -> io::Result<()> {
    let size = (machine::memory_bytes() / VOLATILE_SHARE).min(MAX_VOLATILE_BYTES);
    File::options().read(true).write(true).create(true).truncate(true).open(path)?.set_len(size)
}

/// Mounts the stand-in.
pub(crate) fn mount_volatile(path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from_io(Step::Data, &path.to_string_lossy(), &error);
    let file = File::options().read(true).write(true).open(path).map_err(failed)?;
    let device = loop_device::attach_writable(&file).map_err(failed)?;
    // The mount holds the device from here on, and the device the file.
    mount(Path::new(&device.path), "ext4")
}

/// The last resort, without mke2fs or loop devices: a tmpfs. Kernels before 6.3 cannot map owners on it, so only
/// privileged instances start there.
pub(crate) fn mount_tmpfs() -> Result<(), Failure> {
    let failed = |reason: &str| Failure::refused(Step::Data, MOUNT_POINT, reason);
    let size = (machine::memory_bytes() / VOLATILE_SHARE).min(MAX_VOLATILE_BYTES).to_string();
    let mounted = new_file_system("tmpfs", &[FsOption::Value("size", &size)], ATTRIBUTES)
        .map_err(|error| failed(&error.to_string()))?;
    mount::attach_at(&mounted, MOUNT_POINT).map_err(|error| failed(&error.to_string()))
}

/// Why the mounted data partition is as good as none, if it is.
pub(crate) fn fullness() -> Option<Failure> {
    match volume::usage(Path::new(MOUNT_POINT)) {
        Ok(usage) if usage.free_bytes < MIN_FREE_BYTES => {
            let reason = format!("full: {} of {} bytes are free", usage.free_bytes, usage.total_bytes);
            let mut failure = Failure::refused(Step::Data, MOUNT_POINT, &reason);
            // ENOSPC
            failure.errno = 28;
            Some(failure)
        }
        Ok(_) => None,
        Err(error) => Some(Failure::from_io(Step::Data, MOUNT_POINT, &error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::job::Job;
    use crate::paths::Paths;
    use std::ffi::OsString;
    use std::os::unix::fs::FileExt;
    use std::process::Command;
    use tempfile::NamedTempFile;

    const MIB: u64 = 1 << 20;

    fn blank(bytes: u64) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    /// Without the program the test is skipped, and says so.
    fn has_run(program: &Path, arguments: &[OsString]) -> bool {
        match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => true,
            Ok(output) => panic!("{program:?} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                println!("SKIPPED: {} is not installed", program.display());
                false
            }
            Err(error) => panic!("{program:?}: {error}"),
        }
    }

    /// As the job formats it, with the mark set before.
    fn is_formatted(device: &Path) -> bool {
        let kib = format_mark::set(device).unwrap();
        let job = Job::Format { device: device.to_owned(), kib };
        let (program, arguments) = job.command(&Paths::of_system());
        has_run(&program, &arguments[1..])
    }

    #[test]
    fn a_formatting_that_is_cut_off_anywhere_is_begun_again() {
        for bytes in [2 * MIB, 8 * MIB, 64 * MIB, 64 * MIB + 512, 64 * MIB + 1536, 600 * MIB] {
            let file = blank(bytes);
            assert_eq!(read_content(file.path()).unwrap(), Content::Blank);
            if !is_formatted(file.path()) {
                return;
            }
            // All is done but that the mark be taken away; and mke2fs has not wiped it.
            assert_eq!(read_content(file.path()).unwrap(), Content::Blank, "{bytes} bytes");

            // mke2fs writes the superblock last: until then something is there, and nobody can say what.
            let mut superblock = [0; 1024];
            file.as_file().read_exact_at(&mut superblock, 1024).unwrap();
            file.as_file().write_all_at(&[0; 1024], 1024).unwrap();
            assert_eq!(read_content(file.path()).unwrap(), Content::Blank, "{bytes} bytes, no superblock");
            file.as_file().write_all_at(&[7; 1024], 1024).unwrap();
            assert_eq!(read_content(file.path()).unwrap(), Content::Blank, "{bytes} bytes, torn superblock");
            file.as_file().write_all_at(&superblock, 1024).unwrap();

            format_mark::clear(file.path()).unwrap();
            assert_eq!(read_content(file.path()).unwrap(), Content::Ext4Clean, "{bytes} bytes");
        }
    }

    #[test]
    fn a_mark_that_somebody_wrote_into_a_file_is_none() {
        let made_otherwise: &[&[&str]] = &[
            &["-t", "ext4"],
            &["-t", "ext4", "-b", "1024", "-O", "^64bit"],
            &["-t", "ext4", "-b", "2048", "-O", "64bit"],
            &["-t", "ext4", "-b", "4096", "-O", "^64bit"],
            &["-t", "ext4", "-b", "4096", "-O", "64bit"],
            &["-t", "ext2"],
        ];
        for options in made_otherwise {
            for bytes in [8 * MIB, 600 * MIB] {
                // Over the whole partition: its last 512 bytes belong to a block that any file may have.
                let file = blank(bytes);
                let mut arguments: Vec<OsString> = vec!["-q".into(), "-F".into()];
                arguments.extend(options.iter().map(OsString::from));
                arguments.push(file.path().into());
                if !has_run(Path::new("/sbin/mke2fs"), &arguments) {
                    return;
                }
                format_mark::set(file.path()).unwrap();
                assert_eq!(read_content(file.path()).unwrap(), Content::Ext4Clean, "{options:?}, {bytes} bytes");
                // s_state: mounted when the power went.
                file.as_file().write_all_at(&[0, 0], 1024 + 0x3a).unwrap();
                assert_eq!(read_content(file.path()).unwrap(), Content::Ext4Dirty, "{options:?}, {bytes} bytes");
            }
        }
    }
}
