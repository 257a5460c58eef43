//! Which kernel modules a boot needs: the closure of some names over `modules.dep` and `modules.softdep`, and the files
//! that a loader reads to find them. Text in, paths out; the copying is done by whoever assembles an image.

use std::collections::{BTreeMap, BTreeSet};

/// The indexes that depmod(8) wrote for one kernel release.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    /// Path and dependencies by name.
    modules: BTreeMap<String, Module>,
    /// What a module wants before and after itself, by name or alias.
    soft: BTreeMap<String, Vec<String>>,
    /// Exact aliases (`crypto-crc32c`). Those with wildcards are for devices, which soft dependencies never name.
    aliases: BTreeMap<String, Vec<String>>,
    /// Compiled into the kernel.
    builtin: BTreeSet<String>,
}

#[derive(Debug)]
struct Module {
    path: String,
    needs: Vec<String>,
}

/// What a set of modules amounts to.
#[derive(Debug, PartialEq, Eq)]
pub struct Closure {
    /// Paths below `/lib/modules/RELEASE`.
    pub paths: BTreeSet<String>,
    /// Names that were asked for and are neither a module nor compiled in.
    pub unknown: Vec<String>,
}

impl ModuleIndex {
    /// Takes the texts of the four files of the same names.
    pub fn parse(dep: &str, softdep: &str, alias: &str, builtin: &str) -> ModuleIndex {
        let mut index = ModuleIndex::default();
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(module_name).collect();
            index.modules.insert(module_name(path), Module { path: path.to_owned(), needs });
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(name)) = (words.next(), words.next()) {
                let wanted = words.filter(|word| !matches!(*word, "pre:" | "post:")).map(str::to_owned);
                index.soft.entry(module_name(name)).or_default().extend(wanted);
            }
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(alias), Some(name)) = (words.next(), words.next(), words.next()) {
                index.aliases.entry(alias.to_owned()).or_default().push(module_name(name));
            }
        }
        index.builtin = builtin.lines().map(module_name).collect();
        index
    }

    /// Everything that must be on disk so that each of `names` can be loaded.
    pub fn closure<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Closure {
        let mut closure = Closure { paths: BTreeSet::new(), unknown: Vec::new() };
        let mut seen = BTreeSet::new();
        let mut waiting = Vec::new();
        for name in names {
            let found = self.resolve(name);
            if found.is_empty() && !self.builtin.contains(&module_name(name)) {
                closure.unknown.push(name.to_owned());
            }
            waiting.extend(found);
        }
        while let Some(name) = waiting.pop() {
            let Some(module) = self.modules.get(&name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            closure.paths.insert(module.path.clone());
            waiting.extend(module.needs.iter().cloned());
            // A soft dependency that does not exist is no error: that is what makes it soft.
            waiting.extend(self.soft.get(&name).into_iter().flatten().flat_map(|wanted| self.resolve(wanted)));
        }
        closure
    }

    /// Module names behind a name or an exact alias.
    fn resolve(&self, name: &str) -> Vec<String> {
        let plain = module_name(name);
        if self.modules.contains_key(&plain) {
            return vec![plain];
        }
        self.aliases.get(name).cloned().unwrap_or_default()
    }
}

/// `kernel/fs/dm-verity.ko.xz` → `dm_verity`: the kernel knows no dashes in module names.
fn module_name(path: &str) -> String {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    let name = file.split_once(".ko").map_or(file, |(name, _)| name);
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n\
                       kernel/lib/libcrc32c.ko:\n\
                       kernel/crypto/crc32c_generic.ko:\n\
                       kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-mod.ko.xz\n\
                       kernel/drivers/md/dm-mod.ko.xz:\n";
    const SOFTDEP: &str = "# Soft dependencies\nsoftdep libcrc32c pre: crypto-crc32c post: nowhere\n";
    const ALIAS: &str = "# Aliases\nalias crypto-crc32c crc32c_generic\nalias pci:v*d* virtio_pci\n";
    const BUILTIN: &str = "kernel/fs/squashfs/squashfs.ko\n";

    fn closure(names: &[&str]) -> Closure {
        ModuleIndex::parse(DEP, SOFTDEP, ALIAS, BUILTIN).closure(names.iter().copied())
    }

    #[test]
    fn soft_dependencies_are_followed_through_their_aliases() {
        let wanted = ["kernel/crypto/crc32c_generic.ko", "kernel/fs/erofs/erofs.ko", "kernel/lib/libcrc32c.ko"];
        assert_eq!(closure(&["erofs"]), Closure { paths: wanted.map(str::to_owned).into(), unknown: vec![] });
    }

    #[test]
    fn dash_and_underscore_are_the_same_and_compression_is_not_part_of_the_name() {
        for name in ["dm-verity", "dm_verity"] {
            assert_eq!(closure(&[name]).paths.len(), 2, "{name}");
        }
    }

    #[test]
    fn what_is_compiled_in_needs_no_file_and_what_is_nowhere_is_named() {
        assert_eq!(closure(&["squashfs", "zfs"]), Closure { paths: BTreeSet::new(), unknown: vec!["zfs".into()] });
    }
}
