//! `spec.bin` from outside: its bytes are frozen, and a file that is not whole and ours is told apart from a stale one.

use std::time::Duration;
use yado_spec::file::{Digest, MAX_FILE_BYTES, SCHEMA, SpecFileError, decode, encode, sources_digest};
use yado_spec::instance::*;
use yado_wire::InstanceName;
use yado_wire::hex;
use yado_wire::names::clipped;

/// Every field is said in the first, and all of them together have every alternative of every field.
fn specs() -> [InstanceSpec; 4] {
    let name = |text| InstanceName::parse(text).expect("a name");
    let second = Duration::from_secs(1);
    let first = InstanceSpec {
        name: name("it"),
        image: [0xb0; 32],
        init: vec!["/sbin/init".into(), "--quiet".into()],
        image_stop_method: StopMethod::Signal(12),
        environment: vec![("TZ".into(), "UTC".into())],
        boot: Boot {
            autostart: true,
            delay: Duration::from_secs(3),
            priority: -7,
            after: vec![name("db")],
            shutdown_timeout: Duration::from_secs(30),
            stop_priority: 9,
            stop_method: Some(StopMethod::Command(vec!["/sbin/init".into(), "0".into()])),
        },
        health: Health {
            ready: Readiness::Notify { timeout: Duration::from_millis(1500) },
            probe: Some(Probe {
                attempt: ProbeAttempt::Http("127.0.0.1:80".parse().expect("an address"), "/".into()),
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(5),
                failures: 3,
            }),
            watchdog: Some(Duration::from_secs(20)),
            required: false,
        },
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            first_pause: second,
            longest_pause: Duration::from_secs(60),
            attempts: 10,
        },
        limits: Limits {
            memory: Some(MemoryLimit::HardPercent(25)),
            swap_bytes: Some(0),
            cpu: Some(CpuAllowance::Quota { quota_us: 25_000, period_us: 100_000 }),
            cpus: Some(Cpus::Set("0-1".into())),
            cpu_priority: 10,
            processes: Some(40),
            kernel: vec![
                KernelLimit { resource: "nofile".into(), soft: Some(1024), hard: None },
                KernelLimit { resource: "core".into(), soft: None, hard: Some(0) },
            ],
        },
        security: Security {
            privileged: false,
            nesting: true,
            idmap_size: 65_536,
            no_new_privs: false,
            time_namespace: true,
            update_lock: true,
            label: Some("shellfish".into()),
            syscalls_deny_default: false,
            protection_start: true,
            protection_delete: false,
        },
        nics: vec![
            Nic {
                name: "lan".into(),
                interface: clipped("eth0"),
                kind: NicKind::Network { network: clipped("yado0") },
                hwaddr: Some([2, 0, 0, 0, 0, 1]),
                mtu: Some(1400),
                host_name: Some(clipped("vlan7")),
                ipv4_address: Some([10, 158, 0, 20].into()),
            },
            nic("brd0", NicKind::Bridged { parent: clipped("br9") }),
            nic("mac0", NicKind::Macvlan { parent: clipped("enp1s0") }),
            nic("phy0", NicKind::Physical { parent: clipped("eth2") }),
        ],
        root: RootSpec { pool: "default".into(), size_bytes: Some(1 << 30) },
        disks: vec![
            disk(DiskSource::Tmpfs { size_bytes: Some(4096) }, true),
            disk(DiskSource::Path("/etc".into()), false),
        ],
        devices: vec![
            device(DeviceSelect::Gpio { chip: "c".into() }, Required::Within(Duration::from_millis(5250))),
            device(node(NodeKind::Char), Required::No),
            device(node(NodeKind::Block), Required::No),
            device(DeviceSelect::Usb(usb()), Required::No),
            device(DeviceSelect::Hotplug { usb: usb(), subsystem: Some("tty".into()) }, Required::No),
        ],
    };
    let bare = InstanceSpec {
        image_stop_method: StopMethod::Detect,
        environment: vec![],
        boot: Boot { stop_method: None, ..first.boot.clone() },
        health: Health { ready: Readiness::Alive { window: second }, probe: None, watchdog: None, required: true },
        restart: Restart { policy: RestartPolicy::Never, ..first.restart.clone() },
        limits: Limits { memory: Some(MemoryLimit::Hard(64 << 20)), ..Limits::default() },
        nics: vec![],
        root: RootSpec::default(),
        disks: vec![],
        devices: vec![],
        ..first.clone()
    };
    let attempt = ProbeAttempt::Exec(vec!["/bin/check".into(), "-q".into()]);
    let probe = Probe { attempt, interval: second, timeout: second, failures: 1 };
    let by_probe = InstanceSpec {
        health: Health {
            ready: Readiness::Probe { timeout: second },
            probe: Some(probe.clone()),
            ..bare.health.clone()
        },
        restart: Restart { policy: RestartPolicy::Always, ..bare.restart.clone() },
        limits: Limits {
            memory: Some(MemoryLimit::Soft(1 << 40)),
            cpu: Some(CpuAllowance::Share(50)),
            cpus: Some(Cpus::Count(2)),
            ..Limits::default()
        },
        ..bare.clone()
    };
    let attempt = ProbeAttempt::Tcp("[::1]:5432".parse().expect("an address"));
    let by_tcp = InstanceSpec {
        health: Health { probe: Some(Probe { attempt, ..probe }), ..by_probe.health.clone() },
        limits: Limits { memory: Some(MemoryLimit::SoftPercent(1)), ..by_probe.limits.clone() },
        ..by_probe.clone()
    };
    [first, bare, by_probe, by_tcp]
}

fn spec() -> InstanceSpec {
    let [first, ..] = specs();
    first
}

fn nic(name: &str, kind: NicKind) -> Nic {
    let interface = clipped(name);
    Nic { name: name.into(), interface, kind, hwaddr: None, mtu: None, host_name: None, ipv4_address: None }
}

fn disk(source: DiskSource, is_on: bool) -> Disk {
    let (name, path) = ("d".into(), "/d".into());
    Disk { name, source, path, readonly: is_on, required: !is_on, shift: is_on, recursive: !is_on }
}

fn device(select: DeviceSelect, required: Required) -> Device {
    Device { name: "g".into(), select, required, uid: 1000, gid: 5, mode: 0o660 }
}

fn node(kind: NodeKind) -> DeviceSelect {
    DeviceSelect::Node { kind, source: "/dev/ttyS1".into(), path: "/dev/modem".into() }
}

fn usb() -> UsbMatch {
    let serial = Some("E0D5".into());
    UsbMatch { vendor: Some(0x0951), product: Some(0x1666), serial, bus: Some(1), device: Some(4) }
}

#[test]
fn the_bytes_of_spec_bin_are_frozen() {
    let files = specs().map(|spec| encode(&spec, Digest([0xda; 32])).expect("it fits"));
    let found: Vec<String> = files.iter().map(|file| hex::encode(file)).collect();
    let frozen: Vec<&str> = FROZEN.lines().collect();
    assert_eq!(
        found,
        frozen,
        "The bytes of spec.bin are others than those of schema {SCHEMA}, and an init of this schema would read the old ones \
         wrongly. If that is meant: raise SCHEMA in src/file.rs, and write these lines into tests/frozen/spec.hex:\n{}\n",
        found.join("\n")
    );
    for (file, spec) in files.iter().zip(specs()) {
        assert_eq!(decode(file), Ok((spec, Digest([0xda; 32]))));
    }
}

/// One file a line. Bytes 8 to 11 are the schema: a change without a new number shows in the same line.
const FROZEN: &str = include_str!("frozen/spec.hex");

#[test]
fn every_way_of_not_being_a_usable_file_is_told_apart() {
    let whole = encode(&spec(), Digest([0xda; 32])).expect("it fits");
    for length in 0..whole.len() {
        let outcome = decode(&whole[..length]);
        assert!(
            matches!(outcome, Err(SpecFileError::Truncated { found_bytes, .. }) if found_bytes == length),
            "{length}"
        );
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        let outcome = decode(&flipped).map(|_| ());
        let is_told = match at {
            0..8 => outcome == Err(SpecFileError::Magic),
            8..12 => matches!(outcome, Err(SpecFileError::Schema { found }) if found != SCHEMA),
            12..16 => matches!(outcome, Err(SpecFileError::Truncated { .. } | SpecFileError::Damaged)),
            _ => outcome == Err(SpecFileError::Damaged),
        };
        assert!(is_told, "byte {at}: {outcome:?}");
    }
    let longer = [whole.as_slice(), b"\0"].concat();
    assert_eq!(decode(&longer), Err(SpecFileError::Damaged));
    let huge = vec![b'Y'; MAX_FILE_BYTES + 1];
    assert_eq!(decode(&huge), Err(SpecFileError::TooLong { found_bytes: MAX_FILE_BYTES + 1 }));
    assert_eq!(decode(b"hello"), Err(SpecFileError::Magic));
}

#[test]
fn a_spec_that_does_not_fit_is_not_written() {
    let long = InstanceSpec { init: vec!["x".repeat(MAX_FILE_BYTES)], ..spec() };
    assert!(matches!(encode(&long, Digest([0; 32])), Err(SpecFileError::TooLong { .. })));
}

#[test]
fn the_digest_of_sources_tells_names_and_contents_and_their_order_apart() {
    let lists: &[&[(&str, &[u8])]] = &[
        &[],
        &[("", b"")],
        &[("a", b"b")],
        &[("ab", b"")],
        &[("", b"ab")],
        &[("a", b"b"), ("c", b"d")],
        &[("c", b"d"), ("a", b"b")],
        &[("a", b"bcd")],
    ];
    for (at, one) in lists.iter().enumerate() {
        for other in &lists[at + 1..] {
            assert_ne!(
                sources_digest(one.iter().copied()),
                sources_digest(other.iter().copied()),
                "{one:?} {other:?}"
            );
        }
    }
}
