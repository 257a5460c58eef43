//! Counting tests: passed, failed with the reason, skipped with the reason, which is an expected one or not.

use super::expected_skips::{Skip, is_expected};
use crate::length::Length;
use std::fmt;

/// Before the name of a test that passed, failed, or could not run, as was expected or not.
const PASSED: &str = "   ok      ";
const FAILED: &str = "   FAILED  ";
const SKIPPED: &str = "   SKIPPED ";
const SKIPPED_UNEXPECTEDLY: &str = "   SKIPPED UNEXPECTEDLY ";

/// How the tests of a floor, or of all, ended.
#[derive(Debug)]
pub(super) struct Tally {
    length: Length,
    passed: u32,
    failures: Vec<String>,
    expected_skips: Vec<String>,
    unexpected_skips: Vec<String>,
}

impl Tally {
    /// Nothing ran yet, in a run of this length.
    pub(super) fn new(length: Length) -> Tally {
        let (failures, expected_skips, unexpected_skips) = (Vec::new(), Vec::new(), Vec::new());
        Tally { length, passed: 0, failures, expected_skips, unexpected_skips }
    }

    /// Of the run.
    pub(super) fn length(&self) -> Length {
        self.length
    }

    /// Runs one test and prints how it ended.
    pub(super) fn check<T, E: fmt::Display>(&mut self, name: &str, test: impl FnOnce() -> Result<T, E>) -> Option<T> {
        match test() {
            Ok(value) => {
                self.pass(name);
                Some(value)
            }
            Err(reason) => {
                self.fail(name, &reason.to_string());
                None
            }
        }
    }

    /// Counts a test that passed.
    pub(super) fn pass(&mut self, name: &str) {
        println!("{PASSED}{name}");
        self.passed += 1;
    }

    /// Counts a test that failed, and says why.
    pub(super) fn fail(&mut self, name: &str, reason: &str) {
        println!("{FAILED}{name}: {reason}");
        self.failures.push(format!("{name}: {}", reason.lines().next().unwrap_or_default()));
    }

    /// Counts a test that could not run, and says why. It fails the run where that is not expected.
    pub(super) fn skip(&mut self, name: &str, reason: &str) {
        let (mark, skips) = match is_expected(&Skip { reason, length: self.length }) {
            true => (SKIPPED, &mut self.expected_skips),
            false => (SKIPPED_UNEXPECTEDLY, &mut self.unexpected_skips),
        };
        println!("{mark}{name}: {reason}");
        skips.push(format!("{name}: {reason}"));
    }

    /// Counts a line that another tally has printed: one test, or nothing.
    pub(super) fn count_line(&mut self, line: &str) {
        if line.starts_with(PASSED) {
            self.passed += 1;
        } else if let Some(failure) = line.strip_prefix(FAILED) {
            self.failures.push(failure.to_owned());
        } else if let Some(skip) = line.strip_prefix(SKIPPED_UNEXPECTEDLY) {
            self.unexpected_skips.push(skip.to_owned());
        } else if let Some(skip) = line.strip_prefix(SKIPPED) {
            self.expected_skips.push(skip.to_owned());
        }
    }

    /// Counts tests that another runner has run and printed.
    pub(super) fn count_passed(&mut self, passed: u32) {
        self.passed += passed;
    }

    /// Takes over what another tally counted.
    pub(super) fn add(&mut self, other: Tally) {
        let Tally { length: _, passed, failures, expected_skips, unexpected_skips } = other;
        self.passed += passed;
        self.failures.extend(failures);
        self.expected_skips.extend(expected_skips);
        self.unexpected_skips.extend(unexpected_skips);
    }

    /// All that were counted, however they ended.
    pub(super) fn total(&self) -> usize {
        let Tally { length: _, passed, failures, expected_skips, unexpected_skips } = self;
        *passed as usize + failures.len() + expected_skips.len() + unexpected_skips.len()
    }

    /// Whether something ran, nothing failed, and nothing was skipped that should have run.
    pub(super) fn is_green(&self) -> bool {
        self.failures.is_empty() && self.unexpected_skips.is_empty() && self.passed > 0
    }

    /// Says once more, at the end of a long output, what failed and what could not run.
    pub(super) fn print_failures_and_skips(&self) {
        for (word, lines) in [
            ("SKIPPED", &self.expected_skips),
            ("SKIPPED UNEXPECTEDLY", &self.unexpected_skips),
            ("FAILED", &self.failures),
        ] {
            for line in lines {
                println!("{word} {line}");
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { length: _, passed, failures, expected_skips, unexpected_skips } = self;
        let (failed, expected, unexpected) = (failures.len(), expected_skips.len(), unexpected_skips.len());
        write!(out, "{passed} passed, {failed} failed, {expected} skipped as expected, {unexpected} unexpectedly")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = "this kernel has no /proc/is-not-there";

    #[test]
    fn a_run_is_green_only_when_something_passed_nothing_failed_and_only_what_may_be_was_skipped() {
        let mut tally = Tally::new(Length::Short);
        assert!(!tally.is_green(), "nothing ran");
        tally.skip("a", EXPECTED);
        assert!(!tally.is_green(), "only skipped");
        tally.pass("b");
        assert!(tally.is_green());
        tally.skip("d", "nobody knows why");
        assert!(!tally.is_green(), "skipped unexpectedly");
        tally.fail("c", "broke\nin two lines");
        assert!(!tally.is_green());
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped as expected, 1 unexpectedly");
        assert_eq!(tally.total(), 4);
        // As another process has printed it.
        let mut beside = Tally::new(Length::Short);
        for line in [
            "── c: it",
            "   ok      b",
            "   FAILED  c: broke",
            "   SKIPPED a: no kernel",
            "   SKIPPED UNEXPECTEDLY d: nobody knows why",
            "    ok      no test",
        ] {
            beside.count_line(line);
        }
        assert_eq!((beside.to_string(), &beside.failures), (tally.to_string(), &tally.failures));
        assert!(!beside.is_green());
    }
}
