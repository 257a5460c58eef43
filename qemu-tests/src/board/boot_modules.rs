//! The kernel modules that the board's two stages carry, taken from Debian's kernel: which, and an index of just these.

use crate::board::failure::BuildError;
use crate::board::kernel_modules::ModuleIndex;
use crate::board::tree::Tree;
use crate::command::Tool;
use crate::provision::Kernel;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the initramfs needs to find the slot, verify it and mount it. The hashes are named because the kernel asks for them
/// through modprobe(8), which there is not.
pub const INITRAMFS: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "dm-verity",
    "erofs",
    "sha256_generic",
    "sha256-arm64",
    "sha256-arm",
    "sha2-ce",
    "sha2-arm-ce",
    "crc32c_generic",
    // Before init, which looks once whether there is a watchdog.
    "i6300esb",
];

/// What the system itself needs on top.
pub const SYSTEM: &[&str] = &[
    "loop",
    "overlay",
    "ext4",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_limit",
    "nft_connlimit",
    "nft_meta_bridge",
    "nf_nat",
    "nf_conntrack",
    "bridge",
    "veth",
    "macvlan",
    "af_packet",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "xhci-pci",
    "usb-storage",
    "uas",
    "sd_mod",
    "configfs",
    "fuse",
    "autofs4",
    "nls_utf8",
    "nls_ascii",
    "nls_cp437",
    "vfat",
    // Where the devicetree reserves memory for the kernel's last words.
    "ramoops",
    // Where EFI firmware starts the board.
    "efivarfs",
];

/// What depmod(8) starts from, besides the modules.
const LISTS: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Modules and the lists of the kernel's build, as paths below `/lib/modules/RELEASE` and the files that go there.
#[derive(Debug)]
pub struct BootModules {
    /// The kernel's release.
    pub release: String,
    /// What goes where.
    pub files: Vec<(String, PathBuf)>,
}

/// Why the modules cannot be chosen.
#[derive(Debug)]
pub struct ModulesError {
    path: PathBuf,
    source: io::Error,
}

/// Chooses `names` and everything they need. Names that a kernel does not have are left out: the list serves several
/// kernels, and what is missed is noticed by whoever needs it.
pub fn choose<'a>(kernel: &Kernel, names: impl IntoIterator<Item = &'a str>) -> Result<BootModules, ModulesError> {
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).map_err(|source| ModulesError { path, source })
    };
    let index = ModuleIndex::parse(
        &read("modules.dep")?,
        &read("modules.softdep")?,
        &read("modules.alias")?,
        &read("modules.builtin")?,
    );
    let closure = index.closure(names);
    let in_tree = |path: &str| (path.to_owned(), kernel.modules.join(path));
    let lists = LISTS.iter().filter(|name| kernel.modules.join(name).exists()).map(|name| in_tree(name));
    let files = closure.paths.iter().map(|path| in_tree(path)).chain(lists).collect();
    Ok(BootModules { release: kernel.release.clone(), files })
}

impl BootModules {
    /// Lays them into a tree, with `more` of one's own, and an index that names all that is there and nothing that is not.
    pub fn lay_out(&self, tree: &Tree, more: &[(&str, &Path)]) -> Result<(), BuildError> {
        let ours = self.files.iter().map(|(path, from)| (path.as_str(), from.as_path()));
        for (path, from) in ours.chain(more.iter().copied()) {
            tree.copy(&format!("lib/modules/{}/{path}", self.release), 0o644, from)?;
        }
        Ok(Tool::new("depmod").arg("-b").arg(tree.root()).arg(&self.release).run()?)
    }
}

impl ModulesError {
    /// The file that could not be read.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for ModulesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "read {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for ModulesError {}
