//! The system that is measured: the demo's Debian, ten containers of busybox, and one that runs `true` and is gone. And the
//! data partition with those whom we are compared with, and the same root for them.

use crate::arch::Arch;
use crate::board::BuildError;
use crate::board::container_images::lay_out_busybox;
use crate::board::host_yado::ImageOptions;
use crate::board::ingredients::Ingredients;
use crate::board::system_image::{Appliance, FirstStage, HALT_BUSYBOX, Workshop};
use crate::board::tree::Tree;
use crate::cache::Cache;
use crate::command::Tool;
use crate::provision;
use std::fs;
use std::path::{Path, PathBuf};

/// Start by themselves, as the demo's two do.
pub(super) const AT_BOOT: [&str; 2] = [DEBIAN, "bench0"];
/// Is stopped when it has come up: memory is measured with equal containers.
pub(super) const DEBIAN: &str = "debian";
/// The first two of busybox.
pub(super) const TWO: [&str; 2] = ["bench0", "bench1"];
/// Are started after these.
pub(super) const EIGHT_MORE: [&str; 8] =
    ["bench2", "bench3", "bench4", "bench5", "bench6", "bench7", "bench8", "bench9"];
/// Runs `true`.
pub(super) const ONCE: &str = "once";

/// Runs `true` as soon as it may: of those that start by themselves it is the first, and it has no nic.
pub(super) const FIRST: &str = "first";
/// What it executes.
pub(super) const FIRST_PAYLOAD: &str = "/bin/true";

/// The data partition's size: the others' programs take some 20 MiB.
pub(super) const DATA_MIB: u64 = 128;

/// Where, on the board, the others' programs are.
pub(super) const PEERS: &str = "/data/bench/peers";
/// The root that they run: the files of the image, in a plain directory.
pub(super) const ROOT: &str = "/data/bench/root";
/// The stopwatch.
pub(super) const RACE: &str = "/data/bench/guest-race";

const AT_BOOT_TOML: &str = include_str!("../../appliance-bench/at-boot.toml");
const BY_HAND_TOML: &str = include_str!("../../appliance-bench/by-hand.toml");

/// The instances of `qemu-tests/appliance-bench/`.
pub(super) const APPLIANCE: Appliance = Appliance {
    name: "bench",
    files: &[
        ("profiles/default.toml", include_str!("../../appliance-bench/profiles/default.toml")),
        ("debian.toml", include_str!("../../appliance/debian.toml")),
        ("bench0.toml", AT_BOOT_TOML),
        ("bench1.toml", BY_HAND_TOML),
        ("bench2.toml", BY_HAND_TOML),
        ("bench3.toml", BY_HAND_TOML),
        ("bench4.toml", BY_HAND_TOML),
        ("bench5.toml", BY_HAND_TOML),
        ("bench6.toml", BY_HAND_TOML),
        ("bench7.toml", BY_HAND_TOML),
        ("bench8.toml", BY_HAND_TOML),
        ("bench9.toml", BY_HAND_TOML),
        ("first.toml", include_str!("../../appliance-bench/first.toml")),
        ("once.toml", include_str!("../../appliance-bench/once.toml")),
    ],
    recipe: include_str!("appliance.rs"),
    release: 1,
    first_stage: FirstStage::Ours,
    fill,
};

fn fill(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    workshop.add_image(tree, DEBIAN, &workshop.debian_image()?)?;
    workshop.add_image(tree, "busybox", &workshop.busybox_image()?)?;
    workshop.add_image(tree, "once", &once_image(workshop)?)?;
    workshop.compile(tree)
}

/// The same root as busybox's, with another program to begin with.
fn once_image(workshop: &Workshop<'_>) -> Result<PathBuf, BuildError> {
    let tree = lay_out_busybox(&workshop.scratch.join("once"), workshop.ingredients)?;
    let image = workshop.scratch.join("once.image");
    let options = ImageOptions {
        source: tree.root(),
        kind: "container",
        architecture: workshop.ingredients.arch.debian(),
        name: "once",
        release: 1,
        boot_files: &[],
        key: &workshop.keys.release_secret(),
        init: Some(FIRST_PAYLOAD),
        halt_signal: Some(HALT_BUSYBOX),
        minimum_runtime: None,
    };
    workshop.yado.build_image(&options, &image)?;
    Ok(image)
}

/// A data partition as a board has it after its first boot, with what only the benchmark needs.
pub(super) fn data_partition(
    cache: &Cache,
    ingredients: &Ingredients,
    directory: &Path,
) -> Result<PathBuf, BuildError> {
    let place = |path: &str| path.trim_start_matches("/data/").to_owned();
    let tree = Tree::create(&directory.join("data.tree"))?;
    lay_out_busybox(&tree.root().join(place(ROOT)), ingredients)?;
    tree.copy(&place(RACE), 0o755, &ingredients.programs.guest_race)?;
    let peers = provision::peers(cache, ingredients.arch)?;
    lay_out_peers(&tree, &place(PEERS), &peers, &["crun", "lxc-start"], ingredients.arch)?;
    let part = directory.join("data.ext4");
    // That there is none yet is as good.
    let _ = fs::remove_file(&part);
    let format = Tool::new("mke2fs").args(["-q", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=0", "-d"]);
    format.arg(tree.root()).arg(&part).arg(format!("{DATA_MIB}M")).run()?;
    Ok(part)
}

/// Programs of [`provision::peers`] and their libraries, in `bin` and `lib` below `to`.
pub(crate) fn lay_out_peers(
    tree: &Tree,
    to: &str,
    peers: &Path,
    programs: &[&str],
    arch: Arch,
) -> Result<(), BuildError> {
    for program in programs {
        tree.copy(&format!("{to}/bin/{program}"), 0o755, &peers.join("usr/bin").join(program))?;
    }
    for folder in ["lib", "usr/lib"] {
        copy_libraries(tree, &format!("{to}/lib"), &peers.join(folder).join(arch.gnu_triplet()))?;
    }
    Ok(())
}

/// All shared libraries in one place: a link among them becomes what it points to.
fn copy_libraries(tree: &Tree, to: &str, from: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir(from).map_err(BuildError::io(from))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(".so") && entry.path().is_file() {
            tree.copy(&format!("{to}/{name}"), 0o755, &entry.path())?;
        }
    }
    Ok(())
}
