//! What stands on the state partition was written by us, by the boot script, by somebody with `fw_setenv`, or by a power
//! cut. Whatever it is, one good copy is enough.

#![allow(clippy::unwrap_used)]

#[path = "../../runtime/spec/tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::fuzz;
use yado_updater::boot_state::{BootState, Mark, Slot};
use yado_updater::environment::{self, COPY_BYTES};

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
