//! What the state survives: every pair of torn copies, and the power cut after every single sector, twice in a row.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::boot_state::{Mark, Order};
use std::cell::{Cell, RefCell};
use std::fs;
use yado_sys::loop_device;

const SECTOR_BYTES: usize = 512;

/// Two copies on a disk that loses its power after so many sectors are written.
struct Sectors {
    bytes: RefCell<[[u8; COPY_BYTES]; 2]>,
    sectors_left: Cell<usize>,
    /// Sectors that take nothing, and do not say so.
    dead: Option<usize>,
}

impl Sectors {
    fn new(bytes: [[u8; COPY_BYTES]; 2], sectors_left: usize) -> Sectors {
        Sectors { bytes: RefCell::new(bytes), sectors_left: Cell::new(sectors_left), dead: None }
    }

    fn bytes(self) -> [[u8; COPY_BYTES]; 2] {
        self.bytes.into_inner()
    }
}

fn index(offset: u64) -> usize {
    COPY_OFFSETS.iter().position(|of_copy| *of_copy == offset).unwrap()
}

impl Device for Sectors {
    fn read_copy(&self, offset: u64, copy: &mut [u8; COPY_BYTES]) -> io::Result<()> {
        *copy = self.bytes.borrow()[index(offset)];
        Ok(())
    }

    fn write_copy(&self, offset: u64, copy: &[u8; COPY_BYTES]) -> io::Result<()> {
        let mut bytes = self.bytes.borrow_mut();
        let sectors = bytes[index(offset)].chunks_mut(SECTOR_BYTES).zip(copy.chunks(SECTOR_BYTES));
        for (to, from) in sectors {
            let left = self.sectors_left.get().checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            self.sectors_left.set(left);
            if self.dead != Some(index(offset)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

/// So long that each sector of a copy differs from each of another state's.
fn state(sequence: u32) -> BootState {
    let filler = |number: usize| (format!("filler{number}"), format!("{:x}", sequence % 16).repeat(260));
    let mut state = BootState { sequence, ..BootState::factory(Some(Mark::Empty)) };
    state.others = (0..14).map(filler).collect();
    state
}

/// A copy of which the new state's first sectors were written, and then the power was cut.
fn torn(old: &BootState, new: &BootState, sectors: usize) -> [u8; COPY_BYTES] {
    let mut copy = old.encode().unwrap();
    copy[..sectors * SECTOR_BYTES].copy_from_slice(&new.encode().unwrap()[..sectors * SECTOR_BYTES]);
    assert!(BootState::parse_copy(&copy).is_err());
    copy
}

#[test]
fn from_any_pair_of_copies_a_cut_after_each_sector_and_another_one_later_lose_nothing() {
    let (old, new) = (state(7), state(8));
    let mut pairs = vec![
        [old.encode().unwrap(), old.encode().unwrap()],
        [new.encode().unwrap(), old.encode().unwrap()],
        [old.encode().unwrap(), new.encode().unwrap()],
    ];
    for sectors in 1..COPY_BYTES / SECTOR_BYTES {
        for whole in [&old, &new] {
            let (whole, torn) = (whole.encode().unwrap(), torn(&old, &new, sectors));
            pairs.extend([[whole, torn], [torn, whole]]);
        }
    }
    let all_sectors = 2 * COPY_BYTES / SECTOR_BYTES;
    for pair in pairs {
        let before = read_newest(&Sectors::new(pair, 0)).unwrap();
        let next = state(before.sequence + 1);
        for cut in 0..all_sectors {
            let disk = Sectors::new(pair, cut);
            assert!(write_both(&disk, &next).is_err());
            let bytes = disk.bytes();
            let found = read_newest(&Sectors::new(bytes, 0)).unwrap();
            assert!(found == before || found == next, "after {cut} sectors: {}", found.sequence);
            // And again, before anything could heal what the first cut left.
            let later = state(found.sequence + 1);
            for second_cut in 0..all_sectors {
                let disk = Sectors::new(bytes, second_cut);
                assert!(write_both(&disk, &later).is_err());
                let second = read_newest(&Sectors::new(disk.bytes(), 0)).unwrap();
                assert!(second == found || second == later, "after {cut} and {second_cut} sectors");
            }
            let disk = Sectors::new(bytes, all_sectors);
            write_both(&disk, &later).unwrap();
            let healed = disk.bytes();
            assert_eq!(healed[0], healed[1]);
            assert_eq!(BootState::parse_copy(&healed[0]), Ok(later));
        }
    }
}

#[test]
fn a_copy_that_the_disk_does_not_take_leaves_the_other_alone() {
    let old = state(1).encode().unwrap();
    for dead in 0..2 {
        let mut pair = [old; 2];
        // The dead one is worth less, so it is written first.
        pair[dead] = [0xff; COPY_BYTES];
        let disk = Sectors { dead: Some(dead), ..Sectors::new(pair, 16) };
        let error = write_both(&disk, &state(2)).unwrap_err();
        assert!(matches!(error, WriteError::Different { offset } if offset == COPY_OFFSETS[dead]), "{error}");
        assert_eq!(disk.bytes(), pair);
    }
}

fn blank_partition() -> File {
    let path =
        std::env::temp_dir().join(format!("yado-state-{}-{:?}", std::process::id(), std::thread::current().id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    file
}

#[test]
fn a_blank_partition_has_no_state_and_a_written_one_has_it_twice() {
    let device = blank_partition();
    assert!(matches!(read(&device), Err(ReadError::Bad(_))));
    let state = BootState::factory(Some(Mark::Empty));
    write(&device, &state).unwrap();
    assert_eq!(read(&device).unwrap(), state);
    for offset in COPY_OFFSETS {
        device.write_all_at(&[0xff; 16], offset).unwrap();
        assert_eq!(read(&device).is_ok(), offset == COPY_OFFSETS[0], "after copy at {offset} is spoilt");
    }
}

#[test]
fn a_partition_that_ends_in_a_copy_has_the_other_and_without_it_the_error_names_the_place() {
    let device = blank_partition();
    device.set_len(6000).unwrap();
    assert!(matches!(read(&device), Err(ReadError::Copy { offset: 4096, .. })));
    let state = BootState { order: Order::A, ..BootState::factory(None) };
    device.write_all_at(&state.encode().unwrap(), COPY_OFFSETS[0]).unwrap();
    assert_eq!(read(&device).unwrap(), state);
}

/// The kernel counts what a disk is asked to bring from its memory to where no power cut reaches it. (That a copy is read back and
/// is right says nothing: what is in the kernel's memory reads the same.)
#[test]
fn each_copy_is_flushed_to_the_disk() {
    let image = std::env::temp_dir().join(format!("yado-state-{}", std::process::id()));
    let backing = File::options().read(true).write(true).create_new(true).open(&image).unwrap();
    fs::remove_file(&image).unwrap();
    backing.set_len(1 << 20).unwrap();
    let Ok(disk) = loop_device::attach_writable(&backing) else {
        println!("SKIPPED: needs root and loop devices");
        return;
    };
    // Documentation/block/stat.rst: the 16th number.
    let flushes = || -> u64 {
        let stat = format!("/sys/block/{}/stat", disk.path.trim_start_matches("/dev/"));
        fs::read_to_string(stat).unwrap().split_whitespace().nth(15).unwrap().parse().unwrap()
    };
    let before = flushes();
    write(&disk.file, &state(1)).unwrap();
    assert_eq!(flushes() - before, 2);
    assert_eq!(read(&disk.file).unwrap(), state(1));
}
