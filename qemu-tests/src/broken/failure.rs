//! Why a step on the bench ended early.

use crate::board::BoardError;
use crate::board::agent::Hello;
use crate::command::CommandError;
use crate::report::NotSo;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a step ended early.
#[derive(Debug)]
pub(super) enum BrokenError {
    /// Something was seen that should not be so.
    NotSo(NotSo),
    /// The board did not do what was asked.
    Board(BoardError),
    /// A tool of this machine failed.
    Tool(CommandError),
    /// A file of this machine could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The board that this step needs did not boot.
    Off,
    /// A board came up that should not have.
    CameUp(Hello),
}

impl BrokenError {
    /// For `map_err`: something failed on `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BrokenError + use<> {
        let path = path.to_owned();
        move |source| BrokenError::Io { path, source }
    }
}

impl From<NotSo> for BrokenError {
    fn from(not_so: NotSo) -> BrokenError {
        BrokenError::NotSo(not_so)
    }
}

impl From<BoardError> for BrokenError {
    fn from(error: BoardError) -> BrokenError {
        BrokenError::Board(error)
    }
}

impl From<CommandError> for BrokenError {
    fn from(error: CommandError) -> BrokenError {
        BrokenError::Tool(error)
    }
}

impl fmt::Display for BrokenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenError::NotSo(not_so) => not_so.fmt(out),
            BrokenError::Board(error) => error.fmt(out),
            BrokenError::Tool(error) => error.fmt(out),
            BrokenError::Io { path, source } => write!(out, "{}: {source}", path.display()),
            BrokenError::Off => out.write_str("the board for it is not on"),
            BrokenError::CameUp(Hello { kernel, machine, uptime_ms }) => {
                write!(out, "a system came up after {uptime_ms} ms: {machine} {kernel}")
            }
        }
    }
}

impl std::error::Error for BrokenError {}
