//! Shows how far an update is while it works: a bar on a terminal, lines elsewhere, JSON for programs. The update is a process of
//! init's, so whoever stops to look stops nothing.

use super::view;
use crate::command_line::Outcome;
use crate::output::{self, Format, printable};
use crate::rescue;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use yado_sys::poll::{Interest, PollSet};
use yado_sys::signals::{self, Signal};
use yado_wire::rescue::ExitStatus;
use yado_wire::update_status::{FAILED, FILE, MAX_BYTES, UpdateStatus, exit_code};

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// A terminal that does not say how wide it is.
const WIDTH: usize = 80;

/// What a shell says of a command that ctrl-c ended.
const EXIT_INTERRUPTED: u8 = 130;

const GOES_ON: &str = "the update goes on: `yado update cancel` stops it, `yado update status --follow` shows it; \
                       once more leaves it alone";

/// Whom to ask, and how to show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follow<'a> {
    pub(super) socket: &'a Path,
    pub(super) format: Format,
}

impl Follow<'_> {
    /// Has the updater do something, and ends with its exit code.
    pub(super) fn run(&self, verb: &[&str], argument: Option<String>, input: Option<BorrowedFd<'_>>) -> Outcome {
        let words = verb.iter().map(|word| (*word).to_owned()).chain(argument).collect();
        let updater = rescue::StartedUpdater::start(self.socket, words, input)?;
        let mut screen = Screen::new(self.format);
        let keys = Keys::open()?;
        loop {
            let ended = updater.wait(LOOK)?;
            let status = self.read(updater.pid);
            if let Some(ended) = ended {
                let status = status.or_else(|| screen.last.clone()).unwrap_or_default();
                return screen.finish(status, ended);
            }
            if let Some(status) = status {
                screen.show(&status)?;
            }
            if keys.is_leave(&mut screen)? {
                return Ok(ExitCode::from(EXIT_INTERRUPTED));
            }
        }
    }

    /// Shows the update that somebody else began, until it has ended.
    pub(super) fn watch(&self) -> Outcome {
        let mut screen = Screen::new(self.format);
        let keys = Keys::open()?;
        let first = rescue::running_updater(self.socket)?.ok_or("no update is at work")?;
        loop {
            // Asked first: what it wrote last is read after it has ended.
            let running = rescue::running_updater(self.socket)?;
            let status = self.read(Some(first));
            if running != Some(first) {
                let status = status.or_else(|| screen.last.clone()).unwrap_or_default();
                let code = status.exit.unwrap_or(FAILED);
                return screen.finish(status, ExitStatus::Code(code));
            }
            if let Some(status) = status {
                screen.show(&status)?;
            }
            if keys.is_leave(&mut screen)? {
                return Ok(ExitCode::from(EXIT_INTERRUPTED));
            }
            keys.wait(LOOK)?;
        }
    }

    /// What the updater of this process says. `None`: nothing yet.
    fn read(&self, pid: Option<i32>) -> Option<UpdateStatus> {
        let is_its = |status: &UpdateStatus| i64::from(status.pid) == pid.map_or(0, i64::from);
        read_status(&status_path(self.socket)?).filter(is_its)
    }
}

/// It lies beside init's socket, by whatever links the socket is named.
fn status_path(socket: &Path) -> Option<PathBuf> {
    Some(socket.canonicalize().ok()?.parent()?.join(FILE))
}

fn read_status(path: &Path) -> Option<UpdateStatus> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES as u64).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Ctrl-C, and what asks a program to end.
struct Keys {
    signals: OwnedFd,
}

impl Keys {
    fn open() -> io::Result<Keys> {
        Ok(Keys { signals: signals::signal_fd()? })
    }

    /// Whether whoever looks wants to go. The first ctrl-c is answered by what goes on.
    fn is_leave(&self, screen: &mut Screen) -> io::Result<bool> {
        while let Some(signal) = signals::read_signal(&self.signals)? {
            match signal {
                Signal::Interrupt if !screen.is_told => screen.tell(),
                Signal::Interrupt | Signal::Terminate | Signal::HangUp => return Ok(true),
                Signal::Child | Signal::Power => {}
            }
        }
        Ok(false)
    }

    fn wait(&self, time: Duration) -> io::Result<()> {
        let mut set = PollSet::default();
        set.add(&self.signals, Interest::Read);
        set.wait(Some(time))
    }
}

/// What was shown, and where.
struct Screen {
    format: Format,
    is_terminal: bool,
    last: Option<UpdateStatus>,
    /// A line stands on the terminal that the next one replaces.
    is_open: bool,
    is_told: bool,
}

impl Screen {
    fn new(format: Format) -> Screen {
        Screen { format, is_terminal: io::stderr().is_terminal(), last: None, is_open: false, is_told: false }
    }

    fn show(&mut self, status: &UpdateStatus) -> io::Result<()> {
        if self.last.as_ref() == Some(status) {
            return Ok(());
        }
        match (self.format, self.is_terminal) {
            (Format::Json, _) => output::print_json_line(&serde_json::to_value(status).unwrap_or_default())?,
            (Format::Table, true) => {
                if self.last.as_ref().is_some_and(|last| view::headline(last) != view::headline(status)) {
                    self.close();
                }
                // A terminal that has gone away does not matter here.
                let _ = write!(io::stderr(), "\r{}\x1b[K", view::line(status, width()));
                self.is_open = true;
            }
            (Format::Table, false) if self.is_news(status) => {
                let _ = writeln!(io::stderr(), "{}", view::line(status, usize::MAX));
            }
            (Format::Table, false) => {}
        }
        self.last = Some(status.clone());
        Ok(())
    }

    /// A log that nobody watches gets a line for each stage and each tenth of it.
    fn is_news(&self, status: &UpdateStatus) -> bool {
        self.last.as_ref().is_none_or(|last| {
            view::headline(last) != view::headline(status) || view::percent(last) / 10 != view::percent(status) / 10
        })
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = writeln!(io::stderr());
        }
    }

    fn tell(&mut self) {
        self.close();
        self.is_told = true;
        eprintln!("yado: {GOES_ON}");
    }

    /// The last word, and its exit code.
    fn finish(mut self, status: UpdateStatus, ended: ExitStatus) -> Outcome {
        let code = exit_code(ended);
        let status = UpdateStatus { exit: Some(code), ..status };
        if self.format == Format::Json {
            output::print_json_line(&serde_json::to_value(&status).unwrap_or_default())?;
            return Ok(ExitCode::from(code));
        }
        self.close();
        match (code, &status.error, ended) {
            (0, ..) => output::print(&format!("{}\n", view::headline(&status)))?,
            (_, Some(error), _) => {
                let rule = status.rule.as_ref().map_or_else(String::new, |rule| format!(" (rule {rule})"));
                eprintln!("yado: {}", printable(&format!("{error}{rule}")));
            }
            (_, None, ExitStatus::Signal(signal)) => {
                eprintln!("yado: the updater was killed by signal {signal}: yado rescue logs has what it said");
            }
            (_, None, ExitStatus::Code(code)) => {
                eprintln!("yado: the updater ended with code {code}: yado rescue logs has what it said");
            }
        }
        Ok(ExitCode::from(code))
    }
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr().as_fd());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns != 0).unwrap_or(WIDTH)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whoever_wrote_more_and_what_is_torn_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        assert_eq!(read_status(&path), None);
        std::fs::write(&path, "{\"phase\":\"staging\",\"done\":7,\"colour\":\"blue\"}\n").unwrap();
        let read = read_status(&path).unwrap();
        assert_eq!((read.phase.as_str(), read.done, read.exit), ("staging", 7, None));
        for torn in ["", "{", "{\"phase\":7}", "7"] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(read_status(&path), None, "{torn:?}");
        }
    }

    #[test]
    fn a_log_gets_a_line_for_each_stage_and_each_tenth() {
        let mut screen =
            Screen { format: Format::Table, is_terminal: false, last: None, is_open: false, is_told: false };
        let at = |stage: &str, done| UpdateStatus {
            stage: Some(stage.to_owned()),
            done,
            total: 100,
            ..UpdateStatus::default()
        };
        let mut news = Vec::new();
        for status in [at("write", 0), at("write", 5), at("write", 10), at("write", 19), at("read-back", 19)] {
            news.push(screen.is_news(&status));
            screen.last = Some(status);
        }
        assert_eq!(news, [true, false, true, false, true]);
    }
}
