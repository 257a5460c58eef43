//! Who depends on whom: arrows point down, never up or sideways, and PID 1 links an exact list of crates.

use crate::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// A crate's layer: it may depend on those of lower layers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// Messages, and the kernel's edge: they do not know each other either.
    Base,
    /// Logic without a process of its own.
    Logic,
    /// One process each.
    Process,
    /// What puts processes into one binary.
    Binary,
    /// Tests; nothing of it is shipped.
    Tests,
}

const LAYERS: &[(&str, Layer)] = &[
    ("yado-wire", Layer::Base),
    ("yado-sys", Layer::Base),
    ("yado-lz4", Layer::Base),
    ("yado-spec", Layer::Logic),
    ("yado-image", Layer::Logic),
    ("yado-storage", Layer::Logic),
    // Programs of the tests; the launcher's own tests make their attacks too.
    ("qemu-guest", Layer::Logic),
    ("yado-init", Layer::Process),
    ("yado-container", Layer::Process),
    ("yado-api", Layer::Process),
    ("yado-cli", Layer::Process),
    ("yado-netd", Layer::Process),
    ("yado-updater", Layer::Process),
    ("yado", Layer::Binary),
    ("qemu-tests", Layer::Tests),
];

/// Everything that is linked into PID 1 on a board. Whoever adds to it says why in the change: each of these can stop a
/// device from booting.
const INIT_LINKS: &[&str] = &[
    "base64ct",
    "bitflags",
    "block-buffer",
    "byteorder",
    "cfg-if",
    "cobs",
    "crypto-common",
    "curve25519-dalek",
    "digest",
    "dlmalloc",
    "ed25519",
    "ed25519-dalek",
    "hash32",
    "heapless",
    "hybrid-array",
    "libc",
    "linux-raw-sys",
    "memoffset",
    "nix",
    "postcard",
    "rustix",
    "serde",
    "serde_core",
    "sha2",
    "signature",
    "stable_deref_trait",
    "subtle",
    "thiserror",
    "typenum",
    "yado-image",
    "yado-init",
    "yado-spec",
    "yado-sys",
    "yado-wire",
];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn layer_of(name: &str) -> Layer {
    match LAYERS.iter().find(|(known, _)| *known == name) {
        Some((_, layer)) => *layer,
        None => panic!("{name} is in no layer: add it to LAYERS, where it belongs by design"),
    }
}

#[test]
fn arrows_point_down() {
    let packages = packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            // A crate may test itself with more of its own features; and guided fuzzing, a build of its own, counts by sys.
            let is_for_fuzzing = dependency["kind"] == "dev" && dependency["target"] == "cfg(yado_coverage)";
            if names.contains(other) && other != name && !is_for_fuzzing {
                assert!(layer_of(other) < layer_of(name), "{name} must not depend on {other}");
            }
        }
    }
}

#[test]
fn pid_1_links_an_exact_list_of_crates() {
    let arguments = [
        "tree",
        "--package=yado-init",
        "--edges=normal,no-proc-macro",
        "--target=armv7-unknown-linux-musleabihf",
        "--prefix=none",
        "--format={p}",
    ];
    let tree = cargo(&arguments);
    let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let allowed: BTreeSet<&str> = INIT_LINKS.iter().copied().collect();
    let added: Vec<_> = linked.difference(&allowed).collect();
    let gone: Vec<_> = allowed.difference(&linked).collect();
    assert!(added.is_empty() && gone.is_empty(), "added: {added:?}, and gone from the list: {gone:?}");
}

#[test]
fn versions_and_lints_stand_in_the_workspace_and_nowhere_else() {
    for package in packages() {
        let path = package["manifest_path"].as_str().unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("[lints]\nworkspace = true"), "{path}: the workspace's lints are not on");
        let mut is_dependency = false;
        for line in text.lines() {
            if line.starts_with('[') {
                is_dependency = line.contains("dependencies");
            }
            // A feature list that goes on over more lines has no `=`.
            let (_, value) = match line.split_once('=') {
                Some(halves) if is_dependency && !line.starts_with('#') => halves,
                _ => continue,
            };
            let is_inherited = line.contains("workspace = true") || value.contains("path =");
            assert!(is_inherited, "{path}: {line}: its version belongs into the workspace");
        }
    }
}
