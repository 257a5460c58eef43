//! What came of an attempt, and the one line that tells it.

use rustix::io::Errno;
use std::fmt;
use std::io;

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was refused.
    Refused,
    /// It got something, and then no more.
    Bounded,
    /// It did what it was to do.
    Succeeded,
    /// What it needs is not here.
    NotHere,
}

/// What came of an attempt, and what the kernel answered or how much it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub verdict: Verdict,
    /// An errno's name, or a figure with its unit.
    pub figure: String,
}

/// An outcome with the attempt's name: what `guest-attack` prints, one to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Of which attempt.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Outcome {
    /// Something was refused with this error.
    pub fn refused(error: &io::Error) -> Outcome {
        Outcome { verdict: Verdict::Refused, figure: errno_name(error) }
    }

    /// What is attacked, or needed for it, is not here.
    pub fn not_here(what: impl fmt::Display) -> Outcome {
        Outcome { verdict: Verdict::NotHere, figure: what.to_string() }
    }

    /// It got so much and no more.
    pub fn bounded(figure: impl fmt::Display) -> Outcome {
        Outcome { verdict: Verdict::Bounded, figure: figure.to_string() }
    }

    /// It did what it was to do.
    pub fn succeeded(figure: impl fmt::Display) -> Outcome {
        Outcome { verdict: Verdict::Succeeded, figure: figure.to_string() }
    }

    /// Refused with the error, or succeeded.
    pub fn of<T>(result: io::Result<T>, success: &str) -> Outcome {
        match result {
            Ok(_) => Outcome::succeeded(success),
            Err(error) => Outcome::refused(&error),
        }
    }

    /// Whether nobody outside has anything to fear.
    pub fn is_held(&self) -> bool {
        match self.verdict {
            Verdict::Refused | Verdict::Bounded | Verdict::NotHere => true,
            Verdict::Succeeded => false,
        }
    }
}

impl Verdict {
    const ALL: [Verdict; 4] = [Verdict::Refused, Verdict::Bounded, Verdict::Succeeded, Verdict::NotHere];

    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Refused => "refused",
            Verdict::Bounded => "bounded",
            Verdict::Succeeded => "succeeded",
            Verdict::NotHere => "not-here",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.word())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { name, outcome: Outcome { verdict, figure } } = self;
        write!(out, "{name}\t{verdict}\t{figure}")
    }
}

impl Line {
    /// Reads a line that was printed; `None` for what is none.
    pub fn parse(text: &str) -> Option<Line> {
        let mut words = text.splitn(3, '\t');
        let (name, word, figure) = (words.next()?, words.next()?, words.next()?);
        let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.word() == word)?;
        Some(Line { name: name.to_owned(), outcome: Outcome { verdict, figure: figure.trim_end().to_owned() } })
    }
}

/// `EPERM` rather than a sentence, for those that attempts meet.
pub(crate) fn errno_name(error: &io::Error) -> String {
    const NAMES: &[(Errno, &str)] = &[
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::IO, "EIO"),
        (Errno::NXIO, "ENXIO"),
        (Errno::BADF, "EBADF"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::ACCESS, "EACCES"),
        (Errno::FAULT, "EFAULT"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::NFILE, "ENFILE"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::MLINK, "EMLINK"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::LOOP, "ELOOP"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::NOBUFS, "ENOBUFS"),
        (Errno::USERS, "EUSERS"),
        (Errno::DQUOT, "EDQUOT"),
        (Errno::PROTONOSUPPORT, "EPROTONOSUPPORT"),
        (Errno::SOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
        (Errno::NOKEY, "ENOKEY"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::SRCH, "ESRCH"),
    ];
    let number = error.raw_os_error();
    let known = NAMES.iter().find(|(errno, _)| Some(errno.raw_os_error()) == number);
    known.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_printed() {
        let outcome = Outcome::refused(&Errno::PERM.into());
        let line = Line { name: "node-disk".to_owned(), outcome };
        assert_eq!(line.to_string(), "node-disk\trefused\tEPERM");
        assert_eq!(Line::parse(&line.to_string()), Some(line));
        assert_eq!(Line::parse("guest-attack: something else"), None);
        assert_eq!(Line::parse("a\tlucky\tb"), None);
    }
}
