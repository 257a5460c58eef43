//! A source that is one tar archive (ustar), read once from its first byte to its last, as from standard input: `release`, then
//! images, then boot files, as [`yado_image::release::Manifest::parts`] has them.

use super::{FileName, Ranges, Source, SourceError};
use std::io::{self, Read};
use std::ops::Range;
use yado_wire::hex;

/// An archive that is read.
#[derive(Debug)]
pub struct Bundle<R> {
    input: R,
    /// The member that the input stands in.
    member: Option<Member>,
    members: usize,
    passed: Vec<FileName>,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    /// `None`: a file that no release has.
    file: Option<FileName>,
    bytes: u64,
    /// How many of them were read.
    at: u64,
}

const BLOCK_BYTES: u64 = 512;
/// A release has some hundred files; an archive without an end has more.
const MAX_MEMBERS: usize = 1024;
const PIECE_BYTES: usize = 128 << 10;

impl<R: Read> Bundle<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Bundle<R> {
        Bundle { input, member: None, members: 0, passed: Vec::new(), buffer: vec![0; PIECE_BYTES] }
    }

    /// Goes on to the member of this name, over others.
    fn seek(&mut self, file: FileName) -> Result<Member, SourceError> {
        loop {
            if let Some(member) = self.member.filter(|member| member.file == Some(file)) {
                return Ok(member);
            }
            if self.passed.contains(&file) {
                return Err(SourceError::OutOfOrder { file });
            }
            if let Some(member) = self.member.take() {
                self.passed.extend(member.file);
                let padding = member.bytes.next_multiple_of(BLOCK_BYTES) - member.bytes;
                self.skip(file, member.bytes - member.at + padding)?;
            }
            self.member = Some(self.next_member(file)?);
        }
    }

    fn next_member(&mut self, file: FileName) -> Result<Member, SourceError> {
        let broken = |reason: &str| SourceError::Broken { file, reason: format!("the bundle: {reason}") };
        if MAX_MEMBERS <= self.members {
            return Err(broken("it has more files than any release"));
        }
        self.members += 1;
        let mut header = [0; BLOCK_BYTES as usize];
        self.input.read_exact(&mut header).map_err(|error| broken(&ended(&error)))?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(SourceError::Missing { file });
        }
        let (name, bytes) =
            parse_member(&header).ok_or_else(|| broken("it is no tar archive of a release (ustar)"))?;
        Ok(Member { file: name, bytes, at: 0 })
    }

    fn skip(&mut self, file: FileName, bytes: u64) -> Result<(), SourceError> {
        let broken =
            |error: io::Error| SourceError::Broken { file, reason: format!("the bundle: {}", ended(&error)) };
        let mut left = bytes;
        while 0 < left {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.input.read_exact(&mut self.buffer[..piece]).map_err(broken)?;
            left -= piece as u64;
        }
        Ok(())
    }
}

fn ended(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends early".to_owned(),
        _ => error.to_string(),
    }
}

impl<R: Read> Source for Bundle<R> {
    fn ranges(&self) -> Ranges {
        Ranges::Whole
    }

    /// Only of the file that is being read: to look for another one would be to pass over what comes before.
    fn length(&mut self, file: FileName) -> Option<u64> {
        self.member.filter(|member| member.file == Some(file)).map(|member| member.bytes)
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let member = self.seek(file)?;
        if range.start < member.at {
            return Err(SourceError::OutOfOrder { file });
        }
        let (start, end) = (range.start.min(member.bytes), range.end.min(member.bytes));
        self.skip(file, start - member.at)?;
        let mut at = start;
        self.member = Some(Member { at, ..member });
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let count = match self.input.read(&mut self.buffer[..piece]) {
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            };
            let broken = |error| SourceError::Broken { file, reason: format!("the bundle: {}", ended(&error)) };
            let count = count.map_err(broken)?;
            at += count as u64;
            self.member = Some(Member { at, ..member });
            take(&self.buffer[..count]).map_err(SourceError::Stopped)?;
        }
        if member.bytes < range.end { Err(SourceError::Short { file, bytes: member.bytes }) } else { Ok(()) }
    }
}

/// Name and length of a regular file, of a header whose sum is right (POSIX.1-1988, ustar; lengths from 8 GiB in binary, as GNU tar
/// and others have it).
fn parse_member(header: &[u8; BLOCK_BYTES as usize]) -> Option<(Option<FileName>, u64)> {
    let sum = header.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    if &header[257..262] != b"ustar" || octal(&header[148..156]) != Some(sum.map(u64::from).sum()) {
        return None;
    }
    // A folder has no bytes. What is neither has, or means something else.
    let bytes = match header[156] {
        b'0' | 0 => length(&header[124..136])?,
        b'5' => 0,
        _ => return None,
    };
    let name = header[..100].split(|byte| *byte == 0).next().and_then(|name| std::str::from_utf8(name).ok());
    Some((name.filter(|_| header[345] == 0).and_then(parse_name), bytes))
}

fn parse_name(name: &str) -> Option<FileName> {
    match name.strip_prefix("./").unwrap_or(name).split_once('/') {
        None => (name.trim_start_matches("./") == "release").then_some(FileName::Release),
        Some(("images", digits)) => hex::parse_digest(digits).map(FileName::Image),
        Some(("boot", digits)) => hex::parse_digest(digits).map(FileName::Boot),
        Some(_) => None,
    }
}

/// The longest image is a hundredth of what fits.
fn length(field: &[u8]) -> Option<u64> {
    const MAX_BYTES: u64 = 1 << 40;
    let bytes = match field.split_first()? {
        (0x80, rest) => {
            let (high, low) = rest.split_last_chunk::<8>()?;
            high.iter().all(|byte| *byte == 0).then(|| u64::from_be_bytes(*low))?
        }
        _ => octal(field)?,
    };
    (bytes <= MAX_BYTES).then_some(bytes)
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(field).ok()?.trim_matches(|char| char == ' ' || char == '\0');
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if is_plain { u64::from_str_radix(digits, 8).ok() } else { None }
}

#[cfg(test)]
mod tests;
