//! Sources by hand, and an image, for the tests of the compiler.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use yado_spec::InstanceSpec;
use yado_spec::compile::{Compiled, ImageFacts, ImageKind, compile};
use yado_spec::instance::StopMethod;
use yado_spec::problem::Problem;
use yado_spec::sources::{Source, Sources};
use yado_wire::InstanceName;

/// The fingerprint that the alias `busybox` stands for.
pub(crate) const BUSYBOX: [u8; 32] = [0xb0; 32];

/// A system's image, alias `system`.
pub(crate) const SYSTEM: [u8; 32] = [0x55; 32];

/// Every key and device that reaches a spec, none at its default.
pub(crate) const FULL: &str = r#"
image = "busybox"
after = []
description = "everything"

[config]
"boot.autostart" = true
"boot.autostart.delay" = 3
"boot.autostart.priority" = -7
"boot.stop.priority" = 9
"boot.stop.method" = "/sbin/init 0"
boot.host_shutdown_timeout = "1m"
"boot.restart" = "always"
"boot.restart.pause" = "250ms"
"boot.restart.pause_max" = 120
"boot.restart.attempts" = 3
health.ready = "notify"
health.timeout = "2m"
"health.probe" = "exec:/usr/bin/check --quick"
health.probe.interval = "1m"
health.probe.timeout = "1500ms"
health.probe.failures = 5
health.watchdog = 15
health.required = false
"limits.memory" = "24MiB"
"limits.memory.enforce" = "soft"
"limits.memory.swap" = false
"limits.cpu" = "0-1,3"
"limits.cpu.allowance" = "25ms/100ms"
"limits.cpu.priority" = 5
limits.processes = 40
limits.kernel.nofile = "1024:4096"
security.privileged = true
security.nesting = true
security.idmap.size = 131072
security.no_new_privs = true
security.time_namespace = true
security.update_lock = true
security.label = "shellfish"
security.syscalls.deny_default = false
security.protection.start = true
security.protection.delete = true
environment.TZ = "Asia/Tokyo"
user.note = "kept"
image.os = "busybox"
volatile.uuid = "00000000-0000-0000-0000-000000000000"
snapshots.expiry = "2d"

[devices.eth0]
type = "nic"
network = "yado0"
name = "lan"
hwaddr = "02:00:5e:10:00:01"
mtu = 1400
host_name = "vbusy"
ipv4.address = "10.158.0.20"

[devices.eth1]
type = "nic"
nictype = "macvlan"
parent = "enp1s0"

[devices.etc]
type = "disk"
source = "/etc"
path = "/mnt/etc"
readonly = true
required = false
shift = true
recursive = true

[devices.scratch]
type = "disk"
source = "tmpfs:"
path = "/scratch"
size = "4MiB"

[devices.root]
type = "disk"
path = "/"
pool = "default"
size = "1GiB"

[devices.serial]
type = "unix-char"
source = "/dev/ttyS1"
path = "/dev/modem"
uid = 10
gid = 20
mode = "0600"
required.timeout = "5s"

[devices.sd]
type = "unix-block"
path = "/dev/sda"
required = false

[devices.dongle]
type = "usb"
vendorid = "0951"
productid = "1666"
serial = "E0D5"
busnum = 1
devnum = 4

[devices.stick]
type = "unix-hotplug"
vendorid = "46f4"
productid = "0001"
subsystem = "block"

[devices.relays]
type = "gpio"
chip = "relays"

[devices.nothing]
type = "none"
"#;

/// The facts of the two images that there are.
pub(crate) fn facts(fingerprint: &[u8; 32], _: &Path) -> Result<ImageFacts, String> {
    let kind = match *fingerprint {
        BUSYBOX => ImageKind::Instance,
        SYSTEM => ImageKind::System,
        _ => return Err("no such image".to_owned()),
    };
    Ok(ImageFacts { kind, init: vec!["/sbin/init".to_owned()], stop_method: StopMethod::Signal(12) })
}

/// Sources of (name, TOML).
pub(crate) fn sources_of(
    instances: &[(&str, &[u8])],
    profiles: &[(&str, &[u8])],
    networks: &[(&str, &[u8])],
) -> Sources {
    let source = |name: &str, bytes: &[u8]| Source {
        path: PathBuf::from(format!("{name}.toml")),
        content: Ok(bytes.to_vec()),
    };
    let mut sources = Sources::default();
    for (name, bytes) in instances {
        sources.instances.insert(InstanceName::parse(name).unwrap(), source(name, bytes));
    }
    sources.profiles = profiles.iter().map(|(name, bytes)| ((*name).to_owned(), source(name, bytes))).collect();
    sources.networks = networks.iter().map(|(name, bytes)| ((*name).to_owned(), source(name, bytes))).collect();
    sources.aliases = [("busybox".to_owned(), BUSYBOX), ("system".to_owned(), SYSTEM)].into();
    sources.images = [(BUSYBOX, PathBuf::from("image")), (SYSTEM, PathBuf::from("image"))].into();
    sources
}

/// Compiles texts.
pub(crate) fn compile_all(
    instances: &[(&str, &str)],
    profiles: &[(&str, &str)],
    networks: &[(&str, &str)],
) -> Compiled {
    fn bytes<'a>(texts: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
        texts.iter().map(|(name, text)| (*name, text.as_bytes())).collect()
    }
    compile(&sources_of(&bytes(instances), &bytes(profiles), &bytes(networks)), &facts)
}

/// The one instance `it` of this text.
pub(crate) fn compile_one(text: &str) -> Result<InstanceSpec, Vec<Problem>> {
    compile_all(&[("it", text)], &[], &[]).instances.remove(0).1
}

/// What is wrong, as text.
pub(crate) fn problems<T>(result: Result<T, Vec<Problem>>) -> Vec<String> {
    result.err().unwrap_or_default().iter().map(Problem::to_string).collect()
}
