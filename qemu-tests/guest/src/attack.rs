//! What somebody tries who is root inside a container, wants out of it or more than its share, or wants others to suffer:
//! one row for each attempt, in tables by what is attacked. `guest-attack` makes them on a board, hosted, or in somebody
//! else's container; a row and a function add one.
//!
//! An attempt tells what it saw inside. Where its effect is felt outside, [`Watched`] says what the outside must look at.

mod command_line;
mod counted_tables;
mod floods;
mod fuse;
mod held_up;
mod kernel_doors;
mod mounts;
mod nodes;
mod own_group;
mod uncharged_memory;
mod verdict;
mod whole_memory;

pub use command_line::{PROGRAM, main};
pub use floods::{SECONDS, say_ready};
pub use nodes::SMUGGLED;
pub(crate) use verdict::errno_name;
pub use verdict::{Line, Outcome, Verdict};

use std::io;

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    /// What it is called by, on the command line and in tables.
    pub name: &'static str,
    /// What is tried, for people.
    pub what: &'static str,
    /// Tries it. What it has taken it keeps until the process ends.
    pub run: fn() -> Outcome,
    /// Where its effect is felt.
    pub watched: Watched,
    /// What is promised.
    pub expected: Expected,
}

/// Where the effect of an attempt is felt.
#[derive(Debug, Clone, Copy)]
pub enum Watched {
    /// Inside: its own verdict is all there is.
    Inside,
    /// By a neighbour, who needs one of what the attempt takes: this takes one.
    ByNeighbour(fn() -> io::Result<()>),
    /// In the machine's memory: what is taken beyond the instance's own group.
    InMemory,
    /// In the machine's memory, of which it takes all there is: by its killer, and by who is ended for it.
    InWholeMemory,
    /// By PID 1 and netd, which have work with it as long as it lasts: some seconds.
    ByService,
    /// By the board, each in a way of its own.
    ByBoard,
}

/// What is promised of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is refused, or what it can get is bounded.
    Held,
    /// It succeeds, and why nothing is done about it yet.
    Open(&'static str),
}

/// The tables, in the order in which they are tried: what takes most comes last.
const TABLES: [&[Attempt]; 9] = [
    nodes::ATTEMPTS,
    kernel_doors::ATTEMPTS,
    mounts::ATTEMPTS,
    own_group::ATTEMPTS,
    counted_tables::ATTEMPTS,
    uncharged_memory::ATTEMPTS,
    whole_memory::ATTEMPTS,
    floods::ATTEMPTS,
    held_up::ATTEMPTS,
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    TABLES.into_iter().flatten()
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Attempt> {
    all().find(|attempt| attempt.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_attempt_has_a_name_of_its_own_that_is_one_word() {
        let names: BTreeSet<&str> = all().map(|attempt| attempt.name).collect();
        assert_eq!(names.len(), all().count());
        for Attempt { name, what, .. } in all() {
            assert!(!name.contains(char::is_whitespace) && !what.contains(['\t', '\n']), "{name}");
        }
    }
}
