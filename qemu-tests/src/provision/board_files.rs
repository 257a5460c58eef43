//! What else of Debian a board carries, unpacked and not installed: the boot loaders, busybox, the ext4 tools that the
//! system image formats and checks the data partition with, and the tool that tells the tests what a device is made of.

use std::fs;
use std::path::PathBuf;

use super::apt::{PrivateApt, Suite};
use super::failure::ProvisionError;
use super::host_packages::{self, Purpose};
use crate::arch::Arch;
use crate::cache::{Cache, Key};

/// U-Boot for the board, as QEMU's `-bios` takes it.
pub fn uboot(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    // The package holds all boards and is of no architecture.
    let tree = unpacked(cache, "u-boot", Arch::Amd64, &["u-boot-qemu"])?;
    in_tree(tree, &format!("usr/lib/u-boot/{}/u-boot.bin", arch.uboot_folder()))
}

/// EDK II for 64-bit ARM boards, as QEMU's `-bios` takes it.
pub fn edk2(cache: &Cache) -> Result<PathBuf, ProvisionError> {
    const PLACE: &str = "usr/share/qemu-efi-aarch64/QEMU_EFI.fd";
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    // The package is of no architecture. It holds the same once more, filled up to the size of a flash, and flashes with variables.
    let stanzas = apt.look_up(Arch::Amd64, &["qemu-efi-aarch64"])?;
    let key = stanzas.iter().fold(Key::new("edk2 1"), |key, stanza| key.with(&stanza.sha256));
    let folder = cache.entry("edk2-arm64", &key, |aside| {
        fs::create_dir(aside).map_err(ProvisionError::io("create", aside))?;
        let tree = aside.join("tree");
        apt.unpack_into("edk2", &stanzas, &tree)?;
        let from = in_tree(tree.clone(), PLACE)?;
        fs::rename(&from, aside.join("QEMU_EFI.fd")).map_err(ProvisionError::io("move", &from))?;
        fs::remove_dir_all(&tree).map_err(ProvisionError::io("remove", &tree))
    })?;
    in_tree(folder, "QEMU_EFI.fd")
}

/// A static busybox: the small container's whole user land.
pub fn busybox(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    let tree = unpacked(cache, &format!("busybox-{arch}"), arch, &["busybox-static"])?;
    in_tree(tree, "bin/busybox")
}

/// mke2fs, e2fsck and dmsetup with every library that they load, as a tree to lay into the system image.
pub fn debian_tools(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    let ext4 = ["e2fsprogs", "libext2fs2", "libcom-err2", "libss2", "libblkid1", "libuuid1"];
    let mapper = ["dmsetup", "libdevmapper1.02.1", "libselinux1", "libpcre2-8-0", "libudev1"];
    let packages = [&ext4[..], &mapper, &["libc6"]].concat();
    let tree = unpacked(cache, &format!("debian-tools-{arch}"), arch, &packages)?;
    in_tree(tree.clone(), "sbin/mke2fs")?;
    Ok(tree)
}

fn unpacked(cache: &Cache, name: &str, arch: Arch, packages: &[&str]) -> Result<PathBuf, ProvisionError> {
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    apt.unpack(name, &apt.look_up(arch, packages)?)
}

fn in_tree(tree: PathBuf, file: &str) -> Result<PathBuf, ProvisionError> {
    let path = tree.join(file);
    if path.exists() { Ok(path) } else { Err(ProvisionError::Unexpected { wanted: file.to_owned(), place: tree }) }
}
