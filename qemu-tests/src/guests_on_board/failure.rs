//! Why a step with a guest ended early.

use crate::board::BoardError;
use crate::board::agent::AgentError;
use crate::board::qemu::QemuError;
use crate::board::qmp::QmpError;
use crate::report::NotSo;
use std::fmt;

/// Why a step ended early.
#[derive(Debug)]
pub(super) enum GuestError {
    /// Something was seen that should not be so.
    NotSo(NotSo),
    /// The board did not do what was asked.
    Board(BoardError),
    /// The board is not on.
    Off,
}

impl GuestError {
    /// For `map_err`: the emulator could not be told.
    pub(super) fn qmp(error: QmpError) -> GuestError {
        GuestError::Board(BoardError::Qemu(QemuError::Qmp(error)))
    }
}

impl From<NotSo> for GuestError {
    fn from(not_so: NotSo) -> GuestError {
        GuestError::NotSo(not_so)
    }
}

impl From<BoardError> for GuestError {
    fn from(error: BoardError) -> GuestError {
        GuestError::Board(error)
    }
}

impl From<AgentError> for GuestError {
    fn from(error: AgentError) -> GuestError {
        GuestError::Board(BoardError::Agent(error))
    }
}

impl fmt::Display for GuestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestError::NotSo(not_so) => not_so.fmt(out),
            GuestError::Board(error) => error.fmt(out),
            GuestError::Off => out.write_str("the board for it is not on"),
        }
    }
}

impl std::error::Error for GuestError {}
