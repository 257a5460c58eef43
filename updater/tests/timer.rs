//! The timer that looks for new releases, with the real program: what it tells init in `next-start`, what it keeps, and what
//! `yado update status` shows of it. Nobody is asked here but folders; the kernel's own uptime says whether a time is right.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::Value;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;
use yado_image::erofs::{Compression, Owners};
use yado_image::manifest::Manifest;
use yado_image::release::{self, BuildOptions};
use yado_image::secret::SecretKey;
use yado_image::{Architecture, ImageKind, pack};

/// A board without a second slot, which nothing boots.
struct Board(TempDir);

impl Board {
    fn new(policy: &str) -> Board {
        let board = Board(tempfile::tempdir().unwrap());
        for directory in ["system/trust", "data/state", "run/updater", "source"] {
            fs::create_dir_all(board.path(directory)).unwrap();
        }
        fs::write(board.path("run/boot"), format!("slot=A\nfingerprint={}\n", "ab".repeat(32))).unwrap();
        board.say(policy);
        board
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn say(&self, policy: &str) {
        let source = self.path("source").display().to_string();
        let policy = format!("boot.loader = \"file\"\ncompatible = \"bench\"\n{policy}").replace("SOURCE", &source);
        fs::write(self.path("system/update.toml"), policy).unwrap();
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut updater = Command::new(env!("CARGO_BIN_EXE_yado-updater"));
        updater.args(words).env("YADO_SYSTEM", self.path("system"));
        updater.env("YADO_DATA", self.path("data")).env("YADO_RUN", self.path("run"));
        updater.output().unwrap()
    }

    /// As init starts it, and takes what it has named; with its exit code.
    fn start(&self, words: &[&str]) -> (i32, Option<u64>) {
        let file = self.path("run/updater/next-start");
        let _ = fs::remove_file(&file);
        let output = self.run(words);
        println!("{words:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let next = fs::read_to_string(file).ok().map(|text| text.trim().parse().unwrap());
        (output.status.code().unwrap(), next)
    }

    fn next_check(&self) -> Option<String> {
        fs::read_to_string(self.path("run/updater/next-check")).ok()
    }

    fn set_next_check(&self, text: &str) {
        fs::write(self.path("run/updater/next-check"), text).unwrap();
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--format", "json"]).stdout).unwrap()
    }

    /// The source was asked since this was called last.
    fn is_asked(&self) -> bool {
        fs::remove_file(self.path("run/updater/last-check")).is_ok()
    }

    /// The file of what is remembered on the data partition: one that is written again is another one.
    fn remembered(&self) -> (u64, i64, i64) {
        let found = fs::metadata(self.path("data/state/update")).unwrap();
        (found.ino(), found.ctime(), found.ctime_nsec())
    }

    /// The source has release 4 of a system.
    fn offer_release(&self) {
        let key = SecretKey::from_seed(&[1; 32], "");
        fs::write(self.path("system/trust/key.pub"), key.public().to_text()).unwrap();
        fs::create_dir(self.path("root")).unwrap();
        fs::write(self.path("root/file"), "release 4").unwrap();
        let architecture = match std::env::consts::ARCH {
            "aarch64" => Architecture::Arm64,
            "arm" => Architecture::Armhf,
            _ => Architecture::X86_64,
        };
        let mut manifest = Manifest::new("meter", architecture);
        (manifest.release, manifest.compatible) = (4, vec!["bench".to_owned()]);
        let options = pack::BuildOptions {
            source: pack::Source::Directory(self.path("root")),
            output: self.path("image"),
            kind: ImageKind::System,
            manifest,
            security_epoch: 0,
            compression: Compression::None,
            threads: NonZeroUsize::MIN,
            owners: Owners::All { uid: 0, gid: 0 },
            timestamp: Some(0),
            keys: vec![SecretKey::from_seed(&[1; 32], "")],
            on_progress: |_| (),
        };
        pack::build(&options).unwrap();
        let options = BuildOptions { system: Some(self.path("image")), keys: vec![key], ..BuildOptions::default() };
        fs::remove_dir(self.path("source")).unwrap();
        release::build(&options).unwrap().write_folder(&self.path("source")).unwrap();
    }
}

/// Seconds since the boot, by the kernel.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    text.split('.').next().unwrap().parse().unwrap()
}

/// Whether so many seconds, said since `before`, lead to this time: not earlier, nor later by more than what is rounded.
fn leads_to(at: u64, before: u64, seconds: u64) -> bool {
    at <= uptime() + seconds && before + seconds <= at + 1
}

const HOURLY: &str = "source = \"SOURCE\"\ncheck.interval = \"1h\"\n";

#[test]
fn the_first_check_is_named_within_five_minutes_and_no_other_start_moves_forgets_or_makes_it() {
    let board = Board::new(HOURLY);
    let before = uptime();
    let (code, next) = board.start(&["resume"]);
    let named = board.next_check().unwrap();
    let at: u64 = named.trim().parse().unwrap();
    assert_eq!(code, 0);
    assert!((before..=uptime() + 300).contains(&at), "{at} at {before}");
    assert!(leads_to(at, before, next.unwrap()), "{next:?} to {at} at {before}");
    // No chance puts the next check so far away that it could be missed here.
    board.set_next_check(&format!("{}", before + 1000));
    let (named, at) = (board.next_check(), before + 1000);
    let elsewhere = board.path("data").display().to_string();
    let starts: [(&[&str], i32); 6] = [
        (&["resume"], 0),
        (&["run", "hold"], 0),
        (&["run", "unhold"], 0),
        (&["run", "confirm"], 54),
        (&["run", "cancel"], 56),
        (&["run", "rollback"], 52),
    ];
    for (words, expected) in starts {
        let before = uptime();
        let (code, next) = board.start(words);
        assert_eq!((code, board.next_check()), (expected, named.clone()), "{words:?}");
        assert!(leads_to(at, before, next.unwrap()), "{words:?}: {next:?} to {at} at {before}");
        assert!(!board.is_asked(), "{words:?}");
    }
    // What a user has checked is no check of the timer's, and an install in vain neither.
    for words in [["run", "check", &elsewhere], ["run", "install", &elsewhere]] {
        let before = uptime();
        let (code, next) = board.start(&words);
        assert_eq!((code == 0, board.next_check()), (false, named.clone()), "{words:?}");
        assert!(leads_to(at, before, next.unwrap()), "{words:?}: {next:?} to {at} at {before}");
    }
    assert_eq!(board.status()["last_check"]["source"], elsewhere.as_str());
    let before = uptime();
    let left = board.status()["next_check_s"].as_u64().unwrap();
    assert!(leads_to(at, before, left + 1), "{left} to {at} at {before}");
}

#[test]
fn a_source_that_fails_is_asked_at_its_time_once_and_costs_the_flash_nothing() {
    for automatic in [false, true] {
        let board = Board::new(&format!("{HOURLY}install.automatic = {automatic}\n"));
        board.start(&["resume"]);
        let remembered = board.remembered();
        board.set_next_check("0\n");
        let before = uptime();
        let (code, next) = board.start(&["resume"]);
        let after = uptime();
        assert_eq!(code, 10);
        assert!((3239..=3961).contains(&next.unwrap()), "{next:?}");
        let at: u64 = board.next_check().unwrap().trim().parse().unwrap();
        assert!((before + 3239..=after + 3960).contains(&at), "{at} at {before}");
        let status = board.status();
        let check = &status["last_check"];
        assert_eq!((&check["rule"], &check["release"]), (&"source-missing".into(), &Value::Null), "{status}");
        assert_eq!(check["source"], board.path("source").to_str().unwrap());
        assert!((before..=after).contains(&check["at_s"].as_u64().unwrap()), "{check}");
        let table = String::from_utf8(board.run(&["status"]).stdout).unwrap();
        let line = table.lines().find(|line| line.starts_with("last check: ")).unwrap();
        assert!(line.contains("source: release: ") && line.ends_with("(rule source-missing)"), "{table}");
        assert!(table.contains("\nnext check: in "), "{table}");
        assert!(board.is_asked());
        for words in [["resume"].as_slice(), &["run", "unhold"], &["resume"]] {
            board.start(words);
            assert!(!board.is_asked(), "{words:?}");
        }
        assert_eq!(board.remembered(), remembered, "something was begun");
    }
}

#[test]
fn a_refusal_is_kept_with_its_rule_and_shown_after_a_check_of_the_users_too() {
    let board = Board::new(&format!("{HOURLY}install.automatic = true\n"));
    board.offer_release();
    board.start(&["resume"]);
    let remembered = board.remembered();
    board.set_next_check("0");
    for words in [["resume"].as_slice(), &["run", "check"]] {
        // No machine of the tests has a second slot.
        assert_eq!(board.start(words).0, 43, "{words:?}");
        let status = board.status();
        let check = &status["last_check"];
        assert_eq!((&check["release"], &check["rule"]), (&4.into(), &"no-slot".into()), "{status}");
        assert!(board.is_asked());
    }
    assert_eq!((board.remembered(), board.status()["phase"].as_str()), (remembered, Some("idle")));
    assert_eq!(board.status()["last_check"], Value::Null);
}

#[test]
fn what_is_kept_is_not_believed_whatever_it_says_and_without_a_policy_nobody_comes() {
    let board = Board::new(HOURLY);
    for kept in ["", "soon", "-1", "99999999999999999999999999", "18446744073709551615", "9000000000", "\u{0}\u{ff}"]
    {
        board.set_next_check(kept);
        let (code, next) = board.start(&["resume"]);
        assert_eq!(code, 0, "{kept:?}");
        assert!(next.is_some_and(|next| next <= 300), "{kept:?}: {next:?}");
        assert!(!board.is_asked(), "{kept:?}");
    }
    // An interval that is shorter than before counts from the next start on.
    board.say("source = \"SOURCE\"\ncheck.interval = \"1m\"\n");
    board.set_next_check(&(uptime() + 3000).to_string());
    let (_, next) = board.start(&["resume"]);
    assert!(next.is_some_and(|next| next <= 60), "{next:?}");
    for policy in ["", "check.interval = \"1m\"\n", "source = \"SOURCE\"\ninstall.automatic = true\n"] {
        board.say(policy);
        board.set_next_check("0");
        assert_eq!(board.start(&["resume"]), (0, None), "{policy}");
        assert!(!board.is_asked(), "{policy}");
    }
}
