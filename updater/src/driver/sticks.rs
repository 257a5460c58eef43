//! What is done with a stick that was plugged in, where the policy takes sticks: it is looked at once, and a release on it is installed
//! as from any source. What was found is kept until the next boot, so that one that is plugged in again and again is told once, and
//! is not installed in vain without end.

use super::{Driver, Request, check};
use crate::confinement;
use crate::exit_codes::DONE;
use crate::machine::Event;
use crate::places::Places;
use crate::record::{Line, Phase, Record};
use crate::run_file::RunFile;
use crate::source::open::WINDOW;
use crate::source::stick::process::{Floor, Listed, OpenStick, PluggedIn, StickProcess};
use crate::source::stick::{ADDRESS, Specs};
use crate::source::{FileName, Source, SourceError, read_release};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::time::Duration;
use yado_spec::update_policy::UpdatePolicy;
use yado_sys::clock;
use yado_wire::hex;

/// So often a release that is plugged in is installed in vain; after that only when somebody asks for it.
const MAX_TRIES: u8 = 3;

/// So many are installed without being asked until the next boot, whichever: a stick may have another one each time.
const MAX_INSTALLS: u8 = 8;

/// Sticks are not looked at again by themselves before: one that comes and goes all the time keeps nobody busy.
const PAUSE: Duration = Duration::from_secs(30);

/// In the updater's run directory: when sticks were looked at, in seconds since the boot.
const LAST_LOOK: RunFile = RunFile { name: "last-stick-look", mode: MODE, max_bytes: RunFile::TIME_BYTES };

/// In the updater's run directory: what was looked at.
const FILE: RunFile = RunFile { name: "sticks", mode: MODE, max_bytes: 16 * 1024 };
const MODE: u32 = 0o600;
/// The oldest are forgotten.
const MAX_RELEASES: usize = 16;
const MAX_LOOKED_AT: usize = 64;
/// Characters of why a stick is not taken.
const MAX_TOLD: usize = 120;

/// What is kept.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Sticks, each by the number of its plugging in.
    looked_at: Vec<String>,
    releases: Vec<Release>,
    /// Why it was told that no stick is looked at.
    unread: Option<String>,
    /// So many were begun to be installed.
    installs: u8,
    /// Fingerprint of the release that is installed without being asked.
    chosen: Option<String>,
}

/// A release that was found on a stick.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Release {
    /// Its fingerprint where it verifies, and else the SHA-256 of its bytes.
    sha256: String,
    /// The rule by which it was refused, if it was.
    rule: Option<String>,
    /// So often it was begun to be installed.
    tries: u8,
}

/// Forks who reads sticks, if one can be needed: something names it as the source, or one that is plugged in may have to be looked at.
/// Without it no stick is read; what goes on besides does not need it.
pub(super) fn start_if_needed(
    places: &Places,
    request: &Request,
    policy: &UpdatePolicy,
    record: &Record,
) -> Option<StickProcess> {
    if !may_be_needed(request, policy, record) {
        return None;
    }
    let compiled = [&places.run, &places.system].map(|place| place.join("specs")).to_vec();
    let specs = Specs { compiled, running: places.run.join("instances") };
    let bytes_in_window = u64::from(policy.speed_floor).saturating_mul(WINDOW.as_secs());
    let floor = Floor { window: WINDOW, bytes_in_window };
    let process = StickProcess::start(&specs, floor, confinement::confine_reader_of_sticks);
    process.inspect_err(|error| eprintln!("start the process that reads sticks: {error}")).ok()
}

fn may_be_needed(request: &Request, policy: &UpdatePolicy, record: &Record) -> bool {
    let is_named = [request.source(), policy.source.as_deref(), record.phase.source().map(Line::as_str)]
        .contains(&Some(ADDRESS));
    let comes_to_rest = match request {
        Request::Resume => true,
        // A wish is noted, and no more.
        Request::Do(event) => !matches!(event, Event::UserHolds | Event::UserReleases),
        Request::Check(_) => false,
    };
    is_named || policy.takes_sticks && comes_to_rest
}

impl Driver {
    /// Looks at sticks that were not looked at before, up to one with a release that may be installed: its address.
    pub(super) fn look_at_sticks(&mut self) -> Option<Line> {
        if !self.may_look() {
            return None;
        }
        let Listed { sticks, others, unread } = self.plugged_in();
        self.tell_others(&others);
        let new = self.not_looked_at(sticks, unread);
        if new.is_empty() || !self.pause_is_over() {
            return None;
        }
        for stick in new {
            let mut memory = Memory::read(&self.places);
            memory.add_looked_at(id(&stick));
            // Before it is mounted: what makes us crash is not looked at again.
            if !memory.write(&self.places) {
                return None;
            }
            let name = stick.name.clone();
            match self.mount(&stick) {
                Err(error) => println!("stick {name}: {error}"),
                Ok(mut source) => match read_release(&mut source) {
                    Err(error) => println!("stick {name}: {error}"),
                    Ok(bytes) => {
                        drop(source);
                        self.stick = Some(stick);
                        if let Some(source) = self.judge_stick(&name, &bytes, memory) {
                            return Some(source);
                        }
                        self.stick = None;
                    }
                },
            }
        }
        None
    }

    /// When a stick that is there is to be looked at, which was not: after this time.
    pub(super) fn next_look_at_sticks(&mut self) -> Option<Duration> {
        if !self.may_look() {
            return None;
        }
        let Listed { sticks, others: _, unread } = self.plugged_in();
        (!self.not_looked_at(sticks, unread).is_empty()).then(|| self.pause_left())
    }

    fn pause_left(&self) -> Duration {
        pause_left(LAST_LOOK.read_time(&self.places), clock::since_boot())
    }

    /// Sticks may be looked at now. The pause begins anew then.
    fn pause_is_over(&self) -> bool {
        self.pause_left().is_zero()
            && is_written(&self.places, LAST_LOOK, LAST_LOOK.write_time(&self.places, clock::since_boot()))
    }

    /// Those that are not taken are told, each with its reason once, however often it is plugged in.
    fn tell_others(&mut self, others: &[PluggedIn]) {
        for stick in others {
            let Err(error) = self.mount(stick) else { continue };
            let mut memory = Memory::read(&self.places);
            let told: String = format!("{}: {error}", stick.name).chars().take(MAX_TOLD).collect();
            if !memory.looked_at.contains(&told) {
                println!("stick {told}");
                memory.add_looked_at(told);
                memory.write(&self.places);
            }
        }
    }

    /// An update waits for a stick to be plugged in again, and one came: it need not wait any longer.
    pub(super) fn go_on_with_new_stick(&mut self) {
        let is_fetched = matches!(self.state.record.phase, Phase::Candidate { .. } | Phase::Staging { .. });
        let is_from_stick = self.state.record.phase.source().is_some_and(|source| source.as_str() == ADDRESS);
        if !is_fetched || !is_from_stick || self.state.wait.again_at.is_none() {
            return;
        }
        let mut memory = Memory::read(&self.places);
        let mut came = self.plugged_in().sticks;
        // Whatever else is on it is looked at when the update is over.
        let waited_for = |stick: &PluggedIn| format!("+{}", id(stick));
        came.retain(|stick| ![id(stick), waited_for(stick)].iter().any(|id| memory.looked_at.contains(id)));
        if !came.is_empty() && self.pause_is_over() {
            came.iter().for_each(|stick| memory.add_looked_at(waited_for(stick)));
            if memory.write(&self.places) {
                self.state.wait.again_at = None;
            }
        }
    }

    /// The policy wants it, and nothing goes on.
    fn may_look(&self) -> bool {
        self.policy.takes_sticks && self.state.record.phase == Phase::Idle
    }

    /// Those of these sticks that are new; none, if there is a reason not to know whose they are.
    fn not_looked_at(&self, sticks: Vec<PluggedIn>, unread: Option<String>) -> Vec<PluggedIn> {
        let mut memory = Memory::read(&self.places);
        let new: Vec<_> = sticks.into_iter().filter(|stick| !memory.looked_at.contains(&id(stick))).collect();
        match unread {
            // Who asks for a stick says that it may be had.
            Some(reason) if !new.is_empty() => {
                if memory.unread.as_ref() != Some(&reason) {
                    println!("no stick is looked at: which of them instances have is not known: {reason}");
                    memory.unread = Some(reason);
                    memory.write(&self.places);
                }
                Vec::new()
            }
            Some(_) | None => new,
        }
    }

    fn plugged_in(&mut self) -> Listed {
        let listed = self.sticks.as_mut().map_or(Ok(Listed::default()), StickProcess::list);
        listed.inspect_err(|error| eprintln!("{error}")).unwrap_or_default()
    }

    fn mount(&mut self, stick: &PluggedIn) -> Result<OpenStick, String> {
        match &mut self.sticks {
            Some(process) => process.open(stick),
            None => Err("there is no process that reads sticks".to_owned()),
        }
    }

    /// Checks the release on this stick as any other, and tells what came of it unless that was told before.
    fn judge_stick(&mut self, name: &str, bytes: &[u8], mut memory: Memory) -> Option<Line> {
        let address = Line::parse(ADDRESS)?;
        self.status.is_silent = true;
        let found = self.check(&address);
        self.status.is_silent = false;
        let (rule, says) = self.status.last_word().unwrap_or_default();
        // The check has read it again, and a stick may give something else each time: what it has verified counts.
        let sha256 = self.checked.unwrap_or_else(|| Sha256::digest(bytes).into());
        let are_too_many = found.is_ok() && MAX_INSTALLS <= memory.installs;
        let known = memory.release(hex::encode(&sha256));
        let is_new = known.tries == 0 && known.rule.is_none() || known.rule != rule;
        known.rule = rule;
        let is_tried = found.is_ok() && MAX_TRIES <= known.tries;
        match &known.rule {
            _ if is_tried => {
                println!("stick {name}: {says}, but it was installed {MAX_TRIES} times in vain: only when asked");
            }
            _ if are_too_many => {
                println!("stick {name}: {says}, but {MAX_INSTALLS} were installed since the boot: only when asked");
            }
            Some(rule) if is_new => println!("stick {name}: {says} (rule {rule})"),
            Some(_) => {}
            None => println!("stick {name}: {says}"),
        }
        let is_taken = found.is_ok() && !is_tried && !are_too_many;
        if is_taken {
            known.tries += 1;
            memory.installs += 1;
            memory.chosen = Some(hex::encode(&sha256));
        }
        if found == Err(check::already()) {
            self.exit = DONE;
        }
        (memory.write(&self.places) && is_taken).then_some(address)
    }

    /// The source `usb`: the stick that was looked at, or else the first one with a release; with the release that is worked on, where
    /// one is.
    pub(super) fn open_stick(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let failed = |reason: String| SourceError::Broken { file: FileName::Release, reason };
        if let Some(stick) = self.stick.clone() {
            let opened = self.mount(&stick).map_err(|error| failed(format!("stick {}: {error}", stick.name)))?;
            return Ok(Box::new(opened));
        }
        let wanted = self.state.record.phase.update().and_then(|_| self.kept());
        let mut reasons = String::new();
        let Listed { sticks, others, .. } = self.plugged_in();
        for stick in sticks.into_iter().chain(others) {
            match self.mount_with(&stick, wanted.as_deref()) {
                Ok(source) => return Ok(Box::new(source)),
                Err(error) => reasons.push_str(&format!("; {}: {error}", stick.name)),
            }
        }
        Err(failed(format!("no stick with it is plugged in{reasons}")))
    }

    /// With these bytes of a release, if any are given.
    fn mount_with(&mut self, stick: &PluggedIn, wanted: Option<&[u8]>) -> Result<OpenStick, String> {
        let mut source = self.mount(stick)?;
        match wanted {
            Some(wanted) if !read_release(&mut source).is_ok_and(|bytes| bytes == wanted) => {
                Err("it has another release, or one that cannot be read".to_owned())
            }
            Some(_) | None => Ok(source),
        }
    }
}

/// Whoever asks for a release of a stick's, or a check that is due, takes the one that is there.
pub(super) fn choose_any(places: &Places) {
    let memory = Memory::read(places);
    if memory.chosen.is_some() {
        Memory { chosen: None, ..memory }.write(places);
    }
}

/// What is installed without being asked is the release that was checked.
pub(super) fn is_chosen(places: &Places, source: &Line, fingerprint: &[u8; 32]) -> bool {
    let chosen = Memory::read(places).chosen.filter(|_| source.as_str() == ADDRESS);
    chosen.is_none_or(|chosen| chosen == hex::encode(fingerprint))
}

/// False: it could not be kept, and was told.
fn is_written(places: &Places, file: RunFile, written: io::Result<()>) -> bool {
    let tell = |error: &io::Error| eprintln!("{}: {error}: no stick is looked at", file.path(places).display());
    written.inspect_err(tell).is_ok()
}

/// What is left of the pause after the last look.
fn pause_left(last: Option<Duration>, now: Duration) -> Duration {
    match last {
        Some(last) if last <= now => last.saturating_add(PAUSE).saturating_sub(now),
        // It is of another boot.
        Some(_) | None => Duration::ZERO,
    }
}

/// Of this plugging in, and no other.
fn id(stick: &PluggedIn) -> String {
    format!("{} {}", stick.plug, stick.name)
}

impl Memory {
    /// One that cannot be read is as none.
    fn read(places: &Places) -> Memory {
        FILE.read(places).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn add_looked_at(&mut self, id: String) {
        self.looked_at.push(id);
        let surplus = self.looked_at.len().saturating_sub(MAX_LOOKED_AT);
        self.looked_at.drain(..surplus);
    }

    fn release(&mut self, sha256: String) -> &mut Release {
        let known = self.releases.iter().position(|release| release.sha256 == sha256);
        let release = known.map_or(Release { sha256, rule: None, tries: 0 }, |at| self.releases.remove(at));
        if MAX_RELEASES <= self.releases.len() {
            self.releases.remove(0);
        }
        self.releases.push(release);
        let last = self.releases.len() - 1;
        &mut self.releases[last]
    }

    /// False: it could not be kept, and was told.
    fn write(&self, places: &Places) -> bool {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other);
        is_written(places, FILE, bytes.and_then(|bytes| FILE.write(places, &bytes)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sticks_are_looked_at_once_in_a_pause() {
        let s = Duration::from_secs;
        for (last, now, left) in [
            (None, 20, 0),
            (Some(20), 20, 30),
            (Some(20), 49, 1),
            (Some(20), 50, 0),
            (Some(20), 7000, 0),
            // Of another boot.
            (Some(7000), 20, 0),
            (Some(u64::MAX), 20, 0),
        ] {
            assert_eq!(pause_left(last.map(s), s(now)), s(left), "{last:?} {now}");
        }
    }

    #[test]
    fn what_was_found_is_kept_within_bounds_and_what_is_torn_is_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().to_owned();
        let places = Places { system: run.clone(), data: run.clone(), run, state: None };
        assert_eq!(Memory::read(&places), Memory::default());
        std::fs::create_dir(places.own_run()).unwrap();
        let mut memory = Memory::default();
        for number in 0..200_u32 {
            memory.add_looked_at(format!("{}{number} sdaaa128", u64::MAX));
            let release = memory.release(hex::encode(&[number as u8; 32]));
            (release.rule, release.tries) = (Some("\"".repeat(30)), MAX_TRIES);
        }
        // The one that was used last is the last to be forgotten.
        memory.release(hex::encode(&[190; 32]));
        for number in 200..200 + MAX_RELEASES as u8 - 1 {
            assert_eq!(memory.release(hex::encode(&[number; 32])).tries, 0);
        }
        assert_eq!(memory.release(hex::encode(&[190; 32])).tries, MAX_TRIES);
        assert_eq!((memory.looked_at.len(), memory.releases.len()), (MAX_LOOKED_AT, MAX_RELEASES));
        assert!(memory.write(&places));
        assert_eq!(Memory::read(&places), memory);
        let path = FILE.path(&places);
        let whole = std::fs::read(&path).unwrap();
        assert!((whole.len() as u64) < FILE.max_bytes, "{}", whole.len());
        for torn in [&b""[..], b"{}", b"7", &whole[..whole.len() / 2], &[b' '; 20_000]] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(Memory::read(&places), Memory::default());
        }
    }
}
