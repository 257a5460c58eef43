//! The board's disk as the factory would write it: a GPT with the partitions of design.md 7, made of files, without root and
//! without a loop device. Slot A holds a system; slot B holds one too, or is marked empty.

use crate::arch::Arch;
use crate::command::{CommandError, Tool};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use yado_updater::boot_state::BootState;

const MIB: u64 = 1024 * 1024;
const SECTOR_BYTES: u64 = 512;
/// The kernel's name in a slot's boot partition, as the boot script loads it.
pub const KERNEL_FILE: &str = "vmlinuz";
/// The initramfs' name there.
pub const INITRAMFS_FILE: &str = "initrd";

/// The size of a slot's boot partition.
const KERNEL_PARTITION_MIB: u64 = 64;

/// The header of an image, which a slot repeats at its end.
const HEADER_BYTES: u64 = 4096;

/// The boot script, as it is read by people.
const BOOT_SCRIPT: &str = include_str!("../../data/boot.cmd");
/// What the board's maker put into U-Boot's environment: no delay, and the script on the first disk.
const UBOOT_ENVIRONMENT: &str = include_str!("../../data/u-boot.env");
/// `CONFIG_ENV_SIZE` of U-Boot for QEMU's ARM boards.
const UBOOT_ENVIRONMENT_BYTES: u64 = 256 * 1024;

/// What starts a board's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// U-Boot, by the boot script on the disk.
    UBoot,
    /// EDK II, which is this file: by load options in its flash.
    Edk2(PathBuf),
}

/// What goes onto a disk.
#[derive(Debug, Clone)]
pub struct DiskContent {
    /// The board's processor.
    pub arch: Arch,
    /// What starts its kernel.
    pub firmware: Firmware,
    /// Slot A.
    pub a: System,
    /// Slot B, if it holds a system.
    pub b: Option<System>,
    /// What the boot loader finds.
    pub state: BootState,
    /// Words for the end of the kernel's command line.
    pub kernel_arguments: String,
    /// Commands of U-Boot's that add to the devicetree.
    pub devicetree: String,
    /// The size of the data partition.
    pub data_mib: u64,
    /// What is in it.
    pub data: DataPartition,
}

/// What is in the data partition of a new disk.
#[derive(Debug, Clone, Default)]
pub enum DataPartition {
    /// Nothing, as it comes from the factory: the board formats it.
    #[default]
    Blank,
    /// The bytes of this file.
    Filled(PathBuf),
    /// There is no partition of that name; the room for it has another.
    Missing,
}

/// One system: its signed image, and what the boot loader needs of it.
#[derive(Debug, Clone)]
pub struct System {
    /// The signed image.
    pub image: PathBuf,
    /// The kernel, as the boot loader takes it.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// One partition: its name in the GPT, its size, its type for sgdisk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Partition {
    name: &'static str,
    mib: u64,
    kind: &'static str,
}

/// Where a partition lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the disk.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// Why there is no disk.
#[derive(Debug)]
pub enum DiskError {
    /// A tool failed.
    Tool(CommandError),
    /// A file could not be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// An image is larger than its slot.
    TooBig {
        /// Which image.
        image: PathBuf,
        /// Its size.
        image_bytes: u64,
        /// The slot's.
        slot_bytes: u64,
    },
}

/// All partitions, in their order on the disk.
fn partitions(data_mib: u64) -> [Partition; 7] {
    let linux = "8300";
    [
        Partition { name: "boot", mib: 16, kind: "ef00" },
        Partition { name: "state", mib: 1, kind: linux },
        Partition { name: "boot-a", mib: KERNEL_PARTITION_MIB, kind: linux },
        Partition { name: "boot-b", mib: KERNEL_PARTITION_MIB, kind: linux },
        Partition { name: "slot-a", mib: 384, kind: linux },
        Partition { name: "slot-b", mib: 384, kind: linux },
        Partition { name: "data", mib: data_mib, kind: linux },
    ]
}

/// The number of a partition in the table of such a disk.
pub fn number(name: &str) -> Option<u32> {
    let place = partitions(0).iter().position(|partition| partition.name == name)?;
    u32::try_from(place + 1).ok()
}

/// Where a partition lies on a disk made by [`make`].
pub fn extent(name: &str, data_mib: u64) -> Option<Extent> {
    // The first MiB is the table's; sgdisk aligns to MiB as we do.
    let mut offset = MIB;
    for partition in partitions(data_mib) {
        let bytes = partition.mib * MIB;
        if partition.name == name {
            return Some(Extent { offset, bytes });
        }
        offset += bytes;
    }
    None
}

/// Makes the disk at `path`; `scratch` is an existing directory for its parts.
pub fn make(path: &Path, content: &DiskContent, scratch: &Path) -> Result<(), DiskError> {
    let DiskContent { arch, firmware, a, b, state, kernel_arguments, devicetree, data_mib, data } = content;
    let disk = create_with_table(path, *data_mib, data)?;
    let put = |name: &str, part: &Path| -> Result<(), DiskError> {
        let extent = extent(name, *data_mib).expect("the name is one of our table");
        copy_to(&disk, path, extent.offset, part)
    };
    let kernel_partition = match firmware {
        Firmware::UBoot => {
            put("boot", &boot_partition(*arch, kernel_arguments, devicetree, scratch)?)?;
            write_state(&disk, path, state, extent("state", *data_mib).expect("the name is one of our table"))?;
            ext4_kernel_partition
        }
        // What it needs besides is in its flash.
        Firmware::Edk2(_) => fat_kernel_partition,
    };
    put("boot-a", &kernel_partition(Some(a), &scratch.join("boot-a.part"))?)?;
    write_slot(&disk, path, extent("slot-a", *data_mib).expect("the name is one of our table"), &a.image)?;
    put("boot-b", &kernel_partition(b.as_ref(), &scratch.join("boot-b.part"))?)?;
    if let Some(b) = b {
        write_slot(&disk, path, extent("slot-b", *data_mib).expect("the name is one of our table"), &b.image)?;
    }
    match data {
        DataPartition::Filled(content) => put("data", content),
        DataPartition::Blank | DataPartition::Missing => Ok(()),
    }
}

/// Makes the content of the second flash: U-Boot's environment.
pub fn make_flash(path: &Path, scratch: &Path) -> Result<(), DiskError> {
    let text = scratch.join("u-boot.env");
    fs::write(&text, UBOOT_ENVIRONMENT).map_err(|source| DiskError::Io { path: text.clone(), source })?;
    Tool::new("mkenvimage")
        .args(["-s", &UBOOT_ENVIRONMENT_BYTES.to_string(), "-o"])
        .arg(path)
        .arg(&text)
        .run()
        .map_err(DiskError::Tool)?;
    let grow = || File::options().write(true).open(path)?.set_len(super::qemu::FLASH_BYTES);
    grow().map_err(|source| DiskError::Io { path: path.to_owned(), source })
}

/// Makes an ext4 of a tree, in which all is root's: a file of this size, in place of what was there.
pub fn format_ext4(tree: &Path, part: &Path, mib: u64) -> Result<(), CommandError> {
    // That there is none yet is as good.
    let _ = fs::remove_file(part);
    let format = Tool::new("mke2fs").args(["-q", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=0", "-d"]);
    format.arg(tree).arg(part).arg(format!("{mib}M")).run()
}

/// Copies a file; what nobody wrote takes no room in the copy either.
pub fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(from.metadata()?.len())?;
    write_sparse(&mut from, &to, 0)
}

/// Copies one partition out of a disk, for tools that want a file.
pub fn extract(disk: &Path, extent: Extent, to: &Path) -> Result<(), DiskError> {
    let copy = || {
        let mut from = File::open(disk)?;
        from.seek(SeekFrom::Start(extent.offset))?;
        let out = File::create(to)?;
        out.set_len(extent.bytes)?;
        write_sparse(&mut from.take(extent.bytes), &out, 0)
    };
    copy().map_err(|source| DiskError::Io { path: disk.to_owned(), source })
}

fn create_with_table(path: &Path, data_mib: u64, data: &DataPartition) -> Result<File, DiskError> {
    let said = |source| DiskError::Io { path: path.to_owned(), source };
    let _ = fs::remove_file(path);
    let disk = File::options().read(true).write(true).create_new(true).open(path).map_err(said)?;
    let used: u64 = partitions(data_mib).iter().map(|partition| partition.mib).sum();
    // One MiB for the table in front, one for its copy at the end.
    disk.set_len((used + 2) * MIB).map_err(said)?;
    let mut tool = Tool::new("sgdisk").args(["--clear", "--set-alignment=2048"]);
    for (index, Partition { name, kind, .. }) in partitions(data_mib).into_iter().enumerate() {
        let number = index + 1;
        let Extent { offset, bytes } = extent(name, data_mib).expect("the name is one of our table");
        let (first, last) = (offset / SECTOR_BYTES, (offset + bytes) / SECTOR_BYTES - 1);
        let name = match (name, data) {
            ("data", DataPartition::Missing) => "spare",
            (name, _) => name,
        };
        tool = tool.arg(format!("--new={number}:{first}:{last}"));
        tool = tool.arg(format!("--typecode={number}:{kind}")).arg(format!("--change-name={number}:{name}"));
    }
    // Bit 2, legacy BIOS bootable, is how U-Boot's distro scripts recognise the boot partition.
    tool.arg("--attributes=1:set:2").arg(path).run().map_err(DiskError::Tool)?;
    Ok(disk)
}

/// The FAT partition with the compiled boot script.
fn boot_partition(
    arch: Arch,
    kernel_arguments: &str,
    devicetree: &str,
    scratch: &Path,
) -> Result<PathBuf, DiskError> {
    let (source, script) = (scratch.join("boot.cmd"), scratch.join("boot.scr"));
    let (environment, part) = (scratch.join("board.env"), scratch.join("boot.fat"));
    let of_board = format!("board_args={kernel_arguments}\nboard_fdt={devicetree}\n");
    for (path, text) in [(&source, BOOT_SCRIPT), (&environment, of_board.as_str())] {
        fs::write(path, text).map_err(|source| DiskError::Io { path: path.clone(), source })?;
    }
    let compile = Tool::new("mkimage").args(["-A", arch.mkimage(), "-T", "script", "-C", "none", "-d"]);
    compile.arg(&source).arg(&script).run().map_err(DiskError::Tool)?;
    format_fat(&part, "BOOT", partitions(0)[0].mib)?;
    let copy = Tool::new("mcopy").arg("-i").arg(&part).arg(&script).arg(&environment).arg("::");
    copy.run().map_err(DiskError::Tool)?;
    Ok(part)
}

/// The ext4 partition with kernel and initramfs of one slot, or for those of a later release.
fn ext4_kernel_partition(system: Option<&System>, part: &Path) -> Result<PathBuf, DiskError> {
    let tree = part.with_extension("tree");
    let fill = || {
        fs::create_dir_all(&tree)?;
        let Some(system) = system else { return Ok(0) };
        fs::copy(&system.kernel, tree.join(KERNEL_FILE))?;
        fs::copy(&system.initramfs, tree.join(INITRAMFS_FILE))
    };
    fill().map_err(|source| DiskError::Io { path: tree.clone(), source })?;
    let _ = fs::remove_file(part);
    Tool::new("mke2fs")
        .args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
        .arg(&tree)
        .arg(part)
        .arg(format!("{KERNEL_PARTITION_MIB}M"))
        .run()
        .map_err(DiskError::Tool)?;
    Ok(part.to_owned())
}

/// The same as FAT, which firmware reads.
fn fat_kernel_partition(system: Option<&System>, part: &Path) -> Result<PathBuf, DiskError> {
    format_fat(part, "KERNEL", KERNEL_PARTITION_MIB)?;
    for (file, name) in
        system.into_iter().flat_map(|system| [(&system.kernel, KERNEL_FILE), (&system.initramfs, INITRAMFS_FILE)])
    {
        let copy = Tool::new("mcopy").arg("-i").arg(part).arg(file).arg(format!("::{name}"));
        copy.run().map_err(DiskError::Tool)?;
    }
    Ok(part.to_owned())
}

fn format_fat(part: &Path, label: &str, mib: u64) -> Result<(), DiskError> {
    let _ = fs::remove_file(part);
    let format = Tool::new("mkfs.vfat").args(["-n", label, "-C"]).arg(part).arg((mib * 1024).to_string());
    format.run().map(drop).map_err(DiskError::Tool)
}

fn write_state(disk: &File, path: &Path, state: &BootState, at: Extent) -> Result<(), DiskError> {
    let copy = state.encode().expect("a state without keys of others is short");
    for offset in yado_updater::boot_state::COPY_OFFSETS {
        disk.write_all_at(&copy, at.offset + offset)
            .map_err(|source| DiskError::Io { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// An image at the start of its slot, and its header once more at the end: there it is found whatever the image's size.
fn write_slot(disk: &File, path: &Path, slot: Extent, image: &Path) -> Result<(), DiskError> {
    let said = |path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Io { path, source }
    };
    let file = File::open(image).map_err(said(image))?;
    let image_bytes = file.metadata().map_err(said(image))?.len();
    if slot.bytes < image_bytes {
        return Err(DiskError::TooBig { image: image.to_owned(), image_bytes, slot_bytes: slot.bytes });
    }
    copy_to(disk, path, slot.offset, image)?;
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut header, image_bytes.saturating_sub(HEADER_BYTES)).map_err(said(image))?;
    disk.write_all_at(&header, slot.offset + slot.bytes - HEADER_BYTES).map_err(said(path))
}

fn copy_to(disk: &File, path: &Path, offset: u64, part: &Path) -> Result<(), DiskError> {
    let mut from = File::open(part).map_err(|source| DiskError::Io { path: part.to_owned(), source })?;
    write_sparse(&mut from, disk, offset).map_err(|source| DiskError::Io { path: path.to_owned(), source })
}

/// Copies everything but blocks of zeroes, which the fresh file has already.
fn write_sparse(from: &mut dyn Read, to: &File, mut offset: u64) -> io::Result<()> {
    let mut block = vec![0; MIB as usize];
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match from.read(&mut block[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        if block[..filled].iter().any(|byte| *byte != 0) {
            to.write_all_at(&block[..filled], offset)?;
        }
        offset += filled as u64;
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::Tool(error) => write!(out, "{error}"),
            DiskError::Io { path, source } => write!(out, "{}: {source}", path.display()),
            DiskError::TooBig { image, image_bytes, slot_bytes } => {
                write!(out, "{}: {image_bytes} bytes, the slot has {slot_bytes}", image.display())
            }
        }
    }
}

impl std::error::Error for DiskError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_lie_behind_each_other() {
        assert_eq!(extent("boot", 256), Some(Extent { offset: MIB, bytes: 16 * MIB }));
        assert_eq!(extent("state", 256), Some(Extent { offset: 17 * MIB, bytes: MIB }));
        let data = extent("data", 256).map(|extent| extent.offset + extent.bytes);
        let all: u64 = partitions(256).iter().map(|partition| partition.mib).sum();
        assert_eq!(data, Some((all + 1) * MIB));
        assert_eq!(extent("swap", 256), None);
    }

    #[test]
    fn the_boot_script_keeps_every_variable_of_the_state() {
        let line = format!("setenv state_vars \"{}\"", yado_updater::boot_state::VARIABLES);
        assert!(BOOT_SCRIPT.contains(&line), "{line}");
    }
}
