//! `yado key` and `yado image`, from outside, in a directory of their own.
#![allow(clippy::unwrap_used)]

mod command;

use command::{Workshop, text};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A workshop with a key `k`, a root directory and the signed image `b.img` made of both.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("root/sbin/init", "#!/bin/sh\n");
    workshop.write("root/etc/hostname", "box\n");
    workshop.succeed(&["key", "new", "k"]);
    workshop.succeed(&build("b.img", &["--key", "k.key"]));
    workshop
}

/// A time before that of all files here.
const LONG_AGO: &str = "1000000000";

fn build<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["image", "build", "root", output, "--name", "box", "--arch", "armhf", "--owner", "0:0"];
    fixed.iter().chain(more).copied().collect()
}

#[test]
fn a_key_pair_is_made_once_and_its_secret_is_for_its_owner_only() {
    let workshop = Workshop::new();
    workshop.succeed(&["key", "new", "k", "--comment", "workshop"]);
    let mode = fs::metadata(workshop.path("k.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(fs::read_to_string(workshop.path("k.pub")).unwrap().ends_with(" workshop\n"));
    let secret = fs::read(workshop.path("k.key")).unwrap();
    workshop.fail(&["key", "new", "k"]);
    assert_eq!(fs::read(workshop.path("k.key")).unwrap(), secret, "the old key must stay");
}

#[test]
fn a_secret_is_never_printed_and_one_that_others_can_read_is_refused() {
    let workshop = workshop();
    let key = fs::read_to_string(workshop.path("k.key")).unwrap();
    let secret = key.split(' ').nth(1).unwrap().to_owned();
    fs::set_permissions(workshop.path("k.key"), fs::Permissions::from_mode(0o644)).unwrap();
    for arguments in [build("c.img", &["--key", "k.key"]), vec!["image", "sign", "b.img", "--key", "k.key"]] {
        let output = workshop.fail(&arguments);
        assert!(text(&output.stderr).contains("k.key: others can read"), "{output:?}");
        assert!(!text(&output.stderr).contains(&secret) && !text(&output.stdout).contains(&secret));
    }
    assert!(!workshop.path("c.img").exists());
}

#[test]
fn the_same_files_give_the_same_image() {
    let workshop = workshop();
    let read = |image: &str| fs::read(workshop.path(image)).unwrap();
    workshop.succeed(&build("c.img", &["--key", "k.key"]));
    assert!(read("b.img") == read("c.img"));
    // The directory is another one, and its files are of another time, but none may be newer than that.
    workshop.write("other/etc/hostname", "box\n");
    workshop.write("other/sbin/init", "#!/bin/sh\n");
    workshop.succeed(&build("c.img", &["--key", "k.key", "--timestamp", LONG_AGO]));
    let mut again = build("d.img", &["--key", "k.key"]);
    again[2] = "other";
    let output = workshop.command(&again).env("SOURCE_DATE_EPOCH", LONG_AGO).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(read("c.img") == read("d.img"));
    let output = workshop.command(&again).env("SOURCE_DATE_EPOCH", "soon").output().unwrap();
    assert!(text(&output.stderr).contains("SOURCE_DATE_EPOCH is \"soon\""), "{output:?}");
}

#[test]
fn a_good_image_is_verified_and_shown_and_extracted() {
    let workshop = workshop();
    let info = workshop.json(&["image", "info", "b.img", "--format", "json"]);
    assert_eq!((&info["manifest"]["name"], &info["architecture"]), (&"box".into(), &"armhf".into()));
    let verified = workshop.json(&["image", "verify", "b.img", "--key", "k.pub", "--format", "json"]);
    assert_eq!(verified["verified"], true);
    assert_eq!(verified["signers"], info["claimed_signers"]);
    workshop.succeed(&["image", "extract", "b.img", "payload"]);
    let payload = fs::read(workshop.path("payload")).unwrap();
    assert_eq!(payload.len() as u64, info["payload_bytes"].as_u64().unwrap());
    assert_eq!(payload, fs::read(workshop.path("b.img")).unwrap()[..payload.len()]);
}

#[test]
fn each_kind_of_damage_is_told_from_the_others() {
    let workshop = workshop();
    workshop.succeed(&["key", "new", "stranger"]);
    let whole = fs::read(workshop.path("b.img")).unwrap();
    let info = workshop.json(&["image", "info", "b.img", "--format", "json"]);
    let payload = info["payload_bytes"].as_u64().unwrap() as usize;
    let flips = [(100, "image-payload"), (payload + 1, "image-tree"), (whole.len() - 4096, "image-header")];
    for (offset, step) in flips {
        let mut damaged = whole.clone();
        damaged[offset] ^= 1;
        fs::write(workshop.path("d.img"), damaged).unwrap();
        let output = workshop.fail(&["image", "verify", "d.img", "--key", "k.pub"]);
        assert!(text(&output.stderr).contains(step), "byte {offset}: {output:?}");
    }
    fs::write(workshop.path("d.img"), &whole[..whole.len() - 4096]).unwrap();
    workshop.fail(&["image", "verify", "d.img", "--key", "k.pub"]);

    let output = workshop.run(&["image", "verify", "b.img", "--key", "stranger.pub", "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["verified"], &value["step"]), (&false.into(), &"image-signature".into()));
    assert!(!output.status.success());
}

#[test]
fn a_second_signature_counts_and_leaves_the_fingerprint() {
    let workshop = workshop();
    workshop.succeed(&["key", "new", "second"]);
    let two =
        ["image", "verify", "b.img", "--key", "k.pub", "--key", "second.pub", "--threshold", "2", "--format", "json"];
    assert!(!workshop.run(&two).status.success());
    let before = workshop.json(&["image", "info", "b.img", "--format", "json"]);
    workshop.succeed(&["image", "sign", "b.img", "--key", "second.key"]);
    let after = workshop.json(&two);
    assert_eq!(after["fingerprint"], before["fingerprint"]);
    assert_eq!(after["signers"].as_array().unwrap().len(), 2);
}
