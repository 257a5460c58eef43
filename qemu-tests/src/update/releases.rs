//! The releases that the board is offered, each built as its maker would: a system image with its boot files, put into a directory
//! by `yado release build`.

use super::appliances::{
    FIRST, FIRST_BY_EDK2, HANGS, NEVER_READY, NINTH, PANICS, PANICS_BY_EDK2, SECOND, SECOND_BY_EDK2, SIXTH,
    SIXTH_BY_EDK2, ballast_block,
};
use crate::arch::Arch;
use crate::board::container_images::lay_out_busybox;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::system_image::{self, Appliance, HALT_BUSYBOX};
use crate::board::{BuildError, Prepared};
use crate::cache::Cache;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the board's releases are made of, and where they are served from.
#[derive(Debug)]
pub(super) struct Releases {
    /// The board with release 1.
    pub(super) prepared: Prepared,
    /// A directory with one for each release: `release-2` and so on.
    pub(super) root: PathBuf,
    /// Two that come on sticks, each a folder `yado-release` in this directory: `good`, and `strangers`, signed by nobody whom the
    /// board trusts.
    pub(super) sticks: PathBuf,
    /// Where in the second one's image its ballast lies, in blocks of 4 KiB.
    pub(super) ballast_block: usize,
}

/// What the board is called in its `update.toml`.
const COMPATIBLE: &str = "qemu-virt";

/// The systems of one board.
pub(super) struct Systems {
    /// What the factory wrote.
    first: &'static Appliance,
    /// What it is offered one after the other.
    offered: &'static [&'static Appliance],
}

pub(super) const BY_U_BOOT: Systems =
    Systems { first: &FIRST, offered: &[&SECOND, &NEVER_READY, &PANICS, &HANGS, &SIXTH] };
pub(super) const BY_EDK2: Systems =
    Systems { first: &FIRST_BY_EDK2, offered: &[&SECOND_BY_EDK2, &PANICS_BY_EDK2, &SIXTH_BY_EDK2] };

impl Releases {
    /// Builds all of them; systems that were built before are taken from the cache.
    pub(super) fn build(
        cache: &Cache,
        arch: Arch,
        systems: &Systems,
        directory: &Path,
    ) -> Result<Releases, BuildError> {
        let prepared = Prepared::new(cache, arch, systems.first)?;
        let yado = HostYado::build(cache)?;
        let root = directory.join("releases");
        if root.exists() {
            fs::remove_dir_all(&root).map_err(BuildError::io(&root))?;
        }
        fs::create_dir_all(&root).map_err(BuildError::io(&root))?;
        let mut ballast = None;
        for appliance in systems.offered {
            let system = system_image::system(cache, &prepared.ingredients, &yado, &prepared.keys, appliance)?;
            let number = appliance.release;
            if number == SECOND.release {
                ballast = Some(find_ballast(&system.image).map_err(BuildError::io(&system.image))?);
            }
            yado.build_release(&system, COMPATIBLE, &prepared.keys, &root.join(format!("release-{number}")))?;
        }
        let sticks = root.join("sticks");
        Ok(Releases { prepared, root, sticks, ballast_block: ballast.unwrap_or_default() })
    }

    /// Builds what comes on sticks, and what is one container's alone.
    pub(super) fn add_others(&self, cache: &Cache, directory: &Path) -> Result<(), BuildError> {
        let Releases { prepared, root, sticks, ballast_block: _ } = self;
        let yado = HostYado::build(cache)?;
        let ninth = system_image::system(cache, &prepared.ingredients, &yado, &prepared.keys, &NINTH)?;
        for (name, key) in [("good", prepared.keys.release_secret()), ("strangers", prepared.keys.stranger_secret())]
        {
            let folder = sticks.join(name);
            fs::create_dir_all(&folder).map_err(BuildError::io(&folder))?;
            yado.build_release_by(&ninth, COMPATIBLE, &key, &folder.join("yado-release"))?;
        }
        for (number, init) in [(7, "/sbin/init"), (8, "/bin/false")] {
            let image = container_image(prepared, &yado, number, init, &directory.join(format!("whelk-{number}")))?;
            let to = root.join(format!("release-{number}"));
            yado.build_release_of_instance("whelk", &image, number, &prepared.keys, &to)?;
        }
        Ok(())
    }
}

fn find_ballast(image: &Path) -> io::Result<usize> {
    ballast_block(&fs::read(image)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its ballast is not in it as it is"))
}

/// An image that says in a file of which release it is.
fn container_image(
    prepared: &Prepared,
    yado: &HostYado,
    number: u64,
    init: &str,
    scratch: &Path,
) -> Result<PathBuf, BuildError> {
    let tree = lay_out_busybox(scratch, &prepared.ingredients)?;
    tree.file("etc/release", 0o644, format!("{number}\n"))?;
    let image = scratch.with_extension("image");
    let options = ImageOptions {
        source: tree.root(),
        kind: "container",
        architecture: prepared.ingredients.arch.debian(),
        name: "whelk",
        release: number,
        boot_files: &[],
        key: &prepared.keys.release_secret(),
        init: Some(init),
        halt_signal: Some(HALT_BUSYBOX),
        minimum_runtime: None,
    };
    yado.build_image(&options, &image)?;
    Ok(image)
}
