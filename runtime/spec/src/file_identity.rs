//! By what the file of an image is known again. The launcher tells it in its own message, init keeps it, and the next launch
//! request holds it: a field more in one of the two formats does not change the other.

use serde::{Deserialize, Serialize};
use yado_wire::launch;

/// The same file, and nobody has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The file system's device number, `st_dev` of stat(2).
    pub device: u64,
    /// The file's number there, `st_ino`. A removed file's can be given again, so the times below are compared too.
    pub inode: u64,
    /// Its length, `st_size`.
    pub size_bytes: u64,
    /// When its content last changed, `st_mtime`. Its owner can set it to anything.
    pub modified: FileTime,
    /// When anything of it last changed. Only the clock can put this one back.
    pub changed: FileTime,
}

/// A time of a file since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileTime {
    /// May be before 1970.
    pub seconds: i64,
    /// Less than a second; added.
    pub nanoseconds: u32,
}

impl From<launch::FileIdentity> for FileIdentity {
    fn from(told: launch::FileIdentity) -> FileIdentity {
        let launch::FileIdentity { device, inode, size_bytes, modified, changed } = told;
        FileIdentity { device, inode, size_bytes, modified: modified.into(), changed: changed.into() }
    }
}

impl From<FileIdentity> for launch::FileIdentity {
    fn from(known: FileIdentity) -> launch::FileIdentity {
        let FileIdentity { device, inode, size_bytes, modified, changed } = known;
        launch::FileIdentity { device, inode, size_bytes, modified: modified.into(), changed: changed.into() }
    }
}

impl From<launch::FileTime> for FileTime {
    fn from(told: launch::FileTime) -> FileTime {
        let launch::FileTime { seconds, nanoseconds } = told;
        FileTime { seconds, nanoseconds }
    }
}

impl From<FileTime> for launch::FileTime {
    fn from(known: FileTime) -> launch::FileTime {
        let FileTime { seconds, nanoseconds } = known;
        launch::FileTime { seconds, nanoseconds }
    }
}
