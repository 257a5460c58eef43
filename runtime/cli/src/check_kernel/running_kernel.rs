//! What the running kernel itself shows: namespaces, controllers, file systems, modules. It reads and changes nothing, and
//! what cannot be read counts as not shown.

use super::requirement::Probe;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What was seen, from a root directory that tests can choose.
#[derive(Debug)]
pub(super) struct RunningKernel {
    root: PathBuf,
    /// `6.1.0-50-arm64`.
    pub(super) release: Option<String>,
    file_systems: BTreeSet<String>,
    misc: BTreeSet<String>,
    controllers: Controllers,
    modules: Option<Modules>,
}

/// Names with `_` for `-`.
#[derive(Debug)]
struct Modules {
    /// From `modules.dep`.
    loadable: BTreeSet<String>,
    /// From `modules.builtin`.
    builtin: BTreeSet<String>,
}

#[derive(Debug)]
enum Controllers {
    /// cgroup v2 is mounted there and has these.
    Mounted { path: PathBuf, names: BTreeSet<String>, is_v1_mounted: bool },
    /// cgroup v2 is not mounted.
    NotMounted,
}

/// What a probe saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It works.
    Works,
    /// It does not show, and why we think so.
    Missing(String),
}

impl RunningKernel {
    pub(super) fn read(root: &Path) -> RunningKernel {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok();
        let release = release.map(|release| release.trim().to_owned());
        RunningKernel {
            root: root.to_owned(),
            file_systems: last_words(&text("proc/filesystems")),
            misc: last_words(&text("proc/misc")),
            controllers: Controllers::read(root, &text("proc/self/mountinfo")),
            modules: release.as_deref().and_then(|release| read_modules(root, release)),
            release,
        }
    }

    pub(super) fn look(&self, probe: Probe) -> Sight {
        let (works, missing) = match probe {
            Probe::Namespace(name) => {
                let path = format!("/proc/self/ns/{name}");
                (self.exists(&path), format!("{path} does not exist"))
            }
            Probe::FileSystem(name) => {
                (self.file_systems.contains(name), format!("{name} is not in /proc/filesystems"))
            }
            Probe::Misc(name) => (self.misc.contains(name), format!("{name} is not in /proc/misc")),
            Probe::Path(path) => (self.exists(path), format!("{path} does not exist")),
            Probe::Controller(name) => return self.controllers.look(name),
        };
        if works { Sight::Works } else { Sight::Missing(missing) }
    }

    /// `None`: there is no list of modules, so nothing can be said.
    pub(super) fn has_module(&self, module: &str) -> Option<bool> {
        let name = module.replace('-', "_");
        self.modules.as_ref().map(|modules| modules.loadable.contains(&name) || modules.builtin.contains(&name))
    }

    /// Whether it is installed as a module.
    pub(super) fn is_loadable(&self, module: &str) -> bool {
        self.modules.as_ref().is_some_and(|modules| modules.loadable.contains(&module.replace('-', "_")))
    }

    fn exists(&self, absolute: &str) -> bool {
        self.root.join(absolute.trim_start_matches('/')).symlink_metadata().is_ok()
    }
}

impl Controllers {
    fn read(root: &Path, mountinfo: &str) -> Controllers {
        let mounts: Vec<(&str, &str)> = mountinfo.lines().filter_map(parse_mount).collect();
        let Some((point, _)) = mounts.iter().find(|(_, kind)| *kind == "cgroup2") else {
            return Controllers::NotMounted;
        };
        let file = root.join(point.trim_start_matches('/')).join("cgroup.controllers");
        let text = fs::read_to_string(file).unwrap_or_default();
        Controllers::Mounted {
            path: PathBuf::from(point),
            names: text.split_ascii_whitespace().map(str::to_owned).collect(),
            is_v1_mounted: mounts.iter().any(|(_, kind)| *kind == "cgroup"),
        }
    }

    fn look(&self, name: &str) -> Sight {
        match self {
            Controllers::NotMounted => Sight::Missing("cgroup v2 is not mounted".to_owned()),
            Controllers::Mounted { names, .. } if names.contains(name) => Sight::Works,
            Controllers::Mounted { path, is_v1_mounted, .. } => {
                let file = path.join("cgroup.controllers");
                let hint = if *is_v1_mounted { "; cgroup v1 has it: boot with cgroup_no_v1=all" } else { "" };
                Sight::Missing(format!("{name} is not in {}{hint}", file.display()))
            }
        }
    }
}

/// `/proc/filesystems` and `/proc/misc`: the name is the last word of each line.
fn last_words(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.split_ascii_whitespace().last()).map(str::to_owned).collect()
}

/// proc(5): the mount point is the fifth field; the type is the first one after the lone `-`.
fn parse_mount(line: &str) -> Option<(&str, &str)> {
    let (before, after) = line.split_once(" - ")?;
    Some((before.split(' ').nth(4)?, after.split(' ').next()?))
}

fn read_modules(root: &Path, release: &str) -> Option<Modules> {
    let directory = root.join("lib/modules").join(release);
    let loadable = fs::read_to_string(directory.join("modules.dep")).ok()?;
    let builtin = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
    let loadable = loadable.lines().filter_map(|line| line.split_once(':')).map(|(path, _)| path);
    Some(Modules {
        loadable: loadable.filter_map(module_name).collect(),
        builtin: builtin.lines().filter_map(module_name).collect(),
    })
}

/// `kernel/fs/erofs/erofs.ko.xz` → `erofs`
fn module_name(path: &str) -> Option<String> {
    let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_board_shows_what_it_has() {
        let root = tree(&[
            ("proc/sys/kernel/osrelease", "6.1.0-50-armmp\n"),
            ("proc/filesystems", "nodev\tsysfs\n\terofs\n"),
            ("proc/misc", "237 loop-control\n"),
            ("proc/self/ns/user", ""),
            ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n"),
            ("lib/modules/6.1.0-50-armmp/modules.dep", "kernel/drivers/md/dm-mod.ko.xz: \n"),
        ]);
        let kernel = RunningKernel::read(root.path());
        assert_eq!(kernel.release.as_deref(), Some("6.1.0-50-armmp"));
        for probe in [
            Probe::FileSystem("erofs"),
            Probe::Misc("loop-control"),
            Probe::Namespace("user"),
            Probe::Controller("pids"),
        ] {
            assert_eq!(kernel.look(probe), Sight::Works, "{probe:?}");
        }
        let missing = "memory is not in /sys/fs/cgroup/cgroup.controllers";
        assert_eq!(kernel.look(Probe::Controller("memory")), Sight::Missing(missing.to_owned()));
        assert_eq!([kernel.has_module("dm-mod"), kernel.has_module("erofs")], [Some(true), Some(false)]);
    }

    #[test]
    fn a_machine_with_cgroup_v1_is_told_what_to_boot_with() {
        let root = tree(&[
            (
                "proc/self/mountinfo",
                "1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 2 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
        ]);
        let Sight::Missing(why) = RunningKernel::read(root.path()).look(Probe::Controller("memory")) else {
            panic!("memory was found");
        };
        assert!(why.ends_with("boot with cgroup_no_v1=all"), "{why}");
    }

    #[test]
    fn a_machine_that_shows_nothing_is_no_error() {
        let root = tree(&[]);
        let kernel = RunningKernel::read(root.path());
        assert_eq!(kernel.has_module("overlay"), None);
        assert!(matches!(kernel.look(Probe::Controller("memory")), Sight::Missing(_)));
    }
}
