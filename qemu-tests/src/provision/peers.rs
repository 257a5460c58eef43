//! What others use to start a container, to measure ourselves against in the same guest: crun and LXC with every
//! library that they load, as one tree to unpack or mount somewhere and `chroot` into.

use std::path::PathBuf;

use super::apt::{PrivateApt, Suite};
use super::failure::ProvisionError;
use super::host_packages::{self, Purpose};
use crate::arch::Arch;
use crate::cache::Cache;

/// The tree: `usr/bin/crun`, `usr/bin/lxc-execute`, `usr/bin/lxc-start`, and libc beside them.
pub fn peers(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    let packages = apt.look_up_with_needs(arch, &["crun", "lxc"], |name| name.starts_with("lib"))?;
    apt.unpack(&format!("peers-{arch}"), &packages)
}
