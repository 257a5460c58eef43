//! The board's disk as one with a volatile write cache, as SD cards and eMMC have one: when the power goes away, what was written
//! and not flushed since is there, is not there, or is torn, write by write. A part of it can be broken, too ([`Fault`]).
//!
//! It is a server of QEMU's NBD client over a Unix socket, a thread of ours that ends with the emulator. The protocol is the
//! "newstyle fixed" one of NBD's doc/proto.md, with the options and commands that QEMU uses.

mod bad_part;

use bad_part::{Answer, BadPart};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use bad_part::Fault;

/// What is torn is torn between two of these.
const SECTOR_BYTES: usize = 512;
/// So much is kept back; then the oldest is written. Caches of eMMC have up to some MiB.
const MAX_UNFLUSHED_BYTES: usize = 4 * 1024 * 1024;
/// QEMU splits what is longer: its `BDRV_REQUEST_MAX_BYTES` is for NBD what we say here.
const MAX_REQUEST_BYTES: u32 = 32 * 1024 * 1024;

/// A disk that forgets, while QEMU runs.
#[derive(Debug)]
pub struct VolatileDisk {
    content: Arc<Mutex<Content>>,
}

/// What became of the writes that were not flushed when the power went away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// How many there were.
    pub unflushed: usize,
    /// How many of them are not on the disk.
    pub lost: usize,
    /// How many are there in part.
    pub torn: usize,
    /// By which the same would be lost again.
    pub seed: u64,
}

#[derive(Debug)]
struct Content {
    file: File,
    /// Oldest first.
    unflushed: VecDeque<Unflushed>,
    unflushed_bytes: usize,
    bad: Option<BadPart>,
    /// Without power nothing is read or written any more.
    is_on: bool,
}

#[derive(Debug)]
struct Unflushed {
    offset: u64,
    data: Vec<u8>,
}

impl VolatileDisk {
    /// Serves the disk in a file on a socket that is made there, to the first who connects.
    pub fn serve(file: &Path, socket: &Path) -> io::Result<VolatileDisk> {
        let file = File::options().read(true).write(true).open(file)?;
        let bytes = file.metadata()?.len();
        let listener = UnixListener::bind(socket)?;
        let content = Arc::new(Mutex::new(Content::of(file)));
        let served = Arc::clone(&content);
        std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            let outcome = listener.accept().and_then(|(stream, _)| serve(stream, bytes, &served));
            // QEMU tells its guest of an error, and the test fails by that.
            if let Err(error) = outcome {
                eprintln!("the board's disk: {error}");
            }
        })?;
        Ok(VolatileDisk { content })
    }

    /// Breaks a part of the disk; one that was broken before is whole again.
    pub fn break_part(&self, extent: Range<u64>, fault: Fault) {
        locked(&self.content).bad = Some(BadPart { extent, fault, met: 0 });
    }

    /// The disk is whole again. How many requests did not get what they should have, by what was broken.
    pub fn mend(&self) -> u64 {
        locked(&self.content).bad.take().map_or(0, |bad| bad.met)
    }

    /// Takes the power away: of each write that was not flushed, all, nothing, or the beginning is on the disk from now on.
    pub fn cut(&self, seed: u64) -> io::Result<Loss> {
        let mut content = locked(&self.content);
        content.is_on = false;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut loss = Loss { unflushed: content.unflushed.len(), lost: 0, torn: 0, seed };
        for Unflushed { offset, data } in std::mem::take(&mut content.unflushed) {
            let sectors = data.len() / SECTOR_BYTES;
            let kept_bytes = match random.u8(0..4) {
                0 => SECTOR_BYTES * random.usize(0..=sectors),
                1 | 2 => 0,
                _ => data.len(),
            };
            loss.lost += usize::from(kept_bytes == 0);
            loss.torn += usize::from(0 < kept_bytes && kept_bytes < data.len());
            content.file.write_all_at(&data[..kept_bytes], offset)?;
        }
        content.unflushed_bytes = 0;
        Ok(loss)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { unflushed, lost, torn, seed } = self;
        write!(out, "of {unflushed} writes that were not flushed {lost} are lost and {torn} torn (seed {seed})")
    }
}

impl Content {
    fn of(file: File) -> Content {
        Content { file, unflushed: VecDeque::new(), unflushed_bytes: 0, bad: None, is_on: true }
    }

    /// As the board is told.
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        match self.bad.as_mut().map_or(Answer::Usual, |bad| bad.answer_to_read(offset, length)) {
            Answer::Usual => self.read_as_it_is(offset, length),
            Answer::Error => Err(broken()),
            Answer::Spoilt(part) => {
                let mut read = self.read_as_it_is(offset, length)?;
                read[part].iter_mut().for_each(|byte| *byte = !*byte);
                Ok(read)
            }
        }
    }

    fn read_as_it_is(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; length];
        self.file.read_exact_at(&mut read, offset)?;
        let end = offset + length as u64;
        for Unflushed { offset: at, data } in &self.unflushed {
            let (from, to) = (offset.max(*at), end.min(at + data.len() as u64));
            if from < to {
                let part = &data[(from - at) as usize..(to - at) as usize];
                read[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(read)
    }

    fn write(&mut self, offset: u64, mut data: Vec<u8>) -> io::Result<()> {
        match self.bad.as_mut().map_or(Answer::Usual, |bad| bad.answer_to_write(offset, data.len())) {
            Answer::Usual => {}
            Answer::Error => return Err(broken()),
            Answer::Spoilt(part) => {
                let old = self.read_as_it_is(offset, data.len())?;
                data[part.clone()].copy_from_slice(&old[part]);
            }
        }
        self.unflushed_bytes += data.len();
        self.unflushed.push_back(Unflushed { offset, data });
        self.write_down_to(MAX_UNFLUSHED_BYTES)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_down_to(0)
    }

    /// In the order in which it came, so that of two writes to one place the later one stays.
    fn write_down_to(&mut self, most_bytes: usize) -> io::Result<()> {
        while most_bytes < self.unflushed_bytes {
            let Some(Unflushed { offset, data }) = self.unflushed.pop_front() else { break };
            self.unflushed_bytes -= data.len();
            self.file.write_all_at(&data, offset)?;
        }
        Ok(())
    }
}

impl Drop for Content {
    /// QEMU flushes at an orderly end; what is left belongs to one that was killed with its power on, and its host lives on.
    fn drop(&mut self) {
        if self.is_on {
            let _ = self.flush();
        }
    }
}

/// QEMU is answered with EIO for any error.
fn broken() -> io::Error {
    io::Error::other("this part of the disk is broken")
}

fn locked(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

// doc/proto.md of NBD, "Values".
const NBDMAGIC: &[u8; 8] = b"NBDMAGIC";
const IHAVEOPT: &[u8; 8] = b"IHAVEOPT";
const FIXED_NEWSTYLE_NO_ZEROES: u16 = 1 | 2;
const OPT_ABORT: u32 = 2;
const OPT_GO: u32 = 7;
const OPT_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = 1 << 31 | 1;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;
const HAS_FLAGS_FLUSH_FUA: u16 = 1 | 4 | 8;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const CMD_FLAG_FUA: u16 = 1;
const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// Greets, haggles, and answers until the client is gone.
fn serve(mut stream: UnixStream, bytes: u64, content: &Mutex<Content>) -> io::Result<()> {
    stream.write_all(&[&NBDMAGIC[..], IHAVEOPT, &FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes()].concat())?;
    let _client_flags: [u8; 4] = take(&mut stream)?;
    if !haggle(&mut stream, bytes)? {
        return Ok(());
    }
    while let Some(request) = Request::read(&mut stream)? {
        let Request { flags, command, cookie, offset, data } = request;
        let answer = {
            let mut content = locked(content);
            match data {
                _ if !content.is_on => Err(EIO),
                Data::Comes(data) => {
                    let done = content.write(offset, data);
                    let done = if flags & CMD_FLAG_FUA == 0 { done } else { done.and_then(|()| content.flush()) };
                    done.map(|()| Vec::new()).map_err(|_| EIO)
                }
                Data::Goes(length) if command == CMD_READ => content.read(offset, length).map_err(|_| EIO),
                Data::Goes(_) if command == CMD_FLUSH => content.flush().map(|()| Vec::new()).map_err(|_| EIO),
                Data::Goes(_) => Err(EINVAL),
            }
        };
        let (error, read) = answer.map_or_else(|error| (error, Vec::new()), |read| (0, read));
        let head = [&REPLY_MAGIC.to_be_bytes()[..], &error.to_be_bytes(), &cookie].concat();
        stream.write_all(&[head, read].concat())?;
    }
    Ok(())
}

/// Answers options until one begins the transmission; `false`: the client does not want to.
fn haggle(stream: &mut UnixStream, bytes: u64) -> io::Result<bool> {
    loop {
        let magic: [u8; 8] = take(stream)?;
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if &magic != IHAVEOPT || MAX_REQUEST_BYTES < length {
            return Err(invalid("an option"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).map_err(|_| invalid("a reply"))?;
            let head = [&OPT_REPLY_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
            stream.write_all(&[&head, &length.to_be_bytes()[..], data].concat())
        };
        match option {
            OPT_GO => {
                let export =
                    [&INFO_EXPORT.to_be_bytes()[..], &bytes.to_be_bytes(), &HAS_FLAGS_FLUSH_FUA.to_be_bytes()];
                reply(REP_INFO, &export.concat())?;
                let sizes = [SECTOR_BYTES as u32, 4096, MAX_REQUEST_BYTES].map(u32::to_be_bytes).concat();
                reply(REP_INFO, &[&INFO_BLOCK_SIZE.to_be_bytes()[..], &sizes].concat())?;
                reply(REP_ACK, &[])?;
                return Ok(true);
            }
            OPT_ABORT => {
                reply(REP_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(REP_ERR_UNSUP, &[])?,
        }
    }
}

struct Request {
    flags: u16,
    command: u16,
    /// Its reply bears it too.
    cookie: [u8; 8],
    offset: u64,
    data: Data,
}

enum Data {
    /// To be written.
    Comes(Vec<u8>),
    /// So many bytes are wanted; of a flush none.
    Goes(usize),
}

impl Request {
    /// `None` when the client is gone, or says that it goes.
    fn read(stream: &mut UnixStream) -> io::Result<Option<Request>> {
        let magic = match take::<4>(stream) {
            Ok(magic) => u32::from_be_bytes(magic),
            // It was killed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let flags = u16::from_be_bytes(take(stream)?);
        let command = u16::from_be_bytes(take(stream)?);
        let cookie = take(stream)?;
        let offset = u64::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if magic != REQUEST_MAGIC || MAX_REQUEST_BYTES < length {
            return Err(invalid("a request"));
        }
        if command == CMD_DISC {
            return Ok(None);
        }
        let data = if command == CMD_WRITE {
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data)?;
            Data::Comes(data)
        } else {
            Data::Goes(length as usize)
        };
        Ok(Some(Request { flags, command, cookie, offset, data }))
    }
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} of QEMU's is not one of NBD's"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(directory: &Path) -> (Content, std::path::PathBuf) {
        let path = directory.join("disk");
        std::fs::write(&path, vec![0; 64 * SECTOR_BYTES]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        (Content::of(file), path)
    }

    #[test]
    fn what_is_broken_is_broken_there_and_nowhere_else_until_it_is_mended() {
        let directory = tempfile::tempdir().unwrap();
        let write = [2; 3 * SECTOR_BYTES];
        for (fault, is_written, read) in [
            (Fault::Dead, false, None),
            (Fault::RefusesWrites, false, Some([1, 1, 1])),
            (Fault::ForgetsWrites, true, Some([2, 1, 2])),
            (Fault::GivesOtherBytes, true, Some([2, !2, 2])),
        ] {
            let (mut content, _) = disk(directory.path());
            content.write(0, vec![1; 4 * SECTOR_BYTES]).unwrap();
            let disk = VolatileDisk { content: Arc::new(Mutex::new(content)) };
            disk.break_part(SECTOR_BYTES as u64..2 * SECTOR_BYTES as u64, fault);
            let met = {
                let mut content = locked(&disk.content);
                assert_eq!(content.write(0, write.to_vec()).is_ok(), is_written, "{fault:?}");
                let found = content.read(0, 3 * SECTOR_BYTES).ok();
                let found = found.map(|found| [found[0], found[SECTOR_BYTES], found[2 * SECTOR_BYTES]]);
                assert_eq!(found, read, "{fault:?}");
                content.write(3 * SECTOR_BYTES as u64, vec![3; SECTOR_BYTES]).unwrap();
                assert_eq!(content.read(3 * SECTOR_BYTES as u64, 1).unwrap(), [3], "{fault:?}");
                content.bad.as_ref().map(|bad| bad.met)
            };
            assert!(met.is_some_and(|met| 0 < met) && Some(disk.mend()) == met, "{fault:?}");
            let mut content = locked(&disk.content);
            content.write(0, write.to_vec()).unwrap();
            assert_eq!(content.read(0, 3 * SECTOR_BYTES).unwrap(), write, "{fault:?}");
        }
    }

    #[test]
    fn what_was_written_is_read_and_only_what_was_flushed_is_sure_to_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = [0_u32; 3];
        for seed in 0..200 {
            let (mut content, path) = disk(directory.path());
            content.write(0, vec![1; SECTOR_BYTES]).unwrap();
            content.flush().unwrap();
            content.write(0, vec![2; 2 * SECTOR_BYTES]).unwrap();
            content.write(512, vec![3; SECTOR_BYTES]).unwrap();
            let read = content.read(256, 1024).unwrap();
            assert_eq!((read[0], read[255], read[256], read[767], read[768]), (2, 2, 3, 3, 0));
            let disk = VolatileDisk { content: Arc::new(Mutex::new(content)) };
            let loss = disk.cut(seed).unwrap();
            assert_eq!(loss.unflushed, 2);
            drop(disk);
            let bytes = std::fs::read(path).unwrap();
            let (first, second) = (bytes[0], bytes[512]);
            assert!([1, 2].contains(&first) && [0, 2, 3].contains(&second), "{first} {second} {loss:?}");
            kept[0] += u32::from(first == 1 && second == 0);
            kept[1] += u32::from(first == 2 && second == 0);
            kept[2] += u32::from(first == 1 && second == 3);
        }
        assert!(kept.iter().all(|times| 0 < *times), "all lost, torn, and the later one alone: {kept:?}");
    }
}
