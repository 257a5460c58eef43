//! Why something could not be done with the instances of an update.

use super::{Size, TreeError};
use std::fmt;
use std::io;
use std::path::PathBuf;
use yado_wire::{Failure, InstanceName, hex};

/// Why not. The function can be called again; what it has done until then is undone by [`undo`](super::undo).
#[derive(Debug)]
pub enum InstancesError {
    /// The file that says what goes on is damaged.
    Plan {
        /// Where it is.
        path: PathBuf,
    },
    /// This update was not staged.
    NotStaged {
        /// Its number.
        update: u32,
    },
    /// Another one goes on, and has touched instances.
    Busy {
        /// Its number.
        update: u32,
    },
    /// There is nothing to go back to.
    NothingKept,
    /// No instance of this name is configured.
    Unknown {
        /// Its name.
        instance: InstanceName,
    },
    /// It was deleted and made anew since.
    Replaced {
        /// Its name.
        instance: InstanceName,
    },
    /// What its own key means is not known.
    OwnImage {
        /// Its name.
        instance: InstanceName,
        /// What the compiler says.
        problem: String,
    },
    /// After it was applied the instance has another image.
    OtherImage {
        /// Its name.
        instance: InstanceName,
        /// The image that it should have.
        image: [u8; 32],
        /// What is wrong with its configuration, if init says so.
        reason: Option<String>,
    },
    /// A copy of the layer does not fit.
    NoRoom {
        /// The layer.
        layer: PathBuf,
        /// What it takes.
        size: Size,
        /// Free on the file system.
        free_bytes: u64,
        /// Files that can still be made.
        free_files: u64,
        /// What copies leave free.
        kept_bytes: u64,
    },
    /// The layer cannot be copied.
    Layer {
        /// The layer.
        layer: PathBuf,
        /// Why.
        source: TreeError,
    },
    /// A file of ours.
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// init did not answer.
    Init {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// init refused.
    Refused(Box<Failure>),
    /// `yado apply` could not be done.
    Apply {
        /// Why.
        reason: String,
    },
    /// Whoever was told what was done does not want more of it.
    Stopped,
}

/// The same, with the instance that it is about, if it is about one.
#[derive(Debug)]
pub struct Failed {
    /// Which.
    pub instance: Option<InstanceName>,
    /// Why.
    pub error: InstancesError,
}

impl From<InstancesError> for Failed {
    fn from(error: InstancesError) -> Failed {
        Failed { instance: None, error }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(out)
    }
}

impl std::error::Error for Failed {}

impl fmt::Display for InstancesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InstancesError::Plan { path } => {
                write!(out, "{}: it is damaged: remove it when no update goes on", path.display())
            }
            InstancesError::NotStaged { update } => write!(out, "update {update} was not staged: install it again"),
            InstancesError::Busy { update } => write!(out, "update {update} goes on: wait until it is over"),
            InstancesError::NothingKept => out.write_str("nothing is kept of before the last update"),
            InstancesError::Unknown { instance } => {
                write!(out, "{instance}: no such instance is configured on this device")
            }
            InstancesError::Replaced { instance } => write!(out, "{instance}: it was deleted and made anew since"),
            InstancesError::OwnImage { instance, problem } => {
                write!(out, "{instance}: which image the update replaces is not known: {problem}")
            }
            InstancesError::OtherImage { instance, image, reason } => {
                write!(out, "{instance}: it did not get the image {}", hex::encode(image))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(out, ": {reason}"))
            }
            InstancesError::NoRoom { layer, size, free_bytes, free_files, kept_bytes } => write!(
                out,
                "{}: there is no room for a copy of {} bytes in {} files: {free_bytes} bytes and {free_files} files are free, and \
                 {kept_bytes} bytes of them are kept free",
                layer.display(),
                size.bytes,
                size.files
            ),
            InstancesError::Layer { layer, source } => write!(out, "copy {}: {source}", layer.display()),
            InstancesError::File { verb, path, source } => write!(out, "{verb} {}: {source}", path.display()),
            InstancesError::Init { socket, reason } => write!(out, "ask init at {}: {reason}", socket.display()),
            InstancesError::Refused(failure) => write!(out, "{failure}"),
            InstancesError::Apply { reason } => write!(out, "yado apply: {reason}"),
            InstancesError::Stopped => out.write_str("it was stopped before it was done"),
        }
    }
}

impl std::error::Error for InstancesError {}
