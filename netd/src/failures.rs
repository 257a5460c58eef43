//! Something that netd could not do. It is logged once, tried again, and told to the client that asked for it.

use std::io;
use yado_wire::{Failure, Step, Text};

/// Something that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingFailure {
    /// Which network it is about; `None`: all of them.
    pub(crate) network: Option<Text<15>>,
    /// What, and why.
    pub(crate) failure: Failure,
}

impl PendingFailure {
    /// The kernel refused something about all networks.
    pub(crate) fn of_all(what: &str, error: &io::Error) -> PendingFailure {
        PendingFailure { network: None, failure: Failure::from_io(Step::Network, what, error) }
    }

    /// The kernel refused something about one network.
    pub(crate) fn of(network: &Text<15>, what: &str, error: &io::Error) -> PendingFailure {
        PendingFailure { network: Some(network.clone()), failure: Failure::from_io(Step::Network, what, error) }
    }
}
