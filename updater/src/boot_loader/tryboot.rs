//! The Raspberry Pi's boot loader: `autoboot.txt` on the first partition says which partition it starts from, and which one instead,
//! once, when the reboot was asked for with `0 tryboot`. It counts nothing and falls back by forgetting.
//!
//! The file is one sector, is overwritten in place and never grows: so a power cut leaves the old or the new. A comment in it has what
//! the firmware does not know: which slots are good, and why one is not.

use super::{BootLoader, BootLoaderError, Boots, Counting};
use crate::boot_state::{Blocked, Mark, Order, Slot, SlotState, Tries};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a disk writes at once, and the firmware's own limit for this file.
pub const FILE_BYTES: usize = 512;

/// What the comment begins with. A version that is not known is as no comment.
const COMMENT: &str = "# yado 1 ";

/// The argument of the reboot that starts the trial (`LINUX_REBOOT_CMD_RESTART2`).
pub const REBOOT_ARGUMENT: &str = "0 tryboot";

/// The file, and the numbers of the partitions that the slots' boot files are on.
#[derive(Debug)]
pub struct Tryboot {
    path: PathBuf,
    partitions: [u8; 2],
}

impl Tryboot {
    /// The file, with the number of the boot partition of slot A and that of slot B.
    pub fn at(path: &Path, partitions: [u8; 2]) -> Tryboot {
        Tryboot { path: path.to_owned(), partitions }
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

    fn read_text(&self) -> Result<String, BootLoaderError> {
        let error = |reason: String| BootLoaderError::Read { object: self.path.display().to_string(), reason };
        let file = File::open(&self.path).map_err(|reason| error(reason.to_string()))?;
        // Not from memory: what was written would be found there even if the disk did not take it.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        let bytes = file.metadata().map_err(|reason| error(reason.to_string()))?.len();
        if bytes != FILE_BYTES as u64 {
            return Err(error(format!(
                "it has {bytes} bytes, and must have {FILE_BYTES} to be overwritten in one piece"
            )));
        }
        let mut sector = [0; FILE_BYTES];
        file.read_exact_at(&mut sector, 0).map_err(|reason| error(reason.to_string()))?;
        String::from_utf8(sector.to_vec()).map_err(|_| error("it is no text".to_owned()))
    }
}

/// The file as a factory writes it: the text, and line ends up to a whole sector.
///
/// # Errors
/// What the kernel says.
pub fn create(path: &Path, partitions: [u8; 2], boots: &Boots) -> std::io::Result<()> {
    std::fs::write(path, sector_of(&Tryboot::at(path, partitions).text(boots)))
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

    fn read(&mut self) -> Result<Boots, BootLoaderError> {
        self.parse(&self.read_text()?)
            .map_err(|reason| BootLoaderError::Read { object: self.path.display().to_string(), reason })
    }

    fn write(&mut self, _before: &Boots, boots: &Boots) -> Result<(), BootLoaderError> {
        let error = |reason: String| BootLoaderError::Write { object: self.path.display().to_string(), reason };
        // It must be there, in one sector: nothing is begun that could leave half a file.
        self.read_text()?;
        let sector = sector_of(&self.text(boots));
        File::options()
            .write(true)
            .open(&self.path)
            .and_then(|file| file.write_all_at(&sector, 0).and_then(|()| file.sync_data()))
            .map_err(|reason| error(reason.to_string()))?;
        let found = self.read_text()?;
        if found.as_bytes() == sector { Ok(()) } else { Err(error("the disk gives other bytes back".to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    /// The firmware, as its documentation has it (config.txt, "autoboot.txt" and "tryboot"): written from that, not from the code
    /// above. Its one-shot flag is a file here, a register there.
    struct Firmware {
        autoboot: PathBuf,
        flag: PathBuf,
    }

    impl Firmware {
        fn reboot(&self, argument: Option<&str>) {
            if argument == Some("0 tryboot") {
                fs::write(&self.flag, "").unwrap();
            }
        }

        /// The partition that it starts from. The flag is gone with that.
        fn start(&self) -> u8 {
            let is_trial = fs::remove_file(&self.flag).is_ok();
            let mut applies = true;
            let mut partition = 1;
            for line in fs::read_to_string(&self.autoboot).unwrap().lines() {
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

    fn device(boots: &Boots) -> (tempfile::TempDir, Firmware, Tryboot) {
        let folder = tempfile::tempdir().unwrap();
        let autoboot = folder.path().join("autoboot.txt");
        create(&autoboot, [2, 3], boots).unwrap();
        let firmware = Firmware { autoboot: autoboot.clone(), flag: folder.path().join("flag") };
        (folder, firmware, Tryboot::at(&autoboot, [2, 3]))
    }

    #[test]
    fn the_firmware_tries_the_armed_slot_once_and_keeps_it_when_it_is_confirmed() {
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
            assert_eq!(fs::metadata(&firmware.autoboot).unwrap().len(), FILE_BYTES as u64);
        }
    }

    #[test]
    fn a_file_that_is_not_one_sector_or_names_no_slot_is_left_alone() {
        let good = Boots::factory(None);
        let (_folder, firmware, mut loader) = device(&good);
        fs::write(&firmware.autoboot, "[all]\nboot_partition=2\n").unwrap();
        let error = loader.deny(Slot::B).unwrap_err().to_string();
        assert!(error.contains("it has 23 bytes, and must have 512"), "{error}");
        fs::write(&firmware.autoboot, sector_of("[all]\nboot_partition=7\n[tryboot]\nboot_partition=3\n")).unwrap();
        let error = loader.deny(Slot::B).unwrap_err().to_string();
        assert!(error.ends_with("boot_partition=7 is no slot's"), "{error}");
        // A comment that somebody else wrote, or none: the firmware's own words count.
        fs::write(&firmware.autoboot, sector_of("[all]\nboot_partition=3\n[tryboot]\nboot_partition=3\n")).unwrap();
        assert_eq!(loader.read().unwrap().order, Order::B);
    }
}
