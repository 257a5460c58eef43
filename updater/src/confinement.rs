//! What the updater gives up when it knows where everything is and before it reads anything from outside: capabilities, system calls
//! and files that no update needs. What it starts has no more: the process that fetches gives up the rest by itself
//! (`source/fetch_process/confinement.rs`), and `yado apply` needs nothing else.
//!
//! | kept | for |
//! |---|---|
//! | `DAC_OVERRIDE`, `CHOWN`, `FOWNER`, `FSETID`, `MKNOD`, `SETFCAP` | the copy of an instance's layer, with all that the kernel tells of files |
//! | `SYS_ADMIN` | its attributes `trusted.*` and `security.*`; of what else it allows the filter leaves little |
//! | `MAC_ADMIN`, where there is Smack | its labels |
//! | `LINUX_IMMUTABLE`, where EFI starts the board | efivarfs' files are immutable |
//! | `SETUID`, `SETGID`, `SETPCAP`, `KILL` | the process that fetches becomes another user, has nothing in its bounding set, and is ended |
//!
//! Boot partitions and sticks are mounted by processes that were forked before (`slot/boot_files/process.rs`,
//! `source/stick/process.rs`): no rule of Landlock can allow the files of a file system that is mounted later. To forbid all writing
//! needs no rule, and that is what who reads sticks has.

use crate::boot_loader::BootLoader;
use crate::boot_state::Slot;
use crate::file_rules::{self, AccessFs, BitFlags, LandlockStatus, Moves, RulesetStatus};
use crate::places::Places;
use crate::record::{Line, Record};
use crate::slot;
use crate::source::open::SYSTEM_AUTHORITIES;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use yado_spec::update_policy::{BootLoaderKind, UpdatePolicy};
use yado_sys::capabilities::{self, Capabilities};
use yado_sys::file_lock;
use yado_sys::seccomp::{Filter, MOUNTING, NEVER_CALLED, NO_OTHER_KINDS};

/// See the table above.
const KEPT: Capabilities = Capabilities::DAC_OVERRIDE
    .union(Capabilities::CHOWN)
    .union(Capabilities::FOWNER)
    .union(Capabilities::FSETID)
    .union(Capabilities::MKNOD)
    .union(Capabilities::SETFCAP)
    .union(Capabilities::SYS_ADMIN)
    .union(Capabilities::SETUID)
    .union(Capabilities::SETGID)
    .union(Capabilities::SETPCAP)
    .union(Capabilities::KILL);

/// Where Smack's labels are, if it is on.
const SMACK: &str = "/sys/fs/smackfs";

/// What is only read: configuration, what the kernel shows, certificates, and where systems keep `resolv.conf` and mount sticks.
const READ: &[&str] = &["/etc", "/run", "/proc", "/sys", "/usr/share", "/media", "/mnt"];

/// A program with a dynamic C library has parts of it elsewhere.
const LIBRARIES: &[&str] = if cfg!(target_env = "gnu") { &["/lib", "/lib64", "/usr/lib"] } else { &[] };

/// Below the data partition: what an update writes. `.reserved-files` is where `yado_sys::file_reserve` has its own.
const WRITTEN: [&str; 5] = ["state", "images", "layers", "log", ".reserved-files"];

/// Why it is not confined.
#[derive(Debug)]
pub(crate) struct ConfineError {
    step: &'static str,
    source: io::Error,
}

/// What the updater works with, as its configuration and its own record say.
pub(crate) struct Needed<'n> {
    pub(crate) places: &'n Places,
    pub(crate) policy: &'n UpdatePolicy,
    pub(crate) loader: &'n dyn BootLoader,
    /// The slot that runs.
    pub(crate) booted: Slot,
    pub(crate) record: &'n Record,
    /// What somebody asks to be looked at.
    pub(crate) source: Option<&'n str>,
}

/// Gives up all but what an update needs, for good.
///
/// # Errors
/// What the kernel has and did not do. That there is no Landlock is told, and is no error.
pub(crate) fn confine(needed: &Needed<'_>) -> Result<(), ConfineError> {
    let mut kept = KEPT;
    if needed.policy.boot_loader == BootLoaderKind::Efi {
        kept |= Capabilities::LINUX_IMMUTABLE;
    }
    if Path::new(SMACK).is_dir() {
        kept |= Capabilities::MAC_ADMIN;
    }
    drop_rights(kept)?;
    let rules = file_rules::allow_only(&rules(needed), Moves::Needed);
    let status = rules.map_err(io::Error::other).map_err(at("Landlock"))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => {}
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            println!(
                "this kernel's Landlock cannot let files be moved (Linux 5.19 can): which files an update reaches is up to its \
                 capabilities"
            );
        }
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            println!("this kernel has an old Landlock ({effective_abi:?}): some of it is missing");
        }
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
            println!("this kernel has no Landlock: which files an update reaches is up to its capabilities");
        }
    }
    filter(&[NEVER_CALLED, MOUNTING].concat())
}

/// The same for the process that mounts boot partitions and does nothing else.
pub(crate) fn confine_writer_of_boot_files() -> Result<(), ConfineError> {
    drop_rights(Capabilities::SYS_ADMIN | Capabilities::DAC_OVERRIDE)?;
    filter(NEVER_CALLED)
}

/// The same for the process that mounts sticks, whose files may be anybody's, and only reads.
pub(crate) fn confine_reader_of_sticks() -> Result<(), ConfineError> {
    drop_rights(Capabilities::SYS_ADMIN | Capabilities::DAC_READ_SEARCH)?;
    file_rules::forbid_writing().map_err(io::Error::other).map_err(at("Landlock"))?;
    filter(NEVER_CALLED)
}

fn drop_rights(kept: Capabilities) -> Result<(), ConfineError> {
    capabilities::set_no_new_privs().map_err(at("no_new_privs"))?;
    capabilities::keep_only(kept).map_err(at("capabilities"))
}

fn filter(calls: &[std::ffi::c_long]) -> Result<(), ConfineError> {
    let install = |filter: Filter| filter.install().map_err(at("seccomp"));
    install(Filter::allow_all_but(NO_OTHER_KINDS))?;
    install(Filter::answer_all_but(calls))
}

/// Which files it may use, and how.
fn rules(needed: &Needed<'_>) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let Needed { places, policy, loader, booted, record, source } = needed;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let execute = read | AccessFs::Execute;
    let write_device = AccessFs::ReadFile | AccessFs::WriteFile;
    let write = write_device
        | AccessFs::ReadDir
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    // Instances make these in their layers, and a copy has them.
    let copy = write | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::MakeSock;

    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = Vec::new();
    let mut allow = |path: &Path, access: BitFlags<AccessFs>| rules.push((path.to_owned(), access));
    for (paths, access) in
        [(READ, read), (LIBRARIES, execute), (&["/proc/self/exe"], execute), (&["/dev/null"], write_device)]
    {
        for path in paths {
            allow(Path::new(path), access);
        }
    }
    for place in [&places.system, &places.data, &places.run] {
        allow(place, read);
    }
    // Links may lead to them from elsewhere.
    for path in ["/etc/resolv.conf", SYSTEM_AUTHORITIES] {
        allow(Path::new(path), AccessFs::ReadFile.into());
    }
    for path in [&policy.authorities, &policy.certificate].into_iter().flatten() {
        allow(path, AccessFs::ReadFile.into());
    }
    let sources = [*source, policy.source.as_deref(), record.phase.source().map(Line::as_str)].into_iter().flatten();
    for folder in sources.filter(|source| source.starts_with('/')) {
        allow(Path::new(folder), read);
    }

    make_missing(places);
    for name in WRITTEN {
        allow(&places.data.join(name), if name == "layers" { copy } else { write });
    }
    allow(&places.own_run(), write);
    // What `yado apply` writes.
    allow(&places.run.join("specs"), write);
    allow(&places.run.join("apply.lock"), AccessFs::WriteFile.into());

    for place in loader.places() {
        allow(&place, write);
    }
    if let Ok(other) = slot::find(booted.other(), Some(*booted)) {
        allow(&other.image, write_device);
        if let Some(boot) = other.boot {
            // How long it is.
            allow(&boot, AccessFs::ReadFile.into());
        }
    }
    if let Ok(running) = slot::find(*booted, None) {
        allow(&running.image, AccessFs::ReadFile.into());
    }
    rules
}

/// Directories that are made when they are first needed would be out of reach by then, and so would the lock that `yado apply` makes,
/// which it does when somebody listens.
fn make_missing(places: &Places) {
    if places.data.is_dir() {
        for name in ["state", "images", "log"] {
            let _ = fs::create_dir(places.data.join(name));
        }
        // Nobody but root looks into layers.
        let _ = fs::DirBuilder::new().mode(0o700).create(places.data.join("layers"));
    }
    if places.run.join("init.sock").exists() {
        let _ = file_lock::open(&places.run.join("apply.lock"));
    }
}

fn at(step: &'static str) -> impl FnOnce(io::Error) -> ConfineError {
    move |source| ConfineError { step, source }
}

impl fmt::Display for ConfineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "give up what no update needs: {}: {}", self.step, self.source)
    }
}

#[cfg(test)]
mod tests;
