#![allow(clippy::unwrap_used)]
use super::*;
use crate::exit_codes;
use std::collections::BTreeMap;
use yado_image::Version;
use yado_image::release::{BootFile, Header, ImageFile, Requires};

const MIB: u64 = 1 << 20;
const VERSION: Version = Version { major: 0, minor: 2, patch: 0 };

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).unwrap()
}

/// Release 8: a system of 64 MiB with a kernel of 8 MiB, and one image of 12 MiB for two instances.
fn release() -> Release {
    let image = ImageFile { bytes: 12 * MIB, fingerprint: [0x11; 32] };
    let boot = BTreeMap::from([("vmlinuz".to_owned(), BootFile { bytes: 8 * MIB, sha256: [0x33; 32] })]);
    let manifest = Manifest {
        architecture: Architecture::Arm64,
        compatible: vec!["board-1".to_owned(), "board-2".to_owned()],
        created: 0,
        instances: BTreeMap::from([(name("db"), image), (name("web"), image)]),
        name: "meter".to_owned(),
        needs_uplink: false,
        release: 8,
        requires: Requires { kernel: vec!["DM_VERITY".to_owned()], memory_mib: 128, runtime: VERSION },
        system: Some(System { boot, bytes: 64 * MIB, fingerprint: [0x22; 32] }),
        version: "8".to_owned(),
    };
    let header = Header {
        architecture: manifest.architecture,
        manifest_bytes: 1,
        manifest_sha256: [0; 32],
        release: manifest.release,
        oldest_before: 5,
        security_epoch: 3,
        minimum_runtime: VERSION,
    };
    Release { fingerprint: header.fingerprint(), header, manifest, signers: Vec::new() }
}

/// It has exactly what that needs.
fn board() -> Board {
    Board {
        product: Some("meter".to_owned()),
        compatible: vec!["board-2".to_owned()],
        architecture: Architecture::Arm64,
        runtime: RuntimeVersion::parse("0.2.0").unwrap(),
        accepted_release: 7,
        factory_release: 0,
        accepted_epoch: 3,
        current: Some([0x77; 32]),
        is_held: false,
        blocked: vec![[0x99; 32]],
        slot: Some(SlotRoom { bytes: 64 * MIB + 4096, boot_bytes: Some(8 * MIB + (64 << 10)) }),
        data_free_bytes: 20 * MIB,
        data_reserve_bytes: 8 * MIB,
        images: BTreeSet::new(),
        instances: BTreeSet::from([name("db"), name("web"), name("other")]),
        memory_mib: 128,
        kernel: KernelOptions::Known(BTreeSet::new()),
    }
}

#[test]
fn a_board_that_has_exactly_what_is_needed_takes_it() {
    let admitted = admit(&release(), &board()).unwrap();
    let parts =
        [(Part::Image([0x22; 32]), 64 * MIB), (Part::Image([0x11; 32]), 12 * MIB), (Part::Boot([0x33; 32]), 8 * MIB)];
    assert_eq!(admitted, Admitted { parts: parts.to_vec(), bytes: 84 * MIB });
    // As one does that was never updated, or whose slot is as long as the image.
    for change in [
        (|board| (board.product, board.accepted_release, board.current) = (None, 0, None)) as fn(&mut Board),
        |board| board.slot.as_mut().unwrap().bytes = 64 * MIB,
        |board| board.runtime = RuntimeVersion::parse("1.0.0-rc1").unwrap(),
    ] {
        let mut board = board();
        change(&mut board);
        assert!(admit(&release(), &board).is_ok(), "{board:?}");
    }
}

#[test]
fn what_is_here_already_is_not_fetched_and_takes_no_room() {
    let board = Board { images: BTreeSet::from([[0x11; 32]]), data_free_bytes: 0, ..board() };
    let admitted = admit(&release(), &board).unwrap();
    assert_eq!((admitted.parts.len(), admitted.bytes), (2, 72 * MIB));
}

/// Each rule by the least that breaks it: its name, and what is said with the numbers.
#[test]
fn each_rule_refuses_by_its_name_and_with_its_numbers() {
    type Change = fn(&mut Release, &mut Board);
    let cases: &[(&str, &str, Change)] = &[
        ("held", "hold --off", |_, board| board.is_held = true),
        ("product", "a release of gate, and this board runs meter", |release, _| {
            release.manifest.name = "gate".to_owned()
        }),
        ("architecture", "made for armhf, and this board is arm64", |release, _| {
            release.manifest.architecture = Architecture::Armhf;
        }),
        ("board", "made for board-1, board-2, and this board is board-3", |_, board| {
            board.compatible = vec!["board-3".to_owned()];
        }),
        ("board", "this board is nothing that has a name", |_, board| board.compatible.clear()),
        ("already", "release 8 runs already", |release, board| board.current = Some(release.fingerprint)),
        ("blocked", "release 8, or its system, failed here", |release, board| {
            board.blocked.push(release.fingerprint)
        }),
        ("blocked", "release 8, or its system, failed here", |_, board| board.blocked.push([0x22; 32])),
        ("security-epoch", "security epoch 3, and 4 was confirmed", |_, board| board.accepted_epoch = 4),
        ("older", "release 8 is not newer than 9", |_, board| board.accepted_release = 9),
        ("older", "release 8 is not newer than 8", |_, board| board.accepted_release = 8),
        ("older", "release 8 is not newer than 9", |_, board| board.factory_release = 9),
        ("stepping-stone", "follows release 5 or later, and 4 was", |_, board| board.accepted_release = 4),
        ("runtime", "needs runtime 0.2.0 or later, and this is 0.1.9", |_, board| {
            board.runtime = RuntimeVersion::parse("0.1.9").unwrap();
        }),
        ("runtime", "and this is 0.2.0-rc1", |_, board| board.runtime = RuntimeVersion::parse("0.2.0-rc1").unwrap()),
        ("instance", "for the instance web", |_, board| assert!(board.instances.remove(&name("web")))),
        ("kernel", "the kernel lacks DM_VERITY", |release, _| release.manifest.system = None),
        ("memory", "needs 128 MiB of memory, the board has 127: 1 MiB are missing", |_, board| {
            board.memory_mib = 127
        }),
        ("no-slot", "no second slot", |_, board| board.slot = None),
        (
            "slot-space",
            "takes 64.0 MiB and its header once more, 64.0 MiB in all, the slot has 64.0 MiB: 1 bytes are",
            |_, board| {
                board.slot.as_mut().unwrap().bytes -= 1;
            },
        ),
        ("slot-space", "the slot has 1.0 MiB: 63.0 MiB are missing", |_, board| {
            board.slot.as_mut().unwrap().bytes = MIB
        }),
        ("no-boot-partition", "has no boot partition", |_, board| board.slot.as_mut().unwrap().boot_bytes = None),
        (
            "boot-space",
            "1 boot files take 8.0 MiB, the slot's boot partition holds 8.0 MiB: 1 bytes are",
            |_, board| {
                board.slot.as_mut().unwrap().boot_bytes = Some(8 * MIB + (64 << 10) - 1);
            },
        ),
        (
            "data-space",
            "1 images take 12.0 MiB and 8.0 MiB stay free, 19.0 MiB are free on the data partition: 1.0 MiB",
            |_, board| {
                board.data_free_bytes = 19 * MIB;
            },
        ),
    ];
    for (rule, words, change) in cases {
        let (mut release, mut board) = (release(), board());
        change(&mut release, &mut board);
        let refusal = admit(&release, &board).unwrap_err();
        assert_eq!(refusal.rule(), *rule, "{refusal}");
        assert!(refusal.to_string().contains(words), "{refusal}");
        assert_eq!(Some(refusal.exit_code()), exit_codes::of_rule(rule).map(|row| row.code), "{rule}");
        assert!(3 <= refusal.exit_code());
    }
    let tried: BTreeSet<&str> = cases.iter().map(|(rule, ..)| *rule).collect();
    let all: BTreeSet<&str> =
        exit_codes::TABLE.iter().filter(|row| (30..50).contains(&row.code)).map(|row| row.rule).collect();
    assert_eq!(tried, all, "each rule of admission is tried here");
}

#[test]
fn a_container_release_needs_no_slot_and_asks_the_kernel_that_runs() {
    let mut release = release();
    release.manifest.system = None;
    let mut board = Board { slot: None, kernel: KernelOptions::Unknown, ..board() };
    assert_eq!(admit(&release, &board).unwrap().bytes, 12 * MIB);
    board.kernel = KernelOptions::Known(BTreeSet::from(["DM_VERITY".to_owned()]));
    assert!(admit(&release, &board).is_ok());
    // Without names it is for any board.
    release.manifest.compatible.clear();
    board.compatible.clear();
    assert!(admit(&release, &board).is_ok());
}

#[test]
fn numbers_at_their_ends_do_not_wrap() {
    let mut release = release();
    release.manifest.system.as_mut().unwrap().bytes = u64::MAX - 100;
    let refusal = admit(&release, &board()).unwrap_err();
    assert_eq!(refusal.rule(), "slot-space");
    let board = Board { data_reserve_bytes: u64::MAX, ..board() };
    assert_eq!(admit(&self::release(), &board).unwrap_err().rule(), "data-space");
}
