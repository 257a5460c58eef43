//! The parts of the boot: which part waits for which, and which parts an instance waits for. Parts that do not wait for each
//! other run at the same time. Pure.

use crate::boot_clock::Moment;
use std::fmt;
use std::path::Path;
use yado_spec::InstanceSpec;
use yado_spec::instance::{DiskSource, NicKind};

/// One part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What PID 1 does before its loop: kernel file systems, sockets, settings.
    System,
    /// Modules without which no instance starts, and those that the image's builder lists.
    Modules,
    /// The data partition is looked for, judged, mounted.
    Data,
    /// Specs are read, and compiled first if they are stale.
    Specs,
    /// Modules that netd needs.
    Network,
    /// netd is started and listens.
    Netd,
    /// Drivers for the devices that there are.
    Drivers,
}

impl Part {
    /// All of them in the order of their numbers, each after those that it waits for.
    pub(crate) const ALL: [Part; 7] =
        [Part::System, Part::Modules, Part::Data, Part::Specs, Part::Network, Part::Netd, Part::Drivers];

    /// What it waits for. The partition's disk and what verifies the system were the initramfs' affair, and nothing of the
    /// system runs before they are there.
    pub(crate) fn waits_for(self) -> &'static [Part] {
        match self {
            Part::System => &[],
            Part::Modules | Part::Data => &[Part::System],
            Part::Specs => &[Part::Data],
            Part::Network => &[Part::Modules],
            Part::Netd => &[Part::Specs, Part::Network],
            // One process after the other: they wait for the same kernel lock, and the drivers of a board may take seconds.
            Part::Drivers => &[Part::Network],
        }
    }

    /// As the log and the events have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::System => "system",
            Part::Modules => "modules",
            Part::Data => "data",
            Part::Specs => "specs",
            Part::Network => "network",
            Part::Netd => "netd",
            Part::Drivers => "drivers",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of the parts, in the order of [`Part::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parts(u8);

impl Parts {
    /// These.
    pub(crate) fn of(parts: &[Part]) -> Parts {
        Parts(parts.iter().fold(0, |bits, part| bits | part.bit()))
    }

    /// It is one of them.
    pub(crate) fn has(self, part: Part) -> bool {
        self.0 & part.bit() != 0
    }

    /// All but this one.
    pub(crate) fn without(self, part: Part) -> Parts {
        Parts(self.0 & !part.bit())
    }

    fn are_all_in(self, others: Parts) -> bool {
        self.0 & others.0 == self.0
    }

    fn add(&mut self, part: Part) {
        self.0 |= part.bit();
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return out.write_str("nothing");
        }
        let mut separator = "";
        for part in Part::ALL.into_iter().filter(|part| self.has(*part)) {
            write!(out, "{separator}{}", part.name())?;
            separator = ", ";
        }
        Ok(())
    }
}

/// What an instance waits for before its first start; `data` is where the data partition is mounted. Whether netd is there
/// is asked at each start: it may be gone and come back.
pub(crate) fn of_instance(spec: &InstanceSpec, data: &Path) -> Parts {
    let mut parts = Parts::of(&[Part::Specs, Part::Modules]);
    // A network's bridge is netd's own; any other parent is a link that may still have no driver.
    let is_of_device = |kind: &NicKind| match kind {
        NicKind::Network { .. } => false,
        NicKind::Bridged { .. } | NicKind::Macvlan { .. } | NicKind::Physical { .. } => true,
    };
    // What is not on the data partition may be anything: a disk, a directory of `/sys`.
    let may_be_of_device = |source: &DiskSource| match source {
        DiskSource::Path(path) => !Path::new(path).starts_with(data),
        DiskSource::Tmpfs { .. } => false,
    };
    if !spec.devices.is_empty()
        || spec.nics.iter().any(|nic| is_of_device(&nic.kind))
        || spec.disks.iter().any(|disk| may_be_of_device(&disk.source))
    {
        parts.add(Part::Drivers);
    }
    if !spec.nics.is_empty() {
        parts.add(Part::Netd);
    }
    parts
}

/// How far each part is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    begun: Parts,
    done: Parts,
    began_at: [Moment; Part::ALL.len()],
}

impl Reached {
    /// It is over.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.done.has(part)
    }

    /// All of these are over.
    pub(crate) fn has_all(&self, parts: Parts) -> bool {
        parts.are_all_in(self.done)
    }

    /// The next part that waits for nothing any more: it begins.
    pub(crate) fn begin_next(&mut self, now: Moment) -> Option<Part> {
        let is_next = |part: &Part| !self.begun.has(*part) && self.has_all(Parts::of(part.waits_for()));
        let part = Part::ALL.into_iter().find(is_next)?;
        self.begin(part, now);
        Some(part)
    }

    /// It begins, or began at this time, if it has not begun.
    pub(crate) fn begin(&mut self, part: Part, now: Moment) {
        if self.begun.has(part) {
            return;
        }
        self.begun.add(part);
        if let Some(began) = self.began_at.get_mut(part as usize) {
            *began = now;
        }
    }

    /// It is over, and took so long. `None`: it was over before.
    pub(crate) fn finish(&mut self, part: Part, now: Moment) -> Option<Moment> {
        if self.has(part) {
            return None;
        }
        self.begun.add(part);
        self.done.add(part);
        let began = self.began_at.get(part as usize).copied().unwrap_or(now);
        Some(now.saturating_sub(began))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use yado_spec::instance::{Device, DeviceSelect, Disk, Nic, Required};

    /// Begins whatever may, and finishes `finished` one after the other.
    fn begun_after(finished: &[Part]) -> Vec<Part> {
        let mut reached = Reached::default();
        let mut begun = Vec::new();
        for part in [None].into_iter().chain(finished.iter().copied().map(Some)) {
            if let Some(part) = part {
                assert!(begun.contains(&part), "{part:?} ends and has not begun");
                reached.finish(part, Moment::ZERO);
            }
            begun.extend(std::iter::from_fn(|| reached.begin_next(Moment::ZERO)));
        }
        begun
    }

    #[test]
    fn parts_run_beside_each_other_where_none_waits_for_another() {
        use Part::{Data, Drivers, Modules, Netd, Network, Specs, System};
        assert_eq!(begun_after(&[]), [System]);
        assert_eq!(begun_after(&[System]), [System, Modules, Data]);
        assert_eq!(begun_after(&[System, Modules]), [System, Modules, Data, Network]);
        // Neither drivers nor the data partition hold each other up.
        assert_eq!(begun_after(&[System, Modules, Network]), [System, Modules, Data, Network, Drivers]);
        assert_eq!(begun_after(&[System, Data, Specs]), [System, Modules, Data, Specs]);
        let all = begun_after(&[System, Modules, Data, Specs, Network]);
        assert_eq!(all, [System, Modules, Data, Network, Specs, Netd, Drivers]);
    }

    #[test]
    fn each_part_waits_only_for_what_stands_before_it() {
        for (number, part) in Part::ALL.iter().enumerate() {
            assert_eq!(*part as usize, number);
            assert!(part.waits_for().iter().all(|other| Part::ALL[..number].contains(other)), "{part:?}");
        }
    }

    #[test]
    fn what_a_part_took_is_told_once() {
        let mut reached = Reached::default();
        reached.begin(Part::System, Moment::from_millis(100));
        assert_eq!(reached.finish(Part::System, Moment::from_millis(350)), Some(Moment::from_millis(250)));
        assert_eq!(reached.finish(Part::System, Moment::from_millis(900)), None);
    }

    fn nic(kind: NicKind) -> Nic {
        let name = kind_name(&kind);
        Nic {
            name: name.to_owned(),
            interface: "eth0".try_into().unwrap(),
            kind,
            hwaddr: None,
            mtu: None,
            host_name: None,
            ipv4_address: None,
        }
    }

    fn kind_name(kind: &NicKind) -> &'static str {
        match kind {
            NicKind::Network { .. } => "network",
            NicKind::Bridged { .. } => "bridged",
            NicKind::Macvlan { .. } => "macvlan",
            NicKind::Physical { .. } => "physical",
        }
    }

    fn disk(source: DiskSource) -> Disk {
        Disk {
            name: "disk".to_owned(),
            source,
            path: "/mnt".to_owned(),
            readonly: false,
            required: true,
            shift: false,
            recursive: false,
        }
    }

    #[test]
    fn an_instance_waits_only_for_what_it_needs() {
        let plain = crate::instance::tests::spec(&yado_wire::InstanceName::parse("one").unwrap(), false);
        let needs = |change: &dyn Fn(&mut InstanceSpec)| {
            let mut spec = plain.clone();
            change(&mut spec);
            of_instance(&spec, Path::new("/data")).to_string()
        };
        let link = || "br0".try_into().unwrap();
        // Without a nic it does not wait for netd, and without a device not for drivers.
        assert_eq!(needs(&|_| ()), "modules, specs");
        let network = NicKind::Network { network: link() };
        assert_eq!(needs(&|spec| spec.nics = vec![nic(network.clone())]), "modules, specs, netd");
        for kind in [
            NicKind::Bridged { parent: link() },
            NicKind::Macvlan { parent: link() },
            NicKind::Physical { parent: link() },
        ] {
            assert_eq!(needs(&|spec| spec.nics = vec![nic(kind.clone())]), "modules, specs, netd, drivers");
        }
        let chip = Device {
            name: "leds".to_owned(),
            select: DeviceSelect::Gpio { chip: "gpiochip0".to_owned() },
            required: Required::No,
            uid: 0,
            gid: 0,
            mode: 0o660,
        };
        assert_eq!(needs(&|spec| spec.devices = vec![chip.clone()]), "modules, specs, drivers");
        for (source, parts) in [
            (DiskSource::Path("/data/share".to_owned()), "modules, specs"),
            (DiskSource::Path("/dataset".to_owned()), "modules, specs, drivers"),
            (DiskSource::Path("/sys/class/leds".to_owned()), "modules, specs, drivers"),
            (DiskSource::Tmpfs { size_bytes: None }, "modules, specs"),
        ] {
            assert_eq!(needs(&|spec| spec.disks = vec![disk(source.clone())]), parts);
        }
    }
}
