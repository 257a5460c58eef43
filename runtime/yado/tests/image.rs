//! `yado key` and `yado image`, from outside, in a directory of their own.
#![allow(clippy::unwrap_used)]

mod command;

use command::{Workshop, text};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A workshop with a key `k`, a root directory and the signed image `b.img` made of both.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write_program("root/sbin/init");
    workshop.write("root/etc/hostname", "box\n");
    workshop.succeed(&["key", "new", "k"]);
    workshop.succeed(&build("b.img", &["--key", "k.key"]));
    workshop
}

/// A time before that of all files here.
const LONG_AGO: &str = "1000000000";

#[test]
fn an_init_that_could_not_start_is_refused_and_one_that_is_not_known_is_told() {
    let workshop = workshop();
    let said = |arguments: &[&str]| {
        let output = workshop.succeed(&build("c.img", arguments));
        let info = workshop.json(&["image", "info", "c.img", "--format", "json"]);
        (text(&output.stderr).to_owned(), info["manifest"].clone())
    };
    let (warning, manifest) = said(&[]);
    assert!(
        warning.contains("/sbin/init is not known: it will be asked to power off by SIGTERM; --halt-signal"),
        "{warning}"
    );
    assert_eq!(manifest["halt_signal"], "SIGTERM");
    let (warning, manifest) = said(&["--halt-command", "/bin/stop now"]);
    assert_eq!((warning.as_str(), &manifest["halt_command"]), ("", &serde_json::json!(["/bin/stop", "now"])));
    assert!(manifest["halt_signal"].is_null());

    workshop.write_program("root/usr/lib/systemd/systemd");
    symlink("/usr/lib", workshop.path("root/lib")).unwrap();
    fs::remove_file(workshop.path("root/sbin/init")).unwrap();
    symlink("../lib/systemd/systemd", workshop.path("root/sbin/init")).unwrap();
    let (warning, manifest) = said(&[]);
    assert_eq!((warning.as_str(), &manifest["halt_signal"]), ("", &serde_json::json!("SIGRTMIN+3")));
    assert_eq!(said(&["--halt-signal", "SIGUSR1"]).1["halt_signal"], "SIGUSR1");

    for (arguments, reason) in [
        (
            ["--init", "/bin/nothing"],
            "the init /bin/nothing could not be started: /bin is not in the root; --init names another one",
        ),
        (["--init", "/etc/hostname"], "/etc/hostname is not executable"),
        (["--halt-command", "poweroff"], "must begin with the path of a program"),
    ] {
        let output = workshop.fail(&build("d.img", &arguments));
        assert!(text(&output.stderr).contains(reason), "{output:?}");
        assert!(!workshop.path("d.img").exists());
    }
    let mut other = build("d.img", &[]);
    other[7] = "arm64";
    let output = workshop.fail(&other);
    assert!(
        text(&output.stderr).contains("/usr/lib/systemd/systemd is for armhf, and the image for arm64"),
        "{output:?}"
    );
}

#[test]
fn a_root_on_which_nothing_can_be_mounted_is_refused() {
    let workshop = workshop();
    for name in ["dev", "proc", "run", "sys"] {
        let place = workshop.path("root").join(name);
        for target in ["/etc", "../../../../tmp", "nowhere"] {
            symlink(target, &place).unwrap();
            let output = workshop.fail(&build("d.img", &[]));
            let reason = format!("/{name} of the root is no directory, and a start mounts on it");
            assert!(text(&output.stderr).contains(&reason), "{output:?}");
            fs::remove_file(&place).unwrap();
        }
        fs::create_dir(&place).unwrap();
    }
    // These are the root's own affair.
    symlink("/sbin", workshop.path("root/tmp")).unwrap();
    workshop.succeed(&build("c.img", &[]));
    assert!(!workshop.path("d.img").exists());
}

/// One header of a tar archive and nothing behind it: POSIX.1-1988, "ustar".
fn header(name: &str, size: &str) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    for (offset, text) in
        [(0, name), (100, "0000755"), (108, "0000000"), (116, "0000000"), (124, size), (136, "00000000000")]
    {
        bytes[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    }
    bytes[156] = b'0';
    bytes[257..265].copy_from_slice(b"ustar\x0000");
    // Of all bytes, with blanks in place of the sum.
    let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * u32::from(b' ');
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[test]
fn an_archive_that_climbs_out_or_promises_more_than_there_is_is_refused() {
    let workshop = workshop();
    let end = [0; 1024];
    for (archive, reason) in [
        ([&header("../climbed", "00000000000"), &end[..]].concat(), "../climbed"),
        ([&header("a/../../climbed", "00000000000"), &end[..]].concat(), "a/../../climbed"),
        ([&header("huge", "77777777777"), &end[..]].concat(), "cut short"),
    ] {
        fs::write(workshop.path("bad.tar"), archive).unwrap();
        let mut words = build("d.img", &[]);
        let root = words.iter().position(|word| *word == "root").unwrap();
        words[root] = "bad.tar";
        let output = workshop.fail(&words);
        assert!(text(&output.stderr).contains(reason), "{output:?}");
        assert!(!workshop.path("d.img").exists() && !workshop.path("climbed").exists());
    }
}

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
    workshop.write_program("other/sbin/init");
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
