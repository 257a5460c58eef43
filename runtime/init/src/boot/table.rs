//! The stages of the data partition, from looking for it to the compiled specs on it, as one table. What runs at the same time is
//! in `parts`. Each stage ends with an event (a job ends, a partition appears, a deadline passes), and every path leads to
//! [`Stage::Done`]: no stage can keep the system from coming up.

use crate::boot_clock::Moment;
use crate::data_partition::superblock::Content;
use crate::data_partition::{PARTITION, PREFERRED};
use crate::job::{Job, JobEnd};
use crate::process::how_it_ended;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::children::{EXIT_NOT_EXECUTED, Ended};
use yado_wire::rescue::Mode;
use yado_wire::{Failure, Step};

/// A card reader behind a USB hub takes some seconds to tell of its card.
const DATA_TIMEOUT: Duration = Duration::from_secs(15);

/// How far the data partition and what is read from it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was begun.
    Begin,
    /// The data partition is looked for.
    FindData { until: Moment },
    /// Its first bytes are read.
    ReadData { device: PathBuf },
    /// It is blank, and is being marked as being formatted.
    MarkData { device: PathBuf },
    /// Its file system is being repaired or made.
    PrepareData { device: PathBuf },
    /// The mark is being removed.
    ClearMark { device: PathBuf },
    /// It is being mounted.
    MountData { device: PathBuf },
    /// The file for a file system in memory is made.
    MakeVolatile,
    /// The file system in that file is being made.
    FormatVolatile { file: PathBuf },
    /// It is mounted.
    MountVolatile,
    /// Specs are read; they were not compiled in this start.
    ReadSpecs,
    /// They are being compiled.
    Compile,
    /// They are read again after compiling, and used as they are then.
    ReadCompiled,
    /// The table is done.
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// This part of the boot begins.
    Begin(Mode),
    /// The result of a search for the partition.
    Looked(Search),
    /// The partition's first bytes were read, or could not be.
    Read(Result<Content, Failure>),
    /// It was marked, and may be formatted up to this size.
    Marked(Result<u64, Failure>),
    /// The mark of an unfinished format was removed, or could not be.
    Cleared(Result<(), Failure>),
    JobEnded(&'a Job, &'a JobEnd),
    /// The stand-in's file, if it could be made.
    FileMade(Option<PathBuf>),
    /// A file system is mounted at the mount point of the data partition.
    DataMounted,
    /// Specs were read; some may be older than their sources.
    SpecsRead {
        are_stale: bool,
    },
}

/// The result of a search for the data partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Search {
    /// The device of the partition.
    Device(PathBuf),
    /// Nothing, but drivers are still being loaded.
    NotYet,
    /// Nothing, and all drivers are loaded.
    Nothing,
    /// More than one partition that it could be.
    Several(String),
}

/// What is to be done; what follows from it is the next event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing, until something happens.
    None,
    /// Start a job.
    Start(Job),
    /// Read what is on the device.
    Read(PathBuf),
    /// Mark it as being formatted.
    Mark(PathBuf),
    /// Take the mark away.
    ClearMark(PathBuf),
    /// Record why there is no data partition, and make a file for the stand-in.
    MakeVolatile(Box<Failure>),
    /// Mount what is in this file, or else a tmpfs.
    MountVolatile(Option<PathBuf>),
    /// Use the data partition that was mounted, and read specs.
    UseData,
    /// Use the stand-in, and read specs.
    UseVolatile,
    /// Read specs.
    ReadSpecs,
    /// Take the specs that were read.
    Finish,
}

/// Which stage follows, and what is to be done. Every pair of stage and event stands here.
pub(super) fn step(stage: Stage, event: Event<'_>, now: Moment) -> (Stage, Action) {
    use {Event as E, Stage as S};
    match (stage, event) {
        // The initramfs has loaded what this partition's disk needs.
        (S::Begin, E::Begin(Mode::System)) => (S::FindData { until: now.saturating_add(DATA_TIMEOUT) }, Action::None),
        (S::Begin, E::Begin(Mode::Hosted)) => (S::ReadSpecs, Action::ReadSpecs),

        (S::FindData { .. }, E::Looked(Search::Device(device))) => {
            (S::ReadData { device: device.clone() }, Action::Read(device))
        }
        (S::FindData { .. }, E::Looked(Search::Several(reason))) => {
            give_up(Failure::refused(Step::Data, PARTITION, &reason))
        }
        (S::FindData { until }, E::Looked(Search::Nothing)) if until <= now => {
            let reason = "no partition has this name on the system's disk; a file system in memory is used instead";
            give_up(Failure::refused(Step::Data, PARTITION, reason))
        }
        (S::FindData { until }, E::Looked(Search::Nothing | Search::NotYet)) => (S::FindData { until }, Action::None),

        (S::ReadData { device }, E::Read(content)) => after_read(device, content),
        (S::MarkData { device }, E::Marked(Ok(kib))) => {
            (S::PrepareData { device: device.clone() }, Action::Start(Job::Format { device, kib }))
        }
        (S::MarkData { .. }, E::Marked(Err(failure))) | (S::ClearMark { .. }, E::Cleared(Err(failure))) => {
            give_up(failure)
        }
        (S::PrepareData { device }, E::JobEnded(Job::Check(_), end)) => match end.ended {
            // e2fsck(8): 1 and 2 are "errors corrected".
            Ended::Code(0..=2 | EXIT_NOT_EXECUTED) => mount(device, PREFERRED),
            Ended::Code(_) | Ended::Signal(_) => {
                refuse(&device, &format!("its file system is broken: e2fsck -p {}", how_it_ended(end.ended)))
            }
        },
        (S::PrepareData { device }, E::JobEnded(Job::Format { .. }, end)) => match end.ended {
            Ended::Code(0) => (S::ClearMark { device: device.clone() }, Action::ClearMark(device)),
            ended => {
                let how = how_it_ended(ended);
                refuse(&device, &format!("it is blank and could not be formatted: mke2fs {how}"))
            }
        },
        (S::ClearMark { device }, E::Cleared(Ok(()))) => mount(device, PREFERRED),
        (S::MountData { .. }, E::JobEnded(Job::Mount { .. }, JobEnd { ended: Ended::Code(0), .. })) => {
            (S::ReadSpecs, Action::UseData)
        }
        (S::MountData { device }, E::JobEnded(Job::Mount { kind, .. }, end)) => match end.last_line.as_str() {
            "" => refuse(&device, &format!("mount as {kind}: {}", how_it_ended(end.ended))),
            reason => refuse(&device, reason),
        },

        (S::MakeVolatile, E::FileMade(Some(file))) => {
            (S::FormatVolatile { file: file.clone() }, Action::Start(Job::FormatVolatile(file)))
        }
        (S::MakeVolatile, E::FileMade(None)) => (S::MountVolatile, Action::MountVolatile(None)),
        (S::FormatVolatile { file }, E::JobEnded(Job::FormatVolatile(_), end)) => {
            let file = (end.ended == Ended::Code(0)).then_some(file);
            (S::MountVolatile, Action::MountVolatile(file))
        }
        (S::MountVolatile, E::DataMounted) => (S::ReadSpecs, Action::UseVolatile),

        (S::ReadSpecs, E::SpecsRead { are_stale: true }) => (S::Compile, Action::Start(Job::Compile)),
        (S::Compile, E::JobEnded(Job::Compile, _)) => (S::ReadCompiled, Action::ReadSpecs),
        (S::ReadSpecs, E::SpecsRead { are_stale: false }) | (S::ReadCompiled, E::SpecsRead { .. }) => {
            (S::Done, Action::Finish)
        }

        // A job of another stage, or one that is over already.
        (
            stage @ (S::Begin
            | S::FindData { .. }
            | S::ReadData { .. }
            | S::MarkData { .. }
            | S::PrepareData { .. }
            | S::ClearMark { .. }
            | S::MountData { .. }
            | S::MakeVolatile
            | S::FormatVolatile { .. }
            | S::MountVolatile
            | S::ReadSpecs
            | S::Compile
            | S::ReadCompiled
            | S::Done),
            E::Begin(_)
            | E::Looked(_)
            | E::Read(_)
            | E::Marked(_)
            | E::Cleared(_)
            | E::JobEnded(..)
            | E::FileMade(_)
            | E::DataMounted
            | E::SpecsRead { .. },
        ) => (stage, Action::None),
    }
}

fn after_read(device: PathBuf, content: Result<Content, Failure>) -> (Stage, Action) {
    match content {
        Ok(Content::Ext4Clean) => mount(device, "ext4"),
        Ok(Content::F2fs) => mount(device, "f2fs"),
        Ok(Content::Btrfs) => mount(device, "btrfs"),
        Ok(Content::Ext4Dirty) => (Stage::PrepareData { device: device.clone() }, Action::Start(Job::Check(device))),
        Ok(Content::Blank) => (Stage::MarkData { device: device.clone() }, Action::Mark(device)),
        Ok(Content::Unknown) => refuse(&device, "neither blank nor a file system we know: it is left as it is"),
        Err(failure) => give_up(failure),
    }
}

fn mount(device: PathBuf, kind: &'static str) -> (Stage, Action) {
    (Stage::MountData { device: device.clone() }, Action::Start(Job::Mount { device, kind }))
}

fn refuse(device: &Path, reason: &str) -> (Stage, Action) {
    give_up(Failure::refused(Step::Data, &device.to_string_lossy(), reason))
}

fn give_up(failure: Failure) -> (Stage, Action) {
    (Stage::MakeVolatile, Action::MakeVolatile(Box::new(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Moment = Moment::from_secs(15);

    fn device() -> PathBuf {
        PathBuf::from("/dev/mmcblk0p7")
    }

    fn ended(code: u8) -> JobEnd {
        JobEnd { ended: Ended::Code(code), last_line: String::new() }
    }

    /// From the beginning; the actions after the first.
    fn walk(events: &[Event<'_>], now: Moment) -> (Stage, Vec<Action>) {
        let (mut stage, action) = step(Stage::Begin, Event::Begin(Mode::System), Moment::ZERO);
        assert_eq!(action, Action::None);
        let mut actions = Vec::new();
        for event in events {
            let (next, action) = step(stage, event.clone(), now);
            stage = next;
            actions.push(action);
        }
        (stage, actions)
    }

    fn mounting(kind: &'static str) -> Job {
        Job::Mount { device: device(), kind }
    }

    #[test]
    fn a_clean_partition_is_mounted_and_specs_of_today_are_taken() {
        let found = Event::Looked(Search::Device(device()));
        for (content, kind) in [(Content::Ext4Clean, "ext4"), (Content::F2fs, "f2fs"), (Content::Btrfs, "btrfs")] {
            let (job, end) = (mounting(kind), ended(0));
            let drivers = Event::JobEnded(&Job::AllDrivers, &end);
            let events = [
                Event::Looked(Search::NotYet),
                found.clone(),
                Event::Read(Ok(content)),
                drivers,
                Event::JobEnded(&job, &end),
                Event::SpecsRead { are_stale: false },
            ];
            let expected = [
                Action::None,
                Action::Read(device()),
                Action::Start(job.clone()),
                Action::None,
                Action::UseData,
                Action::Finish,
            ];
            assert_eq!(walk(&events, Moment::ZERO), (Stage::Done, expected.to_vec()), "{kind}");
        }
    }

    #[test]
    fn a_dirty_one_is_repaired_a_blank_one_is_made_and_stale_specs_are_compiled_once() {
        let found = Event::Looked(Search::Device(device()));
        let (check, mount) = (Job::Check(device()), mounting("ext4"));
        // Corrected; or there is no e2fsck, and the kernel replays the journal.
        for code in [1, EXIT_NOT_EXECUTED] {
            let (checked, good) = (ended(code), ended(0));
            let events = [
                found.clone(),
                Event::Read(Ok(Content::Ext4Dirty)),
                Event::JobEnded(&check, &checked),
                Event::JobEnded(&mount, &good),
                Event::SpecsRead { are_stale: true },
                Event::JobEnded(&Job::Compile, &checked),
                Event::SpecsRead { are_stale: true },
            ];
            let (stage, actions) = walk(&events, Moment::ZERO);
            let expected = [
                Action::Read(device()),
                Action::Start(check.clone()),
                Action::Start(mount.clone()),
                Action::UseData,
                Action::Start(Job::Compile),
                Action::ReadSpecs,
                Action::Finish,
            ];
            assert_eq!((stage, actions), (Stage::Done, expected.to_vec()));
        }
        let (format, good) = (Job::Format { device: device(), kib: 64 }, ended(0));
        let events = [
            found,
            Event::Read(Ok(Content::Blank)),
            Event::Marked(Ok(64)),
            Event::JobEnded(&format, &good),
            Event::Cleared(Ok(())),
        ];
        let expected = [
            Action::Read(device()),
            Action::Mark(device()),
            Action::Start(format.clone()),
            Action::ClearMark(device()),
            Action::Start(mount),
        ];
        assert_eq!(walk(&events, Moment::ZERO).1, expected);
    }

    #[test]
    fn whatever_is_wrong_with_the_partition_something_stands_in_for_it() {
        let found = || Event::Looked(Search::Device(device()));
        let failure = || Failure::refused(Step::Data, "x", "it is broken");
        let (check, mount) = (Job::Check(device()), mounting("ext4"));
        let format = Job::Format { device: device(), kib: 64 };
        let (bad, good) = (ended(8), ended(0));
        let said = JobEnd { ended: Ended::Code(1), last_line: "mount as ext4: create: EUCLEAN".to_owned() };
        let killed = JobEnd { ended: Ended::Signal(9), last_line: String::new() };
        let blank = || vec![found(), Event::Read(Ok(Content::Blank))];
        let with = |mut events: Vec<Event<'static>>, more: &[Event<'static>]| {
            events.extend_from_slice(more);
            events
        };
        let table: Vec<(Vec<Event<'_>>, &str)> = vec![
            (vec![Event::Looked(Search::Nothing)], "no partition has this name"),
            (vec![Event::Looked(Search::Several("on several disks".to_owned()))], "on several disks"),
            (vec![found(), Event::Read(Err(failure()))], "it is broken"),
            (vec![found(), Event::Read(Ok(Content::Unknown))], "it is left as it is"),
            (with(blank(), &[Event::Marked(Err(failure()))]), "it is broken"),
            (vec![found(), Event::Read(Ok(Content::Ext4Dirty)), Event::JobEnded(&check, &bad)], "e2fsck -p ended"),
            (vec![found(), Event::Read(Ok(Content::Ext4Dirty)), Event::JobEnded(&check, &killed)], "signal 9"),
            (
                vec![found(), Event::Read(Ok(Content::Blank)), Event::Marked(Ok(64)), Event::JobEnded(&format, &bad)],
                "could not be formatted: mke2fs ended",
            ),
            (
                vec![
                    found(),
                    Event::Read(Ok(Content::Blank)),
                    Event::Marked(Ok(64)),
                    Event::JobEnded(&format, &good),
                    Event::Cleared(Err(failure())),
                ],
                "it is broken",
            ),
            (vec![found(), Event::Read(Ok(Content::Ext4Clean)), Event::JobEnded(&mount, &said)], "EUCLEAN"),
            (
                vec![found(), Event::Read(Ok(Content::Ext4Clean)), Event::JobEnded(&mount, &killed)],
                "mount as ext4: was",
            ),
        ];
        for (events, reason) in table {
            let (stage, actions) = walk(&events, LATER);
            let Some(Action::MakeVolatile(failure)) = actions.last() else { panic!("{events:?}: {actions:?}") };
            assert!(failure.reason.contains(reason), "{failure}");
            // A stand-in by mke2fs, by none, and without a file.
            let file = PathBuf::from("/run/yado/volatile.ext4");
            let job = Job::FormatVolatile(file.clone());
            let (stage, _) = step(stage, Event::FileMade(Some(file.clone())), LATER);
            for (end, mounted) in [(&good, Some(file)), (&bad, None)] {
                let (stage, action) = step(stage.clone(), Event::JobEnded(&job, end), LATER);
                assert_eq!(action, Action::MountVolatile(mounted));
                assert_eq!(step(stage, Event::DataMounted, LATER), (Stage::ReadSpecs, Action::UseVolatile));
            }
        }
        let none = step(Stage::MakeVolatile, Event::FileMade(None), LATER);
        assert_eq!(none, (Stage::MountVolatile, Action::MountVolatile(None)));
    }

    #[test]
    fn nothing_is_given_up_before_its_time_or_while_drivers_are_loaded() {
        let early = walk(&[Event::Looked(Search::Nothing)], LATER - Duration::from_secs(1));
        let without_drivers = walk(&[Event::Looked(Search::NotYet)], LATER * 9);
        for (stage, actions) in [early, without_drivers] {
            assert_eq!((stage, actions), (Stage::FindData { until: LATER }, vec![Action::None]));
        }
        let hosted = step(Stage::Begin, Event::Begin(Mode::Hosted), Moment::ZERO);
        assert_eq!(hosted, (Stage::ReadSpecs, Action::ReadSpecs));
    }
}
