//! EFI firmware: `BootNext` starts the slot on trial once, `BootOrder` says what starts for good. The firmware forgets `BootNext` before
//! it starts it, so a trial that fails in any way ends with the first of `BootOrder`.
//!
//! Both slots' options stay in `BootOrder` whatever becomes of a slot: one that must not start is made inactive. Firmware gives what it
//! finds new the lowest number that is not in `BootOrder` (edk2's `BmGetFreeOptionNumber`), and overwrites the option that had it.
//!
//! The slots' load options are known by their descriptions. Options of others keep their places.

use super::efi_variable::{self as variable, Name};
use super::{BootLoader, BootLoaderError, Boots, Counting};
use crate::boot_state::{Blocked, Order, Slot, SlotState, Tries};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use yado_sys::mount::{Attributes, new_file_system};

/// The firmware's variables, and the descriptions of the slots' options.
#[derive(Debug)]
pub struct Efi {
    folder: PathBuf,
    /// As people know it.
    shown: String,
    descriptions: [String; 2],
    /// What `folder` is on, if it was mounted for this alone.
    _mount: Option<OwnedFd>,
}

/// What decides, as it is.
struct Variables {
    /// The numbers of the options of slot A and slot B.
    options: [u16; 2],
    /// Whether the firmware starts them by itself.
    active: [bool; 2],
    order: Vec<u16>,
    next: Option<u16>,
}

impl Efi {
    /// The variables below this folder, with the descriptions of the options of slot A and slot B.
    pub fn at(folder: &Path, descriptions: &[String; 2]) -> Efi {
        let shown = folder.display().to_string();
        Efi { folder: folder.to_owned(), shown, descriptions: descriptions.clone(), _mount: None }
    }

    /// The firmware's own, where the kernel shows them below this `/sys`, with the descriptions of the options of slot A and slot B.
    /// Where nobody has mounted them they are mounted where nobody sees it, and as long as this lives.
    ///
    /// # Errors
    /// When no EFI firmware started this system, or the kernel shows no variables.
    pub(super) fn of_firmware(sysfs: &Path, descriptions: &[String; 2]) -> Result<Efi, BootLoaderError> {
        let absent = |what| BootLoaderError::Absent { what };
        let firmware = sysfs.join("firmware/efi");
        // Documentation/filesystems/efivarfs.rst: the place to mount it at is there whenever firmware of this kind is.
        let folder = firmware.join("efivars");
        let mut entries = fs::read_dir(&folder).map_err(|error| {
            absent(format!("{}: {error}: no EFI firmware with variables started this system", folder.display()))
        })?;
        if entries.next().is_some() {
            return Ok(Efi::at(&folder, descriptions));
        }
        let attributes =
            Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV).union(Attributes::MOUNT_ATTR_NOEXEC);
        let mount = new_file_system("efivarfs", &[], attributes).map_err(|error| {
            absent(format!(
                "{} is empty, and efivarfs cannot be mounted: {error} (CONFIG_EFIVAR_FS, or its module in modules-load.d)",
                folder.display()
            ))
        })?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        Ok(Efi {
            folder: place,
            shown: folder.display().to_string(),
            _mount: Some(mount),
            ..Efi::at(&folder, descriptions)
        })
    }

    fn error(&self, name: &str, reason: impl ToString) -> BootLoaderError {
        BootLoaderError::Read {
            object: format!("EFI variable {name} below {}", self.shown),
            reason: reason.to_string(),
        }
    }

    fn numbers(&self, name: &str) -> Result<Vec<u16>, BootLoaderError> {
        let value = variable::read(&self.folder, Name::global(name)).map_err(|error| self.error(name, error))?;
        let value = value.unwrap_or_default();
        variable::parse_numbers(&value).ok_or_else(|| self.error(name, "it is no list of numbers"))
    }

    fn variables(&self) -> Result<Variables, BootLoaderError> {
        let all = variable::load_options(&self.folder).map_err(|error| self.error("Boot####", error))?;
        let option = |description: &String| {
            let mut of_slot = all.iter().filter(|(_, option)| option.description == *description);
            match (of_slot.next(), of_slot.next()) {
                (Some((number, option)), None) => Ok((*number, option.is_active)),
                (None, _) => Err(self.error("Boot####", format!("no option is named `{description}`"))),
                (Some(_), Some(_)) => {
                    Err(self.error("Boot####", format!("more than one option is named `{description}`")))
                }
            }
        };
        let [(a, is_a_active), (b, is_b_active)] = [option(&self.descriptions[0])?, option(&self.descriptions[1])?];
        Ok(Variables {
            options: [a, b],
            active: [is_a_active, is_b_active],
            order: self.numbers("BootOrder")?,
            next: self.numbers("BootNext")?.first().copied(),
        })
    }

    /// Lets the firmware start the options of these slots by itself, or forbids it.
    fn set_active(&self, variables: &Variables, slots: &[Slot], is_active: bool) -> Result<(), BootLoaderError> {
        for slot in slots.iter().filter(|slot| variables.active[**slot as usize] != is_active) {
            let number = variables.options[*slot as usize];
            let error = |reason: String| self.write_error(&format!("Boot{number:04X}"), reason);
            let set = variable::set_active(&self.folder, number, is_active);
            set.map_err(|reason| error(reason.to_string()))?;
            if self.variables()?.active[*slot as usize] != is_active {
                return Err(error("the firmware gives another value back".to_owned()));
            }
        }
        Ok(())
    }

    fn write_error(&self, name: &str, reason: String) -> BootLoaderError {
        BootLoaderError::Write { object: format!("EFI variable {name} below {}", self.shown), reason }
    }

    fn write_variable(&self, name: &str, numbers: &[u16]) -> Result<(), BootLoaderError> {
        let error = |reason: String| self.write_error(name, reason);
        let done = match numbers {
            [] => variable::remove(&self.folder, Name::global(name)),
            numbers => variable::write(&self.folder, Name::global(name), &variable::number_bytes(numbers)),
        };
        done.map_err(|reason: io::Error| error(reason.to_string()))?;
        if self.numbers(name)? == numbers {
            Ok(())
        } else {
            Err(error("the firmware gives another value back".to_owned()))
        }
    }
}

impl Variables {
    fn slot_of(&self, number: u16) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| self.options[*slot as usize] == number)
    }

    fn boots(&self) -> Option<Boots> {
        let is_active = |slot: &Slot| self.active[*slot as usize];
        let slots: Vec<Slot> = self.ours().into_iter().filter(is_active).collect();
        let is_both = slots.contains(&Slot::A) && slots.contains(&Slot::B);
        let first = *slots.first()?;
        let trial = self.next.and_then(|number| self.slot_of(number));
        let order = match trial {
            // What starts for good without a trial is behind it.
            Some(slot) if slots.contains(&slot.other()) => Order::both_from(slot),
            Some(slot) => Order::only(slot),
            None if is_both => Order::both_from(first),
            None => Order::only(first),
        };
        let state = |slot: Slot| {
            let is_started = order.slots().contains(&slot);
            SlotState { left: if is_started { Tries::FULL } else { Tries::NONE }, mark: None }
        };
        Some(Boots { order, a: state(Slot::A), b: state(Slot::B), trial, blocked: Blocked::default() })
    }

    /// The slots in `BootOrder`.
    fn ours(&self) -> Vec<Slot> {
        self.order.iter().filter_map(|number| self.slot_of(*number)).collect()
    }

    /// The order with these slots in the place of the first of ours, and all others where they were.
    fn order_of(&self, slots: &[Slot]) -> Vec<u16> {
        if self.ours() == slots {
            return self.order.clone();
        }
        let place = self.order.iter().position(|number| self.slot_of(*number).is_some()).unwrap_or(0);
        let is_other = |number: &&u16| self.slot_of(**number).is_none();
        let before = self.order[..place].iter().filter(is_other);
        let behind = self.order[place..].iter().filter(is_other);
        let ours = slots.iter().map(|slot| &self.options[*slot as usize]);
        before.chain(ours).chain(behind).copied().collect()
    }
}

impl BootLoader for Efi {
    fn counting(&self) -> Counting {
        Counting::Once
    }

    fn places(&self) -> Vec<PathBuf> {
        vec![self.folder.clone()]
    }

    fn read(&mut self) -> Result<Boots, BootLoaderError> {
        let variables = self.variables()?;
        variables.boots().ok_or_else(|| self.error("BootOrder", "none of the slots' options is in it"))
    }

    /// Until the last of these writes that matters, what starts is what started before, or what is confirmed, which is on trial
    /// already: a slot is made active before it is first or next, and inactive when it is neither any more.
    fn write(&mut self, _before: &Boots, boots: &Boots) -> Result<(), BootLoaderError> {
        let variables = self.variables()?;
        let started = boots.order.slots();
        let first = match boots.trial {
            // What starts for good without a trial is behind it.
            Some(slot) if started.contains(&slot.other()) => slot.other(),
            Some(slot) => slot,
            None => started[0],
        };
        self.set_active(&variables, started, true)?;
        let order = variables.order_of(&[first, first.other()]);
        if order != variables.order {
            self.write_variable("BootOrder", &order)?;
        }
        let next = boots.trial.map(|slot| variables.options[slot as usize]);
        // What somebody else wants to start next is not ours to change.
        let is_others = next.is_none() && variables.next.is_some_and(|number| variables.slot_of(number).is_none());
        if next != variables.next && !is_others {
            self.write_variable("BootNext", next.as_slice())?;
        }
        let others: Vec<Slot> = Slot::ALL.into_iter().filter(|slot| !started.contains(slot)).collect();
        self.set_active(&variables, &others, false)
    }

    /// A variable that nobody reads is made and removed: firmware may take none once a system runs (UEFI specification 2.10, 8.2,
    /// `EFI_RT_SUPPORTED_SET_VARIABLE`), and what decides is not touched for the question.
    fn prove_write(&mut self) -> Result<String, BootLoaderError> {
        const VALUE: &[u8] = b"check-boot";
        let error = |reason: String| BootLoaderError::Write {
            object: format!("an EFI variable of ours below {}", self.shown),
            reason,
        };
        let said = |reason: io::Error| error(reason.to_string());
        variable::write(&self.folder, variable::PROOF, VALUE).map_err(said)?;
        let found = variable::read(&self.folder, variable::PROOF).map_err(said)?;
        variable::remove(&self.folder, variable::PROOF).map_err(said)?;
        let after = variable::read(&self.folder, variable::PROOF).map_err(said)?;
        match (found.as_deref() == Some(VALUE), after) {
            (true, None) => Ok("a variable was made, read back and removed".to_owned()),
            (true, Some(_)) => Err(error("the firmware does not remove it".to_owned())),
            (false, _) => Err(error("the firmware gives another value back".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::boot_state::Mark;

    const GUID: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

    /// `Boot0003` as edk2 writes it for `\EFI\BOOT\A.EFI` on a partition: attributes, length of the path, description in UCS-2,
    /// a device path of a hard drive, a file and an end, and four bytes of optional data.
    fn load_option(description: &str) -> Vec<u8> {
        let hard_drive = [&[4, 1, 42, 0, 1, 0, 0, 0][..], &[0; 34]].concat();
        let file: Vec<u8> =
            [4, 4, 12, 0].into_iter().chain("\\A.E".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let path = [&hard_drive[..], &file, &[0x7f, 0xff, 4, 0]].concat();
        let mut bytes = vec![7, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend((path.len() as u16).to_le_bytes());
        bytes.extend(description.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes.extend(path);
        bytes.extend([0xde, 0xad, 0xbe, 0xef]);
        bytes
    }

    fn numbers_of(folder: &Path, name: &str) -> Vec<u16> {
        let bytes = fs::read(folder.join(format!("{name}-{GUID}"))).unwrap_or_default();
        bytes.chunks(2).skip(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    fn put(folder: &Path, name: &str, bytes: &[u8]) {
        fs::write(folder.join(format!("{name}-{GUID}")), bytes).unwrap();
    }

    fn is_active(folder: &Path, number: u16) -> bool {
        fs::read(folder.join(format!("Boot{number:04X}-{GUID}"))).is_ok_and(|bytes| bytes[4] & 1 != 0)
    }

    /// The firmware, by the specification (3.1.1 and 3.1.3): `BootNext` first, and it is deleted before it is started; else the first
    /// active one of `BootOrder`.
    fn starts(folder: &Path) -> u16 {
        let next = numbers_of(folder, "BootNext");
        if let Some(number) = next.first() {
            fs::remove_file(folder.join(format!("BootNext-{GUID}"))).unwrap();
            return *number;
        }
        numbers_of(folder, "BootOrder").into_iter().find(|number| is_active(folder, *number)).unwrap()
    }

    /// Somebody has plugged in a disk or a network card: edk2 adds an option for it, by `BmGetFreeOptionNumber` and
    /// `BmAddOptionNumberToOrderVariable`. By then `BootNext` is deleted.
    fn finds_something_new(folder: &Path) {
        let mut order = numbers_of(folder, "BootOrder");
        let free = (0..=u16::MAX).find(|number| !order.contains(number)).unwrap();
        put(folder, &format!("Boot{free:04X}"), &load_option("UEFI Misc Device"));
        order.push(free);
        put(folder, "BootOrder", &[&[7, 0, 0, 0][..], &variable::number_bytes(&order)].concat());
    }

    fn firmware(order: &[u8]) -> (tempfile::TempDir, Efi) {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| put(folder.path(), name, bytes);
        put("Boot0003", &load_option("Yadokari A"));
        put("Boot000A", &load_option("Yadokari B"));
        put("Boot0001", &load_option("UEFI Shell"));
        put("BootOrder", &[&[7, 0, 0, 0][..], order].concat());
        put("BootCurrent", &[6, 0, 0, 0, 3, 0]);
        let efi = Efi::at(folder.path(), &["Yadokari A", "Yadokari B"].map(str::to_owned));
        (folder, efi)
    }

    fn order_of(folder: &Path) -> Vec<u8> {
        fs::read(folder.join(format!("BootOrder-{GUID}"))).unwrap()
    }

    #[test]
    fn the_firmware_tries_the_armed_slot_once_and_keeps_it_when_it_is_confirmed() {
        let (folder, mut efi) = firmware(&[3, 0, 10, 0, 1, 0]);
        let folder = folder.path();
        assert_eq!(efi.read().unwrap(), Boots::factory(None));
        efi.deny(Slot::B).unwrap();
        assert_eq!(efi.read().unwrap().order, Order::A);
        assert_eq!((order_of(folder), is_active(folder, 10)), (vec![7, 0, 0, 0, 3, 0, 10, 0, 1, 0], false));
        efi.arm(Slot::B, Tries::FULL).unwrap();
        assert_eq!((efi.read().unwrap().trial, is_active(folder, 10)), (Some(Slot::B), true));
        assert_eq!([starts(folder), starts(folder)], [10, 3]);
        // A slot that was armed verifies: the firmware may take it where it cannot load the other.
        assert_eq!(efi.read().unwrap().order, Order::AThenB);
        efi.confirm(Slot::B).unwrap();
        assert_eq!(order_of(folder), [7, 0, 0, 0, 10, 0, 3, 0, 1, 0]);
        assert_eq!([starts(folder), starts(folder)], [10, 10]);
        efi.fail(Slot::B, None).unwrap();
        assert_eq!((starts(folder), is_active(folder, 10)), (3, false));
    }

    #[test]
    fn what_the_firmware_finds_new_never_takes_the_number_of_a_slot() {
        // An empty slot B, as the board's maker leaves it: in the order, and inactive.
        let (folder, mut efi) = firmware(&[3, 0, 10, 0]);
        let folder = folder.path();
        efi.keep_only(Slot::A).unwrap();
        let mut change = |change: &dyn Fn(&mut Efi), started: u16| {
            change(&mut efi);
            let started_next = starts(folder);
            for _ in 0..12 {
                finds_something_new(folder);
            }
            assert_eq!(started_next, started);
            efi.read().unwrap()
        };
        assert_eq!(change(&|_| (), 3).order, Order::A);
        assert_eq!(change(&|efi| drop(efi.deny(Slot::B).unwrap()), 3).order, Order::A);
        assert_eq!(change(&|efi| drop(efi.arm(Slot::B, Tries::FULL).unwrap()), 10).trial, None);
        assert_eq!(change(&|efi| drop(efi.fail(Slot::B, None).unwrap()), 3).order, Order::A);
        assert_eq!(change(&|efi| drop(efi.arm(Slot::B, Tries::FULL).unwrap()), 10).trial, None);
        assert_eq!(change(&|efi| drop(efi.confirm(Slot::B).unwrap()), 10).order, Order::BThenA);
        assert_eq!(change(&|efi| drop(efi.keep_only(Slot::B).unwrap()), 10).order, Order::B);
    }

    #[test]
    fn options_of_others_keep_their_places() {
        let (folder, mut efi) = firmware(&[1, 0, 3, 0, 7, 0]);
        efi.arm(Slot::B, Tries::FULL).unwrap();
        efi.confirm(Slot::B).unwrap();
        assert_eq!(order_of(folder.path()), [7, 0, 0, 0, 1, 0, 10, 0, 3, 0, 7, 0]);
    }

    #[test]
    fn what_the_trait_changes_is_read_as_it_was_written() {
        let good = Boots::factory(None);
        let wishes = [
            good.clone(),
            Boots { b: SlotState { left: Tries::NONE, mark: None }, ..Boots::factory(Some(Mark::Empty)) },
            good.armed(Slot::B, Tries::FULL).unwrap(),
            good.armed(Slot::A, Tries::FULL).unwrap(),
            good.confirmed(Slot::B),
        ];
        for from in &wishes {
            for to in &wishes {
                let (_folder, mut efi) = firmware(&[3, 0, 10, 0]);
                efi.write(&good, from).unwrap();
                efi.write(from, to).unwrap();
                assert_eq!(efi.read().unwrap(), *to, "from {from:?}");
            }
        }
    }

    #[test]
    fn the_proof_leaves_every_variable_as_it_was() {
        let (folder, mut efi) = firmware(&[3, 0, 10, 0, 1, 0]);
        let all = || {
            let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
        };
        let before = all();
        assert_eq!(efi.prove_write().unwrap(), "a variable was made, read back and removed");
        assert_eq!(all(), before);
    }

    #[test]
    fn an_option_is_read_as_the_specification_has_it_and_a_cut_one_is_none() {
        let bytes = &load_option("Yadokari A")[4..];
        let option = variable::LoadOption { is_active: true, description: "Yadokari A".to_owned() };
        assert_eq!(variable::LoadOption::parse(bytes), Some(option));
        // The optional data may be missing, nothing else.
        for length in 0..bytes.len() - 4 {
            assert_eq!(variable::LoadOption::parse(&bytes[..length]), None, "{length}");
        }
        assert_eq!(variable::parse_numbers(&[1, 0, 2]), None);
    }

    #[test]
    fn without_the_slots_options_nothing_is_written() {
        let (folder, mut efi) = firmware(&[1, 0]);
        assert!(efi.read().unwrap_err().to_string().contains("none of the slots' options is in it"));
        fs::remove_file(folder.path().join(format!("Boot000A-{GUID}"))).unwrap();
        let error = efi.deny(Slot::B).unwrap_err().to_string();
        assert!(error.contains("no option is named `Yadokari B`"), "{error}");
        fs::write(folder.path().join(format!("Boot000B-{GUID}")), load_option("Yadokari A")).unwrap();
        let error = efi.deny(Slot::B).unwrap_err().to_string();
        assert!(error.contains("more than one option is named `Yadokari A`"), "{error}");
        assert_eq!(order_of(folder.path()), [7, 0, 0, 0, 1, 0]);
    }
}
