//! The process that writes boot files. The updater itself may mount nothing, and no rule of its confinement could let it use files of
//! what is mounted later. So this process is forked before: it knows the one partition that it works on, reads nothing from outside,
//! and asks the updater for the bytes of files, which the updater has from a source. It compares each with its SHA-256 all the same.

use super::{BootFilesError, BootFilesWritten, write_boot_files};
use crate::forked_process::ForkedProcess;
use crate::messages::{self, MAX_MESSAGE_BYTES, clipped};
use crate::progress::{Progress, Stage};
use crate::source::{FileName, Source, SourceError};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use yado_image::release::BootFile;

/// What it is told to write: name, SHA-256 and length of each file.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted(Vec<(String, [u8; 32], u64)>);

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// It needs the bytes of this file. So many bytes of so many of all that it fetches it had by then.
    Needs { sha256: [u8; 32], bytes: u64, done: u64, total: u64 },
    /// Files that were there, that were fetched, and bytes of those.
    Written { kept_files: u64, fetched_files: u64, fetched_bytes: u64 },
    /// The slot must stay denied.
    Failed(Failure),
}

#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    /// The updater did not give a file, and knows why.
    Source,
    /// See [`BootFilesError::WrongBytes`].
    WrongBytes { name: String },
    /// Anything else, in words.
    Other { reason: String },
}

/// What the updater says after the bytes of a file.
#[derive(Debug, Serialize, Deserialize)]
enum Given {
    All,
    NotAll,
}

/// The process, as the updater has it.
#[derive(Debug)]
pub(crate) struct BootFilesProcess {
    device: PathBuf,
    process: ForkedProcess,
}

impl BootFilesProcess {
    /// Forks it, for the boot partition of a slot that does not run.
    pub(crate) fn start<E: fmt::Display>(
        device: &Path,
        confine: impl FnOnce() -> Result<(), E>,
    ) -> io::Result<BootFilesProcess> {
        let process = ForkedProcess::start("boot files", confine, |link| serve(link, device))?;
        Ok(BootFilesProcess { device: device.to_owned(), process })
    }

    /// The partition that it works on.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    /// As [`write_boot_files`], by that process.
    pub(crate) fn write(
        &mut self,
        files: &BTreeMap<String, BootFile>,
        source: &mut dyn Source,
        progress: &mut dyn Progress,
    ) -> Result<BootFilesWritten, BootFilesError> {
        let link = self.process.link();
        let files = files.iter().map(|(name, file)| (name.clone(), file.sha256, file.bytes));
        messages::send(link, &Wanted(files.collect())).map_err(|error| broken(&error))?;
        let mut source_error = None;
        loop {
            // Of itself it gives no data.
            let said = messages::read_answer(link, &mut 0, &mut |_| Ok(()));
            match said.map_err(|error| broken(&error))? {
                Said::Needs { sha256, bytes, done, total } => {
                    let name = FileName::Boot(sha256);
                    let mut passed = 0;
                    let read = source.read(name, 0..bytes, &mut |piece| {
                        passed += piece.len() as u64;
                        progress.advance(Stage::BootFiles, done.saturating_add(passed).min(total), total);
                        messages::send_data(link, piece)
                    });
                    let given = if read.is_ok() { Given::All } else { Given::NotAll };
                    source_error = read.err();
                    messages::send(link, &given).map_err(|error| broken(&error))?;
                }
                Said::Written { kept_files, fetched_files, fetched_bytes } => {
                    return Ok(BootFilesWritten { kept_files, fetched_files, fetched_bytes });
                }
                Said::Failed(failure) => {
                    return Err(match (failure, source_error) {
                        (Failure::Source, Some(error)) => BootFilesError::Source(error),
                        (Failure::Source, None) => broken(&"it lacks a file that it was given"),
                        (Failure::WrongBytes { name }, _) => BootFilesError::WrongBytes { name: clipped(&name) },
                        (Failure::Other { reason }, _) => BootFilesError::Process { reason: clipped(&reason) },
                    });
                }
            }
        }
    }
}

fn broken(why: &dyn fmt::Display) -> BootFilesError {
    BootFilesError::Process { reason: format!("the process that writes boot files: {why}") }
}

/// Does what it is told until the updater hangs up.
fn serve(mut link: &UnixStream, device: &Path) -> io::Result<()> {
    while let Some(Wanted(files)) = messages::receive(&mut link, MAX_MESSAGE_BYTES)? {
        let mut wanted = BTreeMap::new();
        for (name, sha256, bytes) in files {
            wanted.insert(name, BootFile { bytes, sha256 });
        }
        let reached = Cell::new((0, 0));
        let mut updater = Updater { link, reached: &reached };
        let said = match write_boot_files(&wanted, device, &mut updater, &mut Reached(&reached)) {
            Ok(BootFilesWritten { kept_files, fetched_files, fetched_bytes }) => {
                Said::Written { kept_files, fetched_files, fetched_bytes }
            }
            Err(BootFilesError::Source(_)) => Said::Failed(Failure::Source),
            Err(BootFilesError::WrongBytes { name }) => Said::Failed(Failure::WrongBytes { name: clipped(&name) }),
            Err(error) => Said::Failed(Failure::Other { reason: clipped(&error.to_string()) }),
        };
        messages::send(&mut link, &said)?;
    }
    Ok(())
}

/// The updater, as the source of files.
struct Updater<'l> {
    link: &'l UnixStream,
    reached: &'l Cell<(u64, u64)>,
}

/// How far it is, which the updater tells.
struct Reached<'l>(&'l Cell<(u64, u64)>);

impl Progress for Reached<'_> {
    fn advance(&mut self, _stage: Stage, done: u64, total: u64) {
        self.0.set((done, total));
    }
}

impl Source for Updater<'_> {
    fn ranges(&self) -> crate::source::Ranges {
        crate::source::Ranges::Whole
    }

    /// Of a boot file, all of it. Also what is not taken any more is read to its end: it is under way.
    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let FileName::Boot(sha256) = file else { return Err(SourceError::Missing { file }) };
        let broken = |error: io::Error| SourceError::Broken { file, reason: error.to_string() };
        let (done, total) = self.reached.get();
        messages::send(&mut self.link, &Said::Needs { sha256, bytes: range.end, done, total }).map_err(broken)?;
        match messages::read_whole_answer(&mut self.link, &mut { range.end }, take) {
            Ok((Given::All, None)) => Ok(()),
            Ok((Given::All, Some(error))) => Err(SourceError::Stopped(error)),
            Ok((Given::NotAll, _)) => Err(broken(io::Error::other("not all of it was given"))),
            Err(error) => Err(broken(io::Error::other(error.to_string()))),
        }
    }
}
