//! The file as a whole: each way in which it is not whole or not ours is an error with a name, and a file of another boot counts
//! as no file.

#![allow(clippy::unwrap_used)]

use super::*;
use std::fs;
use yado_wire::RunNumber;

#[test]
fn a_file_that_is_not_whole_and_of_this_version_is_an_error_with_a_name() {
    let bytes = Saved::nothing("one").encode();
    assert_eq!(Saved::decode(&bytes).unwrap(), Saved::nothing("one"));
    let said = |bytes: &[u8]| Saved::decode(bytes).unwrap_err().to_string();
    for len in 0..bytes.len() {
        let expected = if len < 4 { "not a state of netd" } else { "damaged" };
        assert_eq!(said(&bytes[..len]), expected, "cut at {len}");
    }
    assert_eq!(said(&[&bytes[..], &[0]].concat()), "damaged", "longer");
    for at in 4..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert_eq!(said(&flipped), "damaged", "flipped at {at}");
    }
    for version in [4, 6] {
        let mut other = bytes.clone();
        other[3] = version;
        assert_eq!(said(&other), format!("of version {version}, this netd reads 5"));
    }
}

#[test]
fn no_file_and_one_of_another_boot_are_nothing_and_an_unreadable_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("netd.state");
    assert_eq!(Saved::read(&path, "one").unwrap(), Saved::nothing("one"));
    let mut saved = Saved::nothing("one");
    let instance = yado_wire::InstanceId(7);
    saved.runs.begin(instance, RunNumber(5_000_000)).unwrap();
    fs::write(&path, saved.encode()).unwrap();
    assert_eq!(Saved::read(&path, "one").unwrap(), saved);
    let mut after = Saved::read(&path, "two").unwrap();
    assert_eq!(after, Saved::nothing("two"));
    assert_eq!(after.runs.begin(instance, RunNumber(1_000_000)), Ok(()), "run numbers begin anew");
    File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert!(matches!(Saved::read(&path, "one"), Err(SavedError::TooLong)));
    assert!(matches!(Saved::read(directory.path(), "one"), Err(SavedError::Read(_))), "a directory");
}
