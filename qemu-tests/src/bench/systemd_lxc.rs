//! Whom the boot is compared with: Debian's systemd as PID 1, which starts a container of Debian's LXC. The same kernel with the
//! same modules, the same initramfs, the same kind of signed and verified image in the same slot, and a data partition
//! like ours, on a board of its own in the same run. The container has the same root in a plain directory, the same limits,
//! user map and filters, and as ours no network.
//!
//! What it is spared: image signatures and verified blocks of the container, an overlay, a check of the data partition, and units
//! that this board does not need.

use super::appliance::{DATA_MIB, FIRST_PAYLOAD};
use super::first_payload::{self, TRACED};
use super::rivals::{MAP, Rivals};
use super::{BOOT_TIMEOUT, BenchError, BenchReport, MEMORY_MIB};
use crate::board::container_images::lay_out_busybox;
use crate::board::disk::{self, DataPartition, System};
use crate::board::host_yado::HostYado;
use crate::board::qemu::Speed;
use crate::board::systemd_system::SystemdSystem;
use crate::board::tree::Tree;
use crate::board::{Board, BoardOptions, BuildError, Prepared};
use crate::cache::Cache;
use crate::command::Tool;
use crate::provision;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The most that our way to the first payload may take of theirs.
const MAX_RATIO_TO_SYSTEMD_LXC: f64 = 0.3;

/// Where, on their data partition, the container is.
const PLACE: &str = "lxc/first";

/// From PID 1's first instruction to the first payload's.
#[derive(Debug, Serialize)]
pub(super) struct FirstPayload {
    ours_us: u64,
    theirs_us: u64,
    ratio: f64,
}

/// Their board: what is in its slot and on its data partition.
#[derive(Debug)]
pub(super) struct Rival {
    prepared: Prepared,
    data: PathBuf,
}

impl Rival {
    /// Builds it, or finds it in the cache.
    pub(super) fn prepare(cache: &Cache, ours: &Prepared, directory: &Path) -> Result<Rival, BuildError> {
        let image = image(cache, ours)?;
        let system = System { image, ..ours.system.clone() };
        let directory = directory.join("systemd-lxc");
        fs::create_dir_all(&directory).map_err(BuildError::io(&directory))?;
        Ok(Rival {
            prepared: Prepared { ingredients: ours.ingredients.clone(), system, keys: ours.keys.clone() },
            data: data_partition(ours, &directory)?,
        })
    }

    /// Boots it, and compares.
    pub(super) fn measure(&self, ours_us: u64, directory: &Path, report: &mut BenchReport) {
        let Some(theirs_us) = report.keep("the boot of systemd with LXC", self.time(directory)) else { return };
        let ratio = ours_us as f64 / theirs_us as f64;
        println!("\nfrom PID 1's first instruction to the first payload's, in ms, as the kernel traced it");
        println!("   {:>8.1}  {ratio:.2}  yado-init", ours_us as f64 / 1000.0);
        println!("   {:>8.1}  1.00  systemd, lxc-autostart", theirs_us as f64 / 1000.0);
        report.promise(
            format!("the first payload is executed after at most {MAX_RATIO_TO_SYSTEMD_LXC} of the time of systemd with LXC"),
            format!("{:.2}: {} ms of {} ms", ratio, ours_us / 1000, theirs_us / 1000),
            ratio <= MAX_RATIO_TO_SYSTEMD_LXC,
        );
        report.first_payload = Some(FirstPayload { ours_us, theirs_us, ratio });
    }

    fn time(&self, directory: &Path) -> Result<u64, BenchError> {
        let options = BoardOptions {
            speed: Speed::Defined,
            data: DataPartition::Filled(self.data.clone()),
            kernel_arguments: TRACED.to_owned(),
            ..BoardOptions::usual(&directory.join("systemd-lxc"), MEMORY_MIB, DATA_MIB)
        };
        let (board, _) = Board::boot(&self.prepared, options, BOOT_TIMEOUT)?;
        first_payload::measure(&board)
    }
}

fn image(cache: &Cache, ours: &Prepared) -> Result<PathBuf, BuildError> {
    let system = SystemdSystem {
        name: "systemd-lxc",
        what: "systemd with LXC",
        root: &provision::lxc_host_root(cache, ours.ingredients.arch)?,
        modules: &[],
        agent_after: "lxc.service",
        fill: &|_| Ok(()),
        recipe: "nothing else",
        programs: &[],
    };
    system.image(cache, ours, &HostYado::build(cache)?)
}

/// Their data partition: the container's configuration, and its root, which belongs to the container's root.
fn data_partition(ours: &Prepared, directory: &Path) -> Result<PathBuf, BuildError> {
    let tree = Tree::create(&directory.join("data.tree"))?;
    let root = format!("{PLACE}/rootfs");
    lay_out_busybox(&tree.root().join(&root), &ours.ingredients)?;
    tree.file(&format!("{PLACE}/config"), 0o644, Rivals::autostarted(&format!("/data/{PLACE}"), FIRST_PAYLOAD))?;
    tree.file(&format!("{PLACE}/seccomp"), 0o644, super::rivals::lxc_seccomp())?;
    let part = directory.join("data.ext4");
    disk::format_ext4(tree.root(), &part, DATA_MIB)?;
    // Who is not root cannot make files of others; in a file system it is only a number.
    let mut script = String::new();
    give_away(&tree.root().join(&root), &format!("/{root}"), &mut script)?;
    let commands = directory.join("debugfs.commands");
    fs::write(&commands, script).map_err(BuildError::io(&commands))?;
    Tool::new("debugfs").arg("-w").arg("-f").arg(&commands).arg(&part).run()?;
    Ok(part)
}

/// Commands for debugfs(8) that give `from`, which is at `to` in the file system, and all below it to the container's root.
fn give_away(from: &Path, to: &str, script: &mut String) -> Result<(), BuildError> {
    let (first, _) = MAP;
    let found = fs::symlink_metadata(from).map_err(BuildError::io(from))?;
    // A link is followed, and whose it is does not matter.
    if !found.is_symlink() {
        for field in ["uid", "gid"] {
            script.push_str(&format!("set_inode_field \"{to}\" {field} {first}\n"));
        }
    }
    if found.is_dir() {
        for entry in fs::read_dir(from).map_err(BuildError::io(from))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            give_away(&entry.path(), &format!("{to}/{name}"), script)?;
        }
    }
    Ok(())
}
