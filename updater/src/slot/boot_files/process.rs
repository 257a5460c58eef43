//! The process that writes boot files. The updater itself may mount nothing, and no rule of its confinement could let it use files of
//! what is mounted later. So this process is forked before: it knows the one partition that it works on, reads nothing from outside,
//! and asks the updater for the bytes of files, which the updater has from a source. It compares each with its SHA-256 all the same.

use super::{BootFilesError, BootFilesWritten, write_boot_files};
use crate::progress::{Progress, Stage};
use crate::source::fetch_process::messages::{
    self, Kind, MAX_ANSWER_BYTES, MAX_DATA_BYTES, MAX_MESSAGE_BYTES, clipped, decode, encode, head,
};
use crate::source::{FileName, Source, SourceError};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use yado_image::release::BootFile;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::stream;

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
    /// `None`: it was told to end.
    link: Option<UnixStream>,
    pidfd: OwnedFd,
}

impl BootFilesProcess {
    /// Forks it, for the boot partition of a slot that does not run. `confine` is the first that it does. We have no other thread.
    pub(crate) fn start<E: fmt::Display>(
        device: &Path,
        confine: impl FnOnce() -> Result<(), E>,
    ) -> io::Result<BootFilesProcess> {
        let (ours, theirs) = stream::pair()?;
        match clone::fork(Namespaces::empty(), Parent::Caller, None)? {
            Forked::Child => {
                drop(ours);
                let served = confine().map_err(|error| error.to_string());
                let served =
                    served.and_then(|()| serve(&UnixStream::from(theirs), device).map_err(|error| error.to_string()));
                if let Err(error) = &served {
                    eprintln!("boot files: {error}");
                }
                std::process::exit(served.is_err().into())
            }
            Forked::Caller { pid: _, pidfd } => {
                Ok(BootFilesProcess { device: device.to_owned(), link: Some(UnixStream::from(ours)), pidfd })
            }
        }
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
        let link = self.link.as_mut().ok_or_else(|| broken(&"it has ended"))?;
        let files = files.iter().map(|(name, file)| (name.clone(), file.sha256, file.bytes));
        let wanted = encode(&Wanted(files.collect())).ok_or_else(|| broken(&"too many files"))?;
        link.write_all(&wanted).map_err(|error| broken(&error))?;
        let mut source_error = None;
        loop {
            let (kind, body) = messages::read(link, MAX_ANSWER_BYTES)
                .map_err(|error| broken(&error))?
                .ok_or_else(|| broken(&"it says nothing that is known"))?;
            let said = decode::<Said>(&body).filter(|_| kind == Kind::Message);
            match said.ok_or_else(|| broken(&"it says nothing that is known"))? {
                Said::Needs { sha256, bytes, done, total } => {
                    let name = FileName::Boot(sha256);
                    let mut passed = 0;
                    let read = source.read(name, 0..bytes, &mut |piece| {
                        passed += piece.len() as u64;
                        progress.advance(Stage::BootFiles, done.saturating_add(passed).min(total), total);
                        give(link, piece)
                    });
                    let given = if read.is_ok() { Given::All } else { Given::NotAll };
                    source_error = read.err();
                    link.write_all(&encode(&given).unwrap_or_default()).map_err(|error| broken(&error))?;
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

impl Drop for BootFilesProcess {
    /// It ends when nobody can ask it any more. Whoever comes next finds the partition free.
    fn drop(&mut self) {
        self.link = None;
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

fn give(link: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(MAX_DATA_BYTES) {
        link.write_all(&head(Kind::Data, piece.len()))?;
        link.write_all(piece)?;
    }
    Ok(())
}

fn broken(why: &dyn fmt::Display) -> BootFilesError {
    BootFilesError::Process { reason: format!("the process that writes boot files: {why}") }
}

/// Does what it is told until the updater hangs up. With the updater it ends at once, as what the updater does itself.
fn serve(link: &UnixStream, device: &Path) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    loop {
        let (kind, body) = match messages::read(&mut &*link, MAX_MESSAGE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            message => message?.ok_or_else(no_message)?,
        };
        let Wanted(files) = decode(&body).filter(|_| kind == Kind::Message).ok_or_else(no_message)?;
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
        (&*link).write_all(&encode(&said).ok_or_else(no_message)?)?;
    }
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
        let needs = encode(&Said::Needs { sha256, bytes: range.end, done, total }).unwrap_or_default();
        (&mut self.link).write_all(&needs).map_err(broken)?;
        let mut taken = Ok(());
        loop {
            match messages::read(&mut self.link, MAX_ANSWER_BYTES).map_err(broken)? {
                Some((Kind::Data, bytes)) if taken.is_ok() => taken = take(&bytes),
                Some((Kind::Data, _)) => {}
                Some((Kind::Message, body)) => {
                    return match decode(&body) {
                        Some(Given::All) => taken.map_err(SourceError::Stopped),
                        Some(Given::NotAll) | None => Err(broken(no_message())),
                    };
                }
                None => return Err(broken(no_message())),
            }
        }
    }
}

fn no_message() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no message of ours")
}
