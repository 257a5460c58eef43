//! What a board is from the start, and what is wrong with it.

use crate::board::disk::DataPartition;

/// What is wrong with a board from the start.
#[derive(Debug)]
pub(super) struct Condition {
    /// Names its directory.
    pub(super) name: &'static str,
    /// What is in its data partition.
    pub(super) data: DataPartition,
    /// Words for the end of the kernel's command line.
    pub(super) kernel_arguments: &'static str,
    /// The time its clock chip begins with.
    pub(super) clock: Option<&'static str>,
}
