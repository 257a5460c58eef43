//! What an update does with instances. Each gets its new image and a copy of its writable layer ([`switch`]); what it had before lies
//! aside, and comes back as it was ([`undo`]) or is kept for one rollback ([`keep`]). Instances that the update does not name
//! are not touched.
//!
//! Each function may be cut at any moment, by an error, a signal or the power, and is called again with the same number until it
//! says that it is done. Which moment that was is told by marks beside the directories ([`sides`]) and by a small file ([`plan`]).
//! The order of the steps holds this at each of them: **an image on trial never runs on the layer that was there before.** So the
//! layers are exchanged before the pin is set, and the pin is taken back before the layers are.
//!
//! What processes outside of the instance write to files of the layer that somebody inside has passed to them is not held back.

mod images;
mod init;
mod layer;
mod pins;
mod plan;
mod sides;
mod steps;
mod tree_copy;
mod tree_walk;

mod error;

pub use error::{Failed, InstancesError};
pub use steps::{keep, layers_size, stage, switch, undo};
pub use tree_copy::Size;
pub use tree_walk::TreeError;

use std::path::PathBuf;
use yado_wire::InstanceName;
use yado_wire::formats::Standing;

/// Where the things of this device are.
#[derive(Debug, Clone)]
pub struct Places {
    /// What the system image brought: `/usr/lib/yado`.
    pub system: PathBuf,
    /// The data partition.
    pub data: PathBuf,
    /// The runtime directory.
    pub run: PathBuf,
    /// The program `yado`, which applies what is configured.
    pub yado: PathBuf,
    /// In which version what is remembered is written.
    pub standing: Standing,
}

impl Places {
    fn socket(&self) -> PathBuf {
        self.run.join("init.sock")
    }
}

/// An instance, and the image that an update gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub instance: InstanceName,
    /// The image's fingerprint.
    pub image: [u8; 32],
}

/// What an update is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Images that were staged.
    Install,
    /// What the instances had before the last update that was kept.
    Rollback,
}

/// What was done last. Each can be the last one before a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The instance's image is on this device.
    Staged,
    /// It is remembered how the instance was.
    Begun,
    /// It does not run.
    Stopped,
    /// Its layer is copied.
    Copied,
    /// It has the other layer.
    LayerExchanged,
    /// It has the other pins.
    PinsExchanged,
    /// init knows its image.
    Applied,
    /// It runs, if somebody wanted it to.
    Started,
    /// What is no longer needed of it is gone, or has its name for a rollback.
    Tidied,
}

/// Who is told what was done, of which instance. An error ends the function there, and it can be called again.
pub type Tell<'a> = &'a mut dyn FnMut(&InstanceName, Done) -> Result<(), InstancesError>;
