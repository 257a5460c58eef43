//! Counting tests: passed, failed with the reason, skipped with the reason.

use std::fmt;

/// Before the name of a test that passed, failed, or could not run.
const PASSED: &str = "   ok      ";
const FAILED: &str = "   FAILED  ";
const SKIPPED: &str = "   SKIPPED ";

/// How the tests of a floor, or of all, ended.
#[derive(Debug, Default)]
pub(super) struct Tally {
    passed: u32,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Tally {
    /// Nothing ran yet.
    pub(super) fn new() -> Tally {
        Tally::default()
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

    /// Counts a test that could not run, and says why.
    pub(super) fn skip(&mut self, name: &str, reason: &str) {
        println!("{SKIPPED}{name}: {reason}");
        self.skips.push(format!("{name}: {reason}"));
    }

    /// Counts a line that another tally has printed: one test, or nothing.
    pub(super) fn count_line(&mut self, line: &str) {
        if line.starts_with(PASSED) {
            self.passed += 1;
        } else if let Some(failure) = line.strip_prefix(FAILED) {
            self.failures.push(failure.to_owned());
        } else if let Some(skip) = line.strip_prefix(SKIPPED) {
            self.skips.push(skip.to_owned());
        }
    }

    /// Counts tests that another runner has run and printed.
    pub(super) fn count_passed(&mut self, passed: u32) {
        self.passed += passed;
    }

    /// Takes over what another tally counted.
    pub(super) fn add(&mut self, other: Tally) {
        let Tally { passed, failures, skips } = other;
        self.passed += passed;
        self.failures.extend(failures);
        self.skips.extend(skips);
    }

    /// Whether something ran and nothing failed.
    pub(super) fn is_green(&self) -> bool {
        self.failures.is_empty() && self.passed > 0
    }

    /// Says once more, at the end of a long output, what failed and what could not run.
    pub(super) fn print_failures_and_skips(&self) {
        for (word, lines) in [("SKIPPED", &self.skips), ("FAILED", &self.failures)] {
            for line in lines {
                println!("{word} {line}");
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { passed, failures, skips } = self;
        write!(out, "{passed} passed, {} failed, {} skipped", failures.len(), skips.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_green_only_when_something_passed_and_nothing_failed() {
        let mut tally = Tally::new();
        assert!(!tally.is_green(), "nothing ran");
        tally.skip("a", "no kernel");
        assert!(!tally.is_green(), "only skipped");
        tally.pass("b");
        assert!(tally.is_green());
        tally.fail("c", "broke\nin two lines");
        assert!(!tally.is_green());
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
        // As another process has printed it.
        let mut beside = Tally::new();
        for line in
            ["── c: it", "   ok      b", "   FAILED  c: broke", "   SKIPPED a: no kernel", "    ok      no test"]
        {
            beside.count_line(line);
        }
        assert_eq!((beside.to_string(), &beside.failures), (tally.to_string(), &tally.failures));
    }
}
