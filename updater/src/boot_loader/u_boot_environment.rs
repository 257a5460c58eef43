//! U-Boot's redundant environment in files or block devices, with RAUC's variables and ours (as of [`crate::boot_state`], but for
//! `BOOT_SEQ`: here the copies count). Where it is says the board, in the words of `/etc/fw_env.config`.

use super::redundant_environment::{self as environment, Copy, Found, Texts};
use super::{BootLoader, BootLoaderError, Boots, Counting};
use crate::boot_state::BootState;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use yado_sys::regular_file;

/// `fw_env.config` is two lines, and what its author says about them.
const MAX_CONFIG_BYTES: u64 = 16 * 1024;

/// Where one copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A file, or a block device.
    pub path: PathBuf,
    /// From its start, in bytes.
    pub offset: u64,
    /// All of the copy, in bytes.
    pub bytes: usize,
}

/// Where both copies are: of one size, and apart from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    first: Place,
    second: Place,
}

/// Why a text does not say where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacesError {
    /// There must be two lines; with one the environment is not redundant, and a power cut loses it.
    NotTwo {
        /// How many there are.
        lines: usize,
    },
    /// A line is not `DEVICE OFFSET SIZE`, with the size between 64 bytes and 1 MiB.
    Line {
        /// Which, from 1.
        number: usize,
    },
    /// The sizes differ.
    Sizes,
    /// A part of one is a part of the other.
    Overlap,
}

/// Both copies.
#[derive(Debug)]
pub struct UBootEnvironment {
    places: Places,
}

impl Places {
    /// Two lines as in `fw_env.config`: device, offset (decimal, or hexadecimal with `0x`), size (hexadecimal). What follows on a line
    /// is for flash memory without a block device, which we do not write.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(text: &str) -> Result<Places, PlacesError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut places = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            places.push(parse_place(line).ok_or(PlacesError::Line { number })?);
        }
        let [first, second]: [Place; 2] =
            places.try_into().map_err(|places: Vec<Place>| PlacesError::NotTwo { lines: places.len() })?;
        if first.bytes != second.bytes {
            return Err(PlacesError::Sizes);
        }
        let end = |place: &Place| place.offset.saturating_add(place.bytes as u64);
        if first.path == second.path && first.offset < end(&second) && second.offset < end(&first) {
            return Err(PlacesError::Overlap);
        }
        Ok(Places { first, second })
    }

    fn of(&self, copy: Copy) -> &Place {
        match copy {
            Copy::First => &self.first,
            Copy::Second => &self.second,
        }
    }
}

fn parse_place(line: &str) -> Option<Place> {
    let mut words = line.split_whitespace();
    let (path, offset, bytes) = (words.next()?, words.next()?, words.next()?);
    let offset = match offset.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => offset.parse().ok()?,
    };
    let bytes = usize::from_str_radix(bytes.strip_prefix("0x").unwrap_or(bytes), 16).ok()?;
    let is_good = path.starts_with('/') && environment::BYTES.contains(&bytes);
    is_good.then(|| Place { path: PathBuf::from(path), offset, bytes })
}

impl UBootEnvironment {
    /// The environment that is there.
    pub fn at(places: Places) -> UBootEnvironment {
        UBootEnvironment { places }
    }

    /// The environment that the board's `fw_env.config` leads to.
    ///
    /// # Errors
    /// When that says no two places, or one of them is none that can be written.
    pub fn configured(config: &Path) -> Result<UBootEnvironment, BootLoaderError> {
        let places = Places::read(config)?;
        for place in [&places.first, &places.second] {
            let error = |reason: String| BootLoaderError::Absent {
                what: format!("{} names {}: {reason}", config.display(), place.path.display()),
            };
            let kind = std::fs::metadata(&place.path).map_err(|reason| error(reason.to_string()))?.file_type();
            if !kind.is_file() && !kind.is_block_device() {
                return Err(error(NO_STORAGE.to_owned()));
            }
        }
        Ok(UBootEnvironment::at(places))
    }

    fn find(&self) -> Result<Found, BootLoaderError> {
        let read = |copy| read_place(self.places.of(copy));
        let (first, second) = (read(Copy::First), read(Copy::Second));
        let read_error = |reason: String| BootLoaderError::Read {
            object: format!("U-Boot's environment on {}", self.places.first.path.display()),
            reason,
        };
        match (first, second) {
            // One that cannot be read is as one that is torn.
            (Err(error), Err(_)) => Err(error),
            (first, second) => environment::parse(&first.unwrap_or_default(), &second.unwrap_or_default()).map_err(
                |[first, second]| read_error(format!("no copy is good: the first: {first}; the second: {second}")),
            ),
        }
    }

    fn state(&self, texts: &Texts) -> Result<BootState, BootLoaderError> {
        let mut pairs = Vec::new();
        for key in crate::boot_state::VARIABLES.split(' ') {
            if let Some(value) = texts.value(key) {
                pairs.push((key.to_owned(), String::from_utf8_lossy(value).into_owned()));
            }
        }
        BootState::from_pairs(&mut pairs).map_err(|bad| BootLoaderError::Read {
            object: format!("U-Boot's environment on {}", self.places.first.path.display()),
            reason: bad.to_string(),
        })
    }
}

impl BootLoader for UBootEnvironment {
    fn counting(&self) -> Counting {
        Counting::Tries
    }

    fn places(&self) -> Vec<PathBuf> {
        [&self.places.first, &self.places.second].map(|place| place.path.clone()).to_vec()
    }

    fn prove_write(&mut self) -> Result<String, BootLoaderError> {
        let before = self.find()?;
        let boots = self.read()?;
        self.write(&boots, &boots)?;
        let after = self.find()?;
        let is_next = after.newer == before.newer.other() && after.count == before.count.wrapping_add(1);
        let is_same = after.texts == before.texts && self.read()? == boots;
        let place = self.places.of(after.newer);
        let object = format!("U-Boot's environment on {} at byte {}", place.path.display(), place.offset);
        match (is_next, is_same) {
            (true, true) => Ok(format!("{object}: copy {} was written and read back", after.count)),
            (true, false) => {
                Err(BootLoaderError::Write { object, reason: "it says other things than before".to_owned() })
            }
            (false, _) => {
                let reason = format!("copy {} is the newer one after copy {}", after.count, before.count);
                Err(BootLoaderError::Write { object, reason })
            }
        }
    }

    fn read(&mut self) -> Result<Boots, BootLoaderError> {
        let BootState { order, a, b, trial, blocked, sequence: _, others: _ } = self.state(&self.find()?.texts)?;
        Ok(Boots { order, a, b, trial, blocked })
    }

    fn write(&mut self, _before: &Boots, boots: &Boots) -> Result<(), BootLoaderError> {
        let Found { newer, count, mut texts } = self.find()?;
        let known = self.state(&texts)?;
        let Boots { order, a, b, trial, blocked } = boots.clone();
        let state = BootState { order, a, b, trial, blocked, ..known };
        for (key, value) in state.own_pairs() {
            // Here the copies count.
            if key != "BOOT_SEQ" {
                texts.set(key, value.as_deref());
            }
        }
        let place = self.places.of(newer.other());
        let error = |reason: String| BootLoaderError::Write {
            object: format!("U-Boot's environment on {} at byte {}", place.path.display(), place.offset),
            reason,
        };
        let copy = environment::encode(&texts, count.wrapping_add(1), place.bytes)
            .map_err(|bytes| error(format!("its texts need {bytes} bytes, and it has {}", place.bytes)))?;
        write_place(place, &copy).map_err(|reason| error(reason.to_string()))?;
        let found = read_place(place)?;
        if found == copy { Ok(()) } else { Err(error("the device gives other bytes back".to_owned())) }
    }
}

fn read_place(place: &Place) -> Result<Vec<u8>, BootLoaderError> {
    let read = |error: std::io::Error| BootLoaderError::Read {
        object: format!("U-Boot's environment on {} at byte {}", place.path.display(), place.offset),
        reason: error.to_string(),
    };
    let file = File::open(&place.path).map_err(read)?;
    // Not from memory: what was written would be found there even if the disk did not take it.
    let length = std::num::NonZeroU64::new(place.bytes as u64);
    let _ = rustix::fs::fadvise(&file, place.offset, length, rustix::fs::Advice::DontNeed);
    let mut bytes = vec![0; place.bytes];
    file.read_exact_at(&mut bytes, place.offset).map_err(read)?;
    Ok(bytes)
}

const NO_STORAGE: &str = "it is no file and no block device: flash without one must be erased first";

/// Returns when it is on the disk.
fn write_place(place: &Place, copy: &[u8]) -> std::io::Result<()> {
    let file = File::options().write(true).open(&place.path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(std::io::Error::other(NO_STORAGE));
    }
    file.write_all_at(copy, place.offset)?;
    file.sync_data()
}

impl Places {
    /// Reads the board's configuration.
    ///
    /// # Errors
    /// When it is not there, or does not say where the copies are.
    pub fn read(path: &Path) -> Result<Places, BootLoaderError> {
        let error = |reason: String| BootLoaderError::Read { object: path.display().to_string(), reason };
        let mut text = String::new();
        let mut file =
            regular_file::open(path).map_err(|reason| error(reason.to_string()))?.take(MAX_CONFIG_BYTES + 1);
        file.read_to_string(&mut text).map_err(|reason| error(reason.to_string()))?;
        if MAX_CONFIG_BYTES < text.len() as u64 {
            return Err(error(format!("it is longer than {MAX_CONFIG_BYTES} bytes")));
        }
        Places::parse(&text).map_err(|reason| error(reason.to_string()))
    }
}

impl fmt::Display for PlacesError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlacesError::NotTwo { lines: 1 } => out.write_str(
                "one copy is named, so the environment is not redundant: a power cut while it is written would lose it; U-Boot needs \
                 CONFIG_SYS_REDUNDAND_ENVIRONMENT, and this file a second line",
            ),
            PlacesError::NotTwo { lines } => write!(out, "{lines} copies are named, and there must be two"),
            PlacesError::Line { number } => {
                write!(out, "line {number}: expected DEVICE OFFSET SIZE, with a size from 0x40 to 0x100000")
            }
            PlacesError::Sizes => out.write_str("the two copies have different sizes"),
            PlacesError::Overlap => out.write_str("the two copies overlap"),
        }
    }
}

impl std::error::Error for PlacesError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::boot_state::{Slot, Tries};

    #[test]
    fn where_the_copies_are_is_read_as_fw_printenv_reads_it() {
        let text = "# comment\n/dev/mmcblk0 0x100000 0x4000\n\n/dev/mmcblk0 1064960 4000 0x200 # more\n";
        let places = Places::parse(text).unwrap();
        let place = |offset| Place { path: "/dev/mmcblk0".into(), offset, bytes: 0x4000 };
        assert_eq!(places, Places { first: place(0x10_0000), second: place(0x10_4000) });
        let refused = [
            ("/dev/a 0 0x1000\n", PlacesError::NotTwo { lines: 1 }),
            ("/dev/a 0 0x1000\n/dev/a 0x800 0x1000\n", PlacesError::Overlap),
            ("/dev/a 0 0x1000\n/dev/a 0x1000 0x2000\n", PlacesError::Sizes),
            ("/dev/a -8 0x1000\n/dev/a 0x1000 0x1000\n", PlacesError::Line { number: 1 }),
            ("/dev/a 0 0x1000\nrelative 0x1000 0x1000\n", PlacesError::Line { number: 2 }),
            ("/dev/a 0 0x1000\n/dev/b 0 ffffffffffff\n", PlacesError::Line { number: 2 }),
        ];
        for (text, error) in refused {
            assert_eq!(Places::parse(text), Err(error), "{text}");
        }
    }

    /// What another reader of the same bytes finds: U-Boot's own is in `tests/u_boot_tools.rs`.
    #[test]
    fn an_update_goes_from_copy_to_copy_and_a_torn_one_leaves_the_state_before() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut texts = Texts::default();
        for (key, value) in
            [("bootcmd", "run yado"), ("BOOT_ORDER", "A B"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "3")]
        {
            texts.set(key, Some(value));
        }
        let copy = environment::encode(&texts, 255, 0x1000).unwrap();
        file.as_file().write_all_at(&copy, 0x1000).unwrap();
        file.as_file().write_all_at(&[0xff; 0x1000], 0x2000).unwrap();
        let path = file.path().display();
        let places = Places::parse(&format!("{path} 0x1000 0x1000\n{path} 0x2000 0x1000\n")).unwrap();
        let mut loader = UBootEnvironment::at(places);
        loader.deny(Slot::B).unwrap();
        let found = loader.find().unwrap();
        assert_eq!((found.newer, found.count), (Copy::Second, 0));
        let denied = loader.read().unwrap();
        let armed = loader.arm(Slot::B, Tries::FULL).unwrap();
        assert_eq!(loader.read().unwrap(), armed);
        assert_eq!(loader.find().unwrap().texts.value("bootcmd"), Some(&b"run yado"[..]));
        // The copy of that is spoilt by the next power cut.
        file.as_file().write_all_at(b"?", 0x1000 + 77).unwrap();
        assert_eq!(loader.read().unwrap(), denied);
        file.as_file().write_all_at(b"?", 0x2000 + 77).unwrap();
        let error = loader.read().unwrap_err().to_string();
        assert!(error.contains("no copy is good: the first: checksum is"), "{error}");
    }
}
