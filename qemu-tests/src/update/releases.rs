//! The releases that the board is offered, each built as its maker would: a system image with its boot files, put into a directory
//! by `yado release build`.

use super::appliances::{FIRST, HANGS, NEVER_READY, PANICS, SECOND, SIXTH};
use crate::arch::Arch;
use crate::board::host_yado::HostYado;
use crate::board::system_image::{self, Appliance};
use crate::board::{BuildError, Prepared};
use crate::cache::Cache;
use std::fs;
use std::path::{Path, PathBuf};

/// What the board's releases are made of, and where they are served from.
#[derive(Debug)]
pub(super) struct Releases {
    /// The board with release 1.
    pub(super) prepared: Prepared,
    /// A directory with one for each release: `release-2` and so on.
    pub(super) root: PathBuf,
}

/// What the board is called in its `update.toml`.
const COMPATIBLE: &str = "qemu-virt";

const OFFERED: [&Appliance; 5] = [&SECOND, &NEVER_READY, &PANICS, &HANGS, &SIXTH];

impl Releases {
    /// Builds all of them; systems that were built before are taken from the cache.
    pub(super) fn build(cache: &Cache, arch: Arch, directory: &Path) -> Result<Releases, BuildError> {
        let prepared = Prepared::new(cache, arch, &FIRST)?;
        let yado = HostYado::build(cache)?;
        let root = directory.join("releases");
        if root.exists() {
            fs::remove_dir_all(&root).map_err(BuildError::io(&root))?;
        }
        fs::create_dir_all(&root).map_err(BuildError::io(&root))?;
        for appliance in OFFERED {
            let system = system_image::system(cache, &prepared.ingredients, &yado, &prepared.keys, appliance)?;
            let number = appliance.release;
            yado.build_release(&system, COMPATIBLE, &prepared.keys, &root.join(format!("release-{number}")))?;
        }
        Ok(Releases { prepared, root })
    }
}
