//! The boot script under the real U-Boot, on disks whose slots hold no kernel: so each slot is tried in turn and given up,
//! within a second or two, and what it tried stands on the serial line and in the state partition.

#![allow(clippy::unwrap_used)]

use qemu_tests::arch::Arch;
use qemu_tests::board::disk::{self, DataPartition, DiskContent, Firmware, System};
use qemu_tests::board::qemu::{Disk, OnReset, Qemu, QemuOptions, Speed};
use qemu_tests::cache::Cache;
use qemu_tests::provision;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_updater::boot_state::{BootState, Order, Slot, Tries};
use yado_updater::state_partition;

const DATA_MIB: u64 = 1;
/// Seconds where it usually takes one: other tests run beside.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the board did until it reset itself.
struct Told {
    serial: String,
    state: BootState,
}

/// Boots a board with this state; `spoil` may damage its disk first.
fn boot(arch: Arch, state: &BootState, spoil: impl Fn(&File)) -> Option<Told> {
    let uboot = uboot(arch)?;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("nothing"), vec![0; 8192]).unwrap();
    let empty = System { image: at("nothing"), kernel: at("nothing"), initramfs: at("nothing") };
    let content = DiskContent {
        arch,
        firmware: Firmware::UBoot,
        a: empty.clone(),
        b: Some(empty),
        state: state.clone(),
        kernel_arguments: String::new(),
        devicetree: String::new(),
        data_mib: DATA_MIB,
        data: DataPartition::Blank,
    };
    disk::make(&at("disk"), &content, folder.path()).unwrap();
    disk::make_flash(&at("flash"), folder.path()).unwrap();
    spoil(&File::options().write(true).open(at("disk")).unwrap());
    let mut qemu = Qemu::start(&QemuOptions {
        arch,
        memory_mib: 256,
        processors: 1,
        firmware: uboot,
        flash: at("flash"),
        disk: Disk::File(at("disk")),
        speed: Speed::OfThisMachine,
        on_reset: OnReset::End,
        clock: None,
        has_watchdog: false,
        sockets: folder.path().to_owned(),
        serial_log: at("serial.log"),
    })
    .unwrap();
    let ended = qemu.wait_end(TIMEOUT);
    let serial = String::from_utf8_lossy(&fs::read(at("serial.log")).unwrap()).into_owned();
    ended.unwrap_or_else(|error| panic!("{error}\n{serial}"));
    disk::extract(&at("disk"), disk::extent("state", DATA_MIB).unwrap(), &at("state")).unwrap();
    let state = state_partition::read(&File::open(at("state")).unwrap()).unwrap();
    Some(Told { serial, state })
}

/// U-Boot and an emulator, if this machine has them; said loudly if not.
fn uboot(arch: Arch) -> Option<PathBuf> {
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    if !is_there(arch.qemu_system()) {
        eprintln!("SKIPPED: no {} on this machine; cargo accept installs it", arch.qemu_system());
        return None;
    }
    match Cache::open().map_err(provision::ProvisionError::from).and_then(|cache| provision::uboot(&cache, arch)) {
        Ok(path) => Some(path),
        Err(error) => {
            eprintln!("SKIPPED: no U-Boot: {error}");
            None
        }
    }
}

/// The lines in which the script says what it tries.
fn tried(serial: &str) -> Vec<&str> {
    serial.lines().map(str::trim).filter(|line| line.starts_with("boot: slot") && line.contains("left")).collect()
}

fn on_trial(slot: Slot, left: Tries) -> BootState {
    let mut state = BootState::factory(None);
    (state.order, state.trial) = match slot {
        Slot::A => (Order::AThenB, Some(slot)),
        Slot::B => (Order::BThenA, Some(slot)),
    };
    state.b.left = left;
    state
}

#[test]
fn without_a_trial_no_try_is_counted() {
    for arch in Arch::BOARDS {
        let Some(told) = boot(arch, &BootState::factory(None), |_| ()) else { return };
        let wanted = ["boot: slot A, 3 tries left, trial:", "boot: slot B, 3 tries left, trial:"];
        assert_eq!(tried(&told.serial), wanted, "{arch}\n{}", told.serial);
        // One change: the refill, when neither slot could be booted.
        assert_eq!(told.state.sequence, BootState::factory(None).sequence + 1, "{arch}");
        assert!(told.serial.contains("boot: no slot left, refilling"), "{arch}");
    }
}

#[test]
fn in_a_trial_only_the_slot_on_trial_is_counted() {
    let Some(told) = boot(Arch::Arm64, &on_trial(Slot::B, Tries::FULL), |_| ()) else { return };
    let wanted = ["boot: slot B, 2 tries left, trial: B", "boot: slot A, 3 tries left, trial: B"];
    assert_eq!(tried(&told.serial), wanted, "{}", told.serial);
    assert_eq!(told.state.trial, Some(Slot::B), "the script does not judge a trial");
    assert_eq!((told.state.a.left, told.state.b.left), (Tries::FULL, Tries::FULL), "refilled");
}

#[test]
fn a_slot_without_tries_is_passed_over() {
    let Some(told) = boot(Arch::Arm64, &on_trial(Slot::B, Tries::NONE), |_| ()) else { return };
    assert_eq!(tried(&told.serial), ["boot: slot A, 3 tries left, trial: B"], "{}", told.serial);
}

#[test]
fn a_torn_first_copy_is_replaced_by_the_second() {
    let mut state = BootState::factory(None);
    state.order = Order::B;
    let spoil = |disk: &File| spoil_copy(disk, 0);
    let Some(told) = boot(Arch::Arm64, &state, spoil) else { return };
    assert_eq!(tried(&told.serial), ["boot: slot B, 3 tries left, trial:"], "{}", told.serial);
    assert_eq!(told.state.order, Order::B);
}

#[test]
fn without_any_state_a_is_tried_and_then_b() {
    let spoil = |disk: &File| (0..2).for_each(|copy| spoil_copy(disk, copy));
    let Some(told) = boot(Arch::Arm64, &BootState::factory(None), spoil) else { return };
    assert_eq!(tried(&told.serial).len(), 2, "{}", told.serial);
    assert!(told.serial.contains("boot: no boot state"), "{}", told.serial);
}

#[test]
fn the_newer_copy_is_believed_and_the_other_one_written_first() {
    let with = |sequence, order| BootState { sequence, order, ..BootState::factory(None) };
    // As numbers of decimal digits they would be the other way round, and as texts too.
    let (older, newer) = (with(0x9, Order::A), with(0x1a, Order::B));
    for newer_copy in 0..2 {
        let spoil = |disk: &File| {
            write_copy(disk, newer_copy, &newer);
            write_copy(disk, 1 - newer_copy, &older);
        };
        let Some(told) = boot(Arch::Arm64, &older, spoil) else { return };
        assert_eq!(tried(&told.serial), ["boot: slot B, 3 tries left, trial:"], "{}", told.serial);
        assert_eq!(written_copies(&told.serial), [1 - newer_copy, newer_copy], "{}", told.serial);
        assert_eq!(told.state.sequence, 0x1b);
    }
}

#[test]
fn a_torn_copy_is_healed_before_the_good_one_is_touched() {
    for arch in Arch::BOARDS {
        for torn in 0..2 {
            let mut state = BootState::factory(None);
            (state.trial, state.order) = (Some(Slot::B), Order::BThenA);
            let Some(told) = boot(arch, &state, |disk| spoil_copy(disk, torn)) else { return };
            // The try that is counted, and the refill; after the first both are the same, so their order is free.
            let written = written_copies(&told.serial);
            assert_eq!(written.len(), 4, "{}", told.serial);
            assert_eq!(written[..2], [torn, 1 - torn], "{arch}: {}", told.serial);
            assert_eq!(told.state.sequence, 3);
        }
    }
}

/// The copies in the order in which U-Boot says that it wrote them: `virtio write: device 0 block # 67584, count 8 ...`.
fn written_copies(serial: &str) -> Vec<usize> {
    let first = disk::extent("state", DATA_MIB).unwrap().offset / 512;
    let blocks = serial.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" write: device ")?;
        let (_, rest) = rest.split_once(" block # ")?;
        rest.split_once(',')?.0.parse::<u64>().ok()
    });
    blocks.map(|block| usize::try_from((block - first) / 8).unwrap()).collect()
}

fn write_copy(disk: &File, copy: usize, state: &BootState) {
    let at = disk::extent("state", DATA_MIB).unwrap().offset + yado_updater::boot_state::COPY_OFFSETS[copy];
    disk.write_all_at(&state.encode().unwrap(), at).unwrap();
}

fn spoil_copy(disk: &File, copy: usize) {
    let at = disk::extent("state", DATA_MIB).unwrap().offset + yado_updater::boot_state::COPY_OFFSETS[copy];
    disk.write_all_at(&[0x5a; 64], at + 16).unwrap();
}

#[test]
fn the_flash_is_as_large_as_the_emulator_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let flash: &Path = &folder.path().join("flash");
    if disk::make_flash(flash, folder.path()).is_err() {
        eprintln!("SKIPPED: no mkenvimage on this machine; cargo accept installs u-boot-tools");
        return;
    }
    assert_eq!(fs::metadata(flash).unwrap().len(), qemu_tests::board::qemu::FLASH_BYTES);
}
