//! Tells, while the updater works, how far it is: in the file that `yado update` shows live. It is on tmpfs, so it costs no flash, and
//! it is written at most twice a second, so that it costs no time.

use crate::progress::{Progress, Stage};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::replace_file;
use yado_wire::update_status::{FILE, UpdateStatus};

/// It is written no more often, but for what is new in words.
const PAUSE: Duration = Duration::from_millis(500);

/// The rate is that of so many of the last pauses.
const WINDOW: usize = 8;

/// The file, and what it says.
#[derive(Debug)]
pub struct LiveStatus<C> {
    path: PathBuf,
    clock: C,
    status: UpdateStatus,
    written_at: Option<Duration>,
    /// When so many bytes of the stage were done.
    samples: VecDeque<(Duration, u64)>,
}

impl<C: FnMut() -> Duration> LiveStatus<C> {
    /// Begins to tell, in init's runtime directory. `clock` only goes forward.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn begin(run: &Path, clock: C) -> io::Result<LiveStatus<C>> {
        let path = run.join(FILE);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let status = UpdateStatus { pid: std::process::id(), ..UpdateStatus::default() };
        let samples = VecDeque::new();
        let mut live = LiveStatus { path, clock, status, written_at: None, samples };
        live.write()?;
        Ok(live)
    }

    /// What it says.
    pub fn status(&self) -> &UpdateStatus {
        &self.status
    }

    /// Changes what is said in words, and tells it at once. A file that cannot be written keeps nobody from working.
    pub fn tell(&mut self, change: impl FnOnce(&mut UpdateStatus)) {
        change(&mut self.status);
        let _ = self.write();
    }

    /// The last word: what went wrong, if something did, and with what the updater ends.
    pub fn finish(&mut self, exit: u8) {
        self.tell(|status| {
            (status.stage, status.done, status.total, status.rate, status.left_s) = (None, 0, 0, 0, None);
            status.exit = Some(exit);
        });
    }

    fn write(&mut self) -> io::Result<()> {
        self.written_at = Some((self.clock)());
        let line = serde_json::to_string(&self.status).map_err(io::Error::other)?;
        replace_file::replace_unsynced(&self.path, 0o644, format!("{line}\n").as_bytes())
    }
}

impl<C: FnMut() -> Duration> Progress for LiveStatus<C> {
    fn advance(&mut self, stage: Stage, done: u64, total: u64) {
        let name = word(stage);
        let is_new = self.status.stage.as_deref() != Some(name);
        if is_new {
            self.samples.clear();
            self.status.stage = Some(name.to_owned());
        }
        let now = (self.clock)();
        let is_due = self.written_at.is_none_or(|at| PAUSE <= now.saturating_sub(at));
        if !(is_new || is_due || done == total) {
            return;
        }
        if WINDOW <= self.samples.len() {
            self.samples.pop_front();
        }
        self.samples.push_back((now, done));
        let (rate, left_s) = rate(&self.samples, total);
        self.tell(|status| (status.done, status.total, status.rate, status.left_s) = (done, total, rate, left_s));
    }
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Compare => "compare",
        Stage::Write => "write",
        Stage::ReadBack => "read-back",
        Stage::BootFiles => "boot-files",
    }
}

/// Bytes per second, and the seconds that the rest takes at that rate.
fn rate(samples: &VecDeque<(Duration, u64)>, total: u64) -> (u64, Option<u64>) {
    let (Some((began, first)), Some((now, done))) = (samples.front(), samples.back()) else { return (0, None) };
    let millis = now.saturating_sub(*began).as_millis();
    let bytes = u128::from(done.saturating_sub(*first)) * 1000;
    let rate = bytes.checked_div(millis).and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0);
    (rate, total.saturating_sub(*done).checked_div(rate))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn read(run: &Path) -> UpdateStatus {
        serde_json::from_str(&fs::read_to_string(run.join(FILE)).unwrap()).unwrap()
    }

    #[test]
    fn rate_and_time_left_are_those_of_the_last_seconds() {
        let directory = tempfile::tempdir().unwrap();
        let now = Cell::new(Duration::ZERO);
        let mut live = LiveStatus::begin(directory.path(), || now.get()).unwrap();
        live.tell(|status| status.phase = "staging".to_owned());
        for second in 0..=20 {
            now.set(Duration::from_secs(second));
            // Slow at first, then 2 MB a second.
            let done = if second <= 10 { second * 1000 } else { 10_000 + (second - 10) * 2_000_000 };
            live.advance(Stage::Write, done, 30_010_000);
        }
        let status = read(directory.path());
        assert_eq!((status.phase.as_str(), status.stage.as_deref()), ("staging", Some("write")));
        assert_eq!(status.pid, std::process::id());
        assert_eq!((status.done, status.rate, status.left_s), (20_010_000, 2_000_000, Some(5)));
        live.advance(Stage::ReadBack, 0, 7);
        let status = read(directory.path());
        assert_eq!((status.done, status.rate, status.left_s), (0, 0, None), "another stage begins anew");
        live.finish(35);
        assert_eq!((read(directory.path()).exit, read(directory.path()).stage), (Some(35), None));
    }

    #[test]
    fn it_is_written_twice_a_second_and_at_once_when_a_stage_begins_or_ends() {
        let directory = tempfile::tempdir().unwrap();
        let now = Cell::new(Duration::ZERO);
        let mut live = LiveStatus::begin(directory.path(), || now.get()).unwrap();
        let mut told = Vec::new();
        for millis in 0..=1000 {
            now.set(Duration::from_millis(millis));
            live.advance(Stage::Compare, millis, 1000);
            let done = read(directory.path()).done;
            if told.last() != Some(&done) {
                told.push(done);
            }
        }
        assert_eq!(told, [0, 500, 1000]);
    }
}
