//! Debian's kernel for a board: the package unpacked, with the module index that dpkg would have made.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{PrivateApt, Suite};
use super::failure::ProvisionError;
use super::host_packages::{self, Purpose};
use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::command::Tool;

/// A kernel and what belongs to it.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// What the boot loader loads.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`, with `modules.dep` and its companions.
    pub modules: PathBuf,
    /// `uname -r`.
    pub release: String,
    /// The options it was built with.
    pub config: PathBuf,
}

/// Fetches bookworm's kernel for this board.
pub fn kernel(cache: &Cache, arch: Arch) -> Result<Kernel, ProvisionError> {
    fetch(cache, arch, Suite::Main)
}

/// Fetches the kernel of bookworm's backports for this board. Its modules are compressed.
pub fn newer_kernel(cache: &Cache, arch: Arch) -> Result<Kernel, ProvisionError> {
    fetch(cache, arch, Suite::BoardBackports)
}

fn fetch(cache: &Cache, arch: Arch, suite: Suite) -> Result<Kernel, ProvisionError> {
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, suite)?;
    // The meta package depends on the current one.
    let meta = format!("linux-image-{}", arch.kernel_flavour());
    let stanzas = apt.look_up_with_needs(arch, &[&meta], |name| name.starts_with("linux-image-"))?;
    let image: Vec<_> = stanzas.into_iter().filter(|stanza| stanza.package != meta).collect();
    let Some(release) = image.first().and_then(|stanza| stanza.package.strip_prefix("linux-image-")) else {
        return Err(ProvisionError::NoPackage { name: meta, arch, suite: suite.name() });
    };
    let release = release.to_owned();
    let key = image.iter().fold(Key::new("kernel 1"), |key, stanza| key.with(&stanza.sha256));
    let tree = cache.entry(&format!("kernel-{arch}"), &key, |aside| {
        apt.unpack_into(&format!("kernel {release}"), &image, aside)?;
        Tool::new("depmod").arg("-b").arg(aside).arg(&release).run().map_err(ProvisionError::from)
    })?;
    Kernel::in_tree(&tree, &release)
}

impl Kernel {
    fn in_tree(tree: &Path, release: &str) -> Result<Kernel, ProvisionError> {
        let kernel = Kernel {
            image: tree.join(format!("boot/vmlinuz-{release}")),
            modules: tree.join(format!("lib/modules/{release}")),
            config: tree.join(format!("boot/config-{release}")),
            release: release.to_owned(),
        };
        for path in [&kernel.image, &kernel.config, &kernel.modules.join("modules.dep")] {
            fs::metadata(path).map_err(ProvisionError::io("find", path))?;
        }
        Ok(kernel)
    }
}
