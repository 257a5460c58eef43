//! The systems of the boards that are updated: small ones, that differ in what an update is judged by.

use crate::board::BuildError;
use crate::board::system_image::{Appliance, FirstStage, Workshop};
use crate::board::tree::Tree;

macro_rules! files {
    ($whelk:literal, $release:literal) => {
        &[
            ("profiles/default.toml", include_str!("../../appliance-update/profiles/default.toml")),
            ("crab.toml", include_str!("../../appliance-update/crab.toml")),
            ("whelk.toml", include_str!(concat!("../../appliance-update/", $whelk, ".toml"))),
            // What tells one system from another to who looks.
            ("release", $release),
        ]
    };
}

const RECIPE: &str = concat!(
    include_str!("appliances.rs"),
    include_str!("../../appliance-update/update.toml"),
    include_str!("../../appliance-update/hangs")
);

/// What a board that EDK II starts says of that.
const BY_EDK2: &str = concat!(include_str!("../../appliance-update/update.toml"), "boot.loader = \"efi\"\n");

type Files = &'static [(&'static str, &'static str)];

const fn sound(name: &'static str, release: u64, files: Files) -> Appliance {
    Appliance { name, files, recipe: RECIPE, release, first_stage: FirstStage::Ours, fill }
}

/// The same for a board that EDK II starts.
const fn by_edk2(name: &'static str, appliance: Appliance) -> Appliance {
    Appliance { name, fill: fill_by_edk2, ..appliance }
}

/// What the factory wrote.
pub(super) const FIRST: Appliance = sound("update-1", 1, files!("whelk", "1"));
/// A good one.
pub(super) const SECOND: Appliance = sound("update-2", 2, files!("whelk", "2"));
/// One of its instances is never ready.
pub(super) const NEVER_READY: Appliance = sound("update-3", 3, files!("whelk-never-ready", "3"));
/// Its kernel finds nothing to execute.
pub(super) const PANICS: Appliance =
    Appliance { first_stage: FirstStage::Panics, ..sound("update-4", 4, files!("whelk", "4")) };
/// Its PID 1 feeds the watchdog for some seconds, and then hangs.
pub(super) const HANGS: Appliance =
    Appliance { fill: fill_with_hanging_init, ..sound("update-5", 5, files!("whelk", "5")) };
/// Another good one.
pub(super) const SIXTH: Appliance = sound("update-6", 6, files!("whelk", "6"));

/// A good one that comes on a stick.
pub(super) const NINTH: Appliance = sound("update-9", 9, files!("whelk", "9"));

/// As [`FIRST`].
pub(super) const FIRST_BY_EDK2: Appliance = by_edk2("update-1-edk2", FIRST);
/// As [`SECOND`].
pub(super) const SECOND_BY_EDK2: Appliance = by_edk2("update-2-edk2", SECOND);
/// As [`PANICS`].
pub(super) const PANICS_BY_EDK2: Appliance = by_edk2("update-4-edk2", PANICS);
/// As [`SIXTH`].
pub(super) const SIXTH_BY_EDK2: Appliance = by_edk2("update-6-edk2", SIXTH);

/// Made of the programs of a later release: one that must not stay, and a good one.
pub(super) const LATER_NEVER_READY: Appliance = sound("update-30", 30, files!("whelk-never-ready", "30"));
pub(super) const LATER: Appliance = sound("update-31", 31, files!("whelk", "31"));

/// They are installed in turn: no slot ever gets what it has, since there are three of them and two slots. Their ballast differs, so that
/// some megabytes are written.
pub(super) const CYCLED: [&Appliance; 3] = [
    &Appliance { fill: fill_with_own_ballast::<20>, ..sound("update-20", 20, files!("whelk", "20")) },
    &Appliance { fill: fill_with_own_ballast::<21>, ..sound("update-21", 21, files!("whelk", "21")) },
    &Appliance { fill: fill_with_own_ballast::<22>, ..sound("update-22", 22, files!("whelk", "22")) },
];

/// A file of each system that is found again in its image, because nothing compresses it.
const BALLAST: &str = "usr/lib/yado/ballast";
const BALLAST_BYTES: usize = 256 * 1024;
const BLOCK_BYTES: usize = 4096;

/// Of a system of which some megabytes are to be written.
const OWN_BALLAST_BYTES: usize = 6 * 1024 * 1024;

fn ballast() -> Vec<u8> {
    noise(1, BALLAST_BYTES)
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| chance.u8(..)).take(bytes).collect()
}

/// In which block of an image's bytes, of 4 KiB each, the middle of its ballast lies.
pub(super) fn ballast_block(image: &[u8]) -> Option<usize> {
    let ballast = ballast();
    let middle = ballast.get(BALLAST_BYTES / 2..)?.get(..BLOCK_BYTES)?;
    image.chunks(BLOCK_BYTES).position(|block| block == middle)
}

fn fill(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    tree.file(BALLAST, 0o644, ballast())?;
    workshop.add_image(tree, "busybox", &workshop.busybox_image()?)?;
    tree.file("usr/lib/yado/update.toml", 0o644, include_str!("../../appliance-update/update.toml"))?;
    workshop.compile(tree)
}

fn fill_by_edk2(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    fill(workshop, tree)?;
    tree.file("usr/lib/yado/update.toml", 0o644, BY_EDK2)?;
    Ok(tree.file("etc/modules-load.d/efivarfs.conf", 0o644, "efivarfs\n")?)
}

fn fill_with_own_ballast<const SEED: u64>(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    tree.file("usr/lib/yado/own-ballast", 0o644, noise(SEED, OWN_BALLAST_BYTES))?;
    fill(workshop, tree)
}

fn fill_with_hanging_init(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    fill(workshop, tree)?;
    Ok(tree.file("sbin/yado-init", 0o755, include_str!("../../appliance-update/hangs"))?)
}
