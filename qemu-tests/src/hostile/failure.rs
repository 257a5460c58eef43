//! Why a step with hostile containers ended early.

use crate::board::BoardError;
use crate::board::agent::AgentError;
use crate::board::qemu::QemuError;
use crate::board::qmp::QmpError;
use crate::report::NotSo;
use std::fmt;

/// Why a step ended early.
#[derive(Debug)]
pub(super) enum HostileError {
    /// Something was seen that should not be so.
    NotSo(NotSo),
    /// The board did not do what was asked.
    Board(BoardError),
    /// The board that this step needs is not on.
    Off,
    /// What was read on the board lacks something.
    Lacks {
        /// Where we looked.
        place: &'static str,
        /// For what.
        wanted: String,
    },
}

impl HostileError {
    /// For `map_err`: the emulator could not be told.
    pub(super) fn qmp(error: QmpError) -> HostileError {
        HostileError::Board(BoardError::Qemu(QemuError::Qmp(error)))
    }
}

impl From<NotSo> for HostileError {
    fn from(not_so: NotSo) -> HostileError {
        HostileError::NotSo(not_so)
    }
}

impl From<BoardError> for HostileError {
    fn from(error: BoardError) -> HostileError {
        HostileError::Board(error)
    }
}

impl From<AgentError> for HostileError {
    fn from(error: AgentError) -> HostileError {
        HostileError::Board(BoardError::Agent(error))
    }
}

impl fmt::Display for HostileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostileError::NotSo(not_so) => not_so.fmt(out),
            HostileError::Board(error) => error.fmt(out),
            HostileError::Off => out.write_str("the board for it is not on"),
            HostileError::Lacks { place, wanted } => write!(out, "{place}: no {wanted}"),
        }
    }
}

impl std::error::Error for HostileError {}
