//! Power that goes away after any write of an update. QEMU notes what a board writes while it takes release 2; of that, disks are made as
//! they may be after any of the writes, each is booted, and its board is looked at.

use super::StepError;
use super::install::instances_are_ready;
use super::roof::{DATA_MIB, INSTALL_TIMEOUT, Roof, TIMEOUT};
use crate::board::disk::{self, copy_sparse};
use crate::board::write_log::{Cut, Entry, Manner, Replay, WriteLog};
use crate::board::{BuildError, disk_path, flash_path, write_log_path};
use crate::command::Tool;
use crate::length::Length;
use crate::report::{Observer, Witness};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// So many writes of data are sampled.
const fn samples(length: Length) -> usize {
    match length {
        Length::Short => 40,
        Length::Long => 1000,
    }
}
/// Of every so many boards one is watched until it has nothing more to do.
const WATCHED: usize = 8;
/// A board has one processor, and this machine two at least.
const BOARDS: usize = 2;
/// A slot's header, at its beginning and at its end.
const HEADER_BYTES: u64 = 4096;
/// A board that is about to restart is asked again when it is up.
const ASKED: usize = 3;
/// Between two looks at how far an update is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A file of the data partition that is older than the update.
const OLDER: &str = "/data/older";

/// What a board wrote while it was updated.
#[derive(Debug)]
pub(super) struct Noted {
    log: WriteLog,
    /// Its disk before the first write.
    begin: PathBuf,
    flash: PathBuf,
    /// So many writes are older than the update.
    older: usize,
    /// Which phase began by which entry.
    phases: Vec<(usize, String)>,
}

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    BootState,
    Header,
    Image,
    BootFiles,
    Data,
    Elsewhere,
}

/// What a board did after its power went away and came back.
struct Seen {
    running: String,
    phase: String,
    end: Option<String>,
}

/// A board of those that are booted.
struct Judge<'a> {
    roof: Roof<'a>,
    replay: Replay<'a>,
}

/// An update from the factory's release to its confirmation.
pub(super) fn noted(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let directory = roof.directory.join("noted");
    std::fs::create_dir_all(&directory).map_err(BuildError::io(&directory))?;
    let (begin, path) = (directory.join("begin.img"), write_log_path(&directory));
    let io = |source| BuildError::io(&path)(source);
    roof.switch_on_logged(&directory, &begin)?;
    instances_are_ready(roof, observer)?;
    roof.board()?.shell(&format!("echo older > {OLDER}; sync"), TIMEOUT)?;
    let now = || WriteLog::count_now(&path).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let older = now().map_err(io)?;
    roof.begin_install("release-2")?;
    let mut phases: Vec<(usize, String)> = Vec::new();
    let deadline = Instant::now() + INSTALL_TIMEOUT;
    loop {
        let (at, status) = (now().map_err(io)?, roof.status_now());
        if let Some(phase) = status["phase"].as_str() {
            if phases.last().is_none_or(|(_, last)| last != phase) {
                phases.push((at, phase.to_owned()));
            }
            if (phase == "idle" && status["release"] == 2) || deadline <= Instant::now() {
                break;
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let running = roof.running()?;
    observer.check(Witness::Kernel, "slot and release that run", &running, running == "B 2")?;
    roof.cut_power()?;
    let log = WriteLog::read(&path).map_err(io)?;
    let mut replay = Replay::new(&log, &begin, &directory.join("flushed.img")).map_err(io)?;
    let (whole, disk) = (directory.join("whole.img"), disk_path(&directory));
    replay.make(Cut { after: log.entries().len(), manner: Manner::Whole }, &whole).map_err(io)?;
    let same = Tool::new("cmp").arg(&whole).arg(&disk).run();
    let shown = same.as_ref().map_or_else(ToString::to_string, |()| format!("{} entries", log.entries().len()));
    observer.check(Witness::OtherEnd, "all that was noted makes the disk that was written", shown, same.is_ok())?;
    for path in [whole, directory.join("flushed.img"), disk] {
        std::fs::remove_file(&path).map_err(BuildError::io(&path))?;
    }
    let noted = Noted { log, begin, flash: flash_path(&directory), older, phases };
    observer.note("writes of the update", noted.shown_counts());
    roof.noted = Some(noted);
    Ok(())
}

/// All of the boot state, the slot's header, the data partition and the partition table.
pub(super) fn after_each_small_one(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let noted = roof.noted.as_ref().ok_or(StepError::Off)?;
    let mut manners = vec![Manner::Whole];
    if roof.length == Length::Long {
        manners.extend([Manner::Torn(1), Manner::Reordered(1)]);
    }
    let places = noted.writes().filter(|(_, place)| !matches!(place, Place::Image | Place::BootFiles));
    let cuts = places.flat_map(|(after, _)| manners.iter().map(move |&manner| Cut { after, manner })).collect();
    judge_all(roof, noted, cuts, observer)
}

/// Some, with what was not flushed lost or torn in two of three.
pub(super) fn after_some_of_data(roof: &mut Roof<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let noted = roof.noted.as_ref().ok_or(StepError::Off)?;
    let seed = fastrand::u64(..);
    observer.note("the writes follow from the number", seed);
    let mut chance = fastrand::Rng::with_seed(seed);
    let places = noted.writes().filter(|(_, place)| matches!(place, Place::Image | Place::BootFiles));
    let places: Vec<usize> = places.map(|(after, _)| after).collect();
    let mut cut = |number: usize| {
        let manner = match number % 3 {
            0 => Manner::Whole,
            1 => Manner::Torn(chance.u64(..)),
            _ => Manner::Reordered(chance.u64(..)),
        };
        Cut { after: places[chance.usize(..places.len())], manner }
    };
    let cuts = (0..samples(roof.length)).map(&mut cut).collect();
    judge_all(roof, noted, cuts, observer)
}

/// Boots a board after each cut; what they did is one table.
fn judge_all(roof: &Roof<'_>, noted: &Noted, mut cuts: Vec<Cut>, observer: &mut Observer) -> Result<(), StepError> {
    cuts.sort_by_key(|cut| cut.after);
    let mut judges = Vec::new();
    for number in 0..BOARDS {
        judges.push(Judge::new(roof, noted, &roof.directory.join(format!("judged-{number}")))?);
    }
    let (sender, outcomes) = mpsc::channel();
    let mut table: BTreeMap<(usize, Place), BTreeMap<String, usize>> = BTreeMap::new();
    std::thread::scope(|scope| {
        for (number, mut judge) in judges.into_iter().enumerate() {
            let (sender, cuts) = (sender.clone(), &cuts);
            scope.spawn(move || {
                for (place, cut) in cuts.iter().enumerate().skip(number).step_by(BOARDS) {
                    // Whoever listens has seen enough.
                    if sender.send((*cut, judge.judge(*cut, place % WATCHED == 0))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (cut, outcome) in outcomes {
            let (stage, phase) = noted.stage(cut.after);
            let place = noted.place(cut.after);
            let Seen { running, phase: found, end } = outcome?;
            let whole = running == "A 1" || running == "B 2";
            let shown = format!(
                "{running}, {found}{}",
                end.as_deref().map(|end| format!(", then {end}")).unwrap_or_default()
            );
            let what = format!("cut at entry {} ({:?}; {phase}, {place})", cut.after, cut.manner);
            observer.check(Witness::Kernel, &what, &shown, whole)?;
            if let Some(end) = end {
                let is_at_an_end = end == "A 1" || end == "B 2";
                observer.check(Witness::Kernel, "nothing more to do", &end, is_at_an_end)?;
            }
            *table.entry((stage, place)).or_default().entry(format!("{running}, {found}")).or_default() += 1;
        }
        Ok::<(), StepError>(())
    })?;
    for ((stage, place), seen) in table {
        let seen: Vec<String> = seen.iter().map(|(what, times)| format!("{times} × {what}")).collect();
        observer.note(
            &format!("{} | {place}", noted.phases.get(stage).map_or("idle", |(_, phase)| phase)),
            seen.join("; "),
        );
    }
    Ok(())
}

impl Noted {
    /// The update's writes: how many entries there are when it is done, and where it goes.
    fn writes(&self) -> impl Iterator<Item = (usize, Place)> {
        let entries = self.log.entries().iter().enumerate().skip(self.older);
        entries.filter_map(|(number, entry)| match entry {
            Entry::Write { offset, bytes, .. } => Some((number + 1, Place::of(*offset, *bytes))),
            Entry::Flush | Entry::Discard => None,
        })
    }

    /// Of the last write before a cut.
    fn place(&self, after: usize) -> Place {
        match self.log.entries().get(after.saturating_sub(1)) {
            Some(Entry::Write { offset, bytes, .. }) => Place::of(*offset, *bytes),
            _ => Place::Elsewhere,
        }
    }

    /// Which phase had begun last, and its name.
    fn stage(&self, after: usize) -> (usize, &str) {
        let begun = self.phases.iter().take_while(|(at, _)| *at <= after).count();
        match begun.checked_sub(1) {
            Some(last) => (last, &self.phases[last].1),
            None => (0, "asked"),
        }
    }

    fn shown_counts(&self) -> String {
        let mut counts: BTreeMap<Place, usize> = BTreeMap::new();
        for (_, place) in self.writes() {
            *counts.entry(place).or_default() += 1;
        }
        let shown: Vec<String> = counts.iter().map(|(place, count)| format!("{count} {place}")).collect();
        format!("{}; phases {:?}", shown.join(", "), self.phases)
    }
}

impl Place {
    fn of(offset: u64, bytes: u64) -> Place {
        let within = |name: &str| {
            let extent = disk::extent(name, DATA_MIB)?;
            (extent.offset <= offset && offset < extent.offset + extent.bytes).then_some(extent)
        };
        if within("state").is_some() {
            Place::BootState
        } else if let Some(slot) = within("slot-a").or_else(|| within("slot-b")) {
            let is_header = offset == slot.offset || offset + bytes == slot.offset + slot.bytes;
            if is_header && bytes <= HEADER_BYTES { Place::Header } else { Place::Image }
        } else if within("boot-a").or_else(|| within("boot-b")).is_some() {
            Place::BootFiles
        } else if within("data").is_some() {
            Place::Data
        } else {
            Place::Elsewhere
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Place::BootState => "boot state",
            Place::Header => "slot's header",
            Place::Image => "image",
            Place::BootFiles => "boot files",
            Place::Data => "data partition",
            Place::Elsewhere => "elsewhere",
        })
    }
}

impl<'a> Judge<'a> {
    fn new(roof: &Roof<'a>, noted: &'a Noted, directory: &Path) -> Result<Judge<'a>, StepError> {
        std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
        copy_sparse(&noted.flash, &flash_path(directory)).map_err(BuildError::io(directory))?;
        let replay = Replay::new(&noted.log, &noted.begin, &directory.join("flushed.img"));
        Ok(Judge { roof: roof.beside(directory), replay: replay.map_err(BuildError::io(directory))? })
    }

    /// Boots what is left after a cut, has the kernel read each block of what runs, and waits for its instances; if it is watched,
    /// also until the update has come to its end.
    fn judge(&mut self, cut: Cut, is_watched: bool) -> Result<Seen, StepError> {
        let Judge { roof, replay } = self;
        let disk = disk_path(&roof.directory);
        replay.make(cut, &disk).map_err(BuildError::io(&disk))?;
        roof.switch_on_again()?;
        let mut asked = look(roof);
        for _ in 1..ASKED {
            if asked.is_err() {
                asked = look(roof);
            }
        }
        let running = asked?;
        for name in ["crab", "whelk"] {
            roof.wait_ready(name, TIMEOUT)?;
        }
        let phase = roof.at_work()?;
        let mut end = None;
        if is_watched {
            roof.wait_status("an update at its end", INSTALL_TIMEOUT, |status| status["phase"] == "idle")?;
            end = Some(look(roof)?);
        }
        roof.cut_power()?;
        Ok(Seen { running, phase, end })
    }
}

/// Slot and release that run, if every block of all images that are in use verifies and the older file is as it was.
fn look(roof: &Roof<'_>) -> Result<String, StepError> {
    let running = roof.running()?;
    let read = "for image in /dev/dm-*; do dd if=$image of=/dev/null bs=1M 2>/dev/null || echo $image; done";
    let said = roof.board()?.shell(&format!("{read}; cat {OLDER}"), TIMEOUT)?;
    if said == "older" { Ok(running) } else { Ok(format!("{running}, but {said}")) }
}
