//! The second flash of a board that EDK II starts: its variables as the board's maker leaves them, and as they are found there later,
//! past the kernel and past our own reader. The layout is edk2's own (`MdePkg/Include/Pi/PiFirmwareVolume.h`,
//! `MdeModulePkg/Include/Guid/VariableFormat.h`, `ArmVirtPkg/VarStore.fdf.inc`), load options are the specification's (UEFI 2.10, 3.1.3).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use yado_updater::boot_state::{BootState, Slot};

/// As `boot.options` of the boards' `update.toml` has them: its defaults.
pub const DESCRIPTIONS: [&str; 2] = ["Yadokari A", "Yadokari B"];

/// Variables, and twice as much for edk2 to write them through.
const REGION_BYTES: usize = 0x4_0000;
const REGIONS: u32 = 3;
/// `gEfiSystemNvDataFvGuid`.
const VOLUME: [u8; 16] = guid(0xfff1_2b8d, 0x7696, 0x4c8b, [0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50]);
/// `gEfiAuthenticatedVariableGuid`.
const STORE: [u8; 16] = guid(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: [u8; 16] = guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// Length of the volume's header, and of the store's behind it.
const VOLUME_HEADER_BYTES: usize = 72;
const STORE_HEADER_BYTES: usize = 28;
const VARIABLE_HEADER_BYTES: usize = 60;
/// What each variable begins with.
const VARIABLE: [u8; 2] = [0xaa, 0x55];
/// `VAR_ADDED`: it is whole, and no newer one has replaced it.
const ADDED: u8 = 0x3f;
/// Kept without power, and seen by firmware and system.
const ATTRIBUTES: u32 = 7;
/// `LOAD_OPTION_ACTIVE`.
const ACTIVE: u32 = 1;
/// Of a GPT with entries of the usual size, behind the table's header.
const GPT_ENTRIES_AT: u64 = 1024;
const GPT_ENTRY_BYTES: u64 = 128;

/// The variables that decide what starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootVariables {
    /// `BootOrder`.
    pub order: Vec<u16>,
    /// `BootNext`.
    pub next: Option<u16>,
    /// `Boot####`.
    pub options: BTreeMap<u16, BootOption>,
}

/// What is known of a load option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOption {
    /// For people.
    pub description: String,
    /// Whether the firmware starts it by itself.
    pub is_active: bool,
}

/// Writes the flash of a new board: a load option for each slot, that starts the kernel in the slot's boot partition, and an order by
/// which it boots as the state says. `partitions` are the numbers of `boot-a` and `boot-b` in the table of this disk.
pub fn make(
    path: &Path,
    disk: &Path,
    partitions: [u32; 2],
    state: &BootState,
    kernel_arguments: &str,
) -> io::Result<()> {
    let table = File::open(disk)?;
    let mut variables = Vec::new();
    let mut add = |name: &str, data: &[u8]| {
        variables.extend(variable(name, data));
        // Each begins at a multiple of 4.
        variables.resize(variables.len().next_multiple_of(4), 0xff);
    };
    for slot in Slot::ALL {
        let attributes = if state.order.slots().contains(&slot) { ACTIVE } else { 0 };
        let partition = hard_drive_node(&table, partitions[slot as usize])?;
        // The kernel's own stub takes the initramfs from where the kernel came from.
        let words = format!("initrd=\\initrd console=ttyAMA0 quiet panic=5 yado.slot={slot} {kernel_arguments}");
        let option = load_option(attributes, DESCRIPTIONS[slot as usize], &partition, "\\vmlinuz", words.trim_end());
        add(&format!("Boot{:04X}", slot as u16), &option);
    }
    let first = match state.trial {
        // What is on trial is behind what is good.
        Some(slot) => slot.other(),
        None => state.order.slots()[0],
    };
    add("BootOrder", &[number(first), number(first.other())].concat());
    if let Some(slot) = state.trial {
        add("BootNext", &number(slot));
    }
    // Nobody is at a keyboard.
    add("Timeout", &[0, 0]);

    let mut flash = volume_header();
    flash.extend(STORE);
    flash.extend(((REGION_BYTES - VOLUME_HEADER_BYTES) as u32).to_le_bytes());
    // `VARIABLE_STORE_FORMATTED`, `VARIABLE_STORE_HEALTHY`, and what is reserved.
    flash.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    flash.extend(variables);
    // What was never written, as a flash has it.
    flash.resize(REGION_BYTES * REGIONS as usize, 0xff);
    fs::write(path, flash)?;
    File::options().write(true).open(path)?.set_len(super::qemu::FLASH_BYTES)
}

/// What a flash says by now.
pub fn read(path: &Path) -> io::Result<BootVariables> {
    let mut flash = vec![0; REGION_BYTES];
    File::open(path)?.read_exact_at(&mut flash, 0)?;
    parse(&flash).ok_or_else(|| io::Error::other("the flash holds no variables of EDK II"))
}

fn parse(flash: &[u8]) -> Option<BootVariables> {
    let (volume, store) = flash.split_at_checked(VOLUME_HEADER_BYTES)?;
    if volume.get(16..32)? != VOLUME || store.get(..16)? != STORE {
        return None;
    }
    let mut boots = BootVariables { order: Vec::new(), next: None, options: BTreeMap::new() };
    let mut rest = store.get(STORE_HEADER_BYTES..)?;
    while rest.starts_with(&VARIABLE) {
        let length = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?) as usize);
        let (name_bytes, data_bytes) = (length(36)?, length(40)?);
        let (header, behind) = rest.split_at_checked(VARIABLE_HEADER_BYTES)?;
        let (name, behind) = behind.split_at_checked(name_bytes)?;
        let data = behind.get(..data_bytes)?;
        if header[2] == ADDED && header[44..] == GLOBAL {
            let name = text(name)?;
            match name.as_str() {
                "BootOrder" => boots.order = numbers(data),
                "BootNext" => boots.next = numbers(data).first().copied(),
                name => {
                    let number = name.strip_prefix("Boot").filter(|digits| digits.len() == 4);
                    if let Some(number) = number.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
                        boots.options.insert(number, parse_load_option(data)?);
                    }
                }
            }
        }
        let used = (VARIABLE_HEADER_BYTES + name_bytes + data_bytes).next_multiple_of(4);
        rest = rest.get(used..)?;
    }
    Some(boots)
}

impl BootVariables {
    /// What starts without `BootNext`: the description of the first active option of the order.
    pub fn first(&self) -> Option<&str> {
        let mut options = self.order.iter().filter_map(|number| self.options.get(number));
        options.find(|option| option.is_active).map(|option| option.description.as_str())
    }

    /// The options of the slots.
    pub fn slots(&self) -> [Option<&BootOption>; 2] {
        DESCRIPTIONS.map(|description| self.options.values().find(|option| option.description == description))
    }
}

impl fmt::Display for BootVariables {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |number: &u16| match self.options.get(number) {
            Some(BootOption { description, is_active: true }) => description.clone(),
            Some(BootOption { description, is_active: false }) => format!("{description} (inactive)"),
            None => format!("{number:04X}, which there is not"),
        };
        let next = self.next.as_ref().map_or("none".to_owned(), shown);
        let order: Vec<String> = self.order.iter().map(shown).collect();
        write!(out, "BootNext {next}; BootOrder {}", order.join(", "))
    }
}

/// `EFI_FIRMWARE_VOLUME_HEADER`, with the one map of blocks.
fn volume_header() -> Vec<u8> {
    let mut header = vec![0; 16];
    header.extend(VOLUME);
    header.extend((REGION_BYTES as u64 * u64::from(REGIONS)).to_le_bytes());
    header.extend(b"_FVH");
    // What may be done with it, as ArmVirtPkg has it: read, written, mapped, erased to ones.
    header.extend(0x0004_feff_u32.to_le_bytes());
    header.extend((VOLUME_HEADER_BYTES as u16).to_le_bytes());
    let checksum_at = header.len();
    // The checksum's place, no header behind this one, what is reserved, and the revision.
    header.extend([0, 0, 0, 0, 0, 2]);
    header.extend([REGIONS.to_le_bytes(), (REGION_BYTES as u32).to_le_bytes(), [0; 4], [0; 4]].concat());
    let words = header.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let checksum = words.fold(0_u16, u16::wrapping_sub);
    header[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// `AUTHENTICATED_VARIABLE_HEADER`, name, and data.
fn variable(name: &str, data: &[u8]) -> Vec<u8> {
    let name = utf16(name);
    let mut bytes = [&VARIABLE[..], &[ADDED, 0]].concat();
    bytes.extend(ATTRIBUTES.to_le_bytes());
    // Never signed: no count, no time, no key.
    bytes.extend([0; 8 + 16 + 4]);
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(GLOBAL);
    bytes.extend(name);
    bytes.extend(data);
    bytes
}

/// `EFI_LOAD_OPTION`.
fn load_option(attributes: u32, description: &str, partition: &[u8], file: &str, words: &str) -> Vec<u8> {
    let file = utf16(file);
    // Media, File Path; and the end of it all.
    let file_node = [&[4, 4][..], &((4 + file.len()) as u16).to_le_bytes(), &file].concat();
    let path = [partition, &file_node, &[0x7f, 0xff, 4, 0]].concat();
    let lengths = [&attributes.to_le_bytes()[..], &(path.len() as u16).to_le_bytes()].concat();
    [lengths, utf16(description), path, utf16(words)].concat()
}

fn parse_load_option(bytes: &[u8]) -> Option<BootOption> {
    let attributes = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    Some(BootOption { description: text(bytes.get(6..)?)?, is_active: attributes & ACTIVE != 0 })
}

/// A partition, by what the table says of it (UEFI 2.10, 10.3.5.1 and 5.3.3): the firmware looks for it on every disk.
fn hard_drive_node(table: &File, partition: u32) -> io::Result<Vec<u8>> {
    let mut entry = [0; GPT_ENTRY_BYTES as usize];
    table.read_exact_at(&mut entry, GPT_ENTRIES_AT + u64::from(partition - 1) * GPT_ENTRY_BYTES)?;
    let sector = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
    let (first, last) = (sector(32), sector(40));
    // Media, Hard Drive, and its length.
    let mut node = vec![4, 1, 42, 0];
    node.extend(partition.to_le_bytes());
    node.extend(first.to_le_bytes());
    node.extend((last + 1 - first).to_le_bytes());
    node.extend(&entry[16..32]);
    // Of a GPT, and known by its GUID.
    node.extend([2, 2]);
    Ok(node)
}

fn number(slot: Slot) -> [u8; 2] {
    (slot as u16).to_le_bytes()
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// With the zero that ends it.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Up to the zero that ends it.
fn text(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> = numbers(bytes).into_iter().take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok()
}

/// As the specification has them in memory: the first three numbers in the processor's order.
const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> [u8; 16] {
    let (a, b, c, d) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes(), rest);
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use yado_updater::boot_state::Mark;

    fn made(state: &BootState) -> BootVariables {
        let folder = tempfile::tempdir().unwrap();
        let (disk, flash) = (folder.path().join("disk"), folder.path().join("flash"));
        fs::write(&disk, vec![1; 4096]).unwrap();
        make(&flash, &disk, [3, 4], state, "").unwrap();
        assert_eq!(fs::metadata(&flash).unwrap().len(), super::super::qemu::FLASH_BYTES);
        read(&flash).unwrap()
    }

    #[test]
    fn a_new_board_starts_slot_a_and_an_empty_slot_b_is_in_the_order_and_inactive() {
        let found = made(&BootState::factory(Some(Mark::Empty)));
        assert_eq!(found.to_string(), "BootNext none; BootOrder Yadokari A, Yadokari B (inactive)");
        assert_eq!(found.first(), Some("Yadokari A"));
        let trial = made(&BootState { trial: Some(Slot::A), ..BootState::factory(None) });
        assert_eq!(trial.to_string(), "BootNext Yadokari A; BootOrder Yadokari B, Yadokari A");
    }

    #[test]
    fn the_header_of_the_volume_is_the_one_that_edk2_builds() {
        // ArmVirtPkg/VarStore.fdf.inc, from the length of the volume on.
        let built = [
            0, 0, 0x0c, 0, 0, 0, 0, 0, 0x5f, 0x46, 0x56, 0x48, 0xff, 0xfe, 4, 0, 0x48, 0, 0x28, 0x09, 0, 0, 0, 2, 3,
            0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(volume_header()[32..], built);
    }

    #[test]
    fn what_was_replaced_or_is_cut_off_is_not_read() {
        let mut flash = [volume_header(), STORE.to_vec(), vec![0; 12]].concat();
        let mut old = variable("BootNext", &[1, 0]);
        old[2] = 0x3c;
        flash.extend(old);
        assert_eq!(parse(&flash).unwrap().next, None);
        flash.extend(&variable("BootNext", &[2, 0])[..40]);
        assert_eq!(parse(&flash), None);
        assert_eq!(parse(&[0; 4096]), None);
    }
}
