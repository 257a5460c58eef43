//! Floors in a process of their own, one after the other, beside those of this process. An emulated board has one processor, so that two
//! of them take little longer than one, and tests wait more than they compute; what was said is shown at their end.

use super::tally::Tally;
use crate::length::Length;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, Stdio};

/// Floors that run.
#[derive(Debug)]
pub(super) struct Beside {
    /// Which.
    names: String,
    child: Child,
    /// What it says.
    output: File,
}

impl Beside {
    /// Starts this program again, for these floors.
    pub(super) fn begin(names: &[&str], length: Length) -> io::Result<Beside> {
        let output = tempfile::tempfile()?;
        let long: &[&str] = match length {
            Length::Short => &[],
            Length::Long => &["--long"],
        };
        // Also where cargo has built another one by this name meanwhile.
        let child = Command::new("/proc/self/exe")
            .arg("accept")
            .args(names)
            .args(long)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()?;
        Ok(Beside { names: names.join(", "), child, output })
    }

    /// Waits for their end, shows what they have said, and counts it.
    pub(super) fn finish(self, length: Length) -> Tally {
        let Beside { names: name, mut child, mut output } = self;
        let mut tally = Tally::new(length);
        let mut text = Vec::new();
        let status = child.wait();
        if let Err(error) = output.rewind().and_then(|()| output.read_to_end(&mut text)) {
            tally.fail(&name, &format!("read what it has said: {error}"));
        }
        for line in String::from_utf8_lossy(&text).lines() {
            if !is_summary(line) {
                println!("{line}");
                tally.count_line(line);
            }
        }
        match status {
            Ok(status) if !status.success() && tally.is_green() => tally.fail(&name, &status.to_string()),
            Ok(_) => {}
            Err(error) => tally.fail(&name, &error.to_string()),
        }
        tally
    }
}

/// What it says at its end of all its floors; this run says it of all of its own.
fn is_summary(line: &str) -> bool {
    ["accept: ", "FAILED ", "SKIPPED "].iter().any(|word| line.starts_with(word))
}
