//! The built `yado`, run in a directory that is removed afterwards.
#![allow(clippy::unwrap_used, dead_code, reason = "each test program uses its part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Where the command runs.
pub(crate) struct Workshop {
    directory: TempDir,
}

impl Workshop {
    pub(crate) fn new() -> Workshop {
        Workshop { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Writes a file, with the directories above it.
    pub(crate) fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes a program for armhf that says nothing of what it is.
    pub(crate) fn write_program(&self, relative: &str) {
        let mut bytes = [b"\x7fELF\x01\x01\x01".as_slice(), &[0; 9], &[2, 0, 40, 0]].concat();
        bytes.resize(64, 0);
        self.write(relative, "");
        fs::write(self.path(relative), bytes).unwrap();
        fs::set_permissions(self.path(relative), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yado"));
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_remove("SOURCE_DATE_EPOCH");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn succeed(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    pub(crate) fn fail(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
        output
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.succeed(arguments).stdout).unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
