//! The board on which updaters are measured: Debian's systemd with RAUC, SWUpdate and our updater as a signed system in slot A, started
//! by our first stage, and a data partition with the same update for each of them.

use super::bundles::{Signer, rauc_configuration};
use super::payload::{Image, Payload};
use crate::arch::Arch;
use crate::board::disk::{DataPartition, System};
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::qemu::Speed;
use crate::board::system_image::{self, Appliance, FirstStage};
use crate::board::tree::Tree;
use crate::board::{Board, BoardError, BoardOptions, BuildError, Prepared, boot_modules};
use crate::cache::{Cache, Key};
use crate::command::Tool;
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

/// Starts the agent when all else is started.
const AGENT_UNIT: &str = "[Unit]\nDescription=The tests' agent\nAfter=dbus.service data.mount\n\
    [Service]\nExecStart=/usr/bin/guest-agent\nType=exec\nStandardOutput=null\nRestart=on-failure\n";

/// The initramfs had itself called for modules.
const SYSCTL: &str = "kernel.modprobe = /sbin/modprobe\n";

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
    let ingredients = &ours.ingredients;
    let arch = ingredients.arch;
    let root = provision::updaters_root(cache, arch)?;
    let mut key = Key::new("update peers system").with(include_str!("peer_board.rs"));
    key = key.with(include_str!("../board/boot_modules.rs")).with(root.as_os_str().as_encoded_bytes());
    key = key.with(ingredients.kernel.modules.as_os_str().as_encoded_bytes()).with(ours.keys.identity()?);
    for program in [&ingredients.programs.guest_agent, &ingredients.programs.yado] {
        key = key.with(fs::read(program).map_err(BuildError::io(program))?);
    }
    key = key.with(HostYado::packer()?);
    cache.entry(&format!("system-update-peers-{arch}"), &key, |aside| {
        let step = Step::begin(format!("system image for {arch}, systemd with updaters"));
        let scratch = aside.with_extension("parts");
        fs::create_dir_all(&scratch).map_err(BuildError::io(&scratch))?;
        let over = lay_out_over_root(&scratch, ours)?;
        let merged = scratch.join("root.tar");
        system_image::merge(&root, &over, &merged)?;
        let options = ImageOptions {
            source: &merged,
            kind: "system",
            architecture: arch.debian(),
            name: PRODUCT,
            release: 1,
            boot_files: &[],
            key: &ours.keys.release_secret(),
            init: None,
            halt_signal: None,
            minimum_runtime: None,
        };
        yado.build_image(&options, aside)?;
        fs::remove_dir_all(&scratch).map_err(BuildError::io(&scratch))?;
        step.done();
        Ok::<(), BuildError>(())
    })
}

/// What takes init's place, the modules that our system has, our updater with what it trusts, and the agent.
fn lay_out_over_root(scratch: &Path, ours: &Prepared) -> Result<Tree, BuildError> {
    let programs = &ours.ingredients.programs;
    let modules = Tree::create(&scratch.join("modules"))?;
    let names = boot_modules::INITRAMFS.iter().chain(boot_modules::SYSTEM).chain(&MODULES).copied();
    boot_modules::choose(&ours.ingredients.kernel, names)?.lay_out(&modules, &[])?;
    let tree = Tree::create(&scratch.join("over"))?;
    // Debian's `/lib` and `/sbin` are links.
    tree.copy_tree("usr/lib/modules", &modules.root().join("lib/modules"))?;
    tree.symlink("usr/sbin/yado-init", "../lib/systemd/systemd")?;
    tree.copy("usr/bin/yado", 0o755, &programs.yado)?;
    tree.symlink("usr/bin/yado-updater", "yado")?;
    tree.copy("usr/lib/yado/trust/release.pub", 0o644, &ours.keys.release_public())?;
    tree.file("usr/lib/yado/update.toml", 0o644, POLICY)?;
    tree.copy("usr/bin/guest-agent", 0o755, &programs.guest_agent)?;
    tree.file("etc/sysctl.d/modprobe.conf", 0o644, SYSCTL)?;
    tree.file("etc/systemd/system/guest-agent.service", 0o644, AGENT_UNIT)?;
    tree.symlink(
        "etc/systemd/system/multi-user.target.wants/guest-agent.service",
        "/etc/systemd/system/guest-agent.service",
    )?;
    Ok(tree)
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
    // That there is none yet is as good.
    let _ = fs::remove_file(&part);
    let format = Tool::new("mke2fs").args(["-q", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=0", "-d"]);
    format.arg(tree.root()).arg(&part).arg(format!("{DATA_MIB}M")).run()?;
    Ok(part)
}
