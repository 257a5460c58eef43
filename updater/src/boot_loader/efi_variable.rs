//! EFI variables as files of the kernel's efivarfs, and the three that decide what starts (UEFI specification 2.10, 3.1 and 3.3):
//! `BootOrder` and `BootNext` are numbers of 16 bits, `Boot####` is an `EFI_LOAD_OPTION`.

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Of variables that are ours alone: the firmware takes none but its own below [`GLOBAL`].
const OURS: &str = "5c2a1d1e-8f5b-4a0e-9d0c-7a3f3b8e6c41";
/// Kept without power, and seen by the firmware and by us: what these variables must have.
const ATTRIBUTES: u32 = 0x1 | 0x2 | 0x4;
/// `LOAD_OPTION_ACTIVE`, of the attributes that a load option begins with (3.1.3).
const ACTIVE: u8 = 1;
/// Longer than any load option that a firmware makes.
const MAX_BYTES: u64 = 64 * 1024;

/// The variable that proves that the firmware takes one from a running system. Nobody reads it.
pub const PROOF: Name<'_> = Name { word: "YadoCheckBoot", vendor: OURS };

/// A variable's name, with the number of whoever defined it.
#[derive(Debug, Clone, Copy)]
pub struct Name<'n> {
    word: &'n str,
    vendor: &'static str,
}

impl<'n> Name<'n> {
    /// One of the specification's own.
    pub fn global(word: &'n str) -> Name<'n> {
        Name { word, vendor: GLOBAL }
    }
}

/// What of a load option tells which one it is. The path and what follows are the firmware's, and are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// `LOAD_OPTION_ACTIVE`: it may be started.
    pub is_active: bool,
    /// For people; by it the slots' options are known.
    pub description: String,
}

impl LoadOption {
    /// Reads attributes, length of the path, description, path.
    pub fn parse(bytes: &[u8]) -> Option<LoadOption> {
        let (head, rest) = bytes.split_at_checked(6)?;
        let attributes = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let path_bytes = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let units = rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        // With the zero that ends it.
        let path_at = 2 * (units.len() + 1);
        if rest.len() < path_at + path_bytes {
            return None;
        }
        Some(LoadOption {
            is_active: attributes & u32::from(ACTIVE) != 0,
            description: String::from_utf16(&units).ok()?,
        })
    }
}

/// The numbers of `BootOrder` or `BootNext`.
pub fn parse_numbers(bytes: &[u8]) -> Option<Vec<u16>> {
    let pairs = bytes.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
}

/// Their bytes.
pub fn number_bytes(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The value of a variable, without its attributes; None: there is none.
///
/// # Errors
/// What the kernel says, and when it is too short or too long.
pub fn read(folder: &Path, name: Name<'_>) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path_of(folder, name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() < 4 || MAX_BYTES < bytes.len() as u64 {
        return Err(io::Error::other(format!("{} bytes are no variable", bytes.len())));
    }
    Ok(Some(bytes.split_off(4)))
}

/// Sets a variable. The firmware takes it with one call of the kernel, which efivarfs makes for one `write`.
///
/// # Errors
/// What the kernel says: the old value is there.
pub fn write(folder: &Path, name: Name<'_>, value: &[u8]) -> io::Result<()> {
    let path = path_of(folder, name);
    make_mutable(&path)?;
    let bytes = [&ATTRIBUTES.to_le_bytes(), value].concat();
    // No truncation: efivarfs would delete the variable for it. A shorter value makes the file shorter there by itself.
    let mut file = File::options().write(true).create(true).truncate(false).open(&path)?;
    let written = file.write(&bytes)?;
    // What is there already on efivarfs; a file of any other kind would keep its end.
    if file.metadata()?.len() != bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    if written == bytes.len() { Ok(()) } else { Err(io::Error::other("the firmware took only a part")) }
}

/// Makes a load option one that the firmware starts by itself, or one that it does not. All else of it stays, by one write.
///
/// # Errors
/// As [`read`] and [`write`], and when there is none of this number.
pub fn set_active(folder: &Path, number: u16, is_active: bool) -> io::Result<()> {
    let name = format!("Boot{number:04X}");
    let mut value = read(folder, Name::global(&name))?.unwrap_or_default();
    let attributes = value.first_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    *attributes = if is_active { *attributes | ACTIVE } else { *attributes & !ACTIVE };
    write(folder, Name::global(&name), &value)
}

/// Takes a variable away.
///
/// # Errors
/// What the kernel says.
pub fn remove(folder: &Path, name: Name<'_>) -> io::Result<()> {
    let path = path_of(folder, name);
    make_mutable(&path)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The names of the variables that are load options, with their numbers.
///
/// # Errors
/// What the kernel says.
pub fn load_options(folder: &Path) -> io::Result<Vec<(u16, LoadOption)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(GLOBAL)?.strip_suffix('-')?.strip_prefix("Boot"));
        // Four hexadecimal digits, capital ones.
        let number =
            number.filter(|digits| digits.len() == 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let Some(number) = number else { continue };
        let value = read(folder, Name::global(&format!("Boot{number:04X}")))?;
        found.extend(value.and_then(|value| LoadOption::parse(&value)).map(|option| (number, option)));
    }
    found.sort_unstable_by_key(|(number, _)| *number);
    Ok(found)
}

fn path_of(folder: &Path, Name { word, vendor }: Name<'_>) -> PathBuf {
    folder.join(format!("{word}-{vendor}"))
}

/// efivarfs makes files immutable, so that `rm -r` does not destroy a machine (Documentation/filesystems/efivarfs.rst).
fn make_mutable(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Where the file system has no such flags nothing is immutable.
    let Ok(flags) = ioctl_getflags(&file) else { return Ok(()) };
    if flags.contains(IFlags::IMMUTABLE) {
        ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
    }
    Ok(())
}
