//! The Raspberry Pi's boot loader: `autoboot.txt` on the first partition says which partition it starts from, and which one instead,
//! once, when the reboot was asked for with `0 tryboot`. It counts nothing and falls back by forgetting.
//!
//! The file is one sector, is overwritten in place through the block device and never grows: so a power cut leaves the old or the new,
//! and nothing else of the file system is written. A comment in it has what the firmware does not know: which slots are good, and why
//! one is not.

use super::fat_file::{self, FatFile};
use super::{Board, BootLoader, BootLoaderError, Boots, Counting};
use crate::boot_state::{Blocked, Mark, Order, Slot, SlotState, Tries};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a disk writes at once, and the firmware's own limit for this file.
pub const FILE_BYTES: usize = 512;

/// What the comment begins with. A version that is not known is as no comment.
const COMMENT: &str = "# yado 1 ";

/// What `prove_write` adds to it for a moment: a comment, to the firmware and to us.
const PROOF: &str = "# yado check-boot\n";

/// The file, as a FAT has its name.
const NAME: &[u8; 11] = b"AUTOBOOTTXT";

/// The argument of the reboot that starts the trial (`LINUX_REBOOT_CMD_RESTART2`).
pub const REBOOT_ARGUMENT: &str = "0 tryboot";

/// The FAT file system with the file, and the numbers of the partitions that the slots' boot files are on.
#[derive(Debug)]
pub struct Tryboot {
    device: PathBuf,
    partitions: [u8; 2],
}

impl Tryboot {
    /// A block device, or a file of the same bytes, with the number of the boot partition of slot A and that of slot B.
    pub fn at(device: &Path, partitions: [u8; 2]) -> Tryboot {
        Tryboot { device: device.to_owned(), partitions }
    }

    /// On the partition of this name; the slots' boot files are where an update writes them.
    ///
    /// # Errors
    /// When one of them is not on the system's disk, or the firmware would look for the file elsewhere.
    pub(super) fn on(board: &Board, name: &str) -> Result<Tryboot, BootLoaderError> {
        let autoboot = board.partition(&[name])?;
        let number = board.number_of(&autoboot)?;
        let a = board.number_of(&board.partition(&["boot-a", "boot-A"])?)?;
        let b = board.number_of(&board.partition(&["boot-b", "boot-B"])?)?;
        if a.min(b) <= number {
            return Err(BootLoaderError::Absent {
                what: format!(
                    "partition `{name}` is number {number} and those of the slots are {a} and {b}: the firmware looks for \
                     autoboot.txt on the first FAT partition only"
                ),
            });
        }
        Ok(Tryboot::at(&autoboot, [a, b]))
    }

    fn object(&self) -> String {
        format!("autoboot.txt on {}", self.device.display())
    }

    fn partition(&self, slot: Slot) -> u8 {
        match slot {
            Slot::A => self.partitions[0],
            Slot::B => self.partitions[1],
        }
    }

    fn slot(&self, partition: u8) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| self.partition(*slot) == partition)
    }

    /// The text of these wishes. [`FILE_BYTES`] hold it: the comment has at most 60 bytes.
    fn text(&self, boots: &Boots) -> String {
        let first = boots.trial.map_or(boots.order.slots()[0], Slot::other);
        let tried = boots.trial.unwrap_or(first);
        let mark = |slot: &SlotState| slot.mark.map_or("-", Mark::as_str);
        format!(
            "[all]\ntryboot_a_b=1\nboot_partition={}\n[tryboot]\nboot_partition={}\n{COMMENT}{} {} {} {}\n",
            self.partition(first),
            self.partition(tried),
            boots.order.slots().iter().map(Slot::to_string).collect::<String>(),
            boots.trial.map_or("-".to_owned(), |slot| slot.to_string()),
            mark(&boots.a),
            mark(&boots.b),
        )
    }

    /// What the firmware will do is right, whatever the comment says.
    fn parse(&self, text: &str) -> Result<Boots, String> {
        let partition = |section: &str| {
            let value =
                value_in(text, section, "boot_partition").ok_or(format!("[{section}] has no boot_partition"))?;
            let number = value.parse().map_err(|_| format!("boot_partition={value} is no number"))?;
            self.slot(number).ok_or(format!("boot_partition={number} is no slot's"))
        };
        let first = partition("all")?;
        let tried = partition("tryboot")?;
        let trial = (tried != first).then_some(tried);
        let (order, marks) = comment_of(text).unwrap_or((Order::only(first), [None, None]));
        let order = match trial {
            Some(slot) => Order::both_from(slot),
            None if order.slots().contains(&first) && 1 < order.slots().len() => Order::both_from(first),
            None => Order::only(first),
        };
        let slot = |slot: Slot, mark| {
            let is_in_order = order.slots().contains(&slot);
            SlotState {
                left: if is_in_order { Tries::FULL } else { Tries::NONE },
                mark: if is_in_order { None } else { mark },
            }
        };
        let [mark_a, mark_b] = marks;
        Ok(Boots { order, a: slot(Slot::A, mark_a), b: slot(Slot::B, mark_b), trial, blocked: Blocked::default() })
    }

    /// The file's place in the file system, and its bytes.
    fn read_sector(&self) -> Result<(u64, [u8; FILE_BYTES]), BootLoaderError> {
        let error = |reason: String| BootLoaderError::Read { object: self.object(), reason };
        let device = File::open(&self.device).map_err(|reason| error(reason.to_string()))?;
        // Not from memory: what was written would be found there even if the disk did not take it.
        let _ = rustix::fs::fadvise(&device, 0, None, rustix::fs::Advice::DontNeed);
        let found = fat_file::find(NAME, |offset, bytes| device.read_exact_at(bytes, offset));
        let FatFile { offset, bytes } = found.map_err(|reason| error(reason.to_string()))?;
        if bytes as usize != FILE_BYTES {
            return Err(error(format!(
                "it has {bytes} bytes, and must have {FILE_BYTES} to be overwritten in one piece"
            )));
        }
        let mut sector = [0; FILE_BYTES];
        device.read_exact_at(&mut sector, offset).map_err(|reason| error(reason.to_string()))?;
        Ok((offset, sector))
    }

    /// Returns when it is on the disk.
    fn write_sector(&self, sector: &[u8; FILE_BYTES]) -> Result<(), BootLoaderError> {
        let error = |reason: String| BootLoaderError::Write { object: self.object(), reason };
        // It must be there, in one sector: nothing is begun that could leave half a file.
        let (offset, _) = self.read_sector()?;
        let write = || -> io::Result<()> {
            // Whoever has mounted it would not see what changes below.
            let device = File::options().write(true).custom_flags(OFlags::EXCL.bits() as i32).open(&self.device)?;
            device.write_all_at(sector, offset)?;
            device.sync_data()
        };
        write().map_err(|reason| error(reason.to_string()))?;
        match self.read_sector()?.1 == *sector {
            true => Ok(()),
            false => Err(error("the disk gives other bytes back".to_owned())),
        }
    }
}

/// Empty lines mean nothing to the firmware.
fn sector_of(text: &str) -> [u8; FILE_BYTES] {
    let text = text.as_bytes();
    std::array::from_fn(|at| text.get(at).copied().unwrap_or(b'\n'))
}

/// The last value of a key in a section, as the firmware takes it.
fn value_in<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut is_in = section == "all";
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_in = name == section;
        } else if is_in {
            let pair = line.split_once('=').filter(|(name, _)| *name == key);
            found = pair.map(|(_, value)| value).or(found);
        }
    }
    found
}

fn comment_of(text: &str) -> Option<(Order, [Option<Mark>; 2])> {
    let words: Vec<&str> = text.lines().find_map(|line| line.strip_prefix(COMMENT))?.split(' ').collect();
    let [order, _trial, mark_a, mark_b] = words.try_into().ok()?;
    let order = match order {
        "A" => Order::A,
        "B" => Order::B,
        "AB" => Order::AThenB,
        "BA" => Order::BThenA,
        _ => return None,
    };
    let mark = |word| [Mark::Empty, Mark::Writing, Mark::Failed].into_iter().find(|mark| mark.as_str() == word);
    Some((order, [mark(mark_a), mark(mark_b)]))
}

impl BootLoader for Tryboot {
    fn counting(&self) -> Counting {
        Counting::Once
    }

    fn places(&self) -> Vec<PathBuf> {
        vec![self.device.clone()]
    }

    fn read(&mut self) -> Result<Boots, BootLoaderError> {
        let error = |reason: String| BootLoaderError::Read { object: self.object(), reason };
        let (_, sector) = self.read_sector()?;
        let text = std::str::from_utf8(&sector).map_err(|_| error("it is no text".to_owned()))?;
        self.parse(text).map_err(error)
    }

    fn write(&mut self, _before: &Boots, boots: &Boots) -> Result<(), BootLoaderError> {
        self.write_sector(&sector_of(&self.text(boots)))
    }

    fn prove_write(&mut self) -> Result<String, BootLoaderError> {
        let (offset, before) = self.read_sector()?;
        let text = String::from_utf8_lossy(&before);
        let proof = format!("{}\n{PROOF}", text.trim_end());
        if FILE_BYTES < proof.len() {
            let reason = format!("it has no room for a comment: {FILE_BYTES} bytes are full");
            return Err(BootLoaderError::Write { object: self.object(), reason });
        }
        self.write_sector(&sector_of(&proof))?;
        self.write_sector(&before)?;
        Ok(format!("the sector at byte {offset} of {} was written twice and read back", self.device.display()))
    }

    fn restart_argument(&self) -> Option<&'static str> {
        Some(REBOOT_ARGUMENT)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fat_file::has_tools;
    use super::*;
    use std::fs;
    use std::process::Command;

    /// What a board's maker writes, as the README says it: it starts slot A, and knows nothing of us.
    const MAKERS: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=2\n";

    /// The firmware, as its documentation has it (config.txt, "autoboot.txt" and "tryboot"): written from that, not from the code
    /// above. Its one-shot flag is a file here, a register there.
    struct Firmware {
        partition: PathBuf,
        flag: PathBuf,
    }

    impl Firmware {
        fn reboot(&self, argument: Option<&str>) {
            if argument == Some("0 tryboot") {
                fs::write(&self.flag, "").unwrap();
            }
        }

        /// Another reader of FAT than ours.
        fn autoboot(&self) -> String {
            let read = Command::new("mtype").arg("-i").arg(&self.partition).arg("::autoboot.txt").output().unwrap();
            assert!(read.status.success(), "{read:?}");
            String::from_utf8(read.stdout).unwrap()
        }

        /// The partition that it starts from. The flag is gone with that.
        fn start(&self) -> u8 {
            let is_trial = fs::remove_file(&self.flag).is_ok();
            let mut applies = true;
            let mut partition = 1;
            for line in self.autoboot().lines() {
                match line {
                    "[all]" => applies = true,
                    "[tryboot]" => applies = is_trial,
                    _ if line.starts_with('#') => {}
                    _ if applies && line.starts_with("boot_partition=") => partition = line[15..].parse().unwrap(),
                    _ => {}
                }
            }
            partition
        }
    }

    /// A partition with this file, as mkfs.fat(8) and mcopy(1) make it.
    fn partition(autoboot: &[u8]) -> (tempfile::TempDir, Firmware, Tryboot) {
        let folder = tempfile::tempdir().unwrap();
        let (partition, file) = (folder.path().join("autoboot"), folder.path().join("file"));
        File::create(&partition).unwrap().set_len(4 << 20).unwrap();
        fs::write(&file, autoboot).unwrap();
        let run = |command: &mut Command| assert!(command.output().unwrap().status.success(), "{command:?}");
        run(Command::new("mkfs.fat").arg(&partition));
        run(Command::new("mcopy").arg("-i").arg(&partition).arg(&file).arg("::autoboot.txt"));
        let loader = Tryboot::at(&partition, [2, 3]);
        let flag = folder.path().join("flag");
        (folder, Firmware { partition, flag }, loader)
    }

    fn device(boots: &Boots) -> (tempfile::TempDir, Firmware, Tryboot) {
        let text = Tryboot::at(Path::new(""), [2, 3]).text(boots);
        partition(&sector_of(&text))
    }

    #[test]
    fn the_firmware_tries_the_armed_slot_once_and_keeps_it_when_it_is_confirmed() {
        if !has_tools() {
            return;
        }
        let (_folder, firmware, mut loader) = device(&Boots::factory(Some(Mark::Empty)));
        assert_eq!(firmware.start(), 2);
        assert_eq!(loader.deny(Slot::B).unwrap().b.mark, Some(Mark::Writing));
        firmware.reboot(Some(REBOOT_ARGUMENT));
        assert_eq!(firmware.start(), 2, "what is denied is not started, not even by tryboot");

        loader.arm(Slot::B, Tries::FULL).unwrap();
        assert_eq!(loader.read().unwrap().trial, Some(Slot::B));
        firmware.reboot(Some(REBOOT_ARGUMENT));
        assert_eq!(firmware.start(), 3);
        assert_eq!(firmware.start(), 2, "it has forgotten the trial");
        loader.confirm(Slot::B).unwrap();
        assert_eq!([firmware.start(), firmware.start()], [3, 3]);
        assert_eq!(loader.read().unwrap().order, Order::BThenA);
        loader.fail(Slot::B, None).unwrap();
        assert_eq!(firmware.start(), 2);
        assert_eq!(loader.read().unwrap().b.mark, Some(Mark::Failed));
    }

    #[test]
    fn every_wish_is_read_as_it_was_written_and_stays_one_sector() {
        if !has_tools() {
            return;
        }
        let marks = [None, Some(Mark::Empty), Some(Mark::Writing), Some(Mark::Failed)];
        let mut all = Vec::new();
        for mark in marks {
            all.push(Boots::factory(mark));
        }
        let good = Boots::factory(None);
        all.extend([good.armed(Slot::B, Tries::FULL), good.armed(Slot::A, Tries::FULL)].map(Result::unwrap));
        all.extend([good.denied(Slot::A), good.failed(Slot::B, None)].map(Result::unwrap));
        all.extend([good.confirmed(Slot::B), good.kept_only(Slot::B)]);
        for boots in &all {
            let (_folder, firmware, mut loader) = device(&good);
            loader.write(&good, boots).unwrap();
            assert_eq!(loader.read().unwrap(), *boots);
            assert_eq!(firmware.autoboot().len(), FILE_BYTES);
        }
    }

    #[test]
    fn a_file_that_is_not_one_sector_or_names_no_slot_is_left_alone() {
        if !has_tools() {
            return;
        }
        let denied = |autoboot: &[u8]| partition(autoboot).2.deny(Slot::B).unwrap_err().to_string();
        let error = denied(b"[all]\nboot_partition=2\n");
        assert!(error.contains("it has 23 bytes, and must have 512"), "{error}");
        let error = denied(&sector_of("[all]\nboot_partition=7\n[tryboot]\nboot_partition=3\n"));
        assert!(error.ends_with("boot_partition=7 is no slot's"), "{error}");
        let error = denied(&[0xff; FILE_BYTES]);
        assert!(error.ends_with("it is no text"), "{error}");
        // A comment that somebody else wrote, or none: the firmware's own words count.
        let (_folder, _, mut loader) = partition(&sector_of(MAKERS));
        assert_eq!(loader.read().unwrap().order, Order::A);
    }

    #[test]
    fn the_file_that_a_boards_maker_writes_takes_a_whole_update() {
        if !has_tools() {
            return;
        }
        let (_folder, firmware, mut loader) = partition(&sector_of(MAKERS));
        assert_eq!(firmware.start(), 2);
        loader.deny(Slot::B).unwrap();
        loader.arm(Slot::B, Tries::FULL).unwrap();
        firmware.reboot(loader.restart_argument());
        assert_eq!(firmware.start(), 3);
        loader.confirm(Slot::B).unwrap();
        assert_eq!(firmware.start(), 3);
    }

    #[test]
    fn the_proof_writes_and_leaves_every_byte_of_the_file_system_as_it_was() {
        if !has_tools() {
            return;
        }
        let (_folder, firmware, mut loader) = partition(&sector_of(MAKERS));
        let before = fs::read(&firmware.partition).unwrap();
        let said = loader.prove_write().unwrap();
        assert!(said.contains("was written twice and read back"), "{said}");
        assert_eq!(fs::read(&firmware.partition).unwrap(), before);
        // And an update nothing but the file's own sector.
        loader.arm(Slot::B, Tries::FULL).unwrap();
        loader.confirm(Slot::B).unwrap();
        let after = fs::read(&firmware.partition).unwrap();
        let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        let (first, last) = (changed[0], changed[changed.len() - 1]);
        assert_eq!(first / FILE_BYTES, last / FILE_BYTES, "{first} to {last}");
        let (_folder, _, mut full) = partition(&[b'#'; FILE_BYTES]);
        assert!(full.prove_write().unwrap_err().to_string().ends_with("512 bytes are full"));
    }
}
