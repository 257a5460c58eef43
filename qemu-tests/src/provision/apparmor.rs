//! AppArmor's compiler of profiles, for the profiles that a test system brings. It is unpacked and not installed: its package
//! would load profiles on this machine.

use std::path::{Path, PathBuf};

use super::ProvisionError;
use super::apt::{PrivateApt, Suite};
use super::host_packages::{self, Purpose};
use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::{CommandError, Tool};

/// The compiler, unpacked.
#[derive(Debug)]
pub struct AppArmorParser {
    tree: PathBuf,
}

/// Fetches it, or finds it in the cache.
pub fn apparmor_parser(cache: &Cache) -> Result<AppArmorParser, ProvisionError> {
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    let packages = apt.look_up(Arch::Amd64, &["apparmor"])?;
    Ok(AppArmorParser { tree: apt.unpack("apparmor", &packages)? })
}

impl AppArmorParser {
    /// Compiles the profiles in `source` for any kernel that knows AppArmor 3.0's features.
    pub fn compile(&self, source: &Path, to: &Path) -> Result<(), CommandError> {
        let configuration = self.tree.join("etc/apparmor.d");
        Tool::new(self.tree.join("sbin/apparmor_parser"))
            .args(["--config-file", "/dev/null", "--skip-kernel-load", "--skip-cache", "--quiet", "--base"])
            .arg(&configuration)
            .arg("--Include")
            .arg(&configuration)
            .arg("--features-file")
            .arg(configuration.join("abi/3.0"))
            .arg("--ofile")
            .arg(to)
            .arg(source)
            .run()
    }
}
