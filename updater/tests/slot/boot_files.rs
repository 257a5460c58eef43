//! Boot files in real file systems on loop devices, judged by e2fsprogs, which read what is on the device.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use yado_image::release::BootFile;
use yado_sys::loop_device::{LoopDevice, attach_writable};
use yado_updater::slot::{BootFilesError, BootFilesWritten, write_boot_files};
use yado_updater::source::{FileName, Ranges, Source, SourceError};

/// Boot files by their SHA-256.
#[derive(Default)]
struct Files {
    files: BTreeMap<[u8; 32], Vec<u8>>,
    asked: usize,
}

impl Files {
    fn add(&mut self, content: &[u8]) -> BootFile {
        let sha256: [u8; 32] = Sha256::digest(content).into();
        self.files.insert(sha256, content.to_vec());
        BootFile { bytes: content.len() as u64, sha256 }
    }
}

impl Source for Files {
    fn ranges(&self) -> Ranges {
        Ranges::Whole
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        self.asked += 1;
        let FileName::Boot(digest) = file else { return Err(SourceError::Missing { file }) };
        let content = self.files.get(&digest).ok_or(SourceError::Missing { file })?;
        content.chunks(50_000).try_for_each(take).map_err(SourceError::Stopped)?;
        let bytes = content.len() as u64;
        if bytes < range.end { Err(SourceError::Short { file, bytes }) } else { Ok(()) }
    }
}

/// A boot partition, of the kind that this program makes. `None`: it cannot be had here, and why was printed.
struct Partition {
    device: LoopDevice,
    image: PathBuf,
}

impl Partition {
    fn make(image: &Path, bytes: u64, make: &[&str]) -> Option<Partition> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(image).unwrap();
        file.set_len(bytes).unwrap();
        let output = Command::new(make[0]).args(&make[1..]).arg(image).output();
        match output {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                println!("SKIPPED: {}: {error}", make[0]);
                return None;
            }
        }
        match attach_writable(&file) {
            Ok(device) => Some(Partition { device, image: image.to_owned() }),
            Err(error) => {
                println!("SKIPPED: no loop device: {error}");
                None
            }
        }
    }

    fn ext4(directory: &Path, bytes: u64) -> Option<Partition> {
        Partition::make(&directory.join("boot-b"), bytes, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"])
    }

    fn path(&self) -> &Path {
        Path::new(&self.device.path)
    }

    /// What e2fsprogs find in it: the file system is sound, and these names are at its top.
    fn names(&self) -> Vec<String> {
        let image = self.image.to_str().unwrap();
        let checked = Command::new("e2fsck").args(["-fn", image]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        let listed = debugfs(image, "ls -p /");
        let names = String::from_utf8(listed).unwrap();
        let names = names.lines().filter_map(|line| line.split('/').nth(5).map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| !matches!(name.as_str(), "." | ".." | "")).collect();
        names.sort();
        names
    }

    fn content(&self, name: &str) -> Vec<u8> {
        debugfs(self.image.to_str().unwrap(), &format!("cat /{name}"))
    }

    fn run(&self, commands: &[&str]) {
        for command in commands {
            let output = Command::new("debugfs").args(["-w", "-R", command]).arg(&self.image).output().unwrap();
            assert!(output.status.success());
        }
    }
}

fn debugfs(image: &str, command: &str) -> Vec<u8> {
    Command::new("debugfs").args(["-R", command, image]).output().unwrap().stdout
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| chance.u8(..)).take(bytes).collect()
}

fn write(
    files: &BTreeMap<String, BootFile>,
    partition: &Partition,
    source: &mut Files,
) -> Result<BootFilesWritten, BootFilesError> {
    write_boot_files(files, partition.path(), source, &mut ())
}

#[test]
fn the_partition_holds_the_files_of_its_system_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let Some(partition) = Partition::ext4(directory.path(), 16 << 20) else { return };
    let mut source = Files::default();
    let (kernel, initramfs) = (noise(1, 3_000_000), noise(2, 1_234_567));
    let names = |kernel: BootFile, initramfs: BootFile| {
        BTreeMap::from([("vmlinuz".to_owned(), kernel), ("initrd".to_owned(), initramfs)])
    };
    let first = names(source.add(&kernel), source.add(&initramfs));
    let written = write(&first, &partition, &mut source).unwrap();
    let expected = BootFilesWritten { kept_files: 0, fetched_files: 2, fetched_bytes: 4_234_567 };
    assert_eq!(written, expected);
    assert_eq!(partition.names(), ["initrd", "lost+found", "vmlinuz"]);
    assert!(partition.content("vmlinuz") == kernel && partition.content("initrd") == initramfs);

    // Once more: nothing is fetched, and the partition is not even mounted to be written.
    let before = std::fs::read(&partition.image).unwrap();
    let written = write(&first, &partition, &mut source).unwrap();
    assert_eq!((written.kept_files, written.fetched_files, source.asked), (2, 0, 2));
    assert!(std::fs::read(&partition.image).unwrap() == before);

    // What a cut left, what somebody put there, and what has the name of a file: all of it goes.
    drop(partition);
    let image = directory.path().join("boot-b");
    let junk = directory.path().join("junk");
    std::fs::write(&junk, noise(9, 100_000)).unwrap();
    let junk = junk.to_str().unwrap();
    let partition = Partition {
        device: {
            let other = Partition { device: attach_writable(&open(&image)).unwrap(), image: image.clone() };
            other.run(&[
                &format!("write {junk} .new"),
                &format!("write {junk} vmlinuz-old"),
                "mkdir extlinux",
                &format!("write {junk} extlinux/extlinux.conf"),
                "symlink link vmlinuz",
                "rm initrd",
                "symlink initrd vmlinuz",
            ]);
            other.device
        },
        image,
    };
    let new_kernel = noise(3, 3_100_000);
    let second = names(source.add(&new_kernel), source.add(&initramfs));
    let written = write(&second, &partition, &mut source).unwrap();
    assert_eq!((written.kept_files, written.fetched_files), (0, 2));
    assert_eq!(partition.names(), ["initrd", "lost+found", "vmlinuz"]);
    assert!(partition.content("vmlinuz") == new_kernel && partition.content("initrd") == initramfs);
}

fn open(image: &Path) -> File {
    File::options().read(true).write(true).open(image).unwrap()
}

#[test]
fn a_new_kernel_fits_where_only_one_has_room_and_what_is_larger_leaves_all_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let Some(partition) = Partition::ext4(directory.path(), 16 << 20) else { return };
    let mut source = Files::default();
    for seed in 0..3 {
        let kernel = noise(seed, 9 << 20);
        let files = BTreeMap::from([("vmlinuz".to_owned(), source.add(&kernel))]);
        write(&files, &partition, &mut source).unwrap();
        assert!(partition.content("vmlinuz") == kernel, "{seed}");
    }
    let before = std::fs::read(&partition.image).unwrap();
    let files = BTreeMap::from([("vmlinuz".to_owned(), source.add(&noise(7, 20 << 20)))]);
    let error = write(&files, &partition, &mut source).unwrap_err();
    let BootFilesError::TooSmall { needed_bytes, .. } = &error else { panic!("{error}") };
    assert_eq!(*needed_bytes, 20 << 20);
    assert!(std::fs::read(&partition.image).unwrap() == before);
}

#[test]
fn another_file_than_the_signed_one_gets_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let Some(partition) = Partition::ext4(directory.path(), 16 << 20) else { return };
    let mut source = Files::default();
    let digest = source.add(&noise(1, 100_000));
    let files = BTreeMap::from([("vmlinuz".to_owned(), digest)]);
    source.files.values_mut().for_each(|content| content[50_123] ^= 1);
    let error = write(&files, &partition, &mut source).unwrap_err();
    assert!(matches!(&error, BootFilesError::WrongBytes { name } if name == "vmlinuz"), "{error}");
    assert!(!partition.names().contains(&"vmlinuz".to_owned()));
    source.files.clear();
    let error = write(&files, &partition, &mut source).unwrap_err();
    assert!(matches!(&error, BootFilesError::Source(SourceError::Missing { .. })), "{error}");
}

#[test]
fn what_is_in_use_or_no_file_system_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let Some(partition) = Partition::ext4(directory.path(), 16 << 20) else { return };
    let mut source = Files::default();
    let files = BTreeMap::from([("vmlinuz".to_owned(), source.add(b"it"))]);
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    let held = File::options().read(true).custom_flags(exclusive).open(partition.path()).unwrap();
    let error = write(&files, &partition, &mut source).unwrap_err();
    assert!(matches!(&error, BootFilesError::Device { source, .. } if source.kind() == io::ErrorKind::ResourceBusy));
    drop(held);
    let blank = directory.path().join("blank");
    std::fs::write(&blank, vec![0; 1 << 20]).unwrap();
    let error = write_boot_files(&files, &blank, &mut source, &mut ()).unwrap_err();
    assert!(matches!(&error, BootFilesError::NoFileSystem { .. }), "{error}");
}

#[test]
fn a_fat_partition_does_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !kinds.lines().any(|line| line.ends_with("\tvfat")) {
        println!("SKIPPED: this kernel has no vfat");
        return;
    }
    let path = directory.path().join("boot-b");
    let Some(partition) = Partition::make(&path, 64 << 20, &["mkfs.vfat", "-S", "4096"]) else { return };
    let mut source = Files::default();
    let kernel = noise(1, 3_000_000);
    let files = BTreeMap::from([
        ("vmlinuz".to_owned(), source.add(&kernel)),
        ("a-device-tree-with-a-long-name.dtb".to_owned(), source.add(b"tree")),
    ]);
    write(&files, &partition, &mut source).unwrap();
    drop(partition);
    let output = Command::new("mtype").arg("-i").arg(&path).arg("::vmlinuz").output().unwrap();
    assert!(output.stdout == kernel);
}
