//! A stick: a file system of a real program's, on a loop device, that a board's `/sys` shows on USB.

use crate::board::{Board, STICK};
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use yado_sys::loop_device::{LoopDevice, attach_writable};

/// What it is formatted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Ext4,
    Vfat,
    /// The disk is the file system.
    Ext4WithoutPartitions,
}

pub(crate) struct Stick {
    format: Format,
    image: PathBuf,
    partition_name: &'static str,
    /// While it is plugged in.
    device: Option<LoopDevice>,
    /// What was broken off.
    rest: Vec<u8>,
}

const BYTES: u64 = 8 << 20;
const USB_DEVICE: &str = "devices/platform/fe800000.usb/usb1/1-1";

/// No two are plugged in alike.
static PLUGS: AtomicU64 = AtomicU64::new(40);

fn runs(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

impl Stick {
    /// With this release on it. `None`: not here, and why was printed.
    pub(crate) fn make(board: &Board, format: Format, release: &Path) -> Option<Stick> {
        let top = board.path("stick-top");
        let _ = fs::remove_dir_all(&top);
        fs::create_dir(&top).unwrap();
        let folder = top.join("yado-release");
        runs("cp", &["-r", release.to_str().unwrap(), folder.to_str().unwrap()]);
        if format == Format::Vfat {
            return Stick::of(board, format, &top);
        }
        // Images come last: behind all else.
        let images: Vec<PathBuf> =
            fs::read_dir(folder.join("images")).unwrap().map(|entry| entry.unwrap().path()).collect();
        images.iter().for_each(|image| fs::remove_file(image).unwrap());
        let stick = Stick::of(board, format, &top)?;
        for image in fs::read_dir(release.join("images")).unwrap().map(|entry| entry.unwrap().path()) {
            let name = image.file_name().unwrap().to_str().unwrap();
            let write = format!("write {} /yado-release/images/{name}", image.display());
            runs("debugfs", &["-w", "-R", &write, stick.image.to_str().unwrap()]);
        }
        Some(stick)
    }

    /// With this at its top.
    pub(crate) fn of(board: &Board, format: Format, top: &Path) -> Option<Stick> {
        let number = PLUGS.fetch_add(1, Ordering::Relaxed);
        let image = board.path(&format!("stick-{number}"));
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        let (path, top) = (image.to_str().unwrap(), top.to_str().unwrap());
        match format {
            Format::Vfat => {
                let known = fs::read_to_string("/proc/filesystems").unwrap();
                if !known.lines().any(|line| line.split_whitespace().next_back() == Some("vfat")) {
                    println!("SKIPPED: this kernel has no vfat");
                    return None;
                }
                runs("mkfs.vfat", &["-S", "4096", path]);
                runs("mcopy", &["-s", "-i", path, &format!("{top}/yado-release"), "::"]);
            }
            Format::Ext4 | Format::Ext4WithoutPartitions => {
                runs("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", "-d", top, path]);
            }
        }
        Some(Stick { format, ..Stick::of_image(&image)? })
    }

    /// Of these bytes.
    pub(crate) fn of_image(image: &Path) -> Option<Stick> {
        Some(Stick {
            format: Format::Ext4,
            image: image.to_owned(),
            partition_name: "data",
            device: None,
            rest: Vec::new(),
        })
    }

    /// As the kernel calls what is to be mounted.
    pub(crate) fn name(&self) -> &'static str {
        if self.format == Format::Ext4WithoutPartitions { "sda" } else { "sda1" }
    }

    /// The name that its partition goes by.
    pub(crate) fn call(&mut self, name: &'static str) {
        self.partition_name = name;
    }

    pub(crate) fn plug_in(&mut self, board: &mut Board) {
        self.plug_in_as(board, "", "");
    }

    /// Other tests may have all of them for a moment.
    fn attach(&self) -> LoopDevice {
        let file = File::options().read(true).write(true).open(&self.image).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match attach_writable(&file) {
                Ok(device) => return device,
                Err(error) if until <= Instant::now() => panic!("no loop device: {error}"),
                Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
            }
        }
    }

    /// The same, but that it is a disk or built in.
    pub(crate) fn plug_in_as(&mut self, board: &mut Board, what: &str, value: &str) {
        let device = self.attach();
        let rdev = fs::metadata(&device.path).unwrap().rdev();
        let number = format!("{}:{}\n", rustix::fs::major(rdev), rustix::fs::minor(rdev));
        let partition = format!("{STICK}/sda1");
        let (own, disk_number) = match self.format {
            Format::Ext4WithoutPartitions => (STICK, number.as_str()),
            Format::Ext4 | Format::Vfat => (partition.as_str(), "8:0\n"),
        };
        let of = |name: &str, usual: &str| if what == name { format!("{value}\n") } else { format!("{usual}\n") };
        let plug = PLUGS.fetch_add(1, Ordering::Relaxed);
        let mut files = vec![
            (format!("{STICK}/dev"), disk_number.to_owned()),
            (format!("{STICK}/size"), "16384\n".to_owned()),
            (format!("{STICK}/diskseq"), format!("{plug}\n")),
            (format!("{STICK}/removable"), of("disk", "1")),
            (format!("{STICK}/uevent"), "DEVNAME=sda\nDEVTYPE=disk\n".to_owned()),
            (format!("{USB_DEVICE}/removable"), of("port", "removable")),
            (format!("{USB_DEVICE}/dev"), "189:1\n".to_owned()),
        ];
        for (name, value) in [("idVendor", "46f4"), ("idProduct", "0001"), ("busnum", "1"), ("devnum", "2")] {
            files.push((format!("{USB_DEVICE}/{name}"), format!("{value}\n")));
        }
        board.links.insert("class/block/sda".to_owned(), format!("../../{STICK}").into());
        if own != STICK {
            let name = self.partition_name;
            files.extend([
                (format!("{own}/dev"), number.clone()),
                (format!("{own}/size"), "16384\n".to_owned()),
                (format!("{own}/partition"), "1\n".to_owned()),
                (format!("{own}/uevent"), format!("DEVNAME=sda1\nDEVTYPE=partition\nPARTNAME={name}\n")),
            ]);
            board.links.insert("class/block/sda1".to_owned(), format!("../../{own}").into());
        }
        board.links.insert(format!("{USB_DEVICE}/subsystem"), "../../../../../bus/usb".into());
        board.files.extend(files);
        board.nodes.insert(self.name().to_owned(), PathBuf::from(&device.path));
        self.device = Some(device);
    }

    /// Nothing of it is left.
    pub(crate) fn pull(&mut self, board: &mut Board) {
        (board.files, board.links, board.nodes) = Default::default();
        self.device = None;
    }

    /// Of all its bytes, as they are on it.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        crate::workshop::sha256(&fs::read(&self.image).unwrap())
    }

    /// While it is plugged in it has the bytes of another.
    pub(crate) fn become_like(&self, other: &Stick) {
        let mut device = File::options().write(true).open(&self.device.as_ref().unwrap().path).unwrap();
        device.write_all(&fs::read(&other.image).unwrap()).unwrap();
        device.sync_all().unwrap();
    }

    /// Nobody has it mounted.
    pub(crate) fn is_free(&self) -> bool {
        let path = &self.device.as_ref().unwrap().path;
        File::options().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(path).is_ok()
    }

    /// From the second half of the release's image on, nothing can be read any more.
    pub(crate) fn break_off_in_the_image(&mut self) {
        let path = self.image.to_str().unwrap();
        let names = runs("debugfs", &["-R", "ls -p /yado-release/images", path]);
        let name = names.split('/').find(|name| name.len() == 64).unwrap();
        let blocks = runs("debugfs", &["-R", &format!("blocks /yado-release/images/{name}"), path]);
        let blocks: Vec<u64> = blocks.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let at = blocks[blocks.len() / 2] * 4096;
        let whole = fs::read(&self.image).unwrap();
        self.rest = whole[at as usize..].to_vec();
        File::options().write(true).open(&self.image).unwrap().set_len(at).unwrap();
    }

    pub(crate) fn mend(&mut self) {
        let whole = [fs::read(&self.image).unwrap(), std::mem::take(&mut self.rest)].concat();
        fs::write(&self.image, whole).unwrap();
    }

    /// As a machine leaves it that loses its power: its journal is to be replayed, and a file of which no name is left to be removed.
    pub(crate) fn leave_in_use(&mut self) {
        let path = self.image.to_str().unwrap();
        let folder = self.image.with_extension("mounted");
        fs::create_dir(&folder).unwrap();
        let device = self.attach();
        let script = format!(
            "mount -t ext4 {1} {0}; exec 7> {0}/removed; dd if=/dev/zero bs=64k count=4 >&7 2>/dev/null; \
             rm {0}/removed; sync -f {0}; cp {path} {path}.cut; exec 7>&-; umount {0}; mv {path}.cut {path}",
            folder.display(),
            device.path
        );
        runs("unshare", &["--mount", "--propagation", "private", "sh", "-euc", &script]);
        let features = runs("dumpe2fs", &["-h", path]);
        assert!(features.contains("needs_recovery") && features.contains("First orphan inode"), "{features}");
    }
}

/// At a stick's top something else than a release, which would be `release`.
pub(crate) fn hostile(top: &Path, what: &str, release: &Path) {
    let folder = top.join("yado-release");
    fs::create_dir_all(top).unwrap();
    match what {
        "link to a folder" => symlink(release, folder).unwrap(),
        "link to a release" => {
            fs::create_dir(&folder).unwrap();
            symlink(release.join("release"), folder.join("release")).unwrap();
        }
        "pipe" => {
            fs::create_dir(&folder).unwrap();
            let path = folder.join("release");
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }
        _ => fs::create_dir(&folder).unwrap(),
    }
}
