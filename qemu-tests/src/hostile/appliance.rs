//! The system of the board that is attacked: one image of busybox with the attacking program, run by a hostile instance, a
//! calm one, one that starts late, and ten that attack together.

use crate::board::BuildError;
use crate::board::container_images::lay_out_busybox;
use crate::board::host_yado::ImageOptions;
use crate::board::ingredients::Ingredients;
use crate::board::system_image::{Appliance, FirstStage, HALT_BUSYBOX, Workshop};
use crate::board::tree::{Tree, TreeError};
use qemu_guest::denied_calls::VERB;
use std::path::Path;

/// Attacks.
pub(super) const HOSTILE: &str = "hostile";
/// Must not notice.
pub(super) const CALM: &str = "calm";
/// Was given `/dev/fuse`.
pub(super) const FUSER: &str = "fuser";
/// Starts late.
pub(super) const LATE: &str = "late";
/// Makes the denied calls as it starts.
pub(super) const FILTERED: &str = "filtered";
/// The same, with no filter that would deny them.
pub(super) const UNFILTERED: &str = "unfiltered";
/// Where both leave what they got.
pub(super) const ANSWERS: &str = "/run/denied-calls";
/// Attack together.
pub(super) const TEN: [&str; 10] = ["mob0", "mob1", "mob2", "mob3", "mob4", "mob5", "mob6", "mob7", "mob8", "mob9"];
/// The attacking program, in all of them.
pub(super) const ATTACK: &str = "/usr/bin/guest-attack";

const IN_THE_CROWD: &str = include_str!("../../appliance-hostile/in-the-crowd.toml");

/// The instances of `qemu-tests/appliance-hostile/`.
pub(super) const APPLIANCE: Appliance = Appliance {
    name: "hostile",
    files: &[
        ("profiles/default.toml", include_str!("../../appliance-hostile/profiles/default.toml")),
        ("hostile.toml", include_str!("../../appliance-hostile/hostile.toml")),
        ("calm.toml", include_str!("../../appliance-hostile/calm.toml")),
        ("forger.toml", include_str!("../../appliance-hostile/forger.toml")),
        ("fuser.toml", include_str!("../../appliance-hostile/fuser.toml")),
        ("late.toml", include_str!("../../appliance-hostile/late.toml")),
        ("filtered.toml", include_str!("../../appliance-hostile/filtered.toml")),
        ("unfiltered.toml", include_str!("../../appliance-hostile/unfiltered.toml")),
        ("mob0.toml", IN_THE_CROWD),
        ("mob1.toml", IN_THE_CROWD),
        ("mob2.toml", IN_THE_CROWD),
        ("mob3.toml", IN_THE_CROWD),
        ("mob4.toml", IN_THE_CROWD),
        ("mob5.toml", IN_THE_CROWD),
        ("mob6.toml", IN_THE_CROWD),
        ("mob7.toml", IN_THE_CROWD),
        ("mob8.toml", IN_THE_CROWD),
        ("mob9.toml", IN_THE_CROWD),
    ],
    recipe: include_str!("appliance.rs"),
    release: 1,
    first_stage: FirstStage::Ours,
    fill,
};

/// The root that all of them run.
pub(super) fn lay_out_crowd(root: &Path, ingredients: &Ingredients) -> Result<Tree, TreeError> {
    let tree = lay_out_busybox(root, ingredients)?;
    tree.copy(ATTACK, 0o755, &ingredients.programs.guest_attack)?;
    tree.file(
        "etc/start",
        0o755,
        format!(
            "#!/bin/sh\nip link set lo up\nip link set eth0 up\n\
             [ -z \"$MAKE_DENIED_CALLS\" ] || {ATTACK} {VERB} > {ANSWERS} 2>&1\n\
             {ATTACK} ready\n"
        ),
    )?;
    Ok(tree)
}

fn fill(workshop: &Workshop<'_>, tree: &Tree) -> Result<(), BuildError> {
    let root = lay_out_crowd(&workshop.scratch.join("crowd"), workshop.ingredients)?;
    let image = workshop.scratch.join("crowd.image");
    let options = ImageOptions {
        source: root.root(),
        kind: "container",
        architecture: workshop.ingredients.arch.debian(),
        name: "crowd",
        release: 1,
        boot_files: &[],
        key: &workshop.keys.release_secret(),
        init: Some("/sbin/init"),
        halt_signal: Some(HALT_BUSYBOX),
        minimum_runtime: None,
    };
    workshop.yado.build_image(&options, &image)?;
    workshop.add_image(tree, "crowd", &image)?;
    workshop.compile(tree)
}
