//! What is done with a slot of this machine: written from a release, and read back.

use super::kept_release::THRESHOLD;
use super::{Driver, line};
use crate::boot_state::Slot;
use crate::machine::Event;
use crate::record::{StagingStep, Update};
use crate::slot::{self, BootFilesError, ImageToWrite, Partitions, Target, WriteImageError, Written, write_image};
use std::fs::File;
use std::path::PathBuf;
use yado_image::ImageKind;

impl Driver {
    /// The partitions of a slot that does not run.
    fn free_slot(&self, slot: Slot) -> Result<Partitions, String> {
        slot::find(slot, Some(self.state.place.slot)).map_err(|error| error.to_string())
    }

    /// The partition that holds this slot's image, to be read.
    pub(super) fn slot_device(&self, slot: Slot) -> Result<PathBuf, String> {
        slot::find(slot, None).map(|found| found.image).map_err(|error| error.to_string())
    }

    /// Writes what differs into the slot, and reads all of it back.
    pub(super) fn write_slot(&mut self, update: &Update) -> Event {
        let Some(slot) = update.slot() else { return Event::Staged(StagingStep::Write) };
        match self.try_write_slot(slot) {
            Ok(event) => event,
            Err(reason) => Event::StageFailed { reason: line(reason) },
        }
    }

    fn try_write_slot(&mut self, slot: Slot) -> Result<Event, String> {
        let path = self.free_slot(slot)?.image;
        let mut target = Target::open_device(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
        let keys = self.keys()?;
        let old = self.slot_device(slot.other()).ok().and_then(|path| File::open(path).ok());
        let Some(release) = &mut self.release else { return Err("the release is not open".to_owned()) };
        let Some(system) = &release.release.manifest.system else { return Err("it has no system".to_owned()) };
        let image = ImageToWrite {
            fingerprint: system.fingerprint,
            bytes: system.bytes,
            kind: ImageKind::System,
            threshold: THRESHOLD,
        };
        let written =
            write_image(&image, &keys, release.source.as_mut(), &mut target, old.as_ref(), &mut self.status);
        match written {
            Ok(Written { counts, .. }) => {
                self.status.note(&format!(
                    "slot {slot}: {} blocks were there, {} came from the other slot, {} were fetched; {} bytes were written",
                    counts.kept_blocks, counts.copied_blocks, counts.fetched_blocks, counts.written_bytes
                ));
                self.is_read_back = true;
                Ok(Event::Staged(StagingStep::Write))
            }
            Err(WriteImageError::Source(error)) => Ok(self.source_failed(&error)),
            Err(error @ (WriteImageError::Image(_) | WriteImageError::WrongBytes { .. })) => {
                Ok(self.wrong_file(&error))
            }
            // It cannot be written once more where it cannot be read once more.
            Err(error @ WriteImageError::Different { .. }) if !self.is_read_once() => {
                Ok(Event::NotReadBack { reason: line(error) })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whoever has just written the slot has read it back; after a new start somebody must look again.
    pub(super) fn read_back(&mut self, update: &Update) -> Event {
        if self.is_read_back {
            return Event::Staged(StagingStep::ReadBack);
        }
        match self.write_slot(update) {
            Event::Staged(_) => Event::Staged(StagingStep::ReadBack),
            other => other,
        }
    }

    /// Makes the slot's boot partition hold what the release names, and nothing else.
    pub(super) fn write_boot_files(&mut self, update: &Update) -> Event {
        let Some(slot) = update.slot() else { return Event::Staged(StagingStep::BootFiles) };
        match self.try_write_boot_files(slot) {
            Ok(event) => event,
            Err(reason) => Event::StageFailed { reason: line(reason) },
        }
    }

    fn try_write_boot_files(&mut self, slot: Slot) -> Result<Event, String> {
        let boot = self.free_slot(slot)?.boot;
        let Some(release) = &mut self.release else { return Err("the release is not open".to_owned()) };
        let system = release.release.manifest.system.as_ref();
        let files = system.map(|system| system.boot.clone()).unwrap_or_default();
        let device = match boot {
            Some(device) => device,
            None if files.is_empty() => return Ok(Event::Staged(StagingStep::BootFiles)),
            None => {
                return Err(format!("there is no boot partition for slot {slot}, and the release has boot files"));
            }
        };
        let Some(process) = self.boot_files.as_mut().filter(|process| process.device() == device) else {
            return Err(format!("{}: it was not there when this process began", device.display()));
        };
        match process.write(&files, release.source.as_mut(), &mut self.status) {
            Ok(written) => {
                self.status.note(&format!(
                    "boot files of slot {slot}: {} were there, {} were fetched with {} bytes",
                    written.kept_files, written.fetched_files, written.fetched_bytes
                ));
                Ok(Event::Staged(StagingStep::BootFiles))
            }
            Err(BootFilesError::Source(error)) => Ok(self.source_failed(&error)),
            Err(error @ BootFilesError::WrongBytes { .. }) => Ok(self.wrong_file(&error)),
            Err(error) => Err(error.to_string()),
        }
    }
}
