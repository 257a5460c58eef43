//! RAUC on this machine, which makes bundles for the RAUC of a board. It is unpacked and not installed: its package would start a
//! service on this machine.

use std::path::{Path, PathBuf};

use super::ProvisionError;
use super::apt::{PrivateApt, Suite};
use super::host_packages::{self, Purpose};
use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::{CommandError, Tool};

/// RAUC and what it calls, unpacked.
#[derive(Debug)]
pub struct RaucBundler {
    tree: PathBuf,
}

/// The machine's own C library is there already, and fits its loader.
const OF_THE_MACHINE: [&str; 2] = ["libc6", "libgcc-s1"];

/// Fetches it, or finds it in the cache.
pub fn rauc_bundler(cache: &Cache) -> Result<RaucBundler, ProvisionError> {
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    let is_wanted = |name: &str| name.starts_with("lib") && !OF_THE_MACHINE.contains(&name);
    let packages = apt.look_up_with_needs(Arch::Amd64, &["rauc", "squashfs-tools"], is_wanted)?;
    Ok(RaucBundler { tree: apt.unpack("rauc", &packages)? })
}

impl RaucBundler {
    /// Makes and signs a bundle of the files in `content`, one of which is the manifest. They are not compressed: what is installed
    /// on flash is compressed already, and to try it again would only cost the board time.
    pub fn bundle(&self, content: &Path, certificate: &Path, key: &Path, to: &Path) -> Result<(), CommandError> {
        let triplet = Arch::Amd64.gnu_triplet();
        let folders = ["usr/lib", "lib"].map(|folder| self.tree.join(folder).join(triplet).display().to_string());
        let programs = self.tree.join("usr/bin");
        Tool::new(programs.join("rauc"))
            .env("LD_LIBRARY_PATH", folders.join(":"))
            .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
            .arg(format!("--cert={}", certificate.display()))
            .arg(format!("--key={}", key.display()))
            .args(["--mksquashfs-args=-noI -noD -noF -noX", "bundle"])
            .arg(content)
            .arg(to)
            .run()
    }
}
