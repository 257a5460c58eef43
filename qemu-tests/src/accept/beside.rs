//! A floor in a process of its own, beside another one. An emulated board has one processor, so that two of them take little longer
//! than one; what was said is shown when the other floor has ended.

use super::tally::Tally;
use crate::length::Length;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, Stdio};

/// A floor that runs.
#[derive(Debug)]
pub(super) struct Beside {
    name: &'static str,
    child: Child,
    /// What it says.
    output: File,
}

impl Beside {
    /// Starts this program again, for one floor.
    pub(super) fn begin(name: &'static str, arguments: &[&str]) -> io::Result<Beside> {
        let output = tempfile::tempfile()?;
        let child = Command::new(std::env::current_exe()?)
            .args(["accept", name])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()?;
        Ok(Beside { name, child, output })
    }

    /// Whether it is this floor.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Waits for its end, shows what it has said, and counts it.
    pub(super) fn finish(self, length: Length) -> Tally {
        let Beside { name, mut child, mut output } = self;
        let mut tally = Tally::new(length);
        let mut text = Vec::new();
        let status = child.wait();
        if let Err(error) = output.rewind().and_then(|()| output.read_to_end(&mut text)) {
            tally.fail(name, &format!("read what it has said: {error}"));
        }
        for line in String::from_utf8_lossy(&text).lines() {
            if !is_summary(line) {
                println!("{line}");
                tally.count_line(line);
            }
        }
        match status {
            Ok(status) if !status.success() && tally.is_green() => tally.fail(name, &status.to_string()),
            Ok(_) => {}
            Err(error) => tally.fail(name, &error.to_string()),
        }
        tally
    }
}

/// What it says at its end of all its floors; this run says it of all of its own.
fn is_summary(line: &str) -> bool {
    ["accept: ", "FAILED ", "SKIPPED "].iter().any(|word| line.starts_with(word))
}
