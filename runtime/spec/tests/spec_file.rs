//! `spec.bin` from outside: its bytes are frozen, and a file that is not whole and ours is told apart from a stale one.

use std::time::Duration;
use yado_spec::file::{Digest, MAX_FILE_BYTES, SCHEMA, SpecFileError, decode, encode, sources_digest};
use yado_spec::instance::*;
use yado_wire::InstanceName;
use yado_wire::hex;
use yado_wire::names::clipped;
use yado_wire::network::{NicKind, NicOrder};

/// A little of everything.
fn spec() -> InstanceSpec {
    InstanceSpec {
        name: InstanceName::parse("it").expect("a name"),
        image: [0xb0; 32],
        init: vec!["/sbin/init".into()],
        halt_signal: 12,
        environment: vec![("TZ".into(), "UTC".into())],
        boot: Boot {
            autostart: true,
            delay: Duration::from_secs(3),
            priority: -7,
            after: vec![InstanceName::parse("db").expect("a name")],
            shutdown_timeout: Duration::from_secs(30),
            stop_priority: 9,
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
        },
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            first_pause: Duration::from_secs(1),
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
            kernel: vec![KernelLimit { resource: "nofile".into(), soft: Some(1024), hard: None }],
        },
        security: Security {
            privileged: false,
            nesting: true,
            idmap_size: 65_536,
            no_new_privs: false,
            time_namespace: false,
            label: None,
            syscalls_deny_default: true,
            protection_start: false,
            protection_delete: false,
        },
        nics: vec![NicOrder {
            name: clipped("eth0"),
            kind: NicKind::Network { network: clipped("yado0") },
            hwaddr: Some([2, 0, 0, 0, 0, 1]),
            mtu: None,
            host_name: None,
            ipv4_address: Some([10, 158, 0, 20]),
        }],
        disks: vec![Disk {
            name: "d".into(),
            source: DiskSource::Tmpfs { size_bytes: Some(4096) },
            path: "/d".into(),
            readonly: false,
            required: true,
            shift: false,
            recursive: false,
        }],
        devices: vec![Device {
            name: "g".into(),
            select: DeviceSelect::Gpio { chip: "c".into() },
            required: Required::Within(Duration::ZERO),
            uid: 0,
            gid: 5,
            mode: 0o660,
        }],
    }
}

#[test]
fn schema_3_bytes_are_frozen() {
    let file = encode(&spec(), Digest([0xda; 32])).expect("it fits");
    assert_eq!(SCHEMA, 3, "a new schema has a test of its own");
    assert_eq!(hex::encode(&file), FROZEN.concat());
    assert_eq!(decode(&file), Ok((spec(), Digest([0xda; 32]))));
}

const FROZEN: &[&str] = &[
    "5941444f53504543",                                                 // magic
    "03000000",                                                         // schema
    "c5000000",                                                         // length of the body
    "dadadadadadadadadadadadadadadadadadadadadadadadadadadadadadadada", // digest of the sources
    "fbbfc05e8e0d24547f1148c03000d0fda197164e57bcea01899b8a5a23a5a34a", // checksum
    "026974b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0010a2f7362696e2f696e69740c",
    "0102545a035554430103000d010264621e0012000180cab5ee010102007f00000150012f1e000500030114000101003c",
    "000a01021901000101a8c301a08d06010103302d310a012801066e6f66696c6501800800000180800400000001000001",
    "046574683000057961646f30010200000000010000010a9e001401016401018020022f64000100000101670301630100",
    "000005b003",
];

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
