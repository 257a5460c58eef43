//! U-Boot's redundant environment, with the tools of U-Boot (Debian's `fw_printenv` and `fw_setenv`) as the witness: what we write
//! they read, and what they write we read, over generated environments.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use yado_updater::boot_loader::redundant_environment::{Copy, Texts, encode, parse};
use yado_updater::boot_loader::u_boot_environment::Places;
use yado_updater::boot_loader::{BootLoader, UBootEnvironment};
use yado_updater::boot_state::{Slot, Tries};

/// A few thousand environments, with a handful of changes each.
const ROUNDS: usize = 1000;
const BYTES: usize = 0x1000;

type Variables = BTreeMap<String, String>;

struct Environment {
    _folder: tempfile::TempDir,
    file: PathBuf,
    config: PathBuf,
    places: Places,
}

impl Environment {
    /// Copies that are far from each other, and begin where a partition would.
    fn new() -> Environment {
        let folder = tempfile::tempdir().unwrap();
        let (file, config) = (folder.path().join("disk"), folder.path().join("fw_env.config"));
        fs::write(&file, vec![0; 0x8000]).unwrap();
        let path = file.display();
        let text = format!("{path} 0x1000 0x{BYTES:x}\n{path} 0x5000 0x{BYTES:x}\n");
        fs::write(&config, &text).unwrap();
        let places = Places::parse(&text).unwrap();
        Environment { _folder: folder, file, config, places }
    }

    fn copies(&self) -> [Vec<u8>; 2] {
        let bytes = fs::read(&self.file).unwrap();
        [0x1000, 0x5000].map(|at| bytes[at..at + BYTES].to_vec())
    }

    fn put(&self, copies: [&[u8]; 2]) {
        let mut bytes = vec![0; 0x8000];
        for (at, copy) in [0x1000, 0x5000].into_iter().zip(copies) {
            bytes[at..at + BYTES].copy_from_slice(copy);
        }
        fs::write(&self.file, bytes).unwrap();
    }

    /// What U-Boot's own reader finds.
    fn printed(&self) -> Variables {
        let output = Command::new("fw_printenv").arg("-c").arg(&self.config).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.lines().map(|line| line.split_once('=').unwrap());
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Changes variables by U-Boot's own writer; an empty value takes one out.
    fn set(&self, changes: &Variables) {
        let script = self.file.with_extension("script");
        let lines: String = changes.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(&script, lines).unwrap();
        let status = Command::new("fw_setenv").arg("-c").arg(&self.config).arg("-s").arg(&script).status().unwrap();
        assert!(status.success());
    }
}

fn has_tools() -> bool {
    let is_there = Path::new("/usr/bin/fw_printenv").exists() && Path::new("/usr/bin/fw_setenv").exists();
    if !is_there {
        println!("SKIPPED: no fw_printenv and fw_setenv (cargo accept packages installs libubootenv-tool)");
    }
    is_there
}

/// Names and values as boards have them: scripts with quotes and semicolons, addresses, lists.
fn any_variables(chance: &mut fastrand::Rng) -> Variables {
    const VALUES: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789 ${};:,./\\'\"&|()[]<>*?!%@~^_-+=";
    let count = chance.usize(0..25);
    let mut variables = Variables::new();
    for _ in 0..count {
        let name: String = (0..chance.usize(1..20))
            .map(|_| if chance.u8(0..8) == 0 { '_' } else { chance.alphanumeric() })
            .collect();
        let mut value: String =
            (0..chance.usize(1..80)).map(|_| VALUES[chance.usize(0..VALUES.len())] as char).collect();
        // A script's line is trimmed, and a blank value takes a variable out.
        value.insert(0, 'v');
        value.push('e');
        variables.insert(name, value);
    }
    variables
}

fn texts_of(variables: &Variables) -> Texts {
    let mut texts = Texts::default();
    for (key, value) in variables {
        texts.set(key, Some(value));
    }
    texts
}

fn variables_of(texts: &Texts) -> Variables {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    texts.iter().map(|(key, value)| (text(key), text(value))).collect()
}

#[test]
fn generated_environments_are_the_same_to_the_tools_of_u_boot_and_to_us() {
    if !has_tools() {
        return;
    }
    let seed: u64 =
        std::env::var("YADO_WALK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("YADO_WALK_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let environment = Environment::new();
    let mut compared = 0;
    for _ in 0..ROUNDS {
        let (mine, older) = (any_variables(&mut chance), any_variables(&mut chance));
        let count = chance.u8(..);
        let newer = encode(&texts_of(&mine), count, BYTES).unwrap();
        let older = encode(&texts_of(&older), count.wrapping_sub(1), BYTES).unwrap();
        let is_first = chance.bool();
        environment.put(if is_first { [&newer, &older] } else { [&older, &newer] });

        // What we wrote is what they read, and the same copy is the newer to both.
        assert_eq!(environment.printed(), mine, "count {count}");
        let [first, second] = environment.copies();
        let found = parse(&first, &second).unwrap();
        assert_eq!((found.newer == Copy::First, variables_of(&found.texts)), (is_first, mine.clone()));

        // What they wrote is what we read: another copy, the next count, every variable.
        let mut changes = any_variables(&mut chance);
        for key in mine.keys().filter(|_| chance.u8(0..4) == 0) {
            changes.insert(key.clone(), String::new());
        }
        changes.insert("changed".to_owned(), chance.u32(..).to_string());
        environment.set(&changes);
        let mut expected = mine;
        expected.extend(changes);
        expected.retain(|_, value| !value.is_empty());
        let [first, second] = environment.copies();
        let after = parse(&first, &second).unwrap();
        assert_eq!((after.newer, after.count), (found.newer.other(), count.wrapping_add(1)));
        assert_eq!(variables_of(&after.texts), expected);
        // And these very bytes are what we would write; behind the last text they leave what was there.
        let (mine, theirs) =
            (encode(&after.texts, after.count, BYTES).unwrap(), if is_first { second } else { first });
        let end = mine.iter().rposition(|byte| *byte != 0).unwrap() + 2;
        assert_eq!(mine[4..end], theirs[4..end]);
        compared += 3;
    }
    println!("{compared} environments were the same to both");
}

#[test]
fn the_tools_of_u_boot_see_each_step_of_an_update_and_everything_of_others() {
    if !has_tools() {
        return;
    }
    let environment = Environment::new();
    let others: Variables =
        [("bootcmd", "run distro_bootcmd; run yado"), ("ethaddr", "52:54:00:12:34:56"), ("fdt_addr_r", "0x4a000000")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    let rauc = [("BOOT_ORDER", "A"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "0")];
    let mut all = others.clone();
    all.extend(rauc.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let first = encode(&texts_of(&all), 254, BYTES).unwrap();
    environment.put([&first, &[0xff; BYTES]]);

    let mut loader = UBootEnvironment::at(environment.places.clone());
    let seen = |order: &str, left: &str, trial: Option<&str>| {
        let printed = environment.printed();
        for (key, value) in &others {
            assert_eq!(printed.get(key), Some(value));
        }
        assert_eq!(printed["BOOT_ORDER"], order);
        assert_eq!(printed["BOOT_B_LEFT"], left);
        assert_eq!(printed.get("BOOT_TRIAL").map(String::as_str), trial);
    };
    loader.deny(Slot::B).unwrap();
    seen("A", "0", None);
    loader.arm(Slot::B, Tries::FULL).unwrap();
    seen("B A", "3", Some("B"));
    // U-Boot counts a try.
    environment.set(&[("BOOT_B_LEFT".to_owned(), "2".to_owned())].into());
    assert_eq!(loader.read().unwrap().b.left.count(), 2);
    loader.confirm(Slot::B).unwrap();
    seen("B A", "3", None);
    loader.fail(Slot::B, Some(&[7; 32])).unwrap();
    seen("A", "0", None);
    assert_eq!(environment.printed()["BOOT_BLOCKED"], "07".repeat(32));
}
