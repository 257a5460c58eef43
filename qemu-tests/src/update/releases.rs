//! The releases that the board is offered, each built as its maker would: a system image with its boot files, put into a directory
//! by `yado release build`.

use super::Course;
use super::appliances::{
    CYCLED, FIRST, FIRST_BY_EDK2, HANGS, LATER, LATER_NEVER_READY, NEVER_READY, NINTH, PANICS, PANICS_BY_EDK2,
    SECOND, SECOND_BY_EDK2, SIXTH, SIXTH_BY_EDK2, ballast_block,
};
use crate::arch::Arch;
use crate::board::container_images::lay_out_busybox;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::system_image::{self, Appliance, HALT_BUSYBOX};
use crate::board::{BuildError, Prepared, disk};
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
    /// Those that are installed in turn, under ever new numbers.
    pub(super) cycled: Vec<disk::System>,
    yado: HostYado,
}

/// What the board is called in its `update.toml`.
const COMPATIBLE: &str = "qemu-virt";

impl Course {
    /// What the factory wrote.
    const fn first(self) -> &'static Appliance {
        match self {
            Course::Usual | Course::Faults | Course::Cycles | Course::LaterFormats | Course::AnyWrite => &FIRST,
            Course::ByEdk2 => &FIRST_BY_EDK2,
        }
    }

    /// What the board is offered, each under its own number.
    const fn offered(self) -> &'static [&'static Appliance] {
        match self {
            Course::Usual => &[&SECOND, &NEVER_READY, &PANICS, &HANGS, &SIXTH, &NINTH],
            Course::Faults => &[&SECOND, &SIXTH],
            Course::Cycles => &[],
            Course::LaterFormats => &[&LATER_NEVER_READY, &LATER],
            Course::AnyWrite => &[&SECOND],
            Course::ByEdk2 => &[&SECOND_BY_EDK2, &PANICS_BY_EDK2, &SIXTH_BY_EDK2],
        }
    }

    const fn cycled(self) -> &'static [&'static Appliance] {
        match self {
            Course::Cycles => &CYCLED,
            Course::Usual | Course::Faults | Course::LaterFormats | Course::AnyWrite | Course::ByEdk2 => &[],
        }
    }
}

impl Releases {
    /// Builds what a course needs; systems that were built before are taken from the cache.
    pub(super) fn build(cache: &Cache, arch: Arch, directory: &Path, course: Course) -> Result<Releases, BuildError> {
        let prepared = Prepared::new(cache, arch, course.first())?;
        let yado = HostYado::build(cache)?;
        let root = directory.join("releases");
        if root.exists() {
            fs::remove_dir_all(&root).map_err(BuildError::io(&root))?;
        }
        fs::create_dir_all(&root).map_err(BuildError::io(&root))?;
        let mut ballast = None;
        let ingredients = match course {
            Course::LaterFormats => prepared.ingredients.with_later_programs(cache)?,
            Course::Usual | Course::Faults | Course::Cycles | Course::AnyWrite | Course::ByEdk2 => {
                prepared.ingredients.clone()
            }
        };
        let make = |appliance| system_image::system(cache, &ingredients, &yado, &prepared.keys, appliance);
        for appliance in course.offered() {
            let system = make(appliance)?;
            let number = appliance.release;
            if number == SECOND.release {
                ballast = Some(find_ballast(&system.image).map_err(BuildError::io(&system.image))?);
            }
            yado.build_release(&system, COMPATIBLE, &prepared.keys, &root.join(format!("release-{number}")))?;
        }
        let cycled = course.cycled().iter().map(|appliance| make(appliance)).collect::<Result<_, _>>()?;
        let sticks = root.join("sticks");
        if course == Course::Usual {
            offer_on_sticks(&yado, &make(&NINTH)?, &prepared, &sticks)?;
        }
        if matches!(course, Course::Usual | Course::LaterFormats) {
            offer_for_whelk(&yado, &prepared, directory, &root)?;
        }
        let ballast_block = ballast.unwrap_or_default();
        Ok(Releases { prepared, root, sticks, ballast_block, cycled, yado })
    }

    /// Of those that are installed in turn: the one that comes under this number.
    pub(super) fn cycled_system(&self, number: u64) -> &disk::System {
        &self.cycled[self.cycled_place(number)]
    }

    /// What that is called in a file of its own.
    pub(super) fn cycled_name(&self, number: u64) -> u64 {
        CYCLED[self.cycled_place(number)].release
    }

    fn cycled_place(&self, number: u64) -> usize {
        (number % CYCLED.len() as u64) as usize
    }

    /// Offers it, as `release-NUMBER`. Of the earlier ones those go that no board asks for any more.
    pub(super) fn offer_cycled(&self, number: u64) -> Result<(), BuildError> {
        let folder = |number: u64| self.root.join(format!("release-{number}"));
        for old in [folder(number), folder(number.saturating_sub(2))].iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old).map_err(BuildError::io(old))?;
        }
        let system = self.cycled_system(number);
        Ok(self.yado.build_release_numbered(number, system, COMPATIBLE, &self.prepared.keys, &folder(number))?)
    }
}

/// One by whom the board trusts, and one by a stranger.
fn offer_on_sticks(
    yado: &HostYado,
    ninth: &disk::System,
    prepared: &Prepared,
    sticks: &Path,
) -> Result<(), BuildError> {
    for (name, key) in [("good", prepared.keys.release_secret()), ("strangers", prepared.keys.stranger_secret())] {
        let folder = sticks.join(name);
        fs::create_dir_all(&folder).map_err(BuildError::io(&folder))?;
        yado.build_release_by(ninth, COMPATIBLE, &key, &folder.join("yado-release"))?;
    }
    Ok(())
}

/// Two of one container's alone: the second cannot live.
fn offer_for_whelk(yado: &HostYado, prepared: &Prepared, directory: &Path, root: &Path) -> Result<(), BuildError> {
    for (number, init) in [(7, "/sbin/init"), (8, "/bin/false")] {
        let image = container_image(prepared, yado, number, init, &directory.join(format!("whelk-{number}")))?;
        let to = root.join(format!("release-{number}"));
        yado.build_release_of_instance("whelk", &image, number, &prepared.keys, &to)?;
    }
    Ok(())
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
