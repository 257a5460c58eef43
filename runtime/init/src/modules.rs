//! Kernel modules: which file, after which others, for a name or for a device. Runs in a child (or in the initramfs stage),
//! so that no driver's probe holds PID 1 up.

pub mod aliases;
pub mod dependencies;
mod refusal;
pub mod soft;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use yado_sys::module::{self, Stored};

/// What the system needs besides drivers: all that the kernel would otherwise ask for when we first use it. When these are
/// there it asks no more ([`forbid_requests`]), so what a later use needs has to be in this list; a name that this kernel has
/// built in, or that its image was made without, is passed over.
const NEEDED: [&str; 25] = [
    // Images, layers, and the stand-in for a data partition.
    "loop",
    "dm_verity",
    "erofs",
    "overlay",
    "ext4",
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
    // What instances are given, and what systemd in them mounts.
    "fuse",
    "autofs4",
    // The boot partition.
    "vfat",
    "nls_cp437",
    "nls_ascii",
];

/// Where the system image's builder lists more: modules-load.d(5).
const LISTS: [&str; 2] = ["/usr/lib/modules-load.d", "/etc/modules-load.d"];

/// From now on the kernel asks nobody for modules. Whoever is in a container makes it ask, by a file system, a protocol, or a
/// link kind that there is not: for programs of ours, outside of every limit, hundreds of times a second.
pub(crate) fn forbid_requests() -> io::Result<()> {
    fs::write("/proc/sys/kernel/modprobe", "\n")
}

/// How deep soft dependencies of dependencies go.
const MAX_DEPTH: u32 = 16;

/// How deep `/sys/devices` is looked into; a USB device behind some hubs behind PCI bridges is at 15.
const MAX_SYSFS_DEPTH: u32 = 32;

/// A driver that is loaded makes new devices appear; so often the devices are looked at again.
const MOST_ROUNDS: usize = 6;

/// Loads modules of the running kernel.
#[derive(Debug)]
pub(crate) struct Loader {
    directory: PathBuf,
    dependencies: String,
    aliases: String,
    soft: String,
    builtin: String,
    /// Modules that were loaded, or tried.
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
            failures: BTreeMap::new(),
            directory,
        }
    }

    /// Loads what the system needs, and drivers for all devices there are. Returns how many modules were loaded.
    pub(crate) fn load_all(&mut self) -> usize {
        for name in NEEDED {
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
        for _ in 0..MOST_ROUNDS {
            let mut found = BTreeSet::new();
            collect_aliases(Path::new("/sys/devices"), MAX_SYSFS_DEPTH, &mut found);
            let before = self.done.len();
            self.load_for(&found);
            if self.done.len() == before {
                break;
            }
        }
        self.done.len()
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
        if let Err(error) = self.insert(path) {
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

fn stored(path: &str) -> Stored {
    if path.ends_with(".ko") { Stored::Plain } else { Stored::Compressed }
}

/// The module aliases of all devices.
fn collect_aliases(directory: &Path, depth: u32, found: &mut BTreeSet<String>) {
    let Some(below) = depth.checked_sub(1) else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect_aliases(&entry.path(), below, found),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                if let Ok(alias) = fs::read_to_string(entry.path()) {
                    found.insert(alias.trim().to_owned());
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_list_has_one_name_a_line_and_comments() {
        let list = "# for the modem\ncdc-wdm\n\n  ip_tables \n; old\n";
        assert_eq!(super::names_in(list).collect::<Vec<_>>(), ["cdc-wdm", "ip_tables"]);
    }
}
