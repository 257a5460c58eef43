//! `cargo test` as a floor: its output is passed on, but for what tests printed that passed; its closing lines are counted,
//! and so are the tests that said `SKIPPED: reason` because this machine lacks what they need.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::tally::Tally;

/// What a test prints, at the start of a line, when it cannot run here.
pub(super) const SKIP_MARK: &str = "SKIPPED: ";

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
    let mut failed = 0;
    let mut speaking = "a test".to_owned();
    let mut has_passed = false;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let parsed = parse_line(&line);
            has_passed = match parsed {
                Line::Successes => true,
                Line::Failures | Line::Result(_) => false,
                Line::Failed(_) | Line::Speaks(_) | Line::Skipped { .. } | Line::Other => has_passed,
            };
            if !has_passed {
                println!("   {line}");
            }
            match parsed {
                Line::Result(counts) => {
                    tally.count_passed(counts.passed);
                    failed += counts.failed;
                }
                Line::Failed(test) => tally.fail(test, "see its output above"),
                Line::Speaks(test) => speaking = test.to_owned(),
                Line::Skipped { reason } => tally.skip(&speaking, reason),
                Line::Successes | Line::Failures | Line::Other => {}
            }
        }
    }
    match child.wait() {
        Ok(status) if status.success() => {}
        Ok(_) if failed > 0 => {}
        Ok(status) => tally.fail(name, &format!("{status}")),
        Err(error) => tally.fail(name, &error.to_string()),
    }
}

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
}
