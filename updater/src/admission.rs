//! Whether this board may take a release: the signed manifest and facts of the board in, what is to be fetched or the one rule that
//! refuses out, with its numbers. Pure, and asked before the first byte of an image is fetched. That the release is signed was
//! verified before ([`yado_image::release::verify`]); that each byte is the one that was signed is checked as it comes.

mod refusal;

#[cfg(test)]
mod tests;

pub use refusal::Refusal;

use std::collections::BTreeSet;
use yado_image::release::{Manifest, Part, Release, System};
use yado_image::{Architecture, RuntimeVersion};
use yado_wire::InstanceName;

/// Facts of a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// The product of the system that runs; `None` if that is not known.
    pub product: Option<String>,
    /// The names by which releases are made for it.
    pub compatible: Vec<String>,
    /// Its processor.
    pub architecture: Architecture,
    /// What installs and runs the release.
    pub runtime: RuntimeVersion,
    /// The number of the newest release that was confirmed here; 0 before the first one.
    pub accepted_release: u64,
    /// Before the first one, the number of the system that runs; else 0.
    pub factory_release: u64,
    /// The highest security epoch that was confirmed here.
    pub accepted_epoch: u32,
    /// The release that runs.
    pub current: Option<[u8; 32]>,
    /// Nothing is to be installed.
    pub is_held: bool,
    /// Releases and systems that failed here.
    pub blocked: Vec<[u8; 32]>,
    /// The slot that a system would be written to; `None` if there is but one.
    pub slot: Option<SlotRoom>,
    /// Free on the data partition.
    pub data_free_bytes: u64,
    /// What of that stays free: for logs, and for what instances' writable layers take while they are kept twice.
    pub data_reserve_bytes: u64,
    /// Containers' images that are here already.
    pub images: BTreeSet<[u8; 32]>,
    /// Instances that there are.
    pub instances: BTreeSet<InstanceName>,
    /// Of the whole machine.
    pub memory_mib: u32,
    /// Of the kernel that runs.
    pub kernel: KernelOptions,
}

/// Where a system goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRoom {
    /// Length of the slot's partition.
    pub bytes: u64,
    /// What the slot's boot partition holds for boot files, those that are there counted as free; `None` if it has none.
    pub boot_bytes: Option<u64>,
}

/// What is known of the kernel's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelOptions {
    /// All that are built in or modules, without `CONFIG_`.
    Known(BTreeSet<String>),
    /// The kernel does not say (`IKCONFIG_PROC`).
    Unknown,
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// In the order of the release: images that are not here yet, then boot files.
    pub parts: Vec<(Part, u64)>,
    /// Of all these together, before it is known what of the system the other slot has.
    pub bytes: u64,
}

/// Who makes the boot partition and its file system takes a part of it: file tables, and the rest of the last block of each file.
const BOOT_SPARE_BYTES: u64 = 64 << 10;
/// Of each file, on any file system that boot loaders read.
const BOOT_CLUSTER_BYTES: u64 = 32 << 10;
const HEADER_BYTES: u64 = 4096;

/// Judges a release. The order of the rules is that of the reasons that people want to hear first.
pub fn admit(release: &Release, board: &Board) -> Result<Admitted, Refusal> {
    let manifest = &release.manifest;
    if board.is_held {
        return Err(Refusal::Held);
    }
    is_for_this_board(manifest, board)?;
    may_follow(release, board)?;
    has_what_it_needs(manifest, board)?;
    if let Some(system) = &manifest.system {
        fits_slot(system, board)?;
    }
    fits_data(manifest, board)?;
    let is_here = |part: &Part| matches!(part, Part::Image(image) if board.images.contains(image));
    let parts: Vec<_> = manifest.parts().into_iter().filter(|(part, _)| !is_here(part)).collect();
    Ok(Admitted { bytes: parts.iter().map(|(_, bytes)| bytes).sum(), parts })
}

fn is_for_this_board(manifest: &Manifest, board: &Board) -> Result<(), Refusal> {
    let Manifest { architecture, compatible, name, .. } = manifest;
    if let Some(ours) = board.product.as_ref().filter(|ours| *ours != name) {
        return Err(Refusal::OtherProduct { ours: ours.clone(), theirs: name.clone() });
    }
    if *architecture != board.architecture {
        return Err(Refusal::OtherArchitecture { ours: board.architecture, theirs: *architecture });
    }
    if !compatible.is_empty() && !compatible.iter().any(|board_name| board.compatible.contains(board_name)) {
        return Err(Refusal::OtherBoard { ours: board.compatible.clone(), theirs: compatible.clone() });
    }
    Ok(())
}

fn may_follow(release: &Release, board: &Board) -> Result<(), Refusal> {
    let Release { header, fingerprint, manifest, .. } = release;
    if board.current == Some(*fingerprint) {
        return Err(Refusal::Already { release: header.release });
    }
    let system = manifest.system.as_ref().map(|system| system.fingerprint);
    if board.blocked.iter().any(|blocked| blocked == fingerprint || Some(*blocked) == system) {
        return Err(Refusal::Blocked { release: header.release });
    }
    if header.security_epoch < board.accepted_epoch {
        return Err(Refusal::OlderEpoch { ours: board.accepted_epoch, theirs: header.security_epoch });
    }
    if header.release <= board.accepted_release || header.release < board.factory_release {
        let ours = board.accepted_release.max(board.factory_release);
        return Err(Refusal::OlderRelease { ours, theirs: header.release });
    }
    // A board without any confirmed release was made by its factory with what is newest then.
    if 0 < board.accepted_release && board.accepted_release < header.oldest_before {
        return Err(Refusal::SteppingStone { ours: board.accepted_release, needed: header.oldest_before });
    }
    Ok(())
}

fn has_what_it_needs(manifest: &Manifest, board: &Board) -> Result<(), Refusal> {
    let requires = &manifest.requires;
    if !board.runtime.is_at_least(requires.runtime) {
        return Err(Refusal::Runtime { ours: board.runtime, needed: requires.runtime });
    }
    if let Some(instance) = manifest.instances.keys().find(|name| !board.instances.contains(name)) {
        return Err(Refusal::NoInstance { instance: instance.clone() });
    }
    // A system brings a kernel of its own: of that it is known only that whoever made the release chose both.
    if let (None, KernelOptions::Known(options)) = (&manifest.system, &board.kernel) {
        let missing: Vec<String> = requires.kernel.iter().filter(|name| !options.contains(*name)).cloned().collect();
        if !missing.is_empty() {
            return Err(Refusal::Kernel { missing });
        }
    }
    if board.memory_mib < requires.memory_mib {
        return Err(Refusal::Memory { ours_mib: board.memory_mib, needed_mib: requires.memory_mib });
    }
    Ok(())
}

fn fits_slot(system: &System, board: &Board) -> Result<(), Refusal> {
    let Some(slot) = board.slot else { return Err(Refusal::NoSlot) };
    // The header stands in the slot's last block too: the image's own, if that is it, or behind the image.
    let needed = if system.bytes == slot.bytes { system.bytes } else { system.bytes.saturating_add(HEADER_BYTES) };
    if slot.bytes < needed {
        return Err(Refusal::SlotTooSmall {
            slot_bytes: slot.bytes,
            image_bytes: system.bytes,
            needed_bytes: needed,
        });
    }
    if system.boot.is_empty() {
        return Ok(());
    }
    let Some(boot_bytes) = slot.boot_bytes else { return Err(Refusal::NoBootPartition) };
    let files = system.boot.values().map(|file| file.bytes.next_multiple_of(BOOT_CLUSTER_BYTES));
    let needed = files.fold(BOOT_SPARE_BYTES, u64::saturating_add);
    if boot_bytes < needed {
        return Err(Refusal::BootTooSmall { boot_bytes, files: system.boot.len(), needed_bytes: needed });
    }
    Ok(())
}

/// Images lie beside the old ones, which may have to come back.
fn fits_data(manifest: &Manifest, board: &Board) -> Result<(), Refusal> {
    let images: BTreeSet<_> = manifest
        .instances
        .values()
        .filter(|image| !board.images.contains(&image.fingerprint))
        .map(|image| (image.fingerprint, image.bytes))
        .collect();
    let image_bytes = images.iter().fold(0, |all: u64, (_, bytes)| all.saturating_add(*bytes));
    if images.is_empty() || image_bytes.saturating_add(board.data_reserve_bytes) <= board.data_free_bytes {
        return Ok(());
    }
    Err(Refusal::DataTooSmall {
        free_bytes: board.data_free_bytes,
        images: images.len(),
        image_bytes,
        reserve_bytes: board.data_reserve_bytes,
    })
}
