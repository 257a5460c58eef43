//! The system of the boards that are broken: small instances only, some of them with spoilt specs or foreign images. And
//! the content of the data partition that has bad files on it.

use super::bench::DATA_MIB;
use super::failure::BrokenError;
use crate::board::container_images::lay_out_busybox;
use crate::board::host_yado::ImageOptions;
use crate::board::system_image::{Appliance, FirstStage, HALT_BUSYBOX, Workshop};
use crate::board::tree::Tree;
use crate::board::{BuildError, disk};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../appliance-broken/", $path)))),*]
    };
}

/// The instances of `qemu-tests/appliance-broken/`.
pub(super) const APPLIANCE: Appliance = Appliance {
    name: "broken",
    files: files![
        "profiles/default.toml",
        "profiles/quick.toml",
        "crab.toml",
        "shell.toml",
        "spec-flipped.toml",
        "spec-cut.toml",
        "newer-runtime.toml",
        "other-machine.toml",
        "chip-optional.toml",
        "chip-required.toml",
        "chip-patient.toml",
        "stick-required.toml",
        "no-profile.toml",
        "newborn.toml",
        "cut-off.toml",
    ],
    recipe: include_str!("appliance.rs"),
    release: 1,
    first_stage: FirstStage::Ours,
    fill,
};

/// Instances on the data partition of the first board.
pub(super) const ON_DATA: &[(&str, &str)] = files![
    "on-data/good.toml",
    "on-data/typo-key.toml",
    "on-data/bad-value.toml",
    "on-data/unknown-device.toml",
    "on-data/hen.toml",
    "on-data/egg.toml",
    "on-data/not-toml.toml",
];

/// A version that is not written yet.
pub(super) const NEWER_RUNTIME: &str = "99.0.0";
/// No board of ours has this processor.
pub(super) const OTHER_MACHINE: &str = "x86_64";

fn fill(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    workshop.add_image(tree, "busybox", &workshop.busybox_image()?)?;
    let own = workshop.ingredients.arch.debian();
    for (name, architecture, minimum_runtime) in [
        ("idle", own, None),
        ("cut-off", own, None),
        ("newer-runtime", own, Some(NEWER_RUNTIME)),
        ("other-machine", OTHER_MACHINE, None),
    ] {
        let image = idle_image(workshop, name, architecture, minimum_runtime)?;
        workshop.add_image(tree, name, &image)?;
    }
    workshop.compile(tree)?;
    let spec = |name: &str| tree.root().join(format!("usr/lib/yado/specs/{name}.bin"));
    change(&spec("spec-flipped"), flip_a_bit)?;
    change(&spec("spec-cut"), cut_in_half)
}

/// A container in which nothing happens: its fingerprint is its own, by its name.
fn idle_image(
    workshop: &Workshop<'_>,
    name: &str,
    architecture: &str,
    minimum_runtime: Option<&str>,
) -> Result<PathBuf, BuildError> {
    let tree = lay_out_busybox(&workshop.scratch.join(name), workshop.ingredients)?;
    tree.file("etc/inittab", 0o644, "::sysinit:/bin/true\n")?;
    if architecture == OTHER_MACHINE {
        // Its builder looks at the init: it is one for that machine, though nobody will see that it does nothing.
        tree.file("bin/busybox", 0o755, elf_of_x86_64())?;
    }
    let image = workshop.scratch.join(format!("{name}.image"));
    let options = ImageOptions {
        source: tree.root(),
        kind: "container",
        architecture,
        name,
        release: 1,
        boot_files: &[],
        key: &workshop.keys.release_secret(),
        init: Some("/sbin/init"),
        halt_signal: Some(HALT_BUSYBOX),
        minimum_runtime,
    };
    workshop.yado.build_image(&options, &image)?;
    Ok(image)
}

/// The header of a program without a segment: elf(5).
fn elf_of_x86_64() -> [u8; 64] {
    let mut header = [0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20], header[52]) = (2, 62, 1, 64);
    header
}

fn change(path: &Path, how: fn(&File) -> io::Result<()>) -> Result<(), BuildError> {
    let file = File::options().read(true).write(true).open(path).map_err(BuildError::io(path))?;
    how(&file).map_err(BuildError::io(path))
}

fn flip_a_bit(file: &File) -> io::Result<()> {
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    byte[0] ^= 1;
    file.write_all_at(&byte, middle)
}

fn cut_in_half(file: &File) -> io::Result<()> {
    file.set_len(file.metadata()?.len() / 2)
}

/// A data partition as people leave it who edit files on it: one good instance among bad ones.
pub(super) fn data_with_bad_files(directory: &Path) -> Result<PathBuf, BrokenError> {
    let tree = directory.join("data.tree");
    for (path, text) in ON_DATA {
        let name = path.trim_start_matches("on-data/").trim_end_matches(".toml");
        let file = tree.join("instances").join(name).join("instance.toml");
        let parent = file.parent().unwrap_or(&tree);
        fs::create_dir_all(parent).map_err(BrokenError::io(parent))?;
        fs::write(&file, text).map_err(BrokenError::io(&file))?;
    }
    let part = directory.join("data.ext4");
    disk::format_ext4(&tree, &part, DATA_MIB)?;
    Ok(part)
}
