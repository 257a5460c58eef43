//! The board on which updaters are measured: Debian's systemd with RAUC, SWUpdate and our updater as a signed system in slot A, started
//! by our first stage, and a data partition with the same update for each of them.

use super::bundles::{Signer, rauc_configuration};
use super::payload::{Image, Payload};
use crate::arch::Arch;
use crate::board::disk::{self, DataPartition, System};
use crate::board::host_yado::HostYado;
use crate::board::qemu::Speed;
use crate::board::system_image::{Appliance, FirstStage};
use crate::board::systemd_system::SystemdSystem;
use crate::board::tree::Tree;
use crate::board::{Board, BoardError, BoardOptions, BuildError, Prepared};
use crate::cache::Cache;
use crate::progress::Step;
use crate::provision;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the system is called, and the board it is for.
pub(super) const PRODUCT: &str = "update-peers";
/// The slots, by the names that udev gives to partitions.
const SLOT_A: &str = "/dev/disk/by-partlabel/slot-a";
pub(super) const SLOT_B: &str = "/dev/disk/by-partlabel/slot-b";
/// What measures one command.
pub(super) const TURN: &str = "/data/guest-turn";

/// A loaded machine needs many times the usual until Debian's systemd has come up.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
const MEMORY_MIB: u32 = 512;
/// Each of three updaters has two updates there.
const DATA_MIB: u64 = 640;

/// Gives the kernel and the first stage. What it has for slot A is not used.
const FIRST_STAGE: Appliance = Appliance {
    name: "update-peers",
    files: &[],
    recipe: "",
    release: 1,
    first_stage: FirstStage::Ours,
    fill: |_, _| Ok(()),
};

/// Besides those of our own system: RAUC's bundles are file systems of this kind.
const MODULES: [&str; 1] = ["squashfs"];

/// Nobody holds a lock that would delay a restart.
const POLICY: &str = "compatible = [\"update-peers\"]\nreboot.lock_limit = \"0s\"\n";

/// What is on the disk, and what is installed there.
#[derive(Debug)]
pub(super) struct PeerBoard {
    pub(super) prepared: Prepared,
    pub(super) payload: Payload,
    data: PathBuf,
}

impl PeerBoard {
    /// Builds it; Debian's part is found in the cache.
    pub(super) fn prepare(cache: &Cache, arch: Arch, directory: &Path, seed: u64) -> Result<PeerBoard, BuildError> {
        let ours = Prepared::new(cache, arch, &FIRST_STAGE)?;
        let yado = HostYado::build(cache)?;
        let image = image(cache, &ours, &yado)?;
        let system = System { image, ..ours.system };
        let prepared = Prepared { ingredients: ours.ingredients, system, keys: ours.keys };
        let step = Step::begin("the update for each, signed");
        let parts = directory.join("payload");
        fs::create_dir_all(&parts).map_err(BuildError::io(&parts))?;
        let payload = Payload::build(&yado, &prepared, &parts, seed)?;
        let data = data_partition(&prepared, &payload, &Signer::new(cache, &parts)?, directory)?;
        step.done();
        Ok(PeerBoard { prepared, payload, data })
    }

    /// Boots it, and waits until its agent speaks.
    pub(super) fn boot(&self, directory: &Path) -> Result<Board, BoardError> {
        let options = BoardOptions {
            speed: Speed::Defined,
            data: DataPartition::Filled(self.data.clone()),
            // By this RAUC knows which slot runs.
            kernel_arguments: "rauc.slot=A".to_owned(),
            ..BoardOptions::usual(directory, MEMORY_MIB, DATA_MIB)
        };
        Board::boot(&self.prepared, options, BOOT_TIMEOUT).map(|(board, _)| board)
    }
}

fn image(cache: &Cache, ours: &Prepared, yado: &HostYado) -> Result<PathBuf, BuildError> {
    let program = &ours.ingredients.programs.yado;
    let system = SystemdSystem {
        name: PRODUCT,
        what: "systemd with updaters",
        root: &provision::updaters_root(cache, ours.ingredients.arch)?,
        modules: &MODULES,
        agent_after: "dbus.service data.mount",
        // Our updater, with what it trusts.
        fill: &|tree| {
            tree.copy("usr/bin/yado", 0o755, program)?;
            tree.symlink("usr/bin/yado-updater", "yado")?;
            tree.copy("usr/lib/yado/trust/release.pub", 0o644, &ours.keys.release_public())?;
            Ok(tree.file("usr/lib/yado/update.toml", 0o644, POLICY)?)
        },
        recipe: include_str!("peer_board.rs"),
        programs: &[program],
    };
    system.image(cache, ours, yado)
}

/// Both updates for each updater, what they are configured by, and what measures them.
fn data_partition(
    prepared: &Prepared,
    payload: &Payload,
    signer: &Signer,
    directory: &Path,
) -> Result<PathBuf, BuildError> {
    let tree = Tree::create(&directory.join("data.tree"))?;
    tree.copy(TURN.trim_start_matches("/data/"), 0o755, &prepared.ingredients.programs.guest_turn)?;
    tree.file("rauc/system.conf", 0o644, rauc_configuration(SLOT_A))?;
    tree.copy("rauc/cert.pem", 0o644, &signer.certificate())?;
    for image in [&payload.whole, &payload.hundredth] {
        let Image { name, release, .. } = image;
        tree.copy_tree(&format!("release-{name}"), release)?;
        for file in [signer.rauc_bundle(image)?, signer.swupdate_archive(image)?] {
            let file_name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tree.copy(&file_name, 0o644, &file)?;
            fs::remove_file(&file).map_err(BuildError::io(&file))?;
        }
    }
    let part = directory.join("data.ext4");
    disk::format_ext4(tree.root(), &part, DATA_MIB)?;
    Ok(part)
}
