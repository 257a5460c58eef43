//! A tar archive as it comes: plain, or compressed with gzip (RFC 1952), xz (the .xz format 1.2.1) or zstd (RFC 8878). What it is, is
//! told by its first bytes and not by its name. The reader of archives goes back and forth, so a compressed one is unpacked first,
//! into a file without a name beside the image.

use core::fmt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// `.tar.gz`
    Gzip,
    /// `.tar.xz`
    Xz,
    /// `.tar.zst`
    Zstd,
}

/// Why an archive could not be opened.
#[derive(Debug)]
pub enum ArchiveError {
    /// The kernel refused.
    Open {
        /// The archive.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is of a kind that is not read.
    Foreign {
        /// The archive.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
    /// What is in it is more than an image can be.
    TooBig {
        /// The archive.
        path: PathBuf,
    },
    /// What is compressed cannot be unpacked: it is damaged or cut short, or there is no room.
    Unpack {
        /// The archive.
        path: PathBuf,
        /// Its compression.
        packing: Packing,
        /// The reader's or the kernel's answer.
        source: io::Error,
    },
}

/// Opens an archive; what is read has no compression any more. `beside`: a folder with room for what is in it.
pub fn open(path: &Path, beside: &Path) -> Result<File, ArchiveError> {
    let failed = |source| ArchiveError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut first = Vec::new();
    (&file).take(FIRST_BYTES).read_to_end(&mut first).and_then(|_| file.rewind()).map_err(failed)?;
    let packing = packing_of(&first).map_err(|what| ArchiveError::Foreign { path: path.to_owned(), what })?;
    let file = BufReader::new(file);
    let unpacked = match packing {
        Packing::Plain => return Ok(file.into_inner()),
        Packing::Gzip => unpack(flate2::bufread::MultiGzDecoder::new(file), beside),
        Packing::Xz => unpack(lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY_KIB), beside),
        Packing::Zstd => with_less_memory(|| unpack(ZstdReader { file, frame: None }, beside)),
    };
    match unpacked {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(ArchiveError::TooBig { path: path.to_owned() }),
        Err(source) => Err(ArchiveError::Unpack { path: path.to_owned(), packing, source }),
    }
}

/// As many bytes as the longest of the signatures has.
const FIRST_BYTES: u64 = 6;

/// What `xz -9` needs, four times over.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// A block of zstd may say that it becomes gigabytes, and the reader believes it: then the kernel refuses them, and this process ends.
const ZSTD_ADDRESS_SPACE: u64 = 2 << 30;

/// A file system of an image has at most 64 GiB.
const MAX_UNPACKED_BYTES: u64 = 65 << 30;

fn packing_of(first: &[u8]) -> Result<Packing, &'static str> {
    let known: [(&[u8], Result<Packing, &'static str>); 7] = [
        (b"\x1f\x8b", Ok(Packing::Gzip)),
        (b"\xfd7zXZ\0", Ok(Packing::Xz)),
        (b"\x28\xb5\x2f\xfd", Ok(Packing::Zstd)),
        (b"BZh", Err("compressed with bzip2")),
        (b"\x04\x22\x4d\x18", Err("compressed with lz4")),
        (b"hsqs", Err("a squashfs")),
        (b"PK\x03\x04", Err("a zip file")),
    ];
    let found = known.into_iter().find(|(signature, _)| first.starts_with(signature));
    match (found, first) {
        (Some((_, packing)), _) => packing,
        // A frame of zstd that says nothing stands before those that do.
        (None, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) => Ok(Packing::Zstd),
        (None, _) => Ok(Packing::Plain),
    }
}

fn with_less_memory<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::As);
    let lowered = Rlimit { current: Some(before.current.unwrap_or(u64::MAX).min(ZSTD_ADDRESS_SPACE)), ..before };
    // Without it the work is the same.
    let _ = setrlimit(Resource::As, lowered);
    let outcome = work();
    let _ = setrlimit(Resource::As, before);
    outcome
}

/// `None`: it is too much.
fn unpack(reader: impl Read, beside: &Path) -> io::Result<Option<File>> {
    let path = beside.join(format!(".unpacked.{}.new", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    // From here on it is gone when we are.
    fs::remove_file(&path)?;
    if io::copy(&mut reader.take(MAX_UNPACKED_BYTES), &mut file)? == MAX_UNPACKED_BYTES {
        return Ok(None);
    }
    file.rewind()?;
    Ok(Some(file))
}

/// All frames of a file, one after the other, as `zstd -d` reads them.
struct ZstdReader {
    file: BufReader<File>,
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

impl Read for ZstdReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else {
                if self.file.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                let mut frame = ruzstd::decoding::FrameDecoder::new();
                match frame.init(&mut self.file) {
                    Ok(()) => self.frame = Some(frame),
                    Err(ruzstd::decoding::errors::FrameDecoderError::ReadFrameHeaderError(
                        ruzstd::decoding::errors::ReadFrameHeaderError::SkipFrame { length, .. },
                    )) => {
                        if io::copy(&mut (&mut self.file).take(length.into()), &mut io::sink())? < length.into() {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
                continue;
            };
            if frame.can_collect() == 0 && !frame.is_finished() {
                let step = ruzstd::decoding::BlockDecodingStrategy::UptoBytes(STEP_BYTES);
                frame.decode_blocks(&mut self.file, step).map_err(io::Error::other)?;
                continue;
            }
            match frame.read(buffer)? {
                0 if !buffer.is_empty() => {
                    let told = frame.get_checksum_from_data();
                    if told.is_some() && told != frame.get_calculated_checksum() {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong checksum"));
                    }
                    self.frame = None;
                }
                read => return Ok(read),
            }
        }
    }
}

/// How much of a frame is unpacked at once.
const STEP_BYTES: usize = 1 << 20;

impl fmt::Display for Packing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Packing::Plain => "tar",
            Packing::Gzip => "gzip",
            Packing::Xz => "xz",
            Packing::Zstd => "zstd",
        })
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::Open { path, source } => write!(out, "open {}: {source}", path.display()),
            ArchiveError::Foreign { path, what } => write!(
                out,
                "{}: it is {what}; expected a directory or a tar archive, plain or compressed with gzip, xz or zstd",
                path.display()
            ),
            ArchiveError::TooBig { path } => write!(out, "{}: more than an image can hold", path.display()),
            ArchiveError::Unpack { path, packing, source } if is_out_of_room(source) => {
                write!(out, "unpack {} ({packing}) beside the image: {source}", path.display())
            }
            ArchiveError::Unpack { path, packing, source } => {
                write!(out, "{}: what is compressed with {packing} is damaged or cut short: {source}", path.display())
            }
        }
    }
}

/// It is the kernel that refused, and not the archive that is wrong.
fn is_out_of_room(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

impl std::error::Error for ArchiveError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_archive_is_what_its_first_bytes_say() {
        assert_eq!(packing_of(b"etc/\0\0"), Ok(Packing::Plain));
        assert_eq!(packing_of(b""), Ok(Packing::Plain));
        assert_eq!(packing_of(b"\x1f\x8b\x08"), Ok(Packing::Gzip));
        assert_eq!(packing_of(b"\xfd7zXZ\0"), Ok(Packing::Xz));
        assert_eq!(packing_of(b"\x28\xb5\x2f\xfd\x04"), Ok(Packing::Zstd));
        assert_eq!(packing_of(b"\x53\x2a\x4d\x18\x03\0"), Ok(Packing::Zstd));
        assert_eq!(packing_of(b"BZh91A"), Err("compressed with bzip2"));
    }
}
