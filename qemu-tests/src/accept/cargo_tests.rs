//! `cargo test` as a floor: its output is passed on, but for what tests printed that passed; its closing lines are counted,
//! and so are the tests that said `SKIPPED: reason` because this machine lacks what they need.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::expected_skips::{Skip, is_expected};
use super::tally::Tally;

/// What a test prints, at the start of a line, when it cannot run here.
pub(super) const SKIP_MARK: &str = "SKIPPED: ";

/// What a fuzz target prints before its counts and its seed, which are worth reading when it has passed, too.
const FUZZED_MARK: &str = "FUZZED: ";

/// Runs `cargo test` with these arguments, and these paths in its environment, and counts into `tally`.
pub(super) fn run(tally: &mut Tally, args: &[&str], environment: &[(&str, &Path)]) {
    let name = "cargo test";
    // Passing tests tell their output too: it is where a skip and its reason stand.
    let mut command = Command::new("cargo");
    command.args(["--config", &runner()]);
    command.args(["test", "--no-fail-fast"]).args(args).args(["--", "--show-output"]);
    command.envs(environment.iter().copied());
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return tally.fail(name, &error.to_string()),
    };
    let mut output = Output::new(tally);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if output.count(&line) == Shown::Yes {
                println!("   {line}");
            }
        }
    }
    let failed = output.end();
    match child.wait() {
        Ok(status) if status.success() => {}
        Ok(_) if failed > 0 => {}
        Ok(status) => tally.fail(name, &format!("{status}")),
        Err(error) => tally.fail(name, &error.to_string()),
    }
}

/// What `cargo test` prints, line by line, counted into a tally.
struct Output<'t> {
    tally: &'t mut Tally,
    /// Whose output is being read.
    speaking: String,
    section: Section,
    /// Tests of this program that said that they cannot run here, and why. The program counts them as passed.
    skipped: BTreeMap<String, Vec<String>>,
    failed: u32,
}

/// Which part of a program's output is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// A line for each test.
    Tests,
    /// What tests printed that passed.
    Successes,
    /// What tests printed that failed.
    Failures,
}

/// Whether people see a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Yes,
    No,
}

impl<'t> Output<'t> {
    fn new(tally: &'t mut Tally) -> Output<'t> {
        let (speaking, skipped) = (NOBODY.to_owned(), BTreeMap::new());
        Output { tally, speaking, section: Section::Tests, skipped, failed: 0 }
    }

    fn count(&mut self, line: &str) -> Shown {
        let parsed = parse_line(line);
        self.section = match parsed {
            Line::Begins | Line::Result(_) => Section::Tests,
            Line::Successes => Section::Successes,
            Line::Failures => Section::Failures,
            Line::Failed(_) | Line::Speaks(_) | Line::Skipped { .. } | Line::Other => self.section,
        };
        let is_of_success = self.section == Section::Successes && !line.starts_with(FUZZED_MARK);
        let shown = if is_of_success { Shown::No } else { Shown::Yes };
        match parsed {
            // Who could not run any test says why, and has no result.
            Line::Begins => drop(self.count_skipped()),
            Line::Result(counts) => {
                let skipped = self.count_skipped();
                self.tally.count_passed(counts.passed.saturating_sub(skipped));
                self.failed += counts.failed;
            }
            Line::Failed(test) => self.tally.fail(test, "see its output above"),
            Line::Speaks(test) => self.speaking = test.to_owned(),
            Line::Skipped { reason } if self.section != Section::Failures => {
                self.skipped.entry(self.speaking.clone()).or_default().push(reason.to_owned());
            }
            Line::Skipped { .. } | Line::Successes | Line::Failures | Line::Other => {}
        }
        shown
    }

    /// One test is one skip, whatever it lacks.
    fn count_skipped(&mut self) -> u32 {
        self.speaking = NOBODY.to_owned();
        let skipped = std::mem::take(&mut self.skipped);
        let count = u32::try_from(skipped.len()).unwrap_or(u32::MAX);
        for (test, reasons) in skipped {
            // If one of them is not expected, the test should have run.
            let length = self.tally.length();
            let unexpected = reasons.iter().find(|reason| !is_expected(&Skip { reason, length }));
            self.tally.skip(&test, unexpected.or(reasons.first()).map_or("", String::as_str));
        }
        count
    }

    /// How many tests failed, by what the programs say at their ends.
    fn end(mut self) -> u32 {
        self.count_skipped();
        self.failed
    }
}

/// Until a test is named.
const NOBODY: &str = "a test program";

/// cargo's setting by which the tests that need root get it, without which they would skip, one by one; and those that wait most of
/// the time run more of them at once.
pub(super) fn runner() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/run_test.sh");
    format!("target.'cfg(all())'.runner = [\"sh\", {script:?}]")
}

/// The counts of a `test result:` line.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// A program begins its tests.
    Begins,
    Result(Counts),
    Failed(&'a str),
    /// What follows was printed by tests that passed.
    Successes,
    /// What follows was printed by tests that failed.
    Failures,
    /// What follows is the output of this test.
    Speaks(&'a str),
    Skipped {
        reason: &'a str,
    },
    Other,
}

fn parse_line(line: &str) -> Line<'_> {
    if let Some(rest) = line.strip_prefix("test result: ") {
        let count = |word: &str| {
            let before = rest.split(&format!(" {word}")).next()?;
            before.rsplit(' ').next()?.parse().ok()
        };
        if let (Some(passed), Some(failed)) = (count("passed"), count("failed")) {
            return Line::Result(Counts { passed, failed });
        }
    }
    if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
        return Line::Failed(test);
    }
    if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
        return Line::Speaks(test);
    }
    if line.strip_prefix("running ").is_some_and(|rest| rest.ends_with(" test") || rest.ends_with(" tests")) {
        return Line::Begins;
    }
    match (line, line.strip_prefix(SKIP_MARK)) {
        ("successes:", _) => Line::Successes,
        ("failures:", _) => Line::Failures,
        (_, Some(reason)) => Line::Skipped { reason },
        (_, None) => Line::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::length::Length;

    #[test]
    fn the_lines_that_count_are_understood() {
        let table = [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                Line::Result(Counts { passed: 12, failed: 0 }),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
                Line::Result(Counts { passed: 3, failed: 2 }),
            ),
            ("running 12 tests", Line::Begins),
            ("running 1 test", Line::Begins),
            ("running away", Line::Other),
            ("test plan::bridges ... FAILED", Line::Failed("plan::bridges")),
            ("test plan::bridges ... ok", Line::Other),
            ("---- plan::bridges stdout ----", Line::Speaks("plan::bridges")),
            ("SKIPPED: veritysetup is not installed", Line::Skipped { reason: "veritysetup is not installed" }),
            ("SKIPPED", Line::Other),
            ("successes:", Line::Successes),
            ("failures:", Line::Failures),
        ];
        for (line, wanted) in table {
            assert_eq!(parse_line(line), wanted, "{line}");
        }
    }

    #[test]
    fn a_test_that_skips_is_not_counted_as_passed_as_well() {
        let said = "\
running 4 tests
test fs ... ok
test net ... ok
test net6 ... ok
test tools ... FAILED

successes:

---- net stdout ----
SKIPPED: this kernel has no /proc/is-not-there
SKIPPED: this kernel has no /proc/is-not-there-either

---- fs stdout ----
hello

---- net6 stdout ----
SKIPPED: nobody knows why

failures:

---- tools stdout ----
SKIPPED: and then it failed

test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
SKIPPED: this kernel has no /proc/is-not-there

running 1 test
test alone ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";
        let mut tally = Tally::new(Length::Short);
        let mut output = Output::new(&mut tally);
        let shown: Vec<&str> = said.lines().filter(|line| output.count(line) == Shown::Yes).collect();
        assert_eq!(output.end(), 1);
        // `net` is one skip, and so is the program without a result.
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 2 skipped as expected, 1 unexpectedly");
        assert!(!shown.contains(&"hello") && shown.contains(&"SKIPPED: and then it failed"), "{shown:?}");
    }
}
