//! Updates that are over, newest last, in `state/update-history` on the data partition: at most [`MAX_ENTRIES`].

use super::file::{ReadError, read_bounded, version_there};
use super::text::{Lines, known_version, put, put_ended, read_ended};
use super::{Ended, Line, RecordError};
use std::io;
use std::path::Path;
use yado_sys::replace_file;
use yado_wire::formats::{Standing, Versions};
use yado_wire::{InstanceName, MAX_INSTANCES};

/// Below the folder `state` of the data partition.
pub const NAME: &str = "update-history";
/// Some years of monthly updates.
pub const MAX_ENTRIES: usize = 32;

const MAX_BYTES: usize = MAX_ENTRIES * (4 * Line::MAX_BYTES + MAX_INSTANCES * (InstanceName::MAX_LEN + 1) + 1024);
const MODE: u32 = 0o600;
const MAGIC: &str = "yado-update-history ";
const VERSIONS: Versions = Versions::new(1, 1);

/// The updates that are over, oldest first.
///
/// # Errors
/// When there is something that is no history.
pub fn read(state: &Path) -> Result<Vec<Ended>, ReadError> {
    let path = state.join(NAME);
    let Some(bytes) = read_bounded(&path, MAX_BYTES)? else { return Ok(Vec::new()) };
    parse(&bytes).map_err(|why| ReadError::Bad { path, why })
}

/// Adds one, once: what is the last one already is not added again. A history that cannot be read is begun anew, and the
/// error told.
///
/// # Errors
/// What the kernel says of the writing; the old one is there.
pub fn add(state: &Path, ended: &Ended, standing: Standing) -> io::Result<Option<ReadError>> {
    let (mut entries, lost) = match read(state) {
        Ok(entries) => (entries, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let is_there = entries.last() == Some(ended);
    if !is_there {
        entries.push(ended.clone());
        let excess = entries.len().saturating_sub(MAX_ENTRIES);
        entries.drain(..excess);
        let path = state.join(NAME);
        let version = VERSIONS.to_write(standing, version_there(&path, MAGIC));
        replace_file::replace(&path, MODE, to_text(&entries, version).as_bytes())?;
    }
    Ok(lost)
}

fn parse(bytes: &[u8]) -> Result<Vec<Ended>, RecordError> {
    let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Damaged)?;
    let version = known_version(text, MAGIC, VERSIONS)?;
    let mut lines = Lines::after(text, 1);
    let count: usize = lines.number("entries").filter(|count| *count <= MAX_ENTRIES).ok_or(RecordError::Damaged)?;
    let entries: Option<Vec<Ended>> = (0..count).map(|_| read_ended(&mut lines)).collect();
    entries.filter(|entries| to_text(entries, version) == text).ok_or(RecordError::Damaged)
}

fn to_text(entries: &[Ended], version: u32) -> String {
    let mut out = format!("{MAGIC}{version}\n");
    put(&mut out, "entries", entries.len());
    for ended in entries {
        put_ended(&mut out, ended);
    }
    let checksum = crc32fast::hash(out.as_bytes());
    put(&mut out, "checksum", format!("{checksum:08x}"));
    out
}
