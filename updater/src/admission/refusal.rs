//! The rules by which a release is refused, in words with their numbers, and with what to do. Each has a name and an exit code in
//! [`crate::exit_codes`].

use std::fmt;
use yado_image::{Architecture, RuntimeVersion, Version};
use yado_wire::InstanceName;
use yado_wire::printable::printable;

/// The one rule that a release breaks on this board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody wants nothing installed.
    Held,
    /// Another product's.
    OtherProduct {
        /// What runs here.
        ours: String,
        /// What it is.
        theirs: String,
    },
    /// Another processor's.
    OtherArchitecture {
        /// This board's.
        ours: Architecture,
        /// The release's.
        theirs: Architecture,
    },
    /// Another board's.
    OtherBoard {
        /// This board's names.
        ours: Vec<String>,
        /// Those that it is made for.
        theirs: Vec<String>,
    },
    /// It runs.
    Already {
        /// Its number.
        release: u64,
    },
    /// It, or its system, failed here.
    Blocked {
        /// Its number.
        release: u64,
    },
    /// Of a time whose holes are known.
    OlderEpoch {
        /// Confirmed here.
        ours: u32,
        /// The release's.
        theirs: u32,
    },
    /// Not newer than what was confirmed.
    OlderRelease {
        /// Confirmed here.
        ours: u64,
        /// The release's.
        theirs: u64,
    },
    /// One between has to be installed first.
    SteppingStone {
        /// Confirmed here.
        ours: u64,
        /// The oldest that it may follow.
        needed: u64,
    },
    /// For a later runtime.
    Runtime {
        /// The one here.
        ours: RuntimeVersion,
        /// The oldest that does.
        needed: Version,
    },
    /// An image for an instance that is not here.
    NoInstance {
        /// Which.
        instance: InstanceName,
    },
    /// The kernel lacks options.
    Kernel {
        /// Which.
        missing: Vec<String>,
    },
    /// Too little memory.
    Memory {
        /// This board's.
        ours_mib: u32,
        /// What it needs.
        needed_mib: u32,
    },
    /// There is no second slot.
    NoSlot,
    /// The slot is too small.
    SlotTooSmall {
        /// Its length.
        slot_bytes: u64,
        /// The image's.
        image_bytes: u64,
        /// The image's with what the slot needs besides.
        needed_bytes: u64,
    },
    /// Boot files, and no place for them.
    NoBootPartition,
    /// The slot's boot partition is too small.
    BootTooSmall {
        /// What it holds.
        boot_bytes: u64,
        /// Number of boot files.
        files: usize,
        /// What they take.
        needed_bytes: u64,
    },
    /// The data partition has too little room.
    DataTooSmall {
        /// What is free.
        free_bytes: u64,
        /// Number of images that are not here yet.
        images: usize,
        /// What they take.
        image_bytes: u64,
        /// What has to stay free.
        reserve_bytes: u64,
    },
}

impl Refusal {
    /// The rule's name for programs; [`crate::exit_codes`] has it too.
    pub fn rule(&self) -> &'static str {
        match self {
            Refusal::Held => "held",
            Refusal::OtherProduct { .. } => "product",
            Refusal::OtherArchitecture { .. } => "architecture",
            Refusal::OtherBoard { .. } => "board",
            Refusal::Already { .. } => "already",
            Refusal::Blocked { .. } => "blocked",
            Refusal::OlderEpoch { .. } => "security-epoch",
            Refusal::OlderRelease { .. } => "older",
            Refusal::SteppingStone { .. } => "stepping-stone",
            Refusal::Runtime { .. } => "runtime",
            Refusal::NoInstance { .. } => "instance",
            Refusal::Kernel { .. } => "kernel",
            Refusal::Memory { .. } => "memory",
            Refusal::NoSlot => "no-slot",
            Refusal::SlotTooSmall { .. } => "slot-space",
            Refusal::NoBootPartition => "no-boot-partition",
            Refusal::BootTooSmall { .. } => "boot-space",
            Refusal::DataTooSmall { .. } => "data-space",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Held => write!(out, "updates are held: `yado update hold --off` ends it"),
            Refusal::OtherProduct { ours, theirs } => {
                write!(out, "a release of {}, and this board runs {}", printable(theirs), printable(ours))
            }
            Refusal::OtherArchitecture { ours, theirs } => {
                write!(out, "made for {}, and this board is {}", theirs.name(), ours.name())
            }
            Refusal::OtherBoard { ours, theirs } => {
                write!(out, "made for {}, and this board is {}", list(theirs), list(ours))
            }
            Refusal::Already { release } => write!(out, "release {release} runs already"),
            Refusal::Blocked { release } => {
                write!(out, "release {release}, or its system, failed here before: `yado update history` says how")
            }
            Refusal::OlderEpoch { ours, theirs } => {
                write!(out, "security epoch {theirs}, and {ours} was confirmed here: what is older has known holes")
            }
            Refusal::OlderRelease { ours, theirs } => write!(
                out,
                "release {theirs} is not newer than {ours}, which was confirmed here: `yado update rollback` goes back"
            ),
            Refusal::SteppingStone { ours, needed } => {
                write!(
                    out,
                    "it follows release {needed} or later, and {ours} was confirmed here: install one between first"
                )
            }
            Refusal::Runtime { ours, needed } => {
                write!(out, "needs runtime {needed} or later, and this is {ours}: install a release between first")
            }
            Refusal::NoInstance { instance } => {
                write!(out, "it has an image for the instance {}, which this board does not have", instance.as_str())
            }
            Refusal::Kernel { missing } => write!(out, "the kernel lacks {}", list(missing)),
            Refusal::Memory { ours_mib, needed_mib } => {
                let missing = needed_mib.saturating_sub(*ours_mib);
                write!(out, "needs {needed_mib} MiB of memory, the board has {ours_mib}: {missing} MiB are missing")
            }
            Refusal::NoSlot => {
                write!(out, "there is no second slot for a system: `yado system slots` shows what there is")
            }
            Refusal::SlotTooSmall { slot_bytes, image_bytes, needed_bytes } => write!(
                out,
                "the system takes {} and its header once more, {} in all, the slot has {}: {} are missing",
                size(*image_bytes),
                size(*needed_bytes),
                size(*slot_bytes),
                size(needed_bytes.saturating_sub(*slot_bytes))
            ),
            Refusal::NoBootPartition => write!(out, "it has boot files, and the slot has no boot partition"),
            Refusal::BootTooSmall { boot_bytes, files, needed_bytes } => write!(
                out,
                "{files} boot files take {}, the slot's boot partition holds {}: {} are missing",
                size(*needed_bytes),
                size(*boot_bytes),
                size(needed_bytes.saturating_sub(*boot_bytes))
            ),
            Refusal::DataTooSmall { free_bytes, images, image_bytes, reserve_bytes } => write!(
                out,
                "{images} images take {} and {} stay free, {} are free on the data partition: {} are missing",
                size(*image_bytes),
                size(*reserve_bytes),
                size(*free_bytes),
                size(image_bytes.saturating_add(*reserve_bytes).saturating_sub(*free_bytes))
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// Whole bytes where they are few, else MiB with a digit: rounded numbers of one sentence need not add up to the last digit.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..MIB => format!("{bytes} bytes"),
        _ => format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB),
    }
}

fn list(names: &[String]) -> String {
    const MOST: usize = 8;
    match names {
        [] => "nothing that has a name".to_owned(),
        names => {
            let shown = names.iter().take(MOST).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
            let more = names.len().saturating_sub(MOST);
            if more == 0 { shown } else { format!("{shown} and {more} more") }
        }
    }
}
