//! Where a small file begins on a FAT file system, so that its sector can be overwritten in place through the block device: to mount
//! the file system would write more of it. By Microsoft's "FAT32 File System Specification" 1.03: boot sector, root directory, first
//! cluster. What does not fit together is refused. Pure but for the bytes that it asks for.

use std::fmt;

/// A file in the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FatFile {
    /// Where its first byte is, from the start of the file system; 0 of an empty file, which is nowhere.
    pub offset: u64,
    /// How long it is. Only the place of its first cluster is known.
    pub bytes: u32,
}

/// Why it was not found.
#[derive(Debug)]
pub enum FatError<E> {
    /// The device did not give its bytes.
    Read(E),
    /// The first sector is not that of FAT.
    NoFat,
    /// The root directory has no such file.
    NoFile,
    /// A number leads out of the file system.
    Damaged,
}

/// So many clusters a root directory may have: 65,536 entries in clusters of one sector of 512 bytes.
const MAX_ROOT_CLUSTERS: u32 = 4096;
const ENTRY_BYTES: u64 = 32;
/// Attributes of an entry: the volume's name, and a directory. A part of a long name has the first of them, among others.
const NO_FILE: u8 = 0x08 | 0x10;
/// What is in the place of the next cluster behind the last one.
const LAST_CLUSTER: u32 = 0x0fff_fff8;

/// What the boot sector says.
#[derive(Debug, Clone, Copy)]
struct Layout {
    cluster_bytes: u64,
    /// Where the first FAT is.
    fat_offset: u64,
    root: Root,
    /// Where cluster 2 is: there is no 0 and 1.
    data_offset: u64,
    clusters: u64,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    /// FAT12 and FAT16: between the FATs and the clusters.
    Fixed { offset: u64, bytes: u64 },
    /// FAT32: clusters, as of a file.
    Chain { cluster: u32 },
}

/// What a part of a directory says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Found {
        cluster: u32,
        bytes: u32,
    },
    /// It is elsewhere, if anywhere.
    NotHere,
    /// The directory ends here.
    End,
}

/// Finds the file of this name: 8 letters and 3, capital ones, filled up with spaces. `read` fills a buffer from an offset.
///
/// # Errors
/// When there is none, or no FAT.
pub fn find<E>(
    name: &[u8; 11],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<FatFile, FatError<E>> {
    let mut sector = [0; 512];
    read(0, &mut sector).map_err(FatError::Read)?;
    let layout = Layout::parse(&sector).ok_or(FatError::NoFat)?;
    let entry = match layout.root {
        Root::Fixed { offset, bytes } => look(&mut read, offset, bytes, name)?,
        Root::Chain { cluster } => look_in_chain(&mut read, &layout, cluster, name)?,
    };
    match entry {
        Entry::Found { bytes: 0, .. } => Ok(FatFile { offset: 0, bytes: 0 }),
        Entry::Found { cluster, bytes } => {
            Ok(FatFile { offset: layout.offset_of(cluster).ok_or(FatError::Damaged)?, bytes })
        }
        Entry::NotHere | Entry::End => Err(FatError::NoFile),
    }
}

fn look_in_chain<E>(
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    layout: &Layout,
    first: u32,
    name: &[u8; 11],
) -> Result<Entry, FatError<E>> {
    let mut cluster = first;
    for _ in 0..MAX_ROOT_CLUSTERS {
        let offset = layout.offset_of(cluster).ok_or(FatError::Damaged)?;
        let entry = look(read, offset, layout.cluster_bytes, name)?;
        if entry != Entry::NotHere {
            return Ok(entry);
        }
        let mut next = [0; 4];
        read(layout.fat_offset + 4 * u64::from(cluster), &mut next).map_err(FatError::Read)?;
        // The upper four bits are reserved.
        cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
        if LAST_CLUSTER <= cluster {
            return Ok(Entry::End);
        }
    }
    Err(FatError::Damaged)
}

fn look<E>(
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    offset: u64,
    bytes: u64,
    name: &[u8; 11],
) -> Result<Entry, FatError<E>> {
    // At most 65,535 entries, or a cluster of 128 sectors.
    let mut entries = vec![0; usize::try_from(bytes).map_err(|_| FatError::Damaged)?];
    read(offset, &mut entries).map_err(FatError::Read)?;
    for entry in entries.chunks_exact(ENTRY_BYTES as usize) {
        match entry[0] {
            0 => return Ok(Entry::End),
            _ if entry[..11] == name[..] && entry[11] & NO_FILE == 0 => {
                let cluster = u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26));
                return Ok(Entry::Found { cluster, bytes: u32_at(entry, 28) });
            }
            _ => {}
        }
    }
    Ok(Entry::NotHere)
}

impl Layout {
    fn parse(sector: &[u8; 512]) -> Option<Layout> {
        let sector_bytes = u64::from(u16_at(sector, 11));
        let cluster_sectors = u64::from(sector[13]);
        let (reserved, fats) = (u64::from(u16_at(sector, 14)), u64::from(sector[16]));
        let root_entries = u64::from(u16_at(sector, 17));
        let or_long = |short: u16, long: u32| if short == 0 { u64::from(long) } else { u64::from(short) };
        let sectors = or_long(u16_at(sector, 19), u32_at(sector, 32));
        let fat_sectors = or_long(u16_at(sector, 22), u32_at(sector, 36));
        let is_fat = sector[510..] == [0x55, 0xaa]
            && [512, 1024, 2048, 4096].contains(&sector_bytes)
            && cluster_sectors.is_power_of_two()
            && reserved != 0
            && fats != 0
            && fat_sectors != 0;
        if !is_fat {
            return None;
        }
        let root_sector = reserved + fats * fat_sectors;
        let data_sector = root_sector + (root_entries * ENTRY_BYTES).div_ceil(sector_bytes);
        let clusters = sectors.checked_sub(data_sector)? / cluster_sectors;
        // The kind is known by the number of clusters and by nothing else; FAT32 has no root but one of clusters.
        let root = match root_entries {
            0 if 65_525 <= clusters => Root::Chain { cluster: u32_at(sector, 44) & 0x0fff_ffff },
            0 => return None,
            entries => Root::Fixed { offset: root_sector * sector_bytes, bytes: entries * ENTRY_BYTES },
        };
        Some(Layout {
            cluster_bytes: cluster_sectors * sector_bytes,
            fat_offset: reserved * sector_bytes,
            root,
            data_offset: data_sector * sector_bytes,
            clusters,
        })
    }

    fn offset_of(&self, cluster: u32) -> Option<u64> {
        let index = u64::from(cluster).checked_sub(2).filter(|index| *index < self.clusters)?;
        Some(self.data_offset + index * self.cluster_bytes)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl<E: fmt::Display> fmt::Display for FatError<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FatError::Read(error) => write!(out, "{error}"),
            FatError::NoFat => out.write_str("it is no FAT file system"),
            FatError::NoFile => out.write_str("there is no such file in the root directory"),
            FatError::Damaged => out.write_str("the file system is damaged"),
        }
    }
}

/// Whether this machine has other readers and writers of FAT.
#[cfg(test)]
pub(super) fn has_tools() -> bool {
    let is_there = |program: &str| std::process::Command::new(program).arg("--help").output().is_ok();
    let is_there = is_there("mcopy") && is_there("mkfs.fat");
    if !is_there {
        println!("SKIPPED: no mtools and dosfstools (cargo accept packages installs them)");
    }
    is_there
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    const NAME: &[u8; 11] = b"AUTOBOOTTXT";

    fn run(program: &str, words: &[&str], path: &Path) {
        let output = Command::new(program).args(words).arg(path).output().unwrap();
        assert!(output.status.success(), "{program} {words:?}: {output:?}");
    }

    /// A file system of this kind with the file behind others, as mkfs.fat(8) and mcopy(1) make it.
    fn file_system(folder: &Path, make: &[&str], bytes: u64, text: &[u8]) -> std::path::PathBuf {
        let path = folder.join("fat");
        File::create(&path).unwrap().set_len(bytes).unwrap();
        run("mkfs.fat", make, &path);
        fs::create_dir_all(folder.join("files")).unwrap();
        // A long name, a directory and many others come before it: on FAT32 it stands in a later cluster of the directory.
        for number in 0..40 {
            fs::write(folder.join(format!("files/a file with a long name {number:02}")), [number]).unwrap();
        }
        fs::write(folder.join("files/zz"), text).unwrap();
        let image = path.to_str().unwrap();
        run("mmd", &["-i", image, "::overlays"], Path::new("::autoboot"));
        for number in 0..40 {
            let from = folder.join(format!("files/a file with a long name {number:02}"));
            run("mcopy", &["-i", image, from.to_str().unwrap()], Path::new("::"));
        }
        run("mcopy", &["-i", image, folder.join("files/zz").to_str().unwrap()], Path::new("::autoboot.txt"));
        path
    }

    #[test]
    fn a_file_is_where_the_tools_of_dos_put_it_on_each_kind_of_fat() {
        if !has_tools() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let text: Vec<u8> = b"boot_partition=2\n".repeat(31)[..512].to_vec();
        let kinds: [(&[&str], u64); 5] = [
            (&["-F", "12"], 1 << 20),
            (&["-F", "16", "-s", "1"], 16 << 20),
            (&["-F", "16", "-S", "4096"], 64 << 20),
            (&["-F", "32", "-s", "1"], 64 << 20),
            (&["-F", "32", "-s", "8"], 300 << 20),
        ];
        for (make, bytes) in kinds {
            let path = file_system(folder.path(), make, bytes, &text);
            let device = File::open(&path).unwrap();
            let found = find(NAME, |offset, bytes| device.read_exact_at(bytes, offset)).unwrap();
            assert_eq!(found.bytes, 512, "{make:?}");
            let mut seen = vec![0; 512];
            device.read_exact_at(&mut seen, found.offset).unwrap();
            assert_eq!(seen, text, "{make:?}");
            let missing = find(b"TRYBOOT TXT", |offset, bytes| device.read_exact_at(bytes, offset));
            assert!(matches!(missing, Err(FatError::NoFile)), "{make:?}: {missing:?}");
        }
    }

    #[test]
    fn any_file_system_is_read_to_its_end() {
        if !has_tools() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = file_system(folder.path(), &["-F", "12", "-s", "1"], 1 << 20, &[b'x'; 512]);
        let mut seed = fs::read(path).unwrap();
        seed.truncate(4096);
        let read_from = |input: &[u8], offset: u64, bytes: &mut [u8]| {
            let start = usize::try_from(offset).map_err(|_| ())?;
            let part = input.get(start..).and_then(|rest| rest.get(..bytes.len())).ok_or(())?;
            bytes.copy_from_slice(part);
            Ok::<(), ()>(())
        };
        let mut fat32 = seed.clone();
        // 70,000 clusters of a sector, and the root in the second.
        fat32[17..19].copy_from_slice(&[0, 0]);
        fat32[19..21].copy_from_slice(&[0, 0]);
        fat32[22..24].copy_from_slice(&1u16.to_le_bytes());
        fat32[32..36].copy_from_slice(&70_000u32.to_le_bytes());
        fat32[44..48].copy_from_slice(&2u32.to_le_bytes());
        crate::fuzzing::fuzz("FAT file system", &[seed, fat32], &["AUTOBOOTTXT", "\u{1}\u{0}"], |input| {
            let mut reads = 0;
            let found = find(NAME, |offset, bytes| {
                reads += 1;
                assert!(reads <= 2 * MAX_ROOT_CLUSTERS + 1);
                read_from(input, offset, bytes)
            });
            if let Ok(FatFile { bytes, .. }) = found {
                assert!(input.windows(11).any(|part| part == NAME), "{bytes}");
            }
        });
    }
}
