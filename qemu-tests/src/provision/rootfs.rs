//! Roots of Debian as tars, by mmdebstrap: the container's, a minimal bookworm with systemd, networkd and resolved; and those of
//! boards that ours is compared with, one with LXC and one with other updaters. One takes minutes for a foreign architecture and is
//! then kept until Debian publishes a new point release.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{PrivateApt, Suite};
use super::binfmt;
use super::failure::ProvisionError;
use super::host_packages::{self, Purpose};
use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::command::Tool;
use crate::progress::Step;

/// One root.
pub(super) struct Recipe<'r> {
    /// Its entry in the cache.
    pub(super) name: &'r str,
    /// The version of this way of making it.
    pub(super) version: &'r str,
    pub(super) packages: &'r [&'r str],
    pub(super) setup: &'r str,
}

impl Recipe<'_> {
    /// base-files changes with every point release, so it stands for all that is not named.
    pub(super) fn key(&self, apt: &PrivateApt<'_>, arch: Arch) -> Result<Key, ProvisionError> {
        let Recipe { name: _, version, packages, setup } = self;
        let key = Key::new(version).with(arch.debian()).with(setup).with(EXCLUDED.join("\n"));
        let found = apt.look_up(arch, &[&["base-files"], *packages].concat())?;
        Ok(found.iter().fold(key, |key, stanza| key.with(&stanza.sha256)))
    }
}

/// A container's. `usr-is-merged` says that the merge was done before anything was
/// unpacked; without it `usrmerge` comes instead and brings all of perl, a third of the whole.
const CONTAINER: Recipe<'_> = Recipe {
    name: "debian-root",
    version: "debian root 2",
    packages: &[
        "usr-is-merged",
        "systemd",
        "systemd-sysv",
        "systemd-resolved",
        "dbus",
        "iproute2",
        "iputils-ping",
        "netbase",
    ],
    setup: include_str!("../../data/debian_root.sh"),
};

/// A board's with systemd as its PID 1, which starts LXC's containers.
const LXC_HOST: Recipe<'_> = Recipe {
    name: "lxc-host-root",
    version: "lxc host root 1",
    packages: &["usr-is-merged", "systemd", "systemd-sysv", "udev", "kmod", "dbus", "lxc"],
    setup: include_str!("../../data/lxc_host.sh"),
};

/// A board's with systemd as its PID 1, and the updaters that Debian has.
const UPDATERS: Recipe<'_> = Recipe {
    name: "updaters-root",
    version: "updaters root 1",
    packages: &[
        "usr-is-merged",
        "systemd",
        "systemd-sysv",
        "udev",
        "kmod",
        "dbus",
        "rauc",
        "rauc-service",
        "swupdate",
        "cryptsetup-bin",
        "openssl",
    ],
    setup: include_str!("../../data/updaters_root.sh"),
};

/// mmdebstrap's own hook that makes `/bin` and its like links before the first package.
pub(super) const MERGED_USR: &str = "/usr/share/mmdebstrap/hooks/merged-usr";

/// Left out: nobody reads a manual in a container of a device.
const EXCLUDED: [&str; 5] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*"];

/// Every file that is newer gets this time, so that two builds agree: the day of bookworm's release.
pub(crate) const SOURCE_DATE_EPOCH: &str = "1686355200";

/// A Debian 12 root file system for a container, as a tar.
pub fn debian_root(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    make(cache, arch, &CONTAINER)
}

/// A Debian 12 root file system with systemd and LXC for a board, as a tar. A kernel's modules are not in it.
pub fn lxc_host_root(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    make(cache, arch, &LXC_HOST)
}

/// A Debian 12 root file system with systemd, RAUC and SWUpdate for a board, as a tar. A kernel's modules are not in it.
pub fn updaters_root(cache: &Cache, arch: Arch) -> Result<PathBuf, ProvisionError> {
    make(cache, arch, &UPDATERS)
}

fn make(cache: &Cache, arch: Arch, recipe: &Recipe<'_>) -> Result<PathBuf, ProvisionError> {
    let Recipe { name, version: _, packages, setup } = recipe;
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    cache.entry(&format!("{name}-{arch}"), &recipe.key(&apt, arch)?, |aside| {
        let step = Step::begin(format!("{name} of Debian 12 for {arch} (minutes, once)"));
        let setup = Script::write(aside, setup)?;
        minbase(cache, arch)?
            .arg(format!("--include={}", packages.join(",")))
            .arg(format!("--hook-directory={MERGED_USR}"))
            .arg(format!("--customize-hook={} \"$1\"", setup.path.display()))
            .arg(Suite::Main.name())
            .arg(aside)
            .arg(apt.source_line(arch)?.trim())
            .run()?;
        step.done();
        Ok(())
    })
}

/// For Debian's smallest root with apt.
pub(super) fn minbase(cache: &Cache, arch: Arch) -> Result<Tool, ProvisionError> {
    Ok(mmdebstrap(cache, arch)?
        .arg("--variant=minbase")
        .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""])
        .args(EXCLUDED.iter().map(|pattern| format!("--dpkgopt=path-exclude={pattern}"))))
}

/// With all that it needs of this machine, which may not run programs of `arch` since it has booted.
pub(super) fn mmdebstrap(cache: &Cache, arch: Arch) -> Result<Tool, ProvisionError> {
    host_packages::ensure(cache, &[Purpose::RootFileSystem])?;
    binfmt::register(arch)?;
    Ok(Tool::as_root("env")
        .arg(format!("SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}"))
        .args(["mmdebstrap", "--quiet", "--format=tar"])
        .arg(format!("--architectures={arch}")))
}

/// A hook as a file beside the entry that is being made; gone when it is made or has failed.
pub(super) struct Script {
    pub(super) path: PathBuf,
}

impl Script {
    pub(super) fn write(aside: &Path, text: &str) -> Result<Script, ProvisionError> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = aside.with_extension("sh");
        fs::write(&path, text).map_err(ProvisionError::io("write", &path))?;
        let setup = Script { path };
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&setup.path, executable).map_err(ProvisionError::io("chmod", &setup.path))?;
        Ok(setup)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // What stays behind lies in the cache's `aside` and is overwritten by the next run.
        let _ = fs::remove_file(&self.path);
    }
}
