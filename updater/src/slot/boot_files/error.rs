//! Why a slot has not the boot files that it needs.

use crate::source::SourceError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use yado_sys::mount::NewMountError;

/// The slot must stay denied.
#[derive(Debug)]
pub enum BootFilesError {
    /// The partition cannot be read, or somebody has it mounted.
    Device {
        /// Which.
        device: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Neither ext4 nor FAT.
    NoFileSystem {
        /// The partition.
        device: PathBuf,
    },
    /// The kernel does not mount it.
    Mount {
        /// The partition.
        device: PathBuf,
        /// As what.
        kind: &'static str,
        /// The kernel's answer.
        source: NewMountError,
    },
    /// The files do not fit. Nothing was written.
    TooSmall {
        /// The partition.
        device: PathBuf,
        /// What they take.
        needed_bytes: u64,
        /// What there is, without what would be removed.
        room_bytes: u64,
    },
    /// What is not wanted there cannot be removed.
    Remove {
        /// Which file.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file cannot be written.
    Write {
        /// Which.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The source did not give one.
    Source(SourceError),
    /// The source gave another file.
    WrongBytes {
        /// Which.
        name: String,
    },
    /// What was written reads back as something else.
    Different {
        /// The partition.
        device: PathBuf,
        /// Which file.
        name: String,
    },
    /// The process that writes them says what is wrong, or does not answer.
    Process {
        /// In words.
        reason: String,
    },
}

impl fmt::Display for BootFilesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootFilesError::Device { device, source } => write!(out, "boot partition {}: {source}", device.display()),
            BootFilesError::NoFileSystem { device } => {
                write!(
                    out,
                    "boot partition {}: neither ext4 nor FAT; mke2fs or mkfs.vfat makes one",
                    device.display()
                )
            }
            BootFilesError::Mount { device, kind, source } => {
                write!(out, "mount {} as {kind}: {source}", device.display())
            }
            BootFilesError::TooSmall { device, needed_bytes, room_bytes } => write!(
                out,
                "boot partition {}: the boot files need {needed_bytes} bytes, {room_bytes} are there",
                device.display()
            ),
            BootFilesError::Remove { name, source } => write!(out, "remove {name} from the boot partition: {source}"),
            BootFilesError::Write { name, source } => write!(out, "write boot file {name}: {source}"),
            BootFilesError::Source(error) => write!(out, "{error}"),
            BootFilesError::WrongBytes { name } => {
                write!(out, "boot file {name}: the source gave another than the one that was signed")
            }
            BootFilesError::Different { device, name } => {
                write!(out, "boot partition {}: {name} reads back as something else", device.display())
            }
            BootFilesError::Process { reason } => out.write_str(reason),
        }
    }
}

impl std::error::Error for BootFilesError {}
