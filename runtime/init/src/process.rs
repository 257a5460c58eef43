//! Starts a program as a child, and turns its output into lines of the log.

use crate::log::line_splitter::LineSplitter;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;
use yado_sys::children::{self, Child, Ended, Program, Session};

/// What our own programs find theirs by.
pub(crate) const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// What was killed and has not ended after this long hangs in the kernel.
pub(crate) const KILLED_LIMIT: Duration = Duration::from_secs(10);

/// A program to be started. Its stdin is `/dev/null` unless `descriptors` say otherwise.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) path: &'a Path,
    /// Arguments, the name first.
    pub(crate) arguments: &'a [&'a OsStr],
    /// `NAME=value`, besides [`PATH`].
    pub(crate) environment: &'a [String],
    /// Descriptors and their numbers in the child; what is missing of 0 to 2 is `/dev/null`.
    pub(crate) descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// The group it starts in.
    pub(crate) group: Option<BorrowedFd<'a>>,
    pub(crate) session: Session,
}

impl Start<'_> {
    /// Starts it.
    pub(crate) fn start(&self) -> io::Result<Child> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let mut descriptors = self.descriptors.to_vec();
        for standard in 0..=2 {
            if !descriptors.iter().any(|(_, number)| *number == standard) {
                descriptors.push((null.as_fd(), standard));
            }
        }
        let arguments = self.arguments.iter().map(|text| c_string(text)).collect::<io::Result<Vec<CString>>>()?;
        let environment = [PATH]
            .into_iter()
            .chain(self.environment.iter().map(String::as_str))
            .map(|text| c_string(OsStr::new(text)))
            .collect::<io::Result<Vec<CString>>>()?;
        children::start(&Program {
            path: &c_string(self.path.as_os_str())?,
            arguments: &arguments,
            environment: &environment,
            descriptors: &descriptors,
            cgroup: self.group,
            session: self.session,
        })
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// How a process ended, for people.
pub(crate) fn how_it_ended(ended: Ended) -> String {
    match ended {
        Ended::Code(children::EXIT_NOT_EXECUTED) => "could not be executed".to_owned(),
        Ended::Code(code) => format!("ended with code {code}"),
        Ended::Signal(signal) => format!("was killed by signal {signal}"),
    }
}

/// What a child writes to its output, as lines.
#[derive(Debug)]
pub(crate) struct Output {
    reader: File,
    lines: LineSplitter,
    is_open: bool,
}

impl Output {
    /// A pipe: ours, and the child's end.
    pub(crate) fn pipe() -> io::Result<(Output, OwnedFd)> {
        let (reader, writer) = children::output_pipe()?;
        Ok((Output { reader: File::from(reader), lines: LineSplitter::default(), is_open: true }, writer))
    }

    /// What is to be polled, while somebody can write.
    pub(crate) fn reader(&self) -> Option<&File> {
        self.is_open.then_some(&self.reader)
    }

    /// Reads what is there, at most a few KiB, and says how many bytes that were; each line goes to `log`.
    pub(crate) fn read(&mut self, now: Duration, log: &mut dyn FnMut(&str)) -> u32 {
        let mut buffer = [0; 2048];
        match self.reader.read(&mut buffer) {
            Ok(len) if 0 < len => {
                self.lines.feed(buffer.get(..len).unwrap_or(&[]), now, log);
                len as u32
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Ok(_) | Err(_) => {
                self.is_open = false;
                self.lines.finish(now, log);
                0
            }
        }
    }

    /// The child has ended: what it printed last goes to `log`.
    pub(crate) fn drain(&mut self, now: Duration, log: &mut dyn FnMut(&str)) {
        // A pipe holds 64 KiB.
        const MAX_READS: usize = 33;
        for _ in 0..MAX_READS {
            if !self.is_open {
                return;
            }
            self.read(now, log);
        }
        self.finish(now, log);
    }

    /// No more of it is read: what is left of a line goes to `log`.
    pub(crate) fn finish(&mut self, now: Duration, log: &mut dyn FnMut(&str)) {
        self.lines.finish(now, log);
    }
}
