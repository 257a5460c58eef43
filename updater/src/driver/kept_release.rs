//! The release that is worked on: fetched, verified, and kept as it was signed until the update is over, so that who goes on after a
//! power cut knows what it was without asking the source again.

use super::{Driver, line};
use crate::machine::Event;
use crate::record::{Line, Phase};
use crate::source::open::STANDARD_INPUT;
use crate::source::{Source, SourceError, read_release};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use yado_image::Keys;
use yado_image::release::{self, MAX_RELEASE_BYTES, Release};
use yado_sys::replace_file;

/// The file, in the folder `state` of the data partition.
const NAME: &str = "update-release";
const MODE: u32 = 0o600;

/// One signature of a trusted key suffices.
pub(super) const THRESHOLD: usize = 1;

/// A release that is verified, and where its files come from.
pub(super) struct OpenRelease {
    pub(super) release: Release,
    pub(super) source: Box<dyn Source>,
}

impl Driver {
    /// The keys that count on this device.
    pub(super) fn keys(&self) -> Result<Keys, String> {
        let trust = self.places.trust();
        let keys = Keys::read_dir(&trust).map_err(|error| format!("{}: {error}", trust.display()))?;
        if keys.is_empty() { Err(format!("{}: there is no key", trust.display())) } else { Ok(keys) }
    }

    /// Fetches the release at this source and verifies it. What is no release of ours is told with its rule.
    pub(super) fn fetch_release(&mut self, address: &Line) -> Result<OpenRelease, Event> {
        let (bytes, source) = self.fetch(address)?;
        let release = self.verify(&bytes)?;
        // Only now: what stands there was verified once.
        let path = self.kept_path();
        if let Err(error) = replace_file::replace(&path, MODE, &bytes) {
            return Err(Event::SourceFailed {
                reason: line(format!("{}: {error}", path.display())),
                is_final: false,
            });
        }
        Ok(OpenRelease { release, source })
    }

    /// The bytes of what should be a release, and where they come from.
    pub(super) fn fetch(&mut self, address: &Line) -> Result<(Vec<u8>, Box<dyn Source>), Event> {
        let mut source = self.open_source(address)?;
        let bytes = read_release(source.as_mut()).map_err(|error| self.source_failed(&error))?;
        Ok((bytes, source))
    }

    /// The release that an update began with: kept, or else fetched again.
    pub(super) fn open_kept(&mut self, address: &Line) -> Result<(), Event> {
        if self.release.is_some() {
            return Ok(());
        }
        let kept = self.kept();
        let opened = match kept {
            Some(bytes) => {
                let release = self.verify(&bytes)?;
                OpenRelease { release, source: self.open_source(address)? }
            }
            None => self.fetch_release(address)?,
        };
        self.release = Some(opened);
        Ok(())
    }

    /// What a source's failure is to the machine; for people it is told with its rule.
    pub(super) fn source_failed(&mut self, error: &SourceError) -> Event {
        self.exit = self.status.fail(error.rule().unwrap_or("device"), &error.to_string());
        let is_final = match error {
            SourceError::Missing { .. } | SourceError::OutOfOrder { .. } => true,
            SourceError::Short { .. } | SourceError::Broken { .. } | SourceError::Stopped(_) => self.is_read_once(),
        };
        Event::SourceFailed { reason: line(error), is_final }
    }

    /// What comes from standard input is gone with this process.
    pub(super) fn is_read_once(&self) -> bool {
        let phase = &self.state.record.phase;
        let source = match phase {
            Phase::Candidate { source, .. } => Some(source),
            phase => phase.update().map(|update| &update.source),
        };
        source.is_some_and(|source| source.as_str() == STANDARD_INPUT)
    }

    /// A file of the release is not the one that was signed: the release is refused, and no disk is to blame.
    pub(super) fn wrong_file(&mut self, error: &dyn std::fmt::Display) -> Event {
        self.exit = self.status.fail("release-file", &error.to_string());
        Event::StageFailed { reason: line(error) }
    }

    /// Nobody needs it any more.
    pub(super) fn forget_release(&mut self) {
        self.release = None;
        let _ = fs::remove_file(self.kept_path());
    }

    /// The bytes of the release that is worked on, once they were verified.
    pub(super) fn kept(&self) -> Option<Vec<u8>> {
        read_kept(&self.kept_path()).ok().flatten()
    }

    fn kept_path(&self) -> PathBuf {
        self.places.remembered().join(NAME)
    }

    pub(super) fn verify(&mut self, bytes: &[u8]) -> Result<Release, Event> {
        let keys = self.keys().map_err(|error| {
            self.exit = self.status.fail("trust", &error);
            Event::NotAdmitted
        })?;
        release::verify(bytes, &keys, THRESHOLD).map_err(|error| {
            self.exit = self.status.fail(error.rule(), &format!("release: {error}"));
            Event::NotAdmitted
        })
    }
}

fn read_kept(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match yado_sys::regular_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_RELEASE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
