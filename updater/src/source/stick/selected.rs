//! What instances have of USB devices and disks, by their compiled specs and by those that they run by: whether they run or not, it is
//! theirs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use yado_spec::InstanceSpec;
use yado_spec::file::{ACTUAL, MAX_FILE_BYTES};
use yado_spec::instance::{DeviceSelect, NodeKind};
use yado_spec::usb_device::UsbDevice;
use yado_sys::regular_file;
use yado_wire::{InstanceName, MAX_INSTANCES};

/// Of which subsystem a node is that leads to a stick's bytes.
const OF_A_STICK: [&str; 3] = ["block", "bsg", "scsi_generic"];

/// Beside specs, and none.
const NETWORKS: &str = "networks.bin";

/// More files than all instances have: one in each folder, and one for those that run.
const MAX_SPECS: usize = 3 * MAX_INSTANCES;

/// Where instances' specs are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Specs {
    /// Folders of compiled ones. Of two of the same name that in the first folder counts: it was compiled last.
    pub compiled: Vec<PathBuf>,
    /// The folder of the runtime directories. Whoever runs goes by the spec in there, whatever was made of its configuration since.
    pub running: PathBuf,
}

/// The selections of all instances.
#[derive(Debug, Default)]
pub struct Selected {
    selections: Vec<(InstanceName, DeviceSelect)>,
    /// The first file that could not be read, and why: what else is selected is not known.
    pub(super) unread: Option<String>,
}

/// Where a disk is plugged in.
#[derive(Debug)]
pub(super) struct Plug {
    /// The USB device that has the disk.
    pub(super) usb: UsbDevice,
    /// Hubs, up to the root's.
    pub(super) above: Vec<UsbDevice>,
    /// Those of that device and of all below it.
    pub(super) nodes: Vec<Node>,
}

/// What is in `/dev`: of which kind, and its number.
pub(super) type Node = (NodeKind, (u32, u32));

impl Selected {
    /// These.
    pub fn new(selections: impl IntoIterator<Item = (InstanceName, DeviceSelect)>) -> Selected {
        Selected { selections: selections.into_iter().collect(), unread: None }
    }

    /// Of all specs that are there.
    pub fn read(specs: &Specs) -> Selected {
        let mut selected = Selected::default();
        let mut files = BTreeMap::new();
        for path in specs.compiled.iter().flat_map(|folder| selected.entries(folder)).collect::<Vec<_>>() {
            if path.extension().is_some_and(|extension| extension == "bin") && !path.ends_with(NETWORKS) {
                files.entry(path.file_name().map(OsStr::to_owned)).or_insert(path);
            }
        }
        let running = selected.entries(&specs.running).into_iter();
        let paths: Vec<PathBuf> = files.into_values().chain(running.map(|runtime| runtime.join(ACTUAL))).collect();
        if MAX_SPECS < paths.len() {
            selected.cannot_read(&specs.running, &"too many instances");
        }
        for path in paths.iter().take(MAX_SPECS) {
            selected.add(path);
        }
        selected
    }

    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        match fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect()) {
            Ok(paths) => paths,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.cannot_read(folder, &error);
                }
                Vec::new()
            }
        }
    }

    fn add(&mut self, path: &Path) {
        match read_spec(path) {
            Ok(spec) => {
                let devices = spec.devices.into_iter();
                self.selections.extend(devices.map(|device| (spec.name.clone(), device.select)));
            }
            // It has ended meanwhile.
            Err(_) if path.parent().is_some_and(|folder| !folder.exists()) => {}
            Err(reason) => self.cannot_read(path, &reason),
        }
    }

    fn cannot_read(&mut self, path: &Path, reason: &dyn fmt::Display) {
        self.unread.get_or_insert_with(|| format!("{}: {reason}", path.display()));
    }

    /// Whose it is, if it is an instance's.
    pub(super) fn owner(&self, plug: &Plug) -> Option<&InstanceName> {
        self.selections.iter().find(|(_, select)| is_selected(select, plug)).map(|(name, _)| name)
    }
}

fn is_selected(select: &DeviceSelect, plug: &Plug) -> bool {
    match select {
        DeviceSelect::Usb(wanted) => plug.usb.is_meant(wanted) || plug.above.iter().any(|hub| hub.is_meant(wanted)),
        DeviceSelect::Hotplug { usb: wanted, subsystem } => {
            let is_of = |all: &[&str]| subsystem.as_deref().is_none_or(|subsystem| all.contains(&subsystem));
            // Below a hub is also the node of the stick itself.
            plug.usb.is_meant(wanted) && is_of(&OF_A_STICK)
                || plug.above.iter().any(|hub| hub.is_meant(wanted)) && (is_of(&OF_A_STICK) || is_of(&["usb"]))
        }
        DeviceSelect::Node { kind, source, path: _ } => {
            node(source).is_some_and(|node| node.0 == *kind && plug.nodes.contains(&node))
        }
        DeviceSelect::Gpio { .. } => false,
    }
}

/// What kind of node is at this path, and its number.
fn node(path: &str) -> Option<Node> {
    let found = fs::metadata(path).ok()?;
    let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let kind = found.file_type();
    match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => Some((NodeKind::Block, number)),
        (false, true) => Some((NodeKind::Char, number)),
        (false, false) => None,
    }
}

fn read_spec(path: &Path) -> Result<InstanceSpec, String> {
    let mut bytes = Vec::new();
    let opened: io::Result<File> = regular_file::open(path);
    let read = opened.and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    yado_spec::file::decode(&bytes).map(|(spec, _)| spec).map_err(|error| error.to_string())
}
