//! A board: partitions that are loop devices, folders as a board has them, and the real updater, for which `/sys` says that these
//! partitions are on the disk that the system runs from. Release 7 runs in slot A, release 6 lies in slot B.

use crate::workshop::{OF_RELEASE_8, Workshop, key};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use yado_image::Architecture;
use yado_sys::loop_device::{LoopDevice, attach_writable};
use yado_updater::boot_state::{BootState, Slot};
use yado_updater::record::{self, Floors, Line, Record, Release};
use yado_updater::state_partition;
use yado_wire::booted_slot::{BootedSlot, RUNNING_FILE};
use yado_wire::formats::Standing;
use yado_wire::hex;
use yado_wire::update_status::UpdateStatus;

/// Where the system's disk is plugged in, and a stick.
pub(crate) const EMMC: &str = "devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0";
pub(crate) const CARD: &str = "devices/platform/soc/fe300000.mmc/mmc_host/mmc1/mmc1:aaaa/block/mmcblk1";
pub(crate) const STICK: &str = "devices/platform/fe800000.usb/usb1/1-1/1-1:1.0/host0/target0:0:0/0:0:0:0/block/sda";

const SLOT_BYTES: u64 = 1 << 20;

/// The partitions of the system's disk.
const FACTORY: [(&str, u64); 5] =
    [("slot-a", SLOT_BYTES), ("slot-b", SLOT_BYTES), ("boot-a", 4096), ("boot-b", 4 << 20), ("state", 64 << 10)];

/// A partition: what it is called, the disk that it is on, its device's name, and the file that holds its bytes.
pub(crate) struct Partition {
    pub(crate) name: &'static str,
    pub(crate) disk: &'static str,
    device: String,
    backing: PathBuf,
    /// A block device of these bytes, where the kernel is asked for more than to read and to write.
    block_device: Option<LoopDevice>,
    is_hidden: bool,
}

impl Partition {
    pub(crate) fn path(&self) -> &Path {
        self.block_device.as_ref().map_or(&self.backing, |device| Path::new(&device.path))
    }

    /// As the kernel has it, through its cache.
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }
}

pub(crate) struct Board {
    pub(crate) workshop: Workshop,
    pub(crate) partitions: Vec<Partition>,
    /// The root of the running system is on this disk; `None`: in memory.
    pub(crate) system_disk: Option<&'static str>,
    /// What `/sys` shows besides: files by their paths, links by where they lead, and nodes of `/dev` by what they are.
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) links: BTreeMap<String, PathBuf>,
    pub(crate) nodes: BTreeMap<String, PathBuf>,
    /// The slot that was booted, and the image in it.
    booted: BootedSlot,
    folder: TempDir,
    _place: Place,
}

/// Some machines have eight loop devices and no more, and a board takes three: who has two of them must not wait for who has the third.
struct Place;

const MAX_BOARDS: usize = 2;
static BOARDS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Place {
    fn take() -> Place {
        let (count, freed) = &BOARDS;
        *freed.wait_while(count.lock().unwrap(), |count| MAX_BOARDS <= *count).unwrap() += 1;
        Place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (count, freed) = &BOARDS;
        *count.lock().unwrap() -= 1;
        freed.notify_one();
    }
}

/// How a run of the updater ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Its last word.
    pub(crate) status: UpdateStatus,
    pub(crate) said: String,
}

/// What is to be as before: of each partition and file a digest.
pub(crate) type Seen = BTreeMap<String, String>;

impl Board {
    /// `None`: not here, and why was printed.
    pub(crate) fn new() -> Option<Board> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let workshop = Workshop::new(Architecture::parse(std::env::consts::ARCH).unwrap());
        let mut board = Board {
            workshop,
            partitions: Vec::new(),
            system_disk: Some(EMMC),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            nodes: BTreeMap::new(),
            booted: BootedSlot { name: 'A', fingerprint: [0; 32] },
            folder,
            _place: Place::take(),
        };
        for (name, bytes) in FACTORY {
            board.add_partition(EMMC, name, bytes);
        }
        let made = Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
            .arg(&board.partition("boot-b").backing)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for name in ["slot-a", "slot-b", "boot-b"] {
            board.attach(name)?;
        }
        board.fill();
        Some(board)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One more, full of zeros.
    pub(crate) fn add_partition(&mut self, disk: &'static str, name: &'static str, bytes: u64) {
        let number = self.partitions.len();
        let device = format!("{}p{number}", disk.rsplit('/').next().unwrap());
        let backing = self.path(&format!("partition-{number}"));
        File::create_new(&backing).unwrap().set_len(bytes).unwrap();
        self.partitions.push(Partition { name, disk, device, backing, block_device: None, is_hidden: false });
    }

    /// Makes a block device of a partition.
    pub(crate) fn attach(&mut self, name: &str) -> Option<()> {
        let partition = self.partitions.iter_mut().find(|partition| partition.name == name).unwrap();
        let file = File::options().read(true).write(true).open(&partition.backing).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        // The machine may have few of them, and other tests have some for a moment.
        partition.block_device = loop {
            match attach_writable(&file) {
                Ok(device) => break Some(device),
                Err(error) if until <= Instant::now() || !Path::new("/dev/loop-control").exists() => {
                    println!("SKIPPED: no loop device: {error}");
                    return None;
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
            }
        };
        Some(())
    }

    /// The system's disk has no such partition any more: what is in it stays, and is looked at.
    pub(crate) fn hide(&mut self, name: &str) {
        let hidden = self.partitions.iter_mut().find(|partition| partition.name == name && partition.disk == EMMC);
        hidden.unwrap().is_hidden = true;
    }

    /// Of the system's disk, as it came from the factory.
    pub(crate) fn partition(&self, name: &str) -> &Partition {
        self.partitions.iter().find(|partition| partition.name == name && partition.disk == EMMC).unwrap()
    }

    pub(crate) fn write_partition(&self, name: &str, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.partition(name).path()).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        file.sync_all().unwrap();
    }

    /// What a factory and one update since have left.
    fn fill(&mut self) {
        self.booted.fingerprint = self.put_system("slot-a", 7);
        self.put_system("slot-b", 6);
        let state = File::options().read(true).write(true).open(self.partition("state").path()).unwrap();
        state_partition::write(&state, &BootState::factory(None)).unwrap();
        self.lay_out_system();
        let current = Release { fingerprint: [7; 32], number: 7, security_epoch: 3, version: Line::cut("7") };
        let floors = Floors { release: 7, security_epoch: 3 };
        self.write_record(&Record { next_update: 2, floors, current: Some(current), ..Record::default() });
        self.put_updater(Path::new(env!("CARGO_BIN_EXE_yado-updater")));
    }

    /// The folders, and what the signed system and the first stage have put there.
    fn lay_out_system(&self) {
        let _ = fs::remove_dir_all(self.path("system"));
        for folder in ["system/trust", "data/state", "data/images", "data/layers", "data/log", "run", "tmp"] {
            fs::create_dir_all(self.path(folder)).unwrap();
        }
        fs::write(self.path("system/trust/release.pub"), key(1).public().to_text()).unwrap();
        let policy = "compatible = [\"board-1\"]\nreboot.lock_limit = \"0s\"\n";
        fs::write(self.path("system/update.toml"), policy).unwrap();
        fs::write(self.path("run").join(RUNNING_FILE), self.booted.text()).unwrap();
    }

    /// The machine starts again: with the system in this slot, and its updater.
    pub(crate) fn start_from(&mut self, slot: Slot, updater: &Path) {
        let name = if slot == Slot::A { "slot-a" } else { "slot-b" };
        let bytes = self.partition(name).bytes();
        let fingerprint = crate::workshop::sha256(&bytes[bytes.len() - 4096..]);
        self.booted = BootedSlot { name: slot.letter(), fingerprint };
        fs::remove_dir_all(self.path("run")).unwrap();
        self.lay_out_system();
        self.put_updater(updater);
    }

    /// Under a name of its own: by that its processes are found. Copied by another process: what this one has open to write, a child of
    /// another test has for a moment too, and then nobody can execute it.
    fn put_updater(&self, program: &Path) {
        let copied =
            Command::new("cp").arg("--remove-destination").arg(program).arg(self.path("yado-updater")).status();
        assert!(copied.unwrap().success());
    }

    /// What the updater shows without being started by init, with its exit code.
    pub(crate) fn show(&self, what: &str) -> (Option<i32>, String) {
        let output = self.command(&[what, "--format", "json"]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// As the initramfs finds it: the image from the start on, its header once more at the end.
    fn put_system(&self, slot: &str, release: u64) -> [u8; 32] {
        // No block of its files is one of release 8's, which have to be fetched then.
        self.workshop.put_file(&[0xa0 + release as u8; 20_000]);
        let name = format!("release-{release}");
        let image = self.workshop.other_system(&name, 1, |manifest| manifest.release = release);
        self.workshop.put_file(&OF_RELEASE_8);
        let bytes = fs::read(image).unwrap();
        let header = &bytes[bytes.len() - 4096..];
        self.write_partition(slot, 0, &bytes);
        self.write_partition(slot, SLOT_BYTES - 4096, header);
        crate::workshop::sha256(header)
    }

    pub(crate) fn record(&self) -> Record {
        self.record_if_any().unwrap()
    }

    pub(crate) fn record_if_any(&self) -> Option<Record> {
        record::file::read(&self.path("data/state")).unwrap()
    }

    /// The data partition was lost, and is a new one.
    pub(crate) fn wipe_state(&self) {
        fs::remove_dir_all(self.path("data/state")).unwrap();
        fs::create_dir(self.path("data/state")).unwrap();
    }

    /// Takes back what made the board one that no release can be installed on. What the updater has done to it stays.
    pub(crate) fn mend(&mut self) {
        self.partitions.truncate(FACTORY.len());
        self.partitions.iter_mut().for_each(|partition| partition.is_hidden = false);
        self.system_disk = Some(EMMC);
        let state = File::options().read(true).write(true).open(self.partition("state").path()).unwrap();
        if state_partition::read(&state).is_err() {
            state_partition::write(&state, &BootState::factory(None)).unwrap();
        }
        self.lay_out_system();
        if let Some(mut record) = self.record_if_any() {
            record.is_held = false;
            record.blocked.clear();
            if let Some(current) = &mut record.current {
                current.fingerprint = [7; 32];
            }
            self.write_record(&record);
        }
    }

    pub(crate) fn write_record(&self, record: &Record) {
        record::file::write(&self.path("data/state"), record, Standing::Confirmed).unwrap();
    }

    pub(crate) fn boot_state(&self) -> BootState {
        state_partition::read(&File::open(self.partition("state").path()).unwrap()).unwrap()
    }

    /// Calls the updater as init does, where `/sys` shows this board's disks.
    pub(crate) fn run(&self, words: &[&str], input: Option<&Path>) -> Ended {
        self.start(&[&["run"], words].concat(), input)
    }

    /// As [`Board::run`], with all words.
    pub(crate) fn start(&self, words: &[&str], input: Option<&Path>) -> Ended {
        let input = input.map_or(Stdio::null(), |path| File::open(path).unwrap().into());
        let output = self.command(words).stdin(input).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let status = fs::read(self.path("run/updater/status")).unwrap_or_default();
        Ended {
            code: output.status.code(),
            status: serde_json::from_slice(&status).unwrap_or_default(),
            said: String::from_utf8_lossy(&said).into_owned(),
        }
    }

    /// What is not started yet.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.lay_out_sysfs();
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "120", "unshare", "--mount", "--propagation", "private", "sh", "-euc"])
            .args([self.script(), "sh".to_owned(), self.path("yado-updater").display().to_string()])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TMPDIR", self.path("tmp"))
            .envs(
                [("YADO_SYSTEM", "system"), ("YADO_DATA", "data"), ("YADO_RUN", "run")]
                    .map(|(key, name)| (key, self.path(name))),
            )
            .stdin(Stdio::null());
        command
    }

    /// Gives whoever is executed a `/sys` and a `/dev` with this board's disks.
    fn script(&self) -> String {
        let dev = self.path("dev");
        let _ = fs::create_dir(&dev);
        let own = ["null", "zero", "urandom"].map(|name| (PathBuf::from("/dev").join(name), name.to_owned()));
        let partitions = self.partitions.iter().filter(|partition| !partition.is_hidden);
        let partitions = partitions.map(|partition| (partition.path().to_owned(), partition.device.clone()));
        let mut script = format!("mount --bind {} /sys\n", self.path("sysfs").display());
        let nodes = self.nodes.iter().map(|(name, from)| (from.clone(), name.clone()));
        for (from, name) in own.into_iter().chain(partitions).chain(nodes) {
            let to = dev.join(name);
            File::create(&to).unwrap();
            script.push_str(&format!("mount --bind {} {}\n", from.display(), to.display()));
        }
        script.push_str(&format!("mount --rbind {} /dev\nexec \"$@\"", dev.display()));
        script
    }

    fn lay_out_sysfs(&self) {
        let sysfs = self.path("sysfs");
        let _ = fs::remove_dir_all(&sysfs);
        let (by_name, by_number) = (sysfs.join("class/block"), sysfs.join("dev/block"));
        fs::create_dir_all(&by_name).unwrap();
        fs::create_dir_all(&by_number).unwrap();
        for Partition { name, disk, device, .. } in self.partitions.iter().filter(|partition| !partition.is_hidden) {
            let folder = sysfs.join(disk).join(device);
            fs::create_dir_all(&folder).unwrap();
            let uevent = format!("DEVNAME={device}\nDEVTYPE=partition\nPARTNAME={name}\n");
            fs::write(folder.join("uevent"), uevent).unwrap();
            symlink(format!("../../{disk}/{device}"), by_name.join(device)).unwrap();
        }
        for (path, content) in &self.files {
            let path = sysfs.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        for (path, target) in &self.links {
            symlink(target, sysfs.join(path)).unwrap();
        }
        if let Some(disk) = self.system_disk {
            let root = fs::metadata("/").unwrap().dev();
            let number = format!("{}:{}", rustix::fs::major(root), rustix::fs::minor(root));
            fs::create_dir_all(sysfs.join(disk)).unwrap();
            symlink(format!("../../{disk}"), by_number.join(number)).unwrap();
        }
    }

    /// All partitions, and all that lies in the folders, but what the updater tells while it runs.
    pub(crate) fn seen(&self) -> Seen {
        let mut seen = Seen::new();
        for partition in &self.partitions {
            let place = format!("{} on {}", partition.name, partition.disk.rsplit('/').next().unwrap());
            seen.insert(place, hex::encode(&crate::workshop::sha256(&partition.bytes())));
        }
        let mut left = ["system", "data", "run", "tmp"].map(|name| self.path(name)).to_vec();
        while let Some(path) = left.pop() {
            let name = path.strip_prefix(self.folder.path()).unwrap().display().to_string();
            let found = fs::symlink_metadata(&path).unwrap();
            let mut what = format!("{:o} {}:{}", found.permissions().mode(), found.uid(), found.gid());
            if found.is_dir() {
                let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
                left.extend(entries.filter(|entry| !entry.ends_with("run/updater")));
            } else {
                what.push_str(&format!(" {}", hex::encode(&crate::workshop::sha256(&fs::read(&path).unwrap()))));
            }
            seen.insert(name, what);
        }
        seen
    }

    /// Processes of this board's updater and of what it has started.
    pub(crate) fn processes(&self) -> Vec<PathBuf> {
        let program = self.path("yado-updater");
        let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        entries.filter(|process| fs::read_link(process.join("exe")).is_ok_and(|exe| exe == program)).collect()
    }

    /// What e2fsprogs find in the boot partition.
    pub(crate) fn boot_file(&self, name: &str) -> Vec<u8> {
        let command = format!("cat /{name}");
        let backing = &self.partition("boot-b").backing;
        // What the kernel has in its cache of the device.
        File::open(self.partition("boot-b").path()).unwrap().sync_all().unwrap();
        Command::new("debugfs").args(["-R", &command]).arg(backing).output().unwrap().stdout
    }

    /// The good release is installed: its bytes are in slot B and in its boot partition, and the boot loader tries it next.
    pub(crate) fn takes_the_good_release(&self) {
        let built = self.workshop.build(|options| options.instances.clear());
        let folder = self.workshop.lay_out("good", &built);
        let ended = self.run(&["install", folder.to_str().unwrap()], None);
        let state = self.boot_state();
        assert_eq!((state.trial, state.next()), (Some(Slot::B), Some(Slot::B)), "{ended:?}");
        let image = fs::read(&self.workshop.system).unwrap();
        let slot = self.partition("slot-b").bytes();
        assert!(slot[..image.len()] == image && slot[slot.len() - 4096..] == image[image.len() - 4096..]);
        for path in &self.workshop.boot_files {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(self.boot_file(name) == fs::read(path).unwrap(), "{name}");
        }
    }
}
