//! PID 1 of the initramfs: finds the slot that the boot loader chose, verifies its image, and starts the system from it.
//!
//! Nothing of the slot is used before the signatures of its header are checked, and dm-verity checks each later block when it is
//! read. A refusal is told on the console and in the kernel's log. Then the machine restarts: the boot loader counts the tries of
//! a slot, and changes to the other one.

use crate::booted_slot;
use crate::kernel_mounts;
use crate::log::kmsg;
use crate::modules::Loader;
use crate::modules::devices::NewDevices;
use std::ffi::CStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use yado_image::open::OpenError;
use yado_image::trust::ReadKeysError;
use yado_image::{Header, Keys, Wanted, open_trusted, verity};
use yado_sys::device_mapper::DeviceMapper;
use yado_sys::exec::exec;
use yado_sys::mount::{Attributes, FsOption, attach_at, new_file_system};
use yado_sys::named_partition::{self, Disks, SYSFS, SeveralDisks};
use yado_sys::poll::{Interest, PollSet};
use yado_sys::{clock, reboot, root, volume};
use yado_wire::booted_slot::{BootedSlot, DEVICE};

/// This file says that we are in an initramfs.
pub(crate) const MARKER: &str = "/etc/yado/initramfs";

/// The keys that a system must be signed by.
const TRUST: &str = "/etc/yado/trust";

/// Where the system's root is mounted before it is the root.
const NEW_ROOT: &str = "/root";

/// What runs after the root was switched: this program again, as the system's init.
const SYSTEM_INIT: &CStr = c"/sbin/yado-init";

/// A card that is slow to answer takes some seconds.
const SLOT_TIMEOUT: Duration = Duration::from_secs(20);

/// So long after all drivers were loaded, others are waited for before the slot is taken from a disk on USB: the boot loader
/// has just read the system's disk, which answers sooner. `yado.disk=` spares a board with its system on USB this wait.
const USB_TIMEOUT: Duration = Duration::from_secs(5);

/// Between looks at what there is, if no event comes first.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Time to read a refusal on the console.
const PAUSE: Duration = Duration::from_secs(5);

/// What moves along into the new root.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Why a slot is not booted.
#[derive(Debug)]
enum BootError {
    /// Neither A nor B.
    NoSlot,
    /// A file system of the kernel's own, or the slot's.
    Mount {
        reason: String,
    },
    /// The partition did not appear.
    NoPartition {
        name: String,
        disks: Disks,
        found: String,
    },
    /// It is on several disks, of which somebody may have written the wrong ones.
    SeveralDisks {
        name: String,
        source: SeveralDisks,
    },
    /// The keys cannot be read.
    Keys {
        source: ReadKeysError,
    },
    /// There are none.
    NoKeys,
    Image {
        device: PathBuf,
        source: OpenError,
    },
    /// dm-verity.
    Verity {
        device: PathBuf,
        source: io::Error,
    },
    /// Something of the hand-over.
    HandOver {
        what: String,
        source: io::Error,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::NoSlot => out.write_str("the kernel's command line has no yado.slot=A or yado.slot=B"),
            BootError::Mount { reason } => out.write_str(reason),
            BootError::NoPartition { name, disks, found } => {
                let seconds = SLOT_TIMEOUT.as_secs();
                let word = match disks {
                    Disks::At(word) => word,
                    Disks::Only(_) | Disks::NotOnUsb | Disks::Any => "any disk",
                };
                write!(out, "no partition named {name} on {word} within {seconds} s; there are: {found}")
            }
            BootError::SeveralDisks { name, source } => write!(out, "{name} is {source}"),
            BootError::Keys { source } => write!(out, "trusted keys: {source}"),
            BootError::NoKeys => write!(out, "trusted keys: there is none in {TRUST}"),
            BootError::Image { device, source } => {
                write!(out, "{}: {}: {source}", source.step().name(), device.display())
            }
            BootError::Verity { device, source } => write!(out, "dm-verity on {}: {source}", device.display()),
            BootError::HandOver { what, source } => write!(out, "{what}: {source}"),
        }
    }
}

/// Boots the system, or restarts the machine.
pub(crate) fn run() -> ExitCode {
    let error = match boot() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    tell(3, &format!("the system is not started: {error}"));
    tell(3, &format!("the machine restarts in {} s", PAUSE.as_secs()));
    std::thread::sleep(PAUSE);
    volume::sync_all();
    if let Err(error) = reboot::restart() {
        tell(3, &format!("restart: {error}"));
    }
    // PID 1 may not return.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

enum Never {}

fn boot() -> Result<Never, BootError> {
    for early in &kernel_mounts::EARLY {
        early.mount().map_err(|reason| BootError::Mount { reason })?;
    }

    // What the kernel itself asks for (a file system, an algorithm) is loaded by this same program.
    let _ = fs::write("/proc/sys/kernel/modprobe", "/init");
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let slot = booted_slot::parse_command_line(&command_line).ok_or(BootError::NoSlot)?;
    let device = find_slot(slot, &command_line)?;
    let keys = Keys::read_dir(Path::new(TRUST)).map_err(|source| BootError::Keys { source })?;
    if keys.is_empty() {
        return Err(BootError::NoKeys);
    }
    let image = open_trusted(&device, &keys, &Wanted::system())
        .map_err(|source| BootError::Image { device: device.clone(), source })?;
    let signers: Vec<String> = image.signers.iter().map(ToString::to_string).collect();
    let hex = yado_wire::hex::encode(&image.fingerprint);
    tell(5, &format!("slot {slot}: {hex}, release {}, signed by {}", image.header.release, signers.join(", ")));

    let mapped =
        map(&image.header, &hex, &device).map_err(|source| BootError::Verity { device: device.clone(), source })?;
    let mapped = mapped.to_string_lossy();
    mount_root(&mapped).map_err(|reason| BootError::Mount { reason: format!("mount {mapped}: {reason}") })?;
    let at = |what: &str| {
        let what = what.to_owned();
        move |source| BootError::HandOver { what, source }
    };
    let booted = BootedSlot { name: slot, fingerprint: image.fingerprint };
    booted_slot::write(booted).map_err(at("write the slot's name"))?;
    drop(image);
    hand_over()
}

/// Loads drivers until the slot's partition is there.
fn find_slot(slot: char, command_line: &str) -> Result<PathBuf, BootError> {
    let name = format!("slot-{}", slot.to_ascii_lowercase());
    let other_spelling = format!("slot-{slot}");
    let new = NewDevices::open();
    let mut loader = Loader::new();
    loader.load_for_instances();
    loader.load_for_all(&new);
    let began = clock::since_boot();
    let mut told = 0;
    loop {
        for (module, reason) in loader.failures.iter().skip(told) {
            tell(6, &format!("module {module}: {reason}"));
        }
        told = loader.failures.len();
        let waited = clock::since_boot().saturating_sub(began);
        let disks = Disks::named(command_line, USB_TIMEOUT <= waited);
        match named_partition::find(Path::new(SYSFS), &[&name, &other_spelling], &disks) {
            Ok(Some(device)) if device.exists() => return Ok(device),
            Ok(_) => {}
            Err(source) => return Err(BootError::SeveralDisks { name, source }),
        }
        if SLOT_TIMEOUT <= waited {
            return Err(BootError::NoPartition { name, disks, found: partitions() });
        }
        match wait_for_event(new.events()) {
            Waited::Event => loader.load_for_new(&new),
            // Whatever the kernel told or did not tell: nothing else is to be done meanwhile.
            Waited::InVain => loader.load_for_all(&new),
        }
    }
}

/// How the wait for the slot's partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// Something happened.
    Event,
    /// Nothing that we heard of.
    InVain,
}

/// Waits for any event of the kernel's.
fn wait_for_event(events: Option<&OwnedFd>) -> Waited {
    let mut set = PollSet::default();
    if let Some(events) = events {
        set.add(events, Interest::Read);
    }
    match set.wait(Some(LOOK_AGAIN)) {
        Ok(()) if set.readiness(0).readable => Waited::Event,
        Ok(()) => Waited::InVain,
        Err(_) => {
            std::thread::sleep(LOOK_AGAIN);
            Waited::InVain
        }
    }
}

fn partitions() -> String {
    let names: Vec<String> = named_partition::all(Path::new(SYSFS))
        .iter()
        .map(|(name, path)| format!("{name} ({})", named_partition::device_name(path)))
        .collect();
    if names.is_empty() { "none with a name".to_owned() } else { names.join(", ") }
}

/// The slot's payload as a device of which each block is checked when it is read.
fn map(header: &Header, fingerprint: &str, device: &Path) -> io::Result<PathBuf> {
    const SECTOR_BYTES: u64 = 512;
    let parameters = verity::table_parameters(header, &device.to_string_lossy());
    let sectors = header.layout.payload_bytes() / SECTOR_BYTES;
    let mapper = DeviceMapper::open()?;
    let mapped = mapper.create_read_only(DEVICE, fingerprint, "verity", sectors, &parameters)?;
    // Opening it makes sure that there is a node.
    let (_, path) = mapped.open()?;
    Ok(PathBuf::from(path))
}

fn mount_root(device: &str) -> Result<(), String> {
    fs::create_dir_all(NEW_ROOT).map_err(|error| error.to_string())?;
    // Set-user-id programs and devices have no place in the system: containers bring their own.
    let attributes =
        Attributes::MOUNT_ATTR_NOSUID.union(Attributes::MOUNT_ATTR_NODEV).union(Attributes::MOUNT_ATTR_RDONLY);
    let mounted = new_file_system("erofs", &[FsOption::Value("source", device), FsOption::Flag("ro")], attributes)
        .map_err(|error| error.to_string())?;
    attach_at(&mounted, NEW_ROOT).map_err(|error| error.to_string())
}

/// The new root becomes the root, the initramfs gives its memory back, and the system's init takes our place.
fn hand_over() -> Result<Never, BootError> {
    let at = |what: String| move |source| BootError::HandOver { what, source };
    for directory in MOVED {
        let target = format!("{NEW_ROOT}{directory}");
        root::move_mount(Path::new(directory), Path::new(&target)).map_err(at(format!("move {directory}")))?;
    }
    std::env::set_current_dir(NEW_ROOT).map_err(at(format!("enter {NEW_ROOT}")))?;
    let old_root = Path::new("/");
    // Only what the kernel unpacked into memory is deleted, and never anything behind a mount.
    let is_memory =
        volume::usage(old_root).is_ok_and(|usage| matches!(usage.magic, volume::RAMFS_MAGIC | volume::TMPFS_MAGIC));
    if let (true, Ok(root)) = (is_memory, fs::metadata(old_root)) {
        delete_below(old_root, root.dev());
    }
    root::move_mount(Path::new("."), old_root).map_err(at("move the new root".to_owned()))?;
    std::os::unix::fs::chroot(".").map_err(at("enter the new root".to_owned()))?;
    std::env::set_current_dir("/").map_err(at("enter the new root".to_owned()))?;
    let source = exec(SYSTEM_INIT, &[SYSTEM_INIT.to_owned()], &[]);
    Err(BootError::HandOver { what: format!("execute {}", SYSTEM_INIT.to_string_lossy()), source })
}

/// Deletes what is in `directory` on this device; what cannot be deleted stays.
fn delete_below(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.dev() != device => {}
            Ok(found) if found.is_dir() => {
                delete_below(&path, device);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

/// Tells it in the kernel's log; and what matters on the console too, which `quiet` would keep it from.
fn tell(priority: u8, message: &str) {
    let kmsg = kmsg::open();
    let has_kmsg = kmsg.is_some();
    if let Some(mut kmsg) = kmsg {
        kmsg::write(&mut kmsg, priority, "yado-init", 0, message);
    }
    // The first number is the console's level: what is below it, the kernel has shown already.
    let level = fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default();
    let level: u8 = level.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    if level <= priority || !has_kmsg {
        if let Ok(mut console) = File::options().write(true).open("/dev/console") {
            let _ = writeln!(console, "yado-init: {message}");
        }
    }
}
