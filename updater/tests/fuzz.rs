//! What stands on the state partition was written by us, by the boot script, by somebody with `fw_setenv`, or by a power
//! cut. Whatever it is, one good copy is enough.

#![allow(clippy::unwrap_used)]

#[path = "../../runtime/spec/tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::fuzz;
use yado_updater::boot_state::{BootState, Mark, Slot};
use yado_updater::environment::{self, COPY_BYTES};
use yado_updater::record::{Cause, Line, Phase, Record, Release, StagingStep, SystemPart, Update};

/// What of a copy comes before its text.
const CHECKSUM_BYTES: usize = COPY_BYTES - environment::TEXT_BYTES;

/// A freshly made device, a device in its trial, and what the boot script of a plain RAUC writes.
fn states() -> Vec<Vec<(String, String)>> {
    let mut trial = BootState::factory(None);
    (trial.sequence, trial.trial, trial.a.mark) = (0x1f, Some(Slot::B), Some(Mark::Failed));
    trial.others = vec![("ethaddr".to_owned(), "52:54:00:12:34:56".to_owned())];
    let states = [BootState::factory(Some(Mark::Empty)), trial];
    let mut pairs: Vec<_> =
        states.iter().map(|state| environment::parse(&state.encode().unwrap()).unwrap()).collect();
    pairs[1].push(("BOOT_BLOCKED".to_owned(), format!("{} {}", "ab".repeat(32), "01".repeat(32))));
    let rauc = [("BOOT_A_LEFT", "2"), ("BOOT_B_LEFT", "0"), ("BOOT_ORDER", "A B"), ("BOOT_SEQ", "a")];
    pairs.push(rauc.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec());
    pairs
}

/// Copies without the zeros at their ends.
fn seeds() -> Vec<Vec<u8>> {
    let copies = states().into_iter().map(|pairs| environment::encode(&pairs).unwrap());
    copies.map(|copy| copy[..=copy.iter().rposition(|byte| *byte != 0).unwrap()].to_vec()).collect()
}

fn copy_of(bytes: &[u8]) -> [u8; COPY_BYTES] {
    std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0))
}

const WORDS: &[&str] =
    &["BOOT_ORDER=", "BOOT_SEQ=", "BOOT_TRIAL=", "BOOT_B_MARK=", "BOOT_BLOCKED=", "=", "A B", "\0", "\0\0"];

#[test]
fn texts_with_a_right_checksum_are_refused_or_come_out_the_same_again() {
    fuzz("boot environment", &seeds(), WORDS, |bytes| {
        let mut copy = copy_of(bytes);
        let checksum = crc32fast::hash(&copy[CHECKSUM_BYTES..]);
        copy[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(pairs) = environment::parse(&copy) {
            assert_eq!(environment::parse(&environment::encode(&pairs).unwrap()), Ok(pairs));
        }
        match BootState::parse_copy(&copy) {
            Ok(state) => {
                assert_eq!(BootState::parse_copy(&state.encode().unwrap()), Ok(state.clone()));
                assert!(state.next().is_none_or(|slot| state.order.slots().contains(&slot)));
            }
            Err(fault) => assert_eq!(fault.to_string().lines().count(), 1, "{fault}"),
        }
    });
}

#[test]
fn whatever_one_copy_holds_the_other_one_is_read() {
    let good = BootState { sequence: 0xffff, ..BootState::factory(None) };
    let copy = good.encode().unwrap();
    fuzz("boot state beside a good copy", &seeds(), &[], |bytes| {
        let bad = copy_of(bytes);
        for read in [BootState::parse(&copy, &bad), BootState::parse(&bad, &copy)] {
            assert_eq!(read.as_ref(), Ok(&good));
        }
    });
}

/// A record in the middle of an update, with a release that failed before.
fn record_seeds() -> Vec<Vec<u8>> {
    let release = Release { fingerprint: [9; 32], number: 9, security_epoch: 1, version: Line::cut("9.0") };
    let update = Update {
        number: 4,
        kind: yado_updater::record::Kind::Install,
        release: Some(release.clone()),
        system: Some(SystemPart { slot: Slot::B, fingerprint: Some([8; 32]) }),
        instances: Vec::new(),
        needs_uplink: true,
        source: Line::cut("http://127.0.0.1/9/"),
        asked_unix: 1_800_000_000,
    };
    let mut record = Record { current: Some(release.clone()), ..Record::default() };
    record.block(release, None, Cause::Panic);
    let staging = Phase::Staging { update: update.clone(), step: StagingStep::Write, failures: 1, rewrites: 0 };
    let trial = Phase::Trial { update, arms: 1, starts: 1, is_switched: false };
    [Phase::Idle, staging, trial].map(|phase| Record { phase, ..record.clone() }.to_text().into_bytes()).to_vec()
}

#[test]
fn a_record_with_a_right_checksum_is_refused_or_comes_out_the_same_again() {
    let words =
        ["phase trial\n", "kind found\n", "release -\n", "cause unwell web x\n", "switched yes\n", "blocked 8\n"];
    fuzz("update record", &record_seeds(), &words, |bytes| {
        let end = bytes.windows(10).rposition(|window| window == b"\nchecksum ").map_or(bytes.len(), |at| at + 1);
        let mut text = bytes[..end].to_vec();
        text.extend_from_slice(format!("checksum {:08x}\n", crc32fast::hash(&bytes[..end])).as_bytes());
        if let Ok(record) = Record::parse(&text) {
            assert_eq!(record.to_text().into_bytes(), text);
        }
    });
}
