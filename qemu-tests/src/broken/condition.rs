//! What a board is from the start: its kernel, and what is wrong with it.

use crate::board::Slots;
use crate::board::disk::DataPartition;

/// What is wrong with a board from the start.
#[derive(Debug)]
pub(super) struct Condition {
    /// Names its directory.
    pub(super) name: &'static str,
    /// What is in its slots.
    pub(super) slots: Slots,
    /// What is in its data partition.
    pub(super) data: DataPartition,
    /// Words for the end of the kernel's command line.
    pub(super) kernel_arguments: &'static str,
    /// The time its clock chip begins with.
    pub(super) clock: Option<&'static str>,
}

impl Condition {
    /// Nothing is wrong: a system in slot A, a blank data partition, today.
    pub(super) fn sound(name: &'static str) -> Condition {
        Condition { name, slots: Slots::OnlyA, data: DataPartition::Blank, kernel_arguments: "", clock: None }
    }
}
