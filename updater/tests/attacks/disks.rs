//! Disks that are not as a board's should be, and others that call their partitions as the system's disk does.

use crate::board::{Board, CARD, EMMC, STICK};
use crate::{Attempt, assert_same};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn good(board: &Board) -> Attempt {
    let built = board.workshop.build(|options| options.instances.clear());
    Attempt::install_folder(&board.workshop.lay_out("good-one", &built))
}

/// Another disk with all the names of the system's.
fn plug_in(board: &mut Board, disk: &'static str) {
    for (name, bytes) in [("slot-a", 1 << 20), ("slot-b", 1 << 20), ("boot-b", 4 << 20), ("state", 64 << 10)] {
        board.add_partition(disk, name, bytes);
    }
}

/// A block device that the kernel lets nobody write, as long as this lives.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn set(device: &Path) -> ReadOnly {
        blockdev("--setro", device);
        ReadOnly(device.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        blockdev("--setrw", &self.0);
    }
}

fn blockdev(how: &str, device: &Path) {
    assert!(Command::new("blockdev").arg(how).arg(device).status().unwrap().success(), "{how} {}", device.display());
}

attacks! {
    a_disk_without_slot_b: "no-slot", Nothing, |board| {
        board.hide("slot-b");
        good(board)
    };
    a_stick_with_the_slot_b_that_the_disk_lacks: "no-slot", Nothing, |board| {
        board.hide("slot-b");
        plug_in(board, STICK);
        good(board)
    };
    a_disk_with_two_slots_b: "no-slot", Nothing, |board| {
        board.add_partition(EMMC, "slot-B", 1 << 20);
        good(board)
    };
    a_slot_b_that_is_too_small: "slot-space", Nothing, |board| {
        board.hide("slot-b");
        board.add_partition(EMMC, "slot-B", 16 << 10);
        good(board)
    };
    a_slot_b_without_a_boot_partition: "no-boot-partition", Nothing, |board| {
        board.hide("boot-b");
        good(board)
    };
    a_boot_partition_that_is_too_small: "boot-space", Nothing, |board| {
        board.hide("boot-b");
        board.add_partition(EMMC, "boot-B", 64 << 10);
        good(board)
    };
    a_boot_partition_without_a_file_system: "device", DeniedSlot, |board| {
        board.hide("boot-b");
        board.add_partition(EMMC, "boot-B", 4 << 20);
        good(board)
    };
    a_slot_b_that_somebody_has_in_use: "device", DeniedSlot, |board| {
        let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
        let held = File::options().read(true).custom_flags(exclusive).open(board.partition("slot-b").path()).unwrap();
        good(board).keeping(held)
    };
    a_disk_without_a_state_partition: "boot-loader", Nothing, |board| {
        board.hide("state");
        good(board)
    };
    a_stick_with_the_state_partition_that_the_disk_lacks: "boot-loader", Nothing, |board| {
        board.hide("state");
        plug_in(board, STICK);
        good(board)
    };
    a_state_partition_of_another_product: "boot-loader", Nothing, |board| {
        // Somebody else's environment: whole, by its own checksum, and no boot state.
        let environment = [("bootcmd".to_owned(), "run distro_bootcmd".to_owned())];
        let copy = yado_updater::environment::encode(&environment).unwrap();
        board.write_partition("state", 0, &copy.repeat(2));
        good(board)
    };
    a_state_partition_that_is_blank: "boot-loader", Nothing, |board| {
        board.write_partition("state", 0, &[0; 64 << 10]);
        good(board)
    };
    a_state_partition_that_is_too_small: "boot-loader", Nothing, |board| {
        board.hide("state");
        board.add_partition(EMMC, "state", 4096);
        good(board)
    };
    a_state_partition_that_takes_no_writes: "boot-loader", Ended, |board| {
        board.attach("state");
        let read_only = ReadOnly::set(board.partition("state").path());
        good(board).keeping(read_only)
    };
    two_disks_with_the_same_names: "boot-loader", Nothing, |board| {
        // The root is in memory, and no boot loader has said which disk is the system's.
        board.system_disk = None;
        plug_in(board, CARD);
        good(board)
    };
    a_board_of_which_no_slot_was_booted: "no-slot", Nothing, |board| {
        std::fs::rename(board.path("run/boot"), board.path("run/boot.aside")).unwrap();
        good(board)
    };
}

/// It is refused nothing, and gets nothing: the release goes to the system's own disk.
#[test]
fn a_stick_with_the_partition_names_of_the_system_is_not_touched() {
    for disk in [STICK, CARD] {
        let Some(mut board) = Board::new() else { return };
        plug_in(&mut board, disk);
        let before = board.seen();
        board.takes_the_good_release();
        let name = disk.rsplit('/').next().unwrap();
        let mut after = board.seen();
        let (mut before, mut count) = (before, 0);
        for seen in [&mut before, &mut after] {
            seen.retain(|place, _| place.ends_with(&format!(" on {name}")));
            count = seen.len();
        }
        assert_eq!(count, 4);
        assert_same(&before, &after, &[]);
    }
}
