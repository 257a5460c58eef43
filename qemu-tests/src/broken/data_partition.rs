//! A data partition that is missing, or holds what we do not know: a file system in memory is used instead, and nothing that may
//! be somebody's is written over.

use super::bench::{Bench, text};
use super::failure::BrokenError;
use super::instance_runs::is_ready;
use crate::report::{Observer, Witness};
use std::fs;
use std::path::{Path, PathBuf};

/// Enough to cover all places where a file system has its marks.
const FOREIGN_BYTES: usize = 4 * 1024 * 1024;
/// Neither limits nor interfaces: they run whatever else is broken.
const INSTANCES: [&str; 3] = ["spec-flipped", "spec-cut", "chip-optional"];

/// A file with the content of somebody else's format.
pub(super) fn foreign_content(directory: &Path) -> Result<PathBuf, BrokenError> {
    let path = directory.join("foreign.data");
    fs::write(&path, foreign_bytes()).map_err(BrokenError::io(&path))?;
    Ok(path)
}

fn foreign_bytes() -> Vec<u8> {
    b"not a file system, and not yours. ".iter().copied().cycle().take(FOREIGN_BYTES).collect()
}

pub(super) fn foreign(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    named(bench, observer, "it is left as it is")?;
    on_volatile_layers(bench, observer)
}

pub(super) fn missing(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    named(bench, observer, "no partition has this name")?;
    on_volatile_layers(bench, observer)?;
    for name in ["crab", "shell"] {
        is_ready(bench, observer, &format!("{name} runs"), name)?;
    }
    Ok(())
}

pub(super) fn untouched(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let path = bench.data_as_written()?;
    let after = fs::read(&path).map_err(BrokenError::io(&path))?;
    let before = foreign_bytes();
    let first_change = after.iter().enumerate().find(|(at, byte)| before.get(*at).unwrap_or(&0) != *byte);
    let shown = match first_change {
        None => format!("{} bytes, all the same", after.len()),
        Some((at, _)) => format!("byte {at} is another"),
    };
    observer.check(Witness::OtherEnd, "not one byte of the partition was changed", shown, first_change.is_none())?;
    Ok(())
}

fn named(bench: &Bench<'_>, observer: &mut Observer, reason: &str) -> Result<(), BrokenError> {
    let failure = bench.status()?["system"]["data"].clone();
    let is_named = failure["step"] == "data" && text(&failure["reason"]).contains(reason);
    observer.check(Witness::OwnWord, "the status says what is wrong with it", &failure, is_named)?;
    Ok(())
}

fn on_volatile_layers(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let mounts = bench.shell("grep ' /data ' /proc/mounts")?;
    let is_volatile = mounts.starts_with("/dev/loop") || mounts.contains(" tmpfs ");
    observer.check(Witness::Kernel, "a file system in memory is used instead for it", &mounts, is_volatile)?;
    for name in INSTANCES {
        is_ready(bench, observer, &format!("{name} runs"), name)?;
    }
    let written = bench.inside_output("spec-cut", "echo volatile > /root/note && cat /root/note")?;
    observer.check(
        Witness::Peer,
        "spec-cut can write, for as long as the power lasts",
        &written,
        written == "volatile",
    )?;
    Ok(())
}
