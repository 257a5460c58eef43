//! What an update does with instances, told to the machine.

use super::kept_release::THRESHOLD;
use super::{Driver, LONGEST_SLEEP, Next, line};
use crate::init_client::ask;
use crate::instances::{self, Failed, InstancesError, Kind, Places, Wanted};
use crate::machine::Event;
use crate::record::{self, StagingStep, Unwell, Update};
use crate::slot::{ContainerImageError, ImageToWrite, WriteImageError, write_container_image};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use yado_image::{ImageKind, hex};
use yado_wire::InstanceName;
use yado_wire::rescue::{Reply, Request};

/// Why an image is not beside the old one.
enum StageError {
    Instances(InstancesError),
    Image(Box<ContainerImageError>),
    /// The release has no such image.
    Unknown,
}

impl From<InstancesError> for StageError {
    fn from(error: InstancesError) -> StageError {
        StageError::Instances(error)
    }
}

impl Driver {
    pub(super) fn instance_places(&self) -> Places {
        Places {
            system: self.places.system.clone(),
            data: self.places.data.clone(),
            run: self.places.run.clone(),
            yado: PathBuf::from("/proc/self/exe"),
            standing: self.state.standing(),
        }
    }

    /// Puts the images of the update's instances beside those that they have.
    pub(super) fn stage_images(&mut self, update: &Update) -> Event {
        let places = self.instance_places();
        let running = self.images_of_instances();
        let keys = match self.keys() {
            Ok(keys) => keys,
            Err(reason) => return Event::StageFailed { reason: line(reason) },
        };
        let Some(open) = &mut self.release else {
            return Event::StageFailed { reason: line("the release is not open") };
        };
        let files = &open.release.manifest.instances;
        let wanted: Vec<Wanted> = update
            .instances
            .iter()
            .filter_map(|name| Some(Wanted { instance: name.clone(), image: files.get(name)?.fingerprint }))
            .collect();
        let source = open.source.as_mut();
        let status = &mut self.status;
        let mut put = |fingerprint: &[u8; 32]| {
            let (name, file) =
                files.iter().find(|(_, file)| file.fingerprint == *fingerprint).ok_or(StageError::Unknown)?;
            let image = ImageToWrite {
                fingerprint: *fingerprint,
                bytes: file.bytes,
                kind: ImageKind::Container,
                threshold: THRESHOLD,
            };
            let old = running.get(name).copied().flatten().and_then(|old| open_image(&places, &old));
            let written = write_container_image(&image, &keys, source, &places.data, old.as_ref(), status);
            let (_, written) = written.map_err(|error| StageError::Image(Box::new(error)))?;
            let counts = written.counts;
            status.note(&format!(
                "image for {name}: {} blocks came from the old one, {} were fetched",
                counts.copied_blocks, counts.fetched_blocks
            ));
            Ok(())
        };
        let staged = instances::stage(&places, update.number, &wanted, &mut put, &mut |_, _| Ok(()));
        match staged {
            Ok(()) => Event::Staged(StagingStep::Images),
            Err(StageError::Image(error)) => match *error {
                ContainerImageError::Write(WriteImageError::Source(error)) => self.source_failed(&error),
                ContainerImageError::Write(
                    error @ (WriteImageError::Image(_) | WriteImageError::WrongBytes { .. }),
                ) => self.wrong_file(&error),
                error => Event::StageFailed { reason: line(error) },
            },
            Err(StageError::Instances(error)) => Event::StageFailed { reason: line(error) },
            Err(StageError::Unknown) => Event::StageFailed { reason: line("the release has no such image") },
        }
    }

    /// Gives the instances their new images, or on a rollback what they had before.
    pub(super) fn switch_instances(&mut self) -> Event {
        let Some(update) = self.state.record.phase.update() else { return Event::Switched };
        let (number, kind) = match update.kind {
            record::Kind::Rollback => (update.number, Kind::Rollback),
            record::Kind::Install | record::Kind::Leave | record::Kind::Found => (update.number, Kind::Install),
        };
        match instances::switch(&self.instance_places(), number, kind, &mut |_, _| Ok(())) {
            Ok(()) => Event::Switched,
            Err(Failed { instance, error }) => Event::Unhealthy(Unwell { instance, reason: line(error) }),
        }
    }

    /// Keeps what they had for a rollback. What cannot be done now is done again in a while.
    pub(super) fn keep_instances(&mut self) -> Next {
        let number = self.number();
        let kept = instances::keep(&self.instance_places(), number, &mut |_, _| Ok(()));
        self.done_or_again(kept.map_err(|error| error.to_string()), Event::Kept)
    }

    /// Gives them back what they had.
    pub(super) fn undo_instances(&mut self) -> Next {
        let number = self.number();
        let undone = instances::undo(&self.instance_places(), number, &mut |_, _| Ok(()));
        let undone = undone.map_err(|Failed { instance, error }| {
            let name = instance.map_or_else(String::new, |name| format!("{name}: "));
            format!("{name}{error}")
        });
        self.done_or_again(undone, Event::Undone)
    }

    fn done_or_again(&mut self, done: Result<(), String>, event: Event) -> Next {
        match done {
            Ok(()) => Next::Event(event),
            Err(reason) => {
                self.exit = self.status.fail("device", &reason);
                self.start_again_in(LONGEST_SLEEP);
                Next::End
            }
        }
    }

    fn number(&self) -> u32 {
        self.state.record.phase.update().map_or(0, |update| update.number)
    }

    /// Which image each instance has, by init.
    pub(super) fn images_of_instances(&self) -> BTreeMap<InstanceName, Option<[u8; 32]>> {
        let mut images = BTreeMap::new();
        let asked = ask(&self.places, &Request::Status, |reply| {
            if let Reply::Instance(status) = reply {
                images.insert(status.name, status.fingerprint);
            }
        });
        if let Err(error) = asked {
            println!("{error}");
        }
        images
    }
}

/// An image on the data partition or in the system.
fn open_image(places: &Places, fingerprint: &[u8; 32]) -> Option<File> {
    let below = format!("images/{}/image", hex::encode(fingerprint));
    [&places.data, &places.system].into_iter().find_map(|directory| File::open(directory.join(&below)).ok())
}
