//! The calls that the filter of containers denies, made in two containers: with the filter, and without it. Only where the kernel's
//! answer differs has the filter been seen; and what it lets through must get the same answer in both.

use rustix::io::Errno;
use std::fmt;
use yado_sys::hostile::denied_calls::{TRIED_CALLS, TriedCall};

/// The word on the command line of `guest-attack`.
pub const VERB: &str = "denied-calls";

/// The answer to one of them, in one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// As [`TriedCall::name`].
    pub name: String,
    /// By which it was called: it tells of which architecture the program is.
    pub number: u32,
    /// `None`: it was granted.
    pub errno: Option<Errno>,
}

/// What two containers say of one call.
#[derive(Debug)]
pub struct Compared {
    /// As [`TriedCall::name`].
    pub name: &'static str,
    /// For people.
    pub seen: String,
    /// Whether the filter does with it what it should.
    pub held: Held,
}

/// Whether the filter does with a call what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It does.
    Yes,
    /// It does not, or the program did not tell.
    No,
    /// The kernel has no such call, and answers as the filter would.
    Unknown,
}

/// Makes all of them here.
pub fn make_all() -> impl Iterator<Item = Answered> {
    TRIED_CALLS.iter().map(|call| Answered {
        name: call.name.to_owned(),
        number: u32::try_from(call.number).unwrap_or_default(),
        errno: call.make(),
    })
}

/// What the program printed in a container that has the filter, and in one that has not.
pub fn compare(filtered: &str, unfiltered: &str) -> Vec<Compared> {
    TRIED_CALLS
        .iter()
        .map(|call| compared(call, Answered::find(filtered, call), Answered::find(unfiltered, call)))
        .collect()
}

fn compared(call: &TriedCall, with: Option<Answered>, without: Option<Answered>) -> Compared {
    let shown = |answered: &Option<Answered>| answered.as_ref().map_or("not told".to_owned(), Answered::shown);
    let number = with.as_ref().map_or(0, |answered| answered.number);
    let seen = format!("{number}: {}, without a filter {}", shown(&with), shown(&without));
    let held = match (with, without) {
        (Some(with), Some(without)) if with.number == without.number => held(call, with.errno, without.errno),
        (_, _) => Held::No,
    };
    Compared { name: call.name, seen, held }
}

fn held(call: &TriedCall, with: Option<Errno>, without: Option<Errno>) -> Held {
    let is_as_told = with == call.denied_with.or(without);
    match (is_as_told, call.denied_with.is_some(), with == without) {
        (false, _, _) => Held::No,
        (true, true, true) => Held::Unknown,
        (true, false, _) | (true, true, false) => Held::Yes,
    }
}

impl Answered {
    fn find(said: &str, call: &TriedCall) -> Option<Answered> {
        said.lines().filter_map(Answered::parse).find(|answered| answered.name == call.name)
    }

    /// Reads a line that was printed; `None` for what is none.
    fn parse(line: &str) -> Option<Answered> {
        let mut words = line.trim_end().splitn(3, '\t');
        let (name, number, errno) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let errno = (errno != 0).then(|| Errno::from_raw_os_error(errno));
        Some(Answered { name: name.to_owned(), number, errno })
    }

    fn shown(&self) -> String {
        self.errno.map_or("granted".to_owned(), |errno| crate::attack::errno_name(&errno.into()))
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answered { name, number, errno } = self;
        write!(out, "{name}\t{number}\t{}", errno.map_or(0, Errno::raw_os_error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the program says whose calls are answered like this.
    fn said(answer: impl Fn(&TriedCall) -> Option<Errno>) -> String {
        let line =
            |call: &TriedCall| Answered { name: call.name.to_owned(), number: 7, errno: answer(call) }.to_string();
        TRIED_CALLS.iter().map(line).collect::<Vec<_>>().join("\r\n")
    }

    fn all_are(filtered: &str, unfiltered: &str, is_so: impl Fn(&TriedCall, Held) -> bool) {
        for (call, compared) in TRIED_CALLS.iter().zip(compare(filtered, unfiltered)) {
            assert!(is_so(call, compared.held), "{compared:?}");
        }
    }

    #[test]
    fn a_filter_is_seen_only_by_what_the_kernel_answers_without_it() {
        let kernels = said(|_| Some(Errno::FAULT));
        let filters = said(|call| call.denied_with.or(Some(Errno::FAULT)));
        all_are(&filters, &kernels, |_, held| held == Held::Yes);
        all_are(&kernels, &kernels, |call, held| (held == Held::Yes) == call.denied_with.is_none());
        all_are(&filters, &filters, |call, held| (held == Held::Unknown) == call.denied_with.is_some());
        all_are("", &kernels, |_, held| held == Held::No);
        all_are(&filters, "", |_, held| held == Held::No);
    }

    #[test]
    fn what_is_let_through_by_none_and_what_is_granted_by_one_is_told() {
        let kernels = said(|_| Some(Errno::FAULT));
        all_are(&said(|_| Some(Errno::NOSYS)), &kernels, |call, held| {
            (held == Held::Yes) == (call.denied_with == Some(Errno::NOSYS))
        });
        all_are(&said(|_| None), &kernels, |_, held| held == Held::No);
    }

    #[test]
    fn a_program_of_another_architecture_is_no_witness_of_this_one() {
        let kernels = said(|_| Some(Errno::FAULT));
        let other = kernels.replace("\t7\t", "\t8\t");
        all_are(&other, &kernels, |_, held| held == Held::No);
    }

    #[test]
    fn the_kernel_here_answers_all_of_them_and_grants_none() {
        let all: Vec<Answered> = make_all().collect();
        assert_eq!(all.len(), TRIED_CALLS.len());
        for answered in all {
            assert!(answered.errno.is_some(), "{answered}");
            assert_eq!(Answered::parse(&answered.to_string()), Some(answered));
        }
    }
}
