//! What `cargo accept` is made of, its tests are made of too: the same packages with the same features. Else cargo builds them twice, for
//! minutes, and replaces the program that runs.

use super::root;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

#[test]
fn the_program_and_the_whole_workspace_want_the_same_features_of_each_package() {
    let of_program = features(&["--package", "qemu-tests", "--edges", "normal,build"]);
    let of_all = features(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(50 < of_program.len(), "{of_program:?}");
    for (package, wanted) in of_program {
        let all = &of_all[&package];
        assert_eq!(&wanted, all, "{package}: qemu-tests/Cargo.toml lacks features that others want");
    }
}

/// The features of each package, once for each way in which it is built.
fn features(words: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["tree", "--locked", "--prefix", "none", "--format", "{p}\t{f}"]).args(words);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (package, features) in
        String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.split_once('\t'))
    {
        let features = features.trim_end_matches(" (*)").to_owned();
        found.entry(package.to_owned()).or_default().insert(features);
    }
    found
}
