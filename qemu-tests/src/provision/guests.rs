//! The matrix of guests: roots of what users bring, small, each with another init. A new guest is a row of [`GUESTS`].
//!
//! The Debian ones of a suite are one minimal root, made once, with the guest's own packages on top: a third of the time that
//! each would take alone.

use std::path::{Path, PathBuf};

use super::apt::{PrivateApt, Suite};
use super::board_files::busybox;
use super::failure::ProvisionError;
use super::host_packages::{self, Purpose};
use super::rootfs::{MERGED_USR, Recipe, SOURCE_DATE_EPOCH, Script, debian_root, minbase, mmdebstrap};
use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::command::Tool;
use crate::progress::Step;

/// One guest.
#[derive(Debug)]
pub struct Guest {
    /// Its name, by which the tests know what to expect of it.
    pub name: &'static str,
    /// The runs that want it.
    pub wanted: Wanted,
    contents: Contents,
}

/// Which runs want a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Every one.
    Always,
    /// Those that may take long.
    Long,
}

#[derive(Debug)]
enum Contents {
    /// The boards' own container: Debian with systemd, without what only a whole machine has.
    BoardContainer,
    /// Packages of Debian on a minimal root, and what is done to it then, after `debian.sh`.
    Debian { suite: Suite, packages: &'static [&'static str], setup: &'static str },
    /// One static busybox.
    Busybox,
    /// One static program of ours, in C.
    Program,
}

/// All guests.
pub const GUESTS: &[Guest] = &[
    Guest { name: "systemd", wanted: Wanted::Always, contents: Contents::BoardContainer },
    Guest {
        name: "sysvinit",
        wanted: Wanted::Always,
        contents: on_bookworm(&["sysvinit-core", "orphan-sysvinit-scripts", "ifupdown", "isc-dhcp-client"], IFUPDOWN),
    },
    Guest {
        name: "openrc",
        wanted: Wanted::Always,
        contents: on_bookworm(&["sysvinit-core", "openrc", "ifupdown", "isc-dhcp-client"], IFUPDOWN),
    },
    Guest {
        name: "openrc-init",
        wanted: Wanted::Always,
        contents: on_bookworm(&["openrc", "initscripts", "ifupdown", "isc-dhcp-client"], OPENRC_INIT),
    },
    Guest {
        name: "runit",
        wanted: Wanted::Always,
        contents: on_bookworm(&["runit-init", "ifupdown", "isc-dhcp-client"], IFUPDOWN),
    },
    Guest {
        name: "finit",
        wanted: Wanted::Always,
        contents: on_bookworm(&["finit-sysv", "ifupdown", "isc-dhcp-client"], IFUPDOWN),
    },
    // Not judged as a guest: what runs containers inside an instance (`nesting.rs` of init's hosted tests).
    Guest { name: "nesting", wanted: Wanted::Always, contents: on_bookworm(CONTAINER_TOOLS, SYSTEMD) },
    Guest { name: "busybox-init", wanted: Wanted::Always, contents: Contents::Busybox },
    Guest { name: "program", wanted: Wanted::Always, contents: Contents::Program },
    Guest {
        name: "bullseye",
        wanted: Wanted::Long,
        contents: Contents::Debian {
            suite: Suite::Bullseye,
            packages: &["systemd", "systemd-sysv", "dbus", "iproute2"],
            setup: SYSTEMD,
        },
    },
    Guest {
        name: "sid",
        wanted: Wanted::Long,
        contents: Contents::Debian {
            suite: Suite::Sid,
            packages: &["systemd", "systemd-sysv", "systemd-resolved", "dbus", "iproute2"],
            setup: SYSTEMD,
        },
    },
    Guest {
        name: "full",
        wanted: Wanted::Long,
        contents: on_bookworm(
            &["systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "openssh-server", "cron", "rsyslog"],
            SYSTEMD,
        ),
    },
];

const fn on_bookworm(packages: &'static [&'static str], setup: &'static str) -> Contents {
    Contents::Debian { suite: Suite::Main, packages, setup }
}

const CONTAINER_TOOLS: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "libpam-systemd",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "podman",
    "crun",
    "bubblewrap",
    "uidmap",
    "slirp4netns",
    "fuse-overlayfs",
    "busybox-static",
];

/// What is done to each Debian root first.
const DEBIAN: &str = include_str!("../../data/guests/debian.sh");
/// systemd's own daemons configure its interface.
const SYSTEMD: &str = include_str!("../../data/guests/systemd.sh");
/// Debian's `/etc/network/interfaces` does.
const IFUPDOWN: &str = include_str!("../../data/guests/ifupdown.sh");
const OPENRC_INIT: &str =
    concat!(include_str!("../../data/guests/ifupdown.sh"), "ln -sfn openrc-init \"$root/usr/sbin/init\"\n");

const BUSYBOX: &str = include_str!("../../data/guests/busybox.sh");
const PROGRAM: &str = include_str!("../../data/guests/program.c");
const PROGRAM_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/guests/program.c");

/// A guest's root, as a tar.
pub fn guest_root(cache: &Cache, arch: Arch, guest: &Guest) -> Result<PathBuf, ProvisionError> {
    let name = format!("guest-{}", guest.name);
    let entry = format!("{name}-{arch}");
    match guest.contents {
        Contents::BoardContainer => debian_root(cache, arch),
        Contents::Debian { suite, packages, setup } => {
            let setup = format!("{DEBIAN}{setup}");
            on_minimal(cache, arch, suite, &Recipe { name: &name, version: "guest 1", packages, setup: &setup })
        }
        Contents::Busybox => {
            let program = busybox(cache, arch)?;
            let key = Key::new("guest busybox 1").with(BUSYBOX).with(program.as_os_str().as_encoded_bytes());
            cache.entry(&entry, &key, |aside| {
                let script = Script::write(aside, BUSYBOX)?;
                archive(aside, |root| Tool::new(&script.path).arg(root).arg(&program).run().map_err(Into::into))
            })
        }
        Contents::Program => {
            host_packages::ensure(cache, &[Purpose::Compiler(arch), Purpose::Linking(arch)])?;
            let key = Key::new("guest program 1").with(PROGRAM).with(arch.debian());
            cache.entry(&entry, &key, |aside| archive(aside, |root| compile(arch, root)))
        }
    }
}

fn compile(arch: Arch, root: &Path) -> Result<(), ProvisionError> {
    let folder = root.join("sbin");
    std::fs::create_dir(&folder).map_err(ProvisionError::io("create", &folder))?;
    let options = ["-static", "-Os", "-s", "-Wall", "-Werror", "-o"];
    Ok(Tool::new(arch.gcc()).args(options).arg(folder.join("init")).arg(PROGRAM_FILE).run()?)
}

/// Packs what `make` puts into an empty folder; all of it is root's.
fn archive(tar: &Path, make: impl FnOnce(&Path) -> Result<(), ProvisionError>) -> Result<(), ProvisionError> {
    let folder = tempfile::tempdir().map_err(ProvisionError::io("create", &std::env::temp_dir()))?;
    make(folder.path())?;
    let options = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+w"];
    let time = format!("--mtime=@{SOURCE_DATE_EPOCH}");
    Ok(Tool::new("tar").args(options).arg(time).arg("-cf").arg(tar).arg("-C").arg(folder.path()).arg(".").run()?)
}

/// Packages of Debian on the minimal root of their suite.
fn on_minimal(cache: &Cache, arch: Arch, suite: Suite, recipe: &Recipe<'_>) -> Result<PathBuf, ProvisionError> {
    let Recipe { name, version: _, packages, setup } = recipe;
    host_packages::ensure(cache, &[Purpose::Fetching])?;
    let apt = PrivateApt::open(cache, suite)?;
    let key = recipe.key(&apt, arch)?.with(suite.name());
    cache.entry(&format!("{name}-{arch}"), &key, |aside| {
        let minimal = minimal_root(cache, &apt, arch)?;
        let step = Step::begin(format!("{name} for {arch}: {} on {}", packages.join(" "), suite.name()));
        let setup = Script::write(aside, setup)?;
        // mmdebstrap(1), "Examples": a root that is there already is refined.
        let unpack = format!("mmtarfilter '--path-exclude=/dev/*' < '{}' | tar -C \"$1\" -x", minimal.display());
        let install = format!(
            "chroot \"$1\" env DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install {}",
            packages.join(" ")
        );
        mmdebstrap(cache, arch)?
            .args(["--variant=custom", "--skip=update"])
            .arg(format!("--setup-hook={unpack}"))
            .arg(format!("--customize-hook={install}"))
            .arg(format!("--customize-hook={} \"$1\"", setup.path.display()))
            .arg("")
            .arg(aside)
            .run()?;
        step.done();
        Ok(())
    })
}

/// The minimal root of a suite, with the lists of its packages.
fn minimal_root(cache: &Cache, apt: &PrivateApt<'_>, arch: Arch) -> Result<PathBuf, ProvisionError> {
    let suite = apt.suite();
    let name = format!("minimal-{}", suite.name());
    let recipe = Recipe { name: &name, version: "minimal root 1", packages: &[], setup: "" };
    cache.entry(&format!("{name}-{arch}"), &recipe.key(apt, arch)?, |aside| {
        let step = Step::begin(format!("a minimal root of {} for {arch}", suite.name()));
        let merging = match suite.has_merged_usr() {
            true => vec![format!("--hook-directory={MERGED_USR}"), "--include=usr-is-merged".to_owned()],
            false => Vec::new(),
        };
        minbase(cache, arch)?
            .args(["--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io"])
            // A mirror that stands still has lists of sid that are past their time; they are signed all the same.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .args(merging)
            .arg(suite.name())
            .arg(aside)
            .arg(apt.source_line(arch)?.trim())
            .run()?;
        step.done();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::GUESTS;

    #[test]
    fn guests_have_names_of_their_own() {
        let mut names: Vec<&str> = GUESTS.iter().map(|guest| guest.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), GUESTS.len());
    }
}
