//! What a board is from the start: its kernel, and what is wrong with it.

use crate::board::disk::DataPartition;
use crate::board::{Prepared, Slots};

/// Which kernel is on a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// Bookworm's.
    Usual,
    /// That of its backports.
    Newer,
}

/// What boards are made of, for each kernel.
#[derive(Debug)]
pub(super) struct ByKernel {
    /// With bookworm's.
    pub(super) usual: Prepared,
    /// With that of its backports, if boards with it are tried.
    pub(super) newer: Option<Prepared>,
}

/// What is wrong with a board from the start.
#[derive(Debug)]
pub(super) struct Condition {
    /// Names its directory.
    pub(super) name: &'static str,
    /// Its kernel.
    pub(super) kernel: Kernel,
    /// How many processors it has.
    pub(super) processors: u32,
    /// What is in its slots.
    pub(super) slots: Slots,
    /// What is in its data partition.
    pub(super) data: DataPartition,
    /// Words for the end of the kernel's command line.
    pub(super) kernel_arguments: &'static str,
    /// Commands of U-Boot's that add to the devicetree.
    pub(super) devicetree: &'static str,
    /// The time its clock chip begins with.
    pub(super) clock: Option<&'static str>,
}

impl Condition {
    /// Nothing is wrong: the usual kernel, one processor, a system in slot A, a blank data partition, today.
    pub(super) fn sound(name: &'static str) -> Condition {
        Condition {
            name,
            kernel: Kernel::Usual,
            processors: 1,
            slots: Slots::OnlyA,
            data: DataPartition::Blank,
            kernel_arguments: "",
            devicetree: "",
            clock: None,
        }
    }
}
