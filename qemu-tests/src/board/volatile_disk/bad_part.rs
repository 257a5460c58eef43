//! A part of the medium that is broken, as the kernel's dm-error and dm-flakey have it, but below the board: its kernel and what runs
//! there have the disk that they always have, and are told of errors by it.

use std::ops::Range;

/// What becomes of requests for a part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It can be neither read nor written, as dm-error.
    Dead,
    /// It is read and takes no writes, as dm-flakey with `error_writes`: a medium that is read-only.
    RefusesWrites,
    /// It takes writes and keeps nothing of them, as dm-flakey with `drop_writes`.
    ForgetsWrites,
    /// It gives back other bytes than it has, as dm-flakey with `corrupt_bio_byte`.
    GivesOtherBytes,
}

/// Where, and how often that was met.
#[derive(Debug)]
pub(super) struct BadPart {
    pub(super) extent: Range<u64>,
    pub(super) fault: Fault,
    /// Requests that came out otherwise than they should have.
    pub(super) met: u64,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What always is.
    Usual,
    /// An error.
    Error,
    /// This part of its bytes is not what it should be.
    Spoilt(Range<usize>),
}

impl BadPart {
    pub(super) fn answer_to_read(&mut self, offset: u64, length: usize) -> Answer {
        match self.fault {
            Fault::Dead => self.answer(offset, length, |_| Answer::Error),
            Fault::GivesOtherBytes => self.answer(offset, length, Answer::Spoilt),
            Fault::RefusesWrites | Fault::ForgetsWrites => Answer::Usual,
        }
    }

    pub(super) fn answer_to_write(&mut self, offset: u64, length: usize) -> Answer {
        match self.fault {
            Fault::Dead | Fault::RefusesWrites => self.answer(offset, length, |_| Answer::Error),
            Fault::ForgetsWrites => self.answer(offset, length, Answer::Spoilt),
            Fault::GivesOtherBytes => Answer::Usual,
        }
    }

    fn answer(&mut self, offset: u64, length: usize, answer: impl FnOnce(Range<usize>) -> Answer) -> Answer {
        let (from, to) = (self.extent.start.max(offset), self.extent.end.min(offset + length as u64));
        if to <= from {
            return Answer::Usual;
        }
        self.met += 1;
        answer((from - offset) as usize..(to - offset) as usize)
    }
}
