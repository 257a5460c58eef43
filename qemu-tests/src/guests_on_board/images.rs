//! The images of the guests, signed, on a USB stick beside a file for each instance: as somebody brings them who has a board.

use super::expected::Guest;
use crate::arch::Arch;
use crate::board::host_yado::{HostYado, ImageOptions};
use crate::board::keys::Keys;
use crate::board::tree::Tree;
use crate::board::{BuildError, Prepared, disk};
use crate::cache::{Cache, Key};
use crate::progress::Step;
use crate::provision::{self, GUESTS};
use std::fs;
use std::path::{Path, PathBuf};

/// One guest on the stick.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnStick {
    /// What is expected of it.
    pub(super) guest: &'static Guest,
    /// Its instance, and its files on the stick.
    pub(super) instance: &'static str,
    /// Whose programs it has.
    pub(super) arch: Arch,
    /// More of its configuration, after the devices.
    pub(super) more: &'static str,
}

/// An emulated board takes long to stop what stops in seconds elsewhere; a guest that hears nothing is killed only then.
const KEYS: &str = "boot.autostart = false\nboot.host_shutdown_timeout = \"2m\"\n";

/// Makes the stick's content.
pub(super) fn stick(
    cache: &Cache,
    prepared: &Prepared,
    guests: &[OnStick],
    directory: &Path,
) -> Result<PathBuf, BuildError> {
    let yado = HostYado::build(cache)?;
    let tree = Tree::create(&directory.join("stick.tree"))?;
    let mut bytes = 0;
    for on_stick in guests {
        let OnStick { guest, instance, arch: _, more } = on_stick;
        let image = image(cache, &yado, &prepared.keys, on_stick)?;
        bytes += fs::metadata(&image).map_err(BuildError::io(&image))?.len();
        tree.copy(&format!("{instance}.img"), 0o644, &image)?;
        let keys = format!("[config]\n{KEYS}{}", guest.health);
        let nic = "[devices.eth0]\ntype = \"nic\"\nnetwork = \"yado0\"\n";
        let nic = if guest.commands.has_network() { nic } else { "" };
        tree.file(&format!("{instance}.toml"), 0o644, format!("image = \"{instance}\"\n{keys}{nic}{more}"))?;
    }
    let stick = directory.join("guests.stick");
    // With room for what the file system has of its own.
    let mib = bytes * 11 / 10 / 1024 / 1024 + 32;
    disk::format_ext4(tree.root(), &stick, mib)?;
    fs::remove_dir_all(tree.root()).map_err(BuildError::io(tree.root()))?;
    fs::canonicalize(&stick).map_err(BuildError::io(&stick))
}

/// What `yado image build` makes of a root, without a word about its init: that is found.
fn image(cache: &Cache, yado: &HostYado, keys: &Keys, on_stick: &OnStick) -> Result<PathBuf, BuildError> {
    let OnStick { guest, instance, arch, more: _ } = *on_stick;
    let row =
        GUESTS.iter().find(|row| row.name == guest.name).expect("what is expected of it is of one of the guests");
    let root = provision::guest_root(cache, arch, row).map_err(BuildError::Provision)?;
    let key = Key::new("guest image 1").with(root.as_os_str().as_encoded_bytes());
    let key = key.with(keys.identity()?).with(HostYado::packer()?);
    cache.entry(&format!("guest-image-{instance}-{arch}"), &key, |aside| {
        let step = Step::begin(format!("image of {instance} for {arch}"));
        let options = ImageOptions {
            source: &root,
            kind: "container",
            architecture: arch.debian(),
            name: instance,
            release: 1,
            boot_files: &[],
            key: &keys.release_secret(),
            init: None,
            halt_signal: None,
            minimum_runtime: None,
        };
        yado.build_image(&options, aside)?;
        step.done();
        Ok(())
    })
}
