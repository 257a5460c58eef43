//! Which of a board's steps are taken: all of them, or one with those that it needs, for who works on that one.

use std::fmt;

/// How a step stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It switches a board on: needs none of them.
    Boots,
    /// All later ones on this board need it.
    Prepares,
    /// It needs the board, and what prepares it.
    Looks,
    /// It goes on from the step before it.
    Follows,
}

/// Which steps are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// One, by its number or by words of its title, and what it needs.
    One(String),
}

/// No step, or more than one, is meant by these words.
#[derive(Debug)]
pub struct NoSuchStep {
    wanted: String,
    titles: Vec<&'static str>,
}

impl Wanted {
    /// The places of the steps to be taken among all of a floor, in their order.
    pub fn places(&self, steps: impl IntoIterator<Item = (&'static str, Role)>) -> Result<Vec<usize>, NoSuchStep> {
        let (titles, roles): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let Wanted::One(wanted) = self else { return Ok((0..titles.len()).collect()) };
        let is_meant = |place: &usize| match wanted.parse::<usize>() {
            Ok(number) => place + 1 == number,
            Err(_) => titles[*place].contains(wanted.as_str()),
        };
        let meant: Vec<usize> = (0..titles.len()).filter(is_meant).collect();
        let [last] = meant[..] else { return Err(NoSuchStep { wanted: wanted.clone(), titles }) };
        let nearest = |is_it: fn(Role) -> bool| (0..=last).rev().find(|place| is_it(roles[*place])).unwrap_or(0);
        let board = nearest(|role| role == Role::Boots);
        // It, and those from which it goes on.
        let chain = nearest(|role| role != Role::Follows);
        let is_needed = |place: &usize| chain <= *place || matches!(roles[*place], Role::Boots | Role::Prepares);
        Ok((board..=last).filter(is_needed).collect())
    }
}

impl fmt::Display for NoSuchStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:?} is not the number of a step, nor words of one title; there are:", self.wanted)?;
        for (place, title) in self.titles.iter().enumerate() {
            writeln!(out, "{:>4}. {title}", place + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for NoSuchStep {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use Role::{Boots, Follows, Looks, Prepares};

    const STEPS: &[(&str, Role)] = &[
        ("boots", Boots),
        ("is ready", Prepares),
        ("looks", Looks),
        ("power is cut", Looks),
        ("comes up", Follows),
        ("looks again", Follows),
        ("boots another", Boots),
        ("looks at that", Looks),
    ];

    #[test]
    fn a_step_is_taken_with_what_it_needs_and_nothing_else() {
        let table: [(&str, &[usize]); 8] = [
            ("1", &[0]),
            ("is ready", &[0, 1]),
            ("3", &[0, 1, 2]),
            ("power", &[0, 1, 3]),
            ("comes up", &[0, 1, 3, 4]),
            ("looks again", &[0, 1, 3, 4, 5]),
            ("another", &[6]),
            ("8", &[6, 7]),
        ];
        for (wanted, places) in table {
            assert_eq!(Wanted::One(wanted.to_owned()).places(STEPS.iter().copied()).unwrap(), places, "{wanted}");
        }
        assert_eq!(Wanted::All.places(STEPS.iter().copied()).unwrap().len(), STEPS.len());
    }

    #[test]
    fn words_that_mean_none_or_several_are_answered_with_the_list() {
        for wanted in ["0", "9", "reboots", "looks"] {
            let said = Wanted::One(wanted.to_owned()).places(STEPS.iter().copied()).unwrap_err().to_string();
            assert!(said.contains(wanted) && said.contains("   5. comes up\n"), "{said}");
        }
    }
}
