//! Where things are on this device. init, which starts the updater, says so in the environment; whoever calls it by hand gets a
//! board's places.

use crate::boot_state::Slot;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use yado_wire::booted_slot::{self, BootedSlot};

/// Directories of this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// What comes with the signed system.
    pub(crate) system: PathBuf,
    /// The data partition.
    pub(crate) data: PathBuf,
    /// Init's runtime directory: gone with the next start of the machine.
    pub(crate) run: PathBuf,
    /// The boot state, if it is not where a system has it.
    pub(crate) state: Option<PathBuf>,
}

impl Places {
    /// As init says.
    pub(crate) fn of_environment() -> Places {
        let place = |name: &str, usual: &str| env::var_os(name).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        Places {
            system: place("YADO_SYSTEM", "/usr/lib/yado"),
            data: place("YADO_DATA", "/data"),
            run: place("YADO_RUN", "/run/yado"),
            state: None,
        }
    }

    /// What is remembered for the next start.
    pub(crate) fn remembered(&self) -> PathBuf {
        self.data.join("state")
    }

    /// What only this start needs.
    pub(crate) fn own_run(&self) -> PathBuf {
        self.run.join("updater")
    }

    /// Keys whose signatures count.
    pub(crate) fn trust(&self) -> PathBuf {
        self.system.join("trust")
    }

    /// The slot and the image that run, as init's first stage has verified and written them.
    pub(crate) fn booted(&self) -> Option<(Slot, [u8; 32])> {
        let text = fs::read_to_string(self.run.join(booted_slot::RUNNING_FILE)).ok()?;
        let BootedSlot { name, fingerprint } = BootedSlot::parse(&text)?;
        Some((if name == 'A' { Slot::A } else { Slot::B }, fingerprint))
    }

    /// Logs that are kept.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.data.join("log").join(name)
    }
}

/// Whether this path is there.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
