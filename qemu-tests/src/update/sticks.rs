//! A release on a USB stick that somebody plugs into the board: with the policy for it the board installs it by itself.

use super::StepError;
use super::install::instances_are_ready;
use super::roof::{INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::board::qmp::UsbStick;
use crate::board::{BuildError, disk};
use crate::command::Tool;
use crate::report::{Observer, Witness};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// Of a file system beside its files.
const SPARE_MIB: u64 = 24;

/// One by another signer, twice, and then a good one; of its partition the name is a slot's.
pub(super) fn plugged_in(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let (good, strangers) = (stick(roof, "good", fat_in_slot_b)?, stick(roof, "strangers", whole_ext4)?);
    let before = roof.running()?;
    roof.board()?.shell("echo 'sticks = true' > /data/update.toml", TIMEOUT)?;

    let mut checked = Value::Null;
    for plug in ["first", "second"] {
        roof.plug(&strangers)?;
        let status = roof.wait_status(&format!("a {plug} look at the stranger's stick"), TIMEOUT, |status| {
            let check = &status["last_check"];
            check["source"] == "usb" && check["rule"] == "release-signature" && check["at_s"] != checked
        })?;
        checked = status["last_check"]["at_s"].clone();
        observer.note(&format!("plugged in a {plug} time"), &status["last_check"]["says"]);
        roof.unplug(&strangers)?;
        wait_gone(roof)?;
    }
    let told = roof.board()?.shell("yado rescue logs | grep 'stick sd.*(rule release-signature)'", TIMEOUT)?;
    observer.check(Witness::OwnWord, "it is told once, with the rule", &told, told.lines().count() == 1)?;
    let running = roof.running()?;
    observer.check(Witness::Kernel, "nothing else runs for it", &running, running == before)?;
    let mounts = roof.board()?.shell("grep -c /dev/sd /proc/mounts; true", TIMEOUT)?;
    observer.check(Witness::Kernel, "nothing of it is mounted", &mounts, mounts == "0")?;

    let content = sha256(&good.content)?;
    roof.plug(&good)?;
    roof.wait_boot(INSTALL_TIMEOUT)?;
    let expected = if before.starts_with('A') { "B 9" } else { "A 9" };
    let running = roof.running()?;
    observer.check(Witness::Kernel, "slot and release that run", &running, running == expected)?;
    instances_are_ready(roof, observer)?;
    let history = roof.wait_history(9)?;
    let outcome = format!("{} from {}", history["outcome"], history["source"]);
    let is_kept = history["outcome"] == "confirmed" && history["source"] == "usb";
    observer.check(Witness::OwnWord, "release 9 is confirmed", outcome, is_kept)?;
    // The stick is still there, and is looked at once more in this boot.
    let status = roof.wait_status("a look at what runs already", TIMEOUT, |status| {
        status["last_check"]["source"] == "usb" && status["last_check"]["rule"] == "already"
    })?;
    observer.note("the stick that stays in", &status["last_check"]["says"]);
    let disks = roof.board()?.shell("grep -l '^PARTNAME=slot-b$' /sys/class/block/sd*/uevent", TIMEOUT)?;
    observer.check(Witness::Kernel, "it has a partition by the name of a slot", &disks, disks.contains("/sd"))?;
    roof.unplug(&good)?;
    wait_gone(roof)?;
    let is_same = sha256(&good.content)? == content;
    observer.check(Witness::OtherEnd, "nothing was written to the stick", content, is_same)?;
    roof.board()?.shell("rm /data/update.toml", TIMEOUT)?;
    Ok(())
}

/// Until the kernel has no disk on USB any more.
fn wait_gone(roof: &Roof<'_>) -> Result<(), StepError> {
    let board = roof.board()?;
    let ask = || Ok(Value::String(board.shell("cat /proc/partitions", TIMEOUT)?));
    let is_gone = |seen: &Value| seen.as_str().is_some_and(|text| !text.contains(" sd")).then_some(());
    Ok(board.wait_for("a stick that is gone", TIMEOUT, ask, is_gone)?)
}

/// One with this release, made so.
fn stick(
    roof: &Roof<'_>,
    name: &str,
    make: fn(&Path, u64, &Path) -> Result<(), BuildError>,
) -> Result<UsbStick, StepError> {
    let top = roof.releases.sticks.join(name);
    let path = roof.directory.join(format!("stick-{name}"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(BuildError::io(&path)(error).into()),
        Ok(()) | Err(_) => {}
    }
    let mib = bytes_below(&top).map_err(BuildError::io(&top))? / MIB + SPARE_MIB;
    make(&top, mib, &path)?;
    let content = fs::canonicalize(&path).map_err(BuildError::io(&path))?;
    Ok(UsbStick { id: name.to_owned(), content, serial: name.to_owned() })
}

/// The whole stick is an ext4.
fn whole_ext4(top: &Path, mib: u64, path: &Path) -> Result<(), BuildError> {
    Ok(disk::format_ext4(top, path, mib)?)
}

/// A GPT with one partition, called like a slot and formatted as FAT.
fn fat_in_slot_b(top: &Path, mib: u64, path: &Path) -> Result<(), BuildError> {
    let part: PathBuf = path.with_extension("part");
    let _ = fs::remove_file(&part);
    Tool::new("mkfs.vfat").args(["-F", "32", "-C"]).arg(&part).arg((mib * 1024).max(40 * 1024).to_string()).run()?;
    Tool::new("mcopy").args(["-s", "-i"]).arg(&part).arg(top.join("yado-release")).arg("::").run()?;
    let mut from = File::open(&part).map_err(BuildError::io(&part))?;
    let bytes = from.metadata().map_err(BuildError::io(&part))?.len();
    let mut copy = || {
        let mut disk = File::create(path)?;
        disk.set_len(bytes + 2 * MIB)?;
        disk.seek(SeekFrom::Start(MIB))?;
        io::copy(&mut from, &mut disk)
    };
    copy().map_err(BuildError::io(path))?;
    let last = (MIB + bytes) / 512 - 1;
    let table = Tool::new("sgdisk").args(["--set-alignment=2048", &format!("--new=1:2048:{last}")]);
    Ok(table.arg("--change-name=1:slot-b").arg(path).run()?)
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let found = entry?;
        bytes += if found.file_type()?.is_dir() { bytes_below(&found.path())? } else { found.metadata()?.len() };
    }
    Ok(bytes)
}

fn sha256(path: &Path) -> Result<String, BuildError> {
    let bytes = fs::read(path).map_err(BuildError::io(path))?;
    Ok(yado_image::hex::encode(&<[u8; 32]>::from(Sha256::digest(&bytes))))
}
