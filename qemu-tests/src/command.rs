//! Running the tools of the machine: what was run stands in the error, with the end of what it said.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// A command line being put together.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    line: String,
}

impl Tool {
    /// Starts with the program, looked up in `PATH` unless it has a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Tool {
        /// Where Debian keeps depmod, mke2fs and sgdisk; an ordinary user's `PATH` lacks it.
        const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";
        let program = program.as_ref();
        let line = program.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":");
        path.push(SYSTEM_FOLDERS);
        command.env("PATH", path);
        Tool { command, line }
    }

    /// Starts with the program run as root: by sudo where we are not.
    pub fn as_root(program: &str) -> Tool {
        if rustix::process::geteuid().is_root() { Tool::new(program) } else { Tool::new("sudo").arg(program) }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.line.push(' ');
        self.line.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Tool {
        args.into_iter().fold(self, Tool::arg)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    /// Unsets an environment variable.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Tool {
        self.command.env_remove(name);
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Tool {
        self.command.current_dir(folder);
        self
    }

    /// Runs it to the end and returns what it wrote to its standard output. Messages are kept for the error.
    pub fn output(mut self) -> Result<String, CommandError> {
        let output = self.command.stdin(Stdio::null()).output();
        let output = output.map_err(|source| CommandError::Start { line: self.line.clone(), source })?;
        if !output.status.success() {
            let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
            let said = last_lines(&String::from_utf8_lossy(said));
            return Err(CommandError::Failed { line: self.line, status: output.status, said });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it to the end and returns what it wrote to its standard output, also where it failed: for queries
    /// about several things, of which some may not exist.
    pub fn output_even_if_failed(mut self) -> Result<String, CommandError> {
        let output = self.command.stdin(Stdio::null()).output();
        let output = output.map_err(|source| CommandError::Start { line: self.line.clone(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it to the end; its output is of interest only when it fails.
    pub fn run(self) -> Result<(), CommandError> {
        self.output().map(|_| ())
    }

    /// Runs it to the end with our own terminal: for what shows its own progress, as cargo does.
    pub fn run_visibly(mut self) -> Result<(), CommandError> {
        let status = self.command.stdin(Stdio::null()).stdout(Stdio::from(io::stderr())).status();
        let status = status.map_err(|source| CommandError::Start { line: self.line.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(CommandError::Failed { line: self.line, status, said: "its messages are above".to_owned() })
    }
}

/// The end of a long output, where tools say what went wrong.
fn last_lines(text: &str) -> String {
    /// Enough for apt's or make's last words, and still one screen.
    const SHOWN: usize = 15;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// Why a command did not do its work.
#[derive(Debug)]
pub enum CommandError {
    /// It did not even start.
    Start {
        /// The command line.
        line: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// It ran and failed.
    Failed {
        /// The command line.
        line: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        said: String,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Start { line, source } => write!(out, "start `{line}`: {source}"),
            CommandError::Failed { line, status, said } => write!(out, "`{line}`: {status}\n{said}"),
        }
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_failure_carries_the_command_line_and_the_last_words() {
        let error = Tool::new("sh").args(["-c", "seq 100; echo no disk >&2; exit 3"]).output().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh -c seq 100;"), "{text}");
        assert!(text.ends_with("no disk"), "{text}");
        assert!(text.lines().count() < 20, "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Tool::new("/no/such/program").arg("x").run().unwrap_err();
        assert!(matches!(&error, CommandError::Start { line, .. } if line == "/no/such/program x"), "{error}");
    }
}
