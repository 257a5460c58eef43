//! The spec: everything PID 1 and the launcher need to know of an instance, complete and typed. Written by the compiler,
//! never by hand; each field names the key it comes from. The types are this crate's own: none of them is a message, so
//! that a message can change and `spec.bin` stays. Of `yado_wire` there are only names and bounded text, which are the same
//! bytes whatever their bound is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use yado_wire::{InstanceName, Text, signal_name};

/// One instance, compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its name: cgroup, host name, directory.
    pub name: InstanceName,
    /// The image's fingerprint: SHA-256 of its signed header.
    pub image: [u8; 32],
    /// Program and arguments of its init; from the image's manifest.
    pub init: Vec<String>,
    /// How its init is asked to power off, by the image's manifest. `boot.stop.method` comes before it.
    pub image_stop_method: StopMethod,
    /// Its environment: `environment.*`.
    pub environment: Vec<(String, String)>,
    /// When it is started and stopped.
    pub boot: Boot,
    /// When it counts as ready, and when no longer.
    pub health: Health,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// What it may use.
    pub limits: Limits,
    /// What it may do.
    pub security: Security,
    /// `nic` devices.
    pub nics: Vec<Nic>,
    /// The `disk` device with `path = "/"`.
    pub root: RootSpec,
    /// The other `disk` devices.
    pub disks: Vec<Disk>,
    /// Device nodes: `unix-char`, `unix-block`, `usb`, `unix-hotplug`, `gpio`.
    pub devices: Vec<Device>,
}

impl InstanceSpec {
    /// What was asked for, is kept, and is not enforced yet: the key, and why. Whoever takes the spec for the truth says so.
    pub fn not_enforced(&self) -> Option<(&'static str, &'static str)> {
        let RootSpec { pool: _, size_bytes } = &self.root;
        size_bytes.map(|_| {
            ("devices.root.size", "not enforced: the root's layer has no quota yet; it shares the data partition")
        })
    }

    /// How its init is asked to power off: by the key, or else as the image says.
    pub fn stop_method(&self) -> &StopMethod {
        self.boot.stop_method.as_ref().unwrap_or(&self.image_stop_method)
    }
}

/// How an instance's init is asked to power off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMethod {
    /// Nobody said how. LXC's default: `SIGRTMIN+3` to an init that waits for it, as systemd does, and `SIGPWR` to any other.
    Detect,
    /// By this signal.
    Signal(u8),
    /// By a command inside, as root: program and arguments.
    Command(Vec<String>),
}

impl fmt::Display for StopMethod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopMethod::Detect => out.write_str("detect"),
            StopMethod::Signal(number) => out.write_str(&signal_name::show(*number)),
            StopMethod::Command(argv) => out.write_str(&argv.join(" ")),
        }
    }
}

/// `boot.*` and `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// `boot.autostart`: start it when the system starts.
    pub autostart: bool,
    /// `boot.autostart.delay`: how long to wait before the next one is started.
    pub delay: Duration,
    /// `boot.autostart.priority`: higher starts first.
    pub priority: i32,
    /// `after`: instances that are ready before this one starts.
    pub after: Vec<InstanceName>,
    /// `boot.host_shutdown_timeout`: how long its init may take to power off.
    pub shutdown_timeout: Duration,
    /// `boot.stop.priority`: higher stops first.
    pub stop_priority: i32,
    /// `boot.stop.method`; `None`: as the image says.
    pub stop_method: Option<StopMethod>,
}

/// `health.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `health.ready`: when it counts as ready.
    pub ready: Readiness,
    /// `health.probe`: what is tried while it is ready, or to find out whether it is.
    pub probe: Option<Probe>,
    /// `health.watchdog`: the longest time between two `WATCHDOG=1` over `$NOTIFY_SOCKET`.
    pub watchdog: Option<Duration>,
    /// `health.required`: a release on trial is kept only when this instance is ready.
    pub required: bool,
}

/// When an instance counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// It says `READY=1` over `$NOTIFY_SOCKET` within this time.
    Notify {
        /// How long it may take.
        timeout: Duration,
    },
    /// Its init stays alive for this long.
    Alive {
        /// The stable window.
        window: Duration,
    },
    /// Its probe passes within this time.
    Probe {
        /// How long it may take.
        timeout: Duration,
    },
}

/// `health.probe` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is tried.
    pub attempt: ProbeAttempt,
    /// `health.probe.interval`: from the end of one attempt to the next.
    pub interval: Duration,
    /// `health.probe.timeout`: how long one attempt may take.
    pub timeout: Duration,
    /// `health.probe.failures`: after so many in a row it is not healthy.
    pub failures: u32,
}

/// What a probe tries, inside the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAttempt {
    /// `exec:PROGRAM ARGUMENT…` ends with code 0.
    Exec(Vec<String>),
    /// `tcp:[ADDRESS:]PORT` takes a connection.
    Tcp(SocketAddr),
    /// `http:[ADDRESS:]PORT[/PATH]` answers a GET with a status from 200 to 399.
    Http(SocketAddr, String),
}

impl fmt::Display for ProbeAttempt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeAttempt::Exec(argv) => write!(out, "exec:{}", argv.join(" ")),
            ProbeAttempt::Tcp(address) => write!(out, "tcp:{address}"),
            ProbeAttempt::Http(address, path) => write!(out, "http:{address}{path}"),
        }
    }
}

/// What happens when an instance ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When it is started again.
    pub policy: RestartPolicy,
    /// The first pause; it doubles each time until the instance has settled: it was ready for a minute, or with
    /// [`Readiness::Alive`] for its window.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// After so many ends in a row, each before it had settled, it has failed for good.
    pub attempts: u32,
}

/// When an instance that ended by itself is started again (`boot.autorestart`, ours: `boot.restart`).
/// One that rebooted itself always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never; LXD's default.
    Never,
    /// After any end but exit code 0 or powering itself off.
    OnFailure,
    /// Always.
    Always,
}

/// `limits.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// `limits.memory`, with `limits.memory.enforce`.
    pub memory: Option<MemoryLimit>,
    /// `limits.memory.swap`: `Some(0)` no swap, `None` as much as there is.
    pub swap_bytes: Option<u64>,
    /// `limits.cpu.allowance`.
    pub cpu: Option<CpuAllowance>,
    /// `limits.cpu` as a set of CPUs, in the kernel's list format (`0-1,3`), or a number of CPUs.
    pub cpus: Option<Cpus>,
    /// `limits.cpu.priority`, 0 to 10 (LXD's default 10).
    pub cpu_priority: u8,
    /// `limits.processes`.
    pub processes: Option<u32>,
    /// `limits.kernel.*`.
    pub kernel: Vec<KernelLimit>,
}

/// `limits.memory` with `limits.memory.enforce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryLimit {
    /// `enforce=hard`: `memory.max`, bytes.
    Hard(u64),
    /// `enforce=soft`: `memory.high`, bytes.
    Soft(u64),
    /// `enforce=hard`, `limits.memory` in percent of the machine's memory, 1 to 100.
    HardPercent(u8),
    /// `enforce=soft`, in percent of the machine's memory, 1 to 100.
    SoftPercent(u8),
}

impl MemoryLimit {
    /// The limit in bytes on a machine with so much memory.
    pub fn bytes(self, machine_bytes: u64) -> u64 {
        match self {
            MemoryLimit::Hard(bytes) | MemoryLimit::Soft(bytes) => bytes,
            MemoryLimit::HardPercent(percent) | MemoryLimit::SoftPercent(percent) => {
                (machine_bytes / 100).saturating_mul(percent.into())
            }
        }
    }
}

/// `limits.cpu.allowance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuAllowance {
    /// `50%`: a share when CPUs are contended, 1 to 100.
    Share(u8),
    /// `25ms/100ms`: never more, microseconds.
    Quota {
        /// CPU time in each period.
        quota_us: u32,
        /// The period.
        period_us: u32,
    },
}

/// `limits.cpu`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cpus {
    /// So many, of init's choosing.
    Count(u16),
    /// Exactly these: `0-1,3`.
    Set(String),
}

/// `limits.kernel.NAME`: setrlimit(2), `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLimit {
    /// `nofile`, `memlock`, …: the part after `limits.kernel.`, one of those of setrlimit(2).
    pub resource: String,
    /// Soft limit.
    pub soft: Option<u64>,
    /// Hard limit.
    pub hard: Option<u64>,
}

/// `security.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// `security.privileged`: no user namespace. init refuses it on systems that do not allow it.
    pub privileged: bool,
    /// `security.nesting`: containers inside this one.
    pub nesting: bool,
    /// `security.idmap.size`: how many ids it has, at least [`USUAL_IDS`].
    pub idmap_size: u32,
    /// `security.no_new_privs` (ours): set-user-id programs gain nothing.
    pub no_new_privs: bool,
    /// `security.time_namespace` (ours): clocks that count from a start count from the instance's.
    pub time_namespace: bool,
    /// `security.update_lock` (ours): it may delay the reboot of an update.
    pub update_lock: bool,
    /// `security.label` (ours): the security module's label for all that runs in it; `None`: the launcher's own.
    pub label: Option<String>,
    /// `security.syscalls.deny_default`: the system call filter is on.
    pub syscalls_deny_default: bool,
    /// `security.protection.start`: it cannot be started.
    pub protection_start: bool,
    /// `security.protection.delete`: it cannot be deleted.
    pub protection_delete: bool,
}

/// How many ids an instance has if its configuration does not say, and at least: all that a distribution's own users need. With
/// fewer there is no `nobody` (65534), and no users of systemd's.
pub const USUAL_IDS: u32 = 65_536;

/// How many one with `security.nesting` has if its configuration does not say: also the ranges of fourteen users for inner
/// containers, 65536 each from 100000 on (useradd(8), `SUB_UID_MIN`).
pub const IDS_FOR_NESTING: u32 = 1 << 20;

impl Default for Security {
    /// What an instance has whose configuration says nothing of it: the table of keys must say the same, which a test compares.
    fn default() -> Security {
        Security {
            privileged: false,
            nesting: false,
            idmap_size: USUAL_IDS,
            no_new_privs: false,
            time_namespace: false,
            update_lock: false,
            label: None,
            syscalls_deny_default: true,
            protection_start: false,
            protection_delete: false,
        }
    }
}

impl Security {
    /// How many ids of the host it needs; `None`: it is privileged and has the host's own.
    pub fn id_count(&self) -> Option<u32> {
        (!self.privileged).then_some(self.idmap_size)
    }
}

/// A `nic` device. The launcher asks netd for it at the start; `yado_wire::network` has the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The device's name.
    pub name: String,
    /// `name`, or else the device's name: what it is called inside.
    pub interface: Text<15>,
    /// `network`, or `nictype` and `parent`.
    pub kind: NicKind,
    /// `hwaddr`; `None`: derived from the names of instance and interface, so it is the same at every start.
    pub hwaddr: Option<[u8; 6]>,
    /// `mtu`, bytes; `None`: the parent's.
    pub mtu: Option<u16>,
    /// `host_name`: what the end on the host is called; `None`: made up.
    pub host_name: Option<Text<15>>,
    /// `ipv4.address`: what the network's DHCP server gives to it; `None`: any free one.
    pub ipv4_address: Option<Ipv4Addr>,
}

/// What a nic is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NicKind {
    /// `network`: a port of the bridge that netd keeps for it, which has the network's name.
    Network {
        /// The network.
        network: Text<15>,
    },
    /// `nictype=bridged`: a port of a bridge that somebody else keeps.
    Bridged {
        /// The bridge.
        parent: Text<15>,
    },
    /// `nictype=macvlan`: on top of a host interface.
    Macvlan {
        /// The host interface.
        parent: Text<15>,
    },
    /// `nictype=physical`: the host interface itself, which comes back when the instance stops.
    Physical {
        /// The host interface.
        parent: Text<15>,
    },
}

/// The root disk: where the instance's own layer is kept. Every instance has one, whether it is said or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// `pool`: the storage pool; `default` is the data partition, and the only one until there are others.
    pub pool: String,
    /// `size`: bytes that the layer is to have; `None`: as much as there is. Kept, and enforced by nobody yet, as with a
    /// directory pool of LXD's on a file system without quotas.
    pub size_bytes: Option<u64>,
}

impl Default for RootSpec {
    /// What an instance has that says nothing of it.
    fn default() -> RootSpec {
        RootSpec { pool: "default".to_owned(), size_bytes: None }
    }
}

/// A `disk` device other than the root disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The device's name.
    pub name: String,
    /// Where it comes from.
    pub source: DiskSource,
    /// Where it is mounted inside: absolute, without `..`.
    pub path: String,
    /// `readonly`.
    pub readonly: bool,
    /// `required`: without its source the instance does not start.
    pub required: bool,
    /// `shift`: the instance's root owns what host root owns (id-mapped mount).
    pub shift: bool,
    /// `recursive`: with the mounts below.
    pub recursive: bool,
}

/// Where a disk comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// A file or directory of the system.
    Path(String),
    /// `source=tmpfs:` with `size`, bytes.
    Tmpfs {
        /// Its size; `None`: half of the instance's memory limit.
        size_bytes: Option<u64>,
    },
}

/// A device whose nodes the instance gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device's name in the configuration.
    pub name: String,
    /// Which nodes.
    pub select: DeviceSelect,
    /// What is done when there is none.
    pub required: Required,
    /// `uid`, `gid`, `mode` of the node inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Permission bits.
    pub mode: u16,
}

/// What is done when a declared device is not there at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Required {
    /// `required=false`: start without it; it is given when it comes.
    No,
    /// `required=true`: wait for so long (`required.timeout`, ours; zero by default), then the start has failed.
    Within(Duration),
}

/// Which device nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceSelect {
    /// `unix-char`, `unix-block`: one node by its path on the system.
    Node {
        /// Character or block.
        kind: NodeKind,
        /// `source`: the path on the system.
        source: String,
        /// `path` inside, `/dev/…`.
        path: String,
    },
    /// `usb`: `/dev/bus/usb/BBB/DDD` of every match.
    Usb(UsbMatch),
    /// `unix-hotplug`: all nodes below matching devices, in this subsystem if one is given.
    Hotplug {
        /// Which USB device they belong to.
        usb: UsbMatch,
        /// `subsystem`: `block`, `tty`, `input`, …
        subsystem: Option<String>,
    },
    /// `gpio` (ours): the character device of a GPIO chip.
    Gpio {
        /// `chip`: the chip's label (`gpio-sim.0-node0`, `pinctrl-bcm2835`) or its name (`gpiochip0`).
        chip: String,
    },
}

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// Which USB devices: all that is given must match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsbMatch {
    /// `vendorid`.
    pub vendor: Option<u16>,
    /// `productid`.
    pub product: Option<u16>,
    /// `serial`.
    pub serial: Option<String>,
    /// `busnum`.
    pub bus: Option<u16>,
    /// `devnum`.
    pub device: Option<u16>,
}
