//! What the boot state survives: torn writes at every byte, bad copies, keys of others.
#![allow(clippy::unwrap_used)]

use super::*;
use environment::COPY_BYTES;

fn full() -> BootState {
    BootState {
        sequence: 0x1f,
        order: Order::BThenA,
        a: SlotState { left: Tries::FULL, mark: None },
        b: SlotState { left: Tries(2), mark: Some(Mark::Writing) },
        trial: Some(Slot::B),
        blocked: Blocked(vec![[0xab; 32], [1; 32]]),
        others: vec![("ethaddr".to_owned(), "52:54:00:12:34:56".to_owned())],
    }
}

fn copy_of(text: &[(&str, &str)]) -> [u8; COPY_BYTES] {
    let pairs: Vec<(String, String)> =
        text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    environment::encode(&pairs).unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let states = [BootState::factory(None), BootState::factory(Some(Mark::Empty)), full()];
    for state in states {
        assert_eq!(BootState::parse_copy(&state.encode().unwrap()), Ok(state));
    }
}

#[test]
fn the_bytes_of_version_1_are_frozen() {
    let copy = full().encode().unwrap();
    let text = format!(
        "BOOT_ORDER=B A\0BOOT_A_LEFT=3\0BOOT_B_LEFT=2\0BOOT_SEQ=1f\0BOOT_TRIAL=B\0BOOT_B_MARK=writing\0\
         BOOT_BLOCKED={} {}\0ethaddr=52:54:00:12:34:56\0\0",
        "ab".repeat(32),
        "01".repeat(32)
    );
    assert_eq!(&copy[4..4 + text.len()], text.as_bytes());
    assert!(copy[4 + text.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_a_plain_rauc_boot_script_writes_is_read() {
    let copy = copy_of(&[("BOOT_A_LEFT", "2"), ("BOOT_B_LEFT", "0"), ("BOOT_ORDER", "A B"), ("BOOT_SEQ", "a")]);
    let state = BootState::parse_copy(&copy).unwrap();
    assert_eq!(
        (state.sequence, state.order, state.a.left.count(), state.b.left),
        (10, Order::AThenB, 2, Tries::NONE)
    );
    assert_eq!((state.trial, state.next()), (None, Some(Slot::A)));
}

#[test]
fn a_write_torn_at_any_byte_leaves_the_old_or_the_new_state() {
    let old = BootState::factory(None);
    let new = BootState { sequence: 2, order: Order::B, trial: Some(Slot::B), ..old.clone() };
    let (before, after) = (old.encode().unwrap(), new.encode().unwrap());
    for cut in 0..=COPY_BYTES {
        let torn: [u8; COPY_BYTES] = std::array::from_fn(|at| if at < cut { after[at] } else { before[at] });
        // The first copy is torn while the second is untouched …
        let read = BootState::parse(&torn, &before).unwrap();
        assert!(read == old || read == new, "first copy cut at {cut}: {read:?}");
        // … or the first is done and the second is torn.
        assert_eq!(BootState::parse(&after, &torn).as_ref(), Ok(&new), "second copy cut at {cut}");
    }
}

#[test]
fn sectors_that_land_in_any_order_leave_the_old_or_the_new_state() {
    let old = full();
    let new = BootState { sequence: 0x20, blocked: Blocked(vec![[7; 32]; 4]), ..old.clone() };
    let (before, after) = (old.encode().unwrap(), new.encode().unwrap());
    for landed in 0u32..256 {
        let torn: [u8; COPY_BYTES] =
            std::array::from_fn(|at| if landed >> (at / 512) & 1 == 1 { after[at] } else { before[at] });
        let read = BootState::parse(&torn, &before).unwrap();
        assert!(read == old || read == new, "sectors {landed:08b}: {read:?}");
    }
}

#[test]
fn the_newer_of_two_good_copies_wins() {
    let old = BootState::factory(None);
    let new = BootState { sequence: 0x10, ..old.clone() };
    let (older, newer) = (old.encode().unwrap(), new.encode().unwrap());
    assert_eq!(BootState::parse(&older, &newer), Ok(new.clone()));
    assert_eq!(BootState::parse(&newer, &older), Ok(new));
}

#[test]
fn two_bad_copies_are_an_error_that_says_why_for_each() {
    let blank = [0; COPY_BYTES];
    let odd = copy_of(&[("BOOT_ORDER", "C"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "3")]);
    let error = BootState::parse(&blank, &odd).unwrap_err().to_string();
    assert!(error.contains("first copy: checksum is 00000000"), "{error}");
    assert!(error.contains("second copy: BOOT_ORDER is \"C\", expected `A B`"), "{error}");
}

#[test]
fn a_value_out_of_range_makes_the_copy_bad() {
    let good = [("BOOT_ORDER", "A B"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "3")];
    let refused = [
        ("BOOT_ORDER", ""),
        ("BOOT_ORDER", "A A"),
        ("BOOT_ORDER", "A  B"),
        ("BOOT_A_LEFT", "10"),
        ("BOOT_A_LEFT", "a"),
        ("BOOT_B_LEFT", "-1"),
        ("BOOT_SEQ", "100000000"),
        ("BOOT_SEQ", "+1"),
        ("BOOT_TRIAL", "C"),
        ("BOOT_A_MARK", "bad"),
        ("BOOT_BLOCKED", "ab"),
        ("BOOT_BLOCKED", "é"),
    ];
    assert!(BootState::parse_copy(&copy_of(&good)).is_ok());
    for (key, value) in refused {
        let mut pairs: Vec<(&str, &str)> = good.iter().copied().filter(|(other, _)| *other != key).collect();
        pairs.push((key, value));
        let fault = BootState::parse_copy(&copy_of(&pairs)).unwrap_err();
        assert!(matches!(&fault, CopyFault::Value(bad) if bad.key == key), "{key}={value}: {fault}");
    }
}

#[test]
fn more_blocked_images_than_the_limit_are_refused() {
    let five = vec!["00".repeat(32); 5].join(" ");
    let copy = copy_of(&[("BOOT_ORDER", "A"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "0"), ("BOOT_BLOCKED", &five)]);
    assert!(BootState::parse_copy(&copy).is_err());
}

#[test]
fn a_state_that_outgrows_its_copy_is_not_written() {
    let mut state = full();
    state.others.push(("big".to_owned(), "x".repeat(COPY_BYTES)));
    assert!(state.encode().is_err());
}

#[test]
fn the_next_slot_is_the_first_with_a_try_left() {
    let mut state = full();
    assert_eq!(state.next(), Some(Slot::B));
    state.b.left = Tries::NONE;
    assert_eq!(state.next(), Some(Slot::A));
    state.a.left = Tries::NONE;
    assert_eq!(state.next(), None);
}

#[test]
fn the_boot_script_carries_every_key_that_is_written() {
    let all =
        BootState { a: SlotState { left: Tries::FULL, mark: Some(Mark::Failed) }, others: Vec::new(), ..full() };
    for (key, _) in environment::parse(&all.encode().unwrap()).unwrap() {
        assert!(VARIABLES.split(' ').any(|known| known == key), "{key}");
    }
}
