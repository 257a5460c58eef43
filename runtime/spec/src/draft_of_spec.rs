//! A spec as drafts again, so that the tables can show what it has: what the builders do, the other way round. What a key
//! said and the spec does not tell (a default that was written down, `boot.autorestart` in place of `boot.restart`) comes
//! back as the plainest way of saying it.

use crate::device_types::{DeviceKind, TMPFS};
use crate::draft::{ConfigDraft, DeviceDraft, HealthDraft, NicType, ReadyWord, RestartDraft};
use crate::instance::{
    Device, DeviceSelect, Disk, DiskSource, Health, InstanceSpec, Limits, MemoryLimit, Nic, NicKind, NodeKind, Probe,
    Readiness, Required, Restart,
};
use crate::keys;
use crate::values::Memory;
use std::collections::BTreeMap;
use std::time::Duration;

impl ConfigDraft {
    /// `[config]` of a spec.
    pub(crate) fn of(spec: &InstanceSpec) -> ConfigDraft {
        let defaults = keys::default_config();
        let Limits { memory, swap_bytes, cpu, cpus, cpu_priority, processes, kernel } = spec.limits.clone();
        let (memory, is_memory_hard) = match memory {
            None => (None, true),
            Some(MemoryLimit::Hard(bytes)) => (Some(Memory::Bytes(bytes)), true),
            Some(MemoryLimit::Soft(bytes)) => (Some(Memory::Bytes(bytes)), false),
            Some(MemoryLimit::HardPercent(percent)) => (Some(Memory::Percent(percent)), true),
            Some(MemoryLimit::SoftPercent(percent)) => (Some(Memory::Percent(percent)), false),
        };
        let Restart { policy, first_pause, longest_pause, attempts } = spec.restart.clone();
        ConfigDraft {
            boot: spec.boot.clone(),
            autorestart: None,
            restart: RestartDraft { policy: Some(policy), pause: first_pause, pause_max: longest_pause, attempts },
            health: health(&spec.health, defaults.health),
            memory,
            is_memory_hard,
            swap_bytes,
            cpu,
            cpus,
            cpu_priority,
            processes,
            kernel,
            security: spec.security.clone(),
            environment: spec.environment.iter().cloned().collect(),
        }
    }
}

fn health(health: &Health, mut draft: HealthDraft) -> HealthDraft {
    let Health { ready, probe, watchdog } = health.clone();
    draft.watchdog = watchdog;
    match ready {
        Readiness::Alive { window } => (draft.ready, draft.window) = (ReadyWord::Alive, window),
        Readiness::Notify { timeout } => (draft.ready, draft.timeout) = (ReadyWord::Notify, timeout),
        Readiness::Probe { timeout } => (draft.ready, draft.timeout) = (ReadyWord::Probe, timeout),
    }
    if let Some(Probe { attempt, interval, timeout, failures }) = probe {
        draft.probe = Some(attempt);
        (draft.probe_interval, draft.probe_timeout, draft.probe_failures) = (interval, timeout, failures);
    }
    draft
}

/// The devices of a spec by name. The root is none of them.
pub(crate) fn devices(spec: &InstanceSpec) -> BTreeMap<&str, (DeviceKind, DeviceDraft)> {
    let nics = spec.nics.iter().map(|nic| (nic.name.as_str(), (DeviceKind::Nic, of_nic(nic))));
    let disks = spec.disks.iter().map(|disk| (disk.name.as_str(), (DeviceKind::Disk, of_disk(disk))));
    let nodes = spec.devices.iter().map(|device| (device.name.as_str(), of_device(device)));
    nics.chain(disks).chain(nodes).collect()
}

fn of_nic(nic: &Nic) -> DeviceDraft {
    let Nic { name, interface, kind, hwaddr, mtu, host_name, ipv4_address } = nic.clone();
    let (network, nictype, parent) = match kind {
        NicKind::Network { network } => (Some(network), None, None),
        NicKind::Bridged { parent } => (None, Some(NicType::Bridged), Some(parent)),
        NicKind::Macvlan { parent } => (None, Some(NicType::Macvlan), Some(parent)),
        NicKind::Physical { parent } => (None, Some(NicType::Physical), Some(parent)),
    };
    let name = (interface != name.as_str()).then_some(interface);
    DeviceDraft { name, network, nictype, parent, hwaddr, mtu, host_name, ipv4_address, ..DeviceDraft::default() }
}

fn of_disk(disk: &Disk) -> DeviceDraft {
    let Disk { name: _, source, path, readonly, required, shift, recursive } = disk.clone();
    let (source, size_bytes) = match source {
        DiskSource::Path(path) => (path, None),
        DiskSource::Tmpfs { size_bytes } => (TMPFS.to_owned(), size_bytes),
    };
    let (source, path) = (Some(source), Some(path));
    DeviceDraft { source, path, size_bytes, readonly, required, shift, recursive, ..DeviceDraft::default() }
}

fn of_device(device: &Device) -> (DeviceKind, DeviceDraft) {
    let Device { name: _, select, required, uid, gid, mode } = device.clone();
    let (required, required_timeout) = match required {
        Required::No => (false, None),
        Required::Within(Duration::ZERO) => (true, None),
        Required::Within(timeout) => (true, Some(timeout)),
    };
    let draft = DeviceDraft { required, required_timeout, uid, gid, mode, ..DeviceDraft::default() };
    match select {
        DeviceSelect::Node { kind, source, path } => {
            let kind = match kind {
                NodeKind::Char => DeviceKind::UnixChar,
                NodeKind::Block => DeviceKind::UnixBlock,
            };
            let path = (path != source).then_some(path);
            (kind, DeviceDraft { source: Some(source), path, ..draft })
        }
        DeviceSelect::Usb(usb) => (DeviceKind::Usb, DeviceDraft { usb, ..draft }),
        DeviceSelect::Hotplug { usb, subsystem } => {
            (DeviceKind::UnixHotplug, DeviceDraft { usb, subsystem, ..draft })
        }
        DeviceSelect::Gpio { chip } => (DeviceKind::Gpio, DeviceDraft { chip: Some(chip), ..draft }),
    }
}
