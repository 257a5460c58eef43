//! Loads kernel modules, by name or by device: finds the file, and what must be loaded before it. Runs in a child (or in the
//! initramfs stage), so that the probe of a driver does not block PID 1.

pub mod aliases;
pub mod dependencies;
pub(crate) mod devices;
mod refusal;
pub(crate) mod requested;
pub mod soft;

use devices::{NewAliases, NewDevices};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use yado_sys::module::{self, Stored};

/// What the system needs besides drivers: all that the kernel would otherwise ask for when we first use it. Once drivers are
/// there too it asks no more ([`forbid_requests`]), and before that not for these ([`requested`]), so what a use needs has to
/// be in one of the lists; a name that this kernel has built in, or that its image was made without, is passed over.
///
/// What an instance needs whatever it has:
const OF_INSTANCES: [&str; 7] = [
    // Images, layers, and the stand-in for a data partition.
    "loop",
    "dm_verity",
    "erofs",
    "overlay",
    "ext4",
    // What instances are given, and what systemd in them mounts.
    "fuse",
    "autofs4",
];

/// What netd needs:
const OF_NETWORKS: [&str; 15] = [
    // Links of instances, and DHCP before there is an address.
    "veth",
    "bridge",
    "macvlan",
    "af_packet",
    // netd's rules.
    "nfnetlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_connlimit",
    "nft_limit",
    "nft_meta_bridge",
    "nft_reject_inet",
    "nf_conntrack_netlink",
];

/// What the boot partition needs, with the drivers: nobody uses it before.
const OF_BOOT_PARTITION: [&str; 3] = ["vfat", "nls_cp437", "nls_ascii"];

/// Where the system image's builder lists more: modules-load.d(5).
const LISTS: [&str; 2] = ["/usr/lib/modules-load.d", "/etc/modules-load.d"];

/// From now on the kernel asks nobody for modules. Whoever is in a container makes it ask, by a file system, a protocol, or a
/// link kind that there is not: for programs of ours, outside of every limit, hundreds of times a second.
pub(crate) fn forbid_requests() -> io::Result<()> {
    fs::write(REQUESTS, "\n")
}

/// Whether the kernel asks nobody.
pub(crate) fn are_requests_forbidden() -> bool {
    fs::read_to_string(REQUESTS).is_ok_and(|program| program.trim().is_empty())
}

/// Whom the kernel asks for modules.
const REQUESTS: &str = "/proc/sys/kernel/modprobe";

/// How deep soft dependencies of dependencies go.
const MAX_DEPTH: u32 = 16;

/// A driver that is loaded makes new devices appear; so often they are looked at.
const MAX_ROUNDS: usize = 6;

/// Loads modules of the running kernel.
#[derive(Debug)]
pub(crate) struct Loader {
    directory: PathBuf,
    dependencies: String,
    aliases: String,
    soft: String,
    builtin: String,
    /// Modules that are there. The kernel reads and verifies a file before it finds that it has the module.
    there: BTreeSet<String>,
    /// Modules that were looked at, and loaded or tried.
    done: BTreeSet<String>,
    /// What went wrong, by module.
    pub(crate) failures: BTreeMap<String, String>,
}

impl Loader {
    /// A loader for the running kernel. Files that are missing are empty: a kernel with everything built in has none.
    pub(crate) fn new() -> Loader {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let directory = Path::new("/lib/modules").join(release.trim());
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Loader {
            dependencies: read("modules.dep"),
            aliases: read("modules.alias"),
            soft: read("modules.softdep"),
            builtin: read("modules.builtin"),
            done: BTreeSet::new(),
            there: loaded(&fs::read_to_string("/proc/modules").unwrap_or_default()),
            failures: BTreeMap::new(),
            directory,
        }
    }

    /// Loads what every instance needs, and what the image's builder lists.
    pub(crate) fn load_for_instances(&mut self) {
        for name in OF_INSTANCES {
            self.load(name);
        }
        for directory in LISTS {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for list in entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()) {
                for name in names_in(&list) {
                    self.load(name);
                }
            }
        }
    }

    /// Loads what netd needs.
    pub(crate) fn load_for_networks(&mut self) {
        for name in OF_NETWORKS {
            self.load(name);
        }
    }

    /// Loads drivers for all devices there are: `new` was opened before, so none is missed.
    pub(crate) fn load_for_all(&mut self, new: &NewDevices) {
        for name in OF_BOOT_PARTITION {
            self.load(name);
        }
        self.load_for(&devices::aliases_of_all());
        self.load_for_new(new);
    }

    /// Loads drivers for the devices that came, and for those that appear by that.
    pub(crate) fn load_for_new(&mut self, new: &NewDevices) {
        for _ in 0..MAX_ROUNDS {
            let before = self.done.len();
            match new.take() {
                NewAliases::Aliases(found) if found.is_empty() => return,
                NewAliases::Aliases(found) => self.load_for(&found),
                NewAliases::Unknown => {
                    self.load_for(&devices::aliases_of_all());
                    if self.done.len() == before {
                        return;
                    }
                }
            }
        }
    }

    /// Loads the drivers for devices with these aliases.
    pub(crate) fn load_for(&mut self, devices: &BTreeSet<String>) {
        for name in aliases::modules_for(&self.aliases, devices) {
            self.load(&name);
        }
    }

    /// Loads a module by its name or by an alias of it. An unknown name is not an error: what the kernel has built in, or
    /// was built without, is not in the lists. Returns whether one that goes by the name is there now; what is only
    /// better to have beside it (an accelerated checksum on a processor without the instructions) may have failed.
    pub(crate) fn load(&mut self, name: &str) -> bool {
        self.load_at(name, MAX_DEPTH)
    }

    fn load_at(&mut self, name: &str, depth: u32) -> bool {
        let Some(below) = depth.checked_sub(1) else { return false };
        let names = match dependencies::find(&self.dependencies, name) {
            Some(_) => vec![dependencies::normalised(name)],
            None if dependencies::is_builtin(&self.builtin, name) => return true,
            None => aliases::modules_for(&self.aliases, &BTreeSet::from([name.to_owned()])),
        };
        let mut is_there = false;
        for name in names {
            let Some(entry) = dependencies::find(&self.dependencies, &name) else { continue };
            // The file lists what it needs with the deepest last.
            let paths: Vec<String> =
                entry.needs.iter().rev().chain([&entry.path]).map(|path| (*path).to_owned()).collect();
            for path in paths {
                self.load_file(&path, below);
            }
            is_there |= !self.failures.contains_key(&name);
        }
        is_there
    }

    fn load_file(&mut self, path: &str, depth: u32) {
        let name = dependencies::name_of(path);
        if !self.done.insert(name.clone()) {
            return;
        }
        let soft = soft::find(&self.soft, &name);
        for before in &soft.before {
            self.load_at(before, depth);
        }
        // What belongs to it may be missing all the same: the initramfs has not everything.
        let inserted = if self.there.contains(&name) { Ok(()) } else { self.insert(path) };
        if let Err(error) = inserted {
            let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
            let reason = refusal::reason(&name, stored(path), &error, &command_line);
            self.failures.insert(name, reason);
            return;
        }
        for after in &soft.after {
            self.load_at(after, depth);
        }
    }

    fn insert(&self, path: &str) -> io::Result<()> {
        module::load(&File::open(self.directory.join(path))?, c"", stored(path))?;
        Ok(())
    }
}

/// The names in a file of modules-load.d(5). Pure.
fn names_in(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}

/// The modules of `/proc/modules` that have been set up: one that is just being loaded is waited for by asking for it. Pure.
fn loaded(list: &str) -> BTreeSet<String> {
    let of_line = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next()?;
        // Name, size, users, who they are, and then the state.
        (words.nth(3) == Some("Live")).then(|| name.to_owned())
    };
    list.lines().filter_map(of_line).collect()
}

fn stored(path: &str) -> Stored {
    if path.ends_with(".ko") { Stored::Plain } else { Stored::Compressed }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_modules_that_are_set_up_are_there() {
        // Linux 6.1, proc(5).
        let list = "erofs 151552 1 - Live 0xffffffd1a0a5e000\n\
            dm_verity 36864 1 - Live 0xffffffd1a0a4f000\n\
            reed_solomon 20480 1 dm_verity, Live 0x0000000000000000\n\
            ext4 921600 0 - Loading 0xffffffd1a0b00000 (+)\n\
            old 1 0 - Unloading 0x0\ncut 1\n\n";
        assert_eq!(super::loaded(list).into_iter().collect::<Vec<_>>(), ["dm_verity", "erofs", "reed_solomon"]);
    }

    #[test]
    fn a_list_has_one_name_a_line_and_comments() {
        let list = "# for the modem\ncdc-wdm\n\n  ip_tables \n; old\n";
        assert_eq!(super::names_in(list).collect::<Vec<_>>(), ["cdc-wdm", "ip_tables"]);
    }
}
