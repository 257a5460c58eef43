//! The process that reads sticks: it finds them, mounts one, and gives the updater the bytes of its files. The updater itself may
//! mount nothing once it is confined, so this process is forked before. What it says is trusted no more than a web server: who breaks
//! it by a stick can delay an update and spoil a read.

use super::{OpenError, Selected, Specs, Stick, StickSource, plugged_in};
use crate::forked_process::ForkedProcess;
use crate::messages::{self, AnswerError, Ask, Failure, MAX_ANSWER_BYTES, Reply, clipped};
use crate::source::{FileName, Ranges, Source, SourceError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use yado_sys::named_partition::{Disks, SYSFS};

/// So much is asked for at a time: what is under way is read to its end, also if nobody wants it any more.
const MAX_READ_BYTES: u64 = 1 << 20;

/// `DISK_NAME_LEN` of <linux/blkdev.h>.
const MAX_NAME_BYTES: usize = 32;

/// A stick, by the name that the kernel has for it and the number of this plugging in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PluggedIn {
    pub(crate) name: String,
    pub(crate) plug: u64,
}

impl From<Stick> for PluggedIn {
    fn from(stick: Stick) -> PluggedIn {
        let Stick { name, plug, .. } = stick;
        PluggedIn { name, plug }
    }
}

/// What is plugged in.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Those that it takes.
    pub(crate) sticks: Vec<PluggedIn>,
    /// All others: to open one says why.
    pub(crate) others: Vec<PluggedIn>,
    /// Why it is not known which of them instances have, if it is not.
    pub(crate) unread: Option<String>,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
enum Wanted {
    /// Which sticks there are: it answers with [`Listed`], and with a [`Reply`] to all others.
    List,
    /// To mount this one, and to look for the folder of a release.
    Open(PluggedIn),
    /// To unmount it.
    Close,
    /// Of the one that is open.
    File(Ask),
}

/// The process, as the updater has it.
#[derive(Debug)]
pub(crate) struct StickProcess {
    process: ForkedProcess,
    floor: Floor,
}

/// How slow a stick may be: one that answers each read just before the kernel gives up would hold the updater for hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor {
    /// In each such time of waiting for bytes ...
    pub(crate) window: Duration,
    /// ... so many come at least. Whatever else is asked is answered within it.
    pub(crate) bytes_in_window: u64,
}

/// A stick that it has open. One is at a time.
#[derive(Debug)]
pub(crate) struct OpenStick {
    link: UnixStream,
    floor: Floor,
    /// Of this window.
    waited: Duration,
    bytes: u64,
}

impl StickProcess {
    /// Forks it. It leaves sticks to instances, by their specs.
    pub(crate) fn start<E: fmt::Display>(
        specs: &Specs,
        floor: Floor,
        confine: impl FnOnce() -> Result<(), E>,
    ) -> io::Result<StickProcess> {
        let mut process = ForkedProcess::start("sticks", confine, |link| serve(link, specs))?;
        process.link().set_read_timeout(Some(floor.window))?;
        Ok(StickProcess { process, floor })
    }

    /// All that are there.
    pub(crate) fn list(&mut self) -> Result<Listed, String> {
        list(self.process.link())
    }

    /// Mounts this one.
    pub(crate) fn open(&mut self, stick: &PluggedIn) -> Result<OpenStick, String> {
        let link = self.process.link();
        match ask(link, &Wanted::Open(stick.clone()), 0, &mut |_| Ok(())).map_err(|error| give_up(link, &error))? {
            (Reply::Done, _) => {
                let link = link.try_clone().map_err(|error| error.to_string())?;
                Ok(OpenStick::new(link, self.floor))
            }
            (Reply::Failed(Failure::Broken { reason }), _) => Err(clipped(&reason)),
            (Reply::Failed(_) | Reply::Seen { .. }, _) => Err(give_up(link, &OTHER_QUESTION)),
        }
    }
}

const OTHER_QUESTION: &str = "it answered another question";

fn list(link: &mut UnixStream) -> Result<Listed, String> {
    let listed = ask::<Listed>(link, &Wanted::List, 0, &mut |_| Ok(()));
    let (Listed { sticks, others, unread }, _) = listed.map_err(|error| give_up(link, &error))?;
    // They are shown to people, and remembered.
    let is_name =
        |name: &str| (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if sticks.iter().chain(&others).all(|stick| is_name(&stick.name)) {
        Ok(Listed { sticks, others, unread: unread.map(|reason| clipped(&reason)) })
    } else {
        Err(give_up(link, &AnswerError::NotOurs))
    }
}

/// What it answers, and why the taker stopped if it did.
fn ask<M: serde::de::DeserializeOwned>(
    mut link: &UnixStream,
    wanted: &Wanted,
    bytes: u64,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(M, Option<io::Error>), AnswerError> {
    messages::send(&mut link, wanted).map_err(AnswerError::Link)?;
    let mut left_bytes = bytes;
    messages::read_whole_answer(&mut link, &mut left_bytes, take).map_err(|error| match error {
        AnswerError::Link(error) if error.kind() == io::ErrorKind::WouldBlock => {
            AnswerError::Link(io::Error::other("too slow: there was no answer"))
        }
        error => error,
    })
}

impl Drop for StickProcess {
    /// It only reads: nothing is lost, and a slow stick is not waited for.
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// It is not spoken to any more: what else it says would be taken for the answer to something else.
fn give_up(link: &UnixStream, why: &dyn fmt::Display) -> String {
    let _ = link.shutdown(Shutdown::Both);
    format!("the process that reads sticks: {why}")
}

impl OpenStick {
    fn new(link: UnixStream, floor: Floor) -> OpenStick {
        OpenStick { link, floor, waited: Duration::ZERO, bytes: 0 }
    }

    /// These bytes came after that time of waiting. The error says why that is too slow.
    fn keep_pace(&mut self, waited: Duration, bytes: usize) -> Result<(), String> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.floor.window {
            return Ok(());
        }
        let (waited, bytes) = (std::mem::take(&mut self.waited), std::mem::take(&mut self.bytes));
        match bytes < self.floor.bytes_in_window {
            true => Err(format!("too slow: {bytes} bytes in {} s", waited.as_secs())),
            false => Ok(()),
        }
    }

    fn ask(
        &mut self,
        file: FileName,
        ask_for: Ask,
        bytes: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<Reply, SourceError> {
        let (mut given, mut too_slow, mut since) = (0, None, Instant::now());
        let link = self.link.try_clone().map_err(|error| self.give_up(file, &error))?;
        let answer = ask(&link, &Wanted::File(ask_for), bytes, &mut |piece| {
            given += piece.len() as u64;
            if let Err(reason) = self.keep_pace(since.elapsed(), piece.len()) {
                // What is under way is not waited for.
                give_up(&link, &reason);
                too_slow = Some(reason);
            }
            let taken = take(piece);
            since = Instant::now();
            taken
        });
        if let Some(reason) = too_slow {
            return Err(self.give_up(file, &reason));
        }
        match answer {
            Ok((_, Some(error))) => Err(SourceError::Stopped(error)),
            Ok((Reply::Failed(failure), None)) => Err(failure.about(file)),
            Ok((Reply::Done, None)) if given < bytes => Err(self.give_up(file, &"it gives less than it says")),
            Ok((reply, None)) => Ok(reply),
            Err(error) => Err(self.give_up(file, &error)),
        }
    }

    fn give_up(&self, file: FileName, why: &dyn fmt::Display) -> SourceError {
        SourceError::Broken { file, reason: give_up(&self.link, why) }
    }
}

impl Source for OpenStick {
    fn ranges(&self) -> Ranges {
        Ranges::Any
    }

    fn length(&mut self, file: FileName) -> Option<u64> {
        match self.ask(file, Ask::Look { file }, 0, &mut |_| Ok(())) {
            Ok(Reply::Seen { gives_ranges: _, bytes }) => bytes,
            Ok(Reply::Done | Reply::Failed(_)) | Err(_) => None,
        }
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(MAX_READ_BYTES));
            match self.ask(file, Ask::Read { file, start, end }, end - start, take)? {
                Reply::Done => start = end,
                Reply::Seen { .. } | Reply::Failed(_) => return Err(self.give_up(file, &OTHER_QUESTION)),
            }
        }
        Ok(())
    }
}

impl Drop for OpenStick {
    /// When this is over it is unmounted, and can be opened again.
    fn drop(&mut self) {
        if let Err(error) = ask::<Reply>(&self.link, &Wanted::Close, 0, &mut |_| Ok(())) {
            give_up(&self.link, &error);
        }
    }
}

/// Does what it is told until the updater hangs up.
fn serve(mut link: &UnixStream, specs: &Specs) -> io::Result<()> {
    let mut opened: Option<StickSource> = None;
    while let Some(wanted) = messages::receive(&mut link, MAX_ANSWER_BYTES)? {
        let answer = match (wanted, &mut opened) {
            (Wanted::List, _) => {
                let (found, unread) = find(specs);
                let (sticks, others) = found.into_iter().partition::<Vec<_>, _>(|stick| stick.not_taken.is_none());
                let [sticks, others] =
                    [sticks, others].map(|sticks| sticks.into_iter().map(PluggedIn::from).collect());
                let unread = unread.map(|reason| clipped(&reason));
                messages::send(&mut link, &Listed { sticks, others, unread })?;
                continue;
            }
            (Wanted::Open(_), Some(_)) => Err(failed(&"another one is open")),
            (Wanted::Open(PluggedIn { name, plug }), None) => {
                let found = find(specs).0.into_iter().find(|stick| stick.name == name && stick.plug == plug);
                match found.ok_or_else(|| failed(&"it is not plugged in any more")).and_then(open) {
                    Ok(source) => {
                        opened = Some(source);
                        Ok(Reply::Done)
                    }
                    Err(failure) => Err(failure),
                }
            }
            (Wanted::Close, _) => {
                opened = None;
                Ok(Reply::Done)
            }
            (Wanted::File(_), None) => Err(failed(&"no stick is open")),
            (Wanted::File(Ask::Look { file }), Some(source)) => {
                Ok(Reply::Seen { gives_ranges: true, bytes: source.length(file) })
            }
            (Wanted::File(Ask::Read { file, start, end }), Some(source)) => {
                let given = source.read(file, start..end, &mut |bytes| messages::send_data(&mut link, bytes));
                given.map(|()| Reply::Done).map_err(of_error)
            }
        };
        messages::send(&mut link, &answer.unwrap_or_else(Reply::Failed))?;
    }
    Ok(())
}

/// Those that are plugged in, and which spec could not be read.
fn find(specs: &Specs) -> (Vec<Stick>, Option<String>) {
    let selected = Selected::read(specs);
    (plugged_in(Path::new(SYSFS), &Disks::of_system(true), &selected), selected.unread)
}

fn open(stick: Stick) -> Result<StickSource, Failure> {
    stick.open().map_err(|error: OpenError| failed(&error))
}

fn of_error(error: SourceError) -> Failure {
    match error {
        SourceError::Missing { .. } => Failure::Missing,
        SourceError::Short { bytes, .. } => Failure::Short { bytes },
        SourceError::Broken { reason, .. } => failed(&reason),
        error @ (SourceError::OutOfOrder { .. } | SourceError::Stopped(_)) => failed(&error),
    }
}

fn failed(why: &dyn fmt::Display) -> Failure {
    Failure::Broken { reason: clipped(&why.to_string()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::messages::{Kind, encode, head};
    use std::io::{Read, Write};

    const FILE: FileName = FileName::Image([1; 32]);
    const FLOOR: Floor = Floor { window: Duration::from_secs(60), bytes_in_window: 1000 };

    /// Who answers this to whatever is asked, and then hangs up.
    fn peer(answer: Vec<u8>) -> (UnixStream, std::thread::JoinHandle<()>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = std::thread::spawn(move || {
            let mut head = [0; messages::HEAD_BYTES];
            theirs.read_exact(&mut head).unwrap();
            let mut body = vec![0; head[1].into()];
            theirs.read_exact(&mut body).unwrap();
            let _ = theirs.write_all(&answer);
        });
        (ours, peer)
    }

    fn data(bytes: usize) -> Vec<u8> {
        [&head(Kind::Data, bytes)[..], &vec![7; bytes]].concat()
    }

    #[test]
    fn what_it_says_beyond_an_answer_is_an_error_and_it_is_not_spoken_to_again() {
        let done = encode(&Reply::Done).unwrap();
        let seen = encode(&Reply::Seen { gives_ranges: true, bytes: None }).unwrap();
        let more = [data(9), data(2), done.clone()].concat();
        let less = [data(9), done.clone()].concat();
        for (answer, words) in [
            (more, "more than was asked for"),
            (less, "less than it says"),
            (seen, "another question"),
            (vec![9; 64], "its answer is none"),
            (head(Kind::Message, MAX_ANSWER_BYTES + 1).to_vec(), "its answer is none"),
            (head(Kind::Data, messages::MAX_DATA_BYTES + 1).to_vec(), "its answer is none"),
            (data(3), "fill whole buffer"),
            (Vec::new(), "fill whole buffer"),
        ] {
            let (link, peer) = peer(answer);
            let mut stick = OpenStick::new(link, FLOOR);
            let mut taken = 0;
            let mut read = |stick: &mut OpenStick| {
                stick.read(FILE, 0..10, &mut |bytes| {
                    taken += bytes.len();
                    Ok(())
                })
            };
            let error = read(&mut stick).unwrap_err().to_string();
            assert!(error.contains("the process that reads sticks: ") && error.contains(words), "{words}: {error}");
            assert!(matches!(read(&mut stick), Err(SourceError::Broken { .. })), "{words}");
            assert!(taken <= 10, "{words}");
            drop(stick);
            peer.join().unwrap();
        }
    }

    #[test]
    fn names_that_are_none_are_no_sticks() {
        let of =
            |name: &str| Listed { sticks: vec![PluggedIn { name: name.to_owned(), plug: 1 }], ..Listed::default() };
        for (sticks, is_taken) in [
            (of("sda1"), true),
            (of(""), false),
            (of("a b"), false),
            (of("\u{1b}[2J"), false),
            (of(&"a".repeat(33)), false),
        ] {
            let (mut link, peer) = peer(encode(&sticks).unwrap());
            assert_eq!(list(&mut link).is_ok(), is_taken, "{sticks:?}");
            peer.join().unwrap();
        }
    }

    #[test]
    fn a_stick_that_gives_little_or_nothing_is_too_slow() {
        let floor = Floor { window: Duration::from_millis(200), bytes_in_window: 1000 };
        for drip_bytes in [0, 1, 1000] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_read_timeout(Some(floor.window)).unwrap();
            let peer = std::thread::spawn(move || {
                // Until nobody listens.
                while drip_bytes != 0 && theirs.write_all(&data(drip_bytes)).is_ok() {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                let _ = theirs.read_to_end(&mut Vec::new());
            });
            let mut stick = OpenStick::new(ours, floor);
            let begun = Instant::now();
            let error = stick.read(FILE, 0..100_000, &mut |_| Ok(())).unwrap_err().to_string();
            // One that is fast enough is stopped by what it has too much.
            let words = if drip_bytes < 1000 { "too slow: " } else { "more than was asked for" };
            assert!(error.contains(words), "{drip_bytes}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{drip_bytes}");
            if drip_bytes < 1000 {
                assert!(matches!(stick.read(FILE, 0..1, &mut |_| Ok(())), Err(SourceError::Broken { .. })));
            }
            drop(stick);
            peer.join().unwrap();
        }
    }

    #[test]
    fn who_stops_taking_can_ask_again() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let served = std::thread::spawn(move || serve(&theirs, &Specs::default()).unwrap());
        let mut stick = OpenStick::new(ours.try_clone().unwrap(), FLOOR);
        let error = stick.read(FILE, 0..1, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("no stick is open"), "{error}");
        assert_eq!(stick.length(FILE), None);
        drop(stick);
        drop(ours);
        served.join().unwrap();
        let (ours, peer) = peer([data(9), data(1), encode(&Reply::Done).unwrap()].concat());
        let mut stick = OpenStick::new(ours, FLOOR);
        let mut taken = 0;
        let stopped = stick.read(FILE, 0..10, &mut |_| {
            taken += 1;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(stopped, Err(SourceError::Stopped(_))) && taken == 1);
        drop(stick);
        peer.join().unwrap();
    }
}
