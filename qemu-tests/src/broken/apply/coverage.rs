//! Whether each key that the compiler's tables say to apply at once is seen to do so by a case, or has a reason why not here.

use super::{devices, limits, networks, rules};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use yado_spec::device_types::DEVICE_TYPES;
use yado_spec::keys::GROUPS;
use yado_spec::network_keys;
use yado_spec::row::{Row, RowKind, rows};
use yado_spec::setting::Applies;

/// Keys that no case shows, and why.
const REASONS: &[(&str, &str)] = &[
    (
        "boot.autostart",
        "read when the system starts, from the file itself; the demo's step 9 starts a new instance by it",
    ),
    ("boot.autostart.delay", "read when the system starts, from the file itself"),
    ("boot.autostart.priority", "read when the system starts, from the file itself"),
    ("boot.stop.method", "seen when it is stopped: hosted, `the_key_holds_at_once_on_what_runs`"),
    ("boot.stop.priority", "read when the system ends: hosted, `another_order_of_stopping_holds_at_once`"),
    ("health.required", "asked by the updater: hosted, `what_a_trial_is_judged_by_is_told_of_each_instance`"),
    (
        "security.protection.delete",
        "nothing deletes an instance but whoever takes its file away, and the key with it",
    ),
    (
        "bridge.ipv4.firewall",
        "the board has no nft: netd's namespaces, `rules_of_our_own_are_there_as_long_as_they_are_wanted`",
    ),
];

/// Where the tests are that reasons name, below the tree's root.
const ELSEWHERE: [&str; 2] = ["runtime", "netd"];

/// Whether a Rust file in or below `directory` has a function of this name.
fn has_function(directory: &Path, name: &str) -> bool {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return has_function(&path, name);
        }
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        is_rust && fs::read_to_string(&path).unwrap().contains(&format!("fn {name}("))
    })
}

/// A row that has a value which goes somewhere, and whose change applies at once.
fn is_at_once(row: &dyn Row) -> bool {
    row.applies() == Applies::AtOnce && matches!(row.kind(), RowKind::One | RowKind::Each)
}

fn at_once() -> BTreeSet<String> {
    let keys = GROUPS.iter().flat_map(|(_, table)| rows(table)).map(|row| (String::new(), row));
    let bridge = rows(network_keys::BRIDGE).into_iter().map(|row| ("bridge.".to_owned(), row));
    let physical = rows(network_keys::PHYSICAL).into_iter().map(|row| ("physical.".to_owned(), row));
    // An option of one name is one thing, whatever type it stands in.
    let options = DEVICE_TYPES.iter().flat_map(|device_type| device_type.options());
    let options = options.map(|row| ("device.".to_owned(), row));
    let of_tables = keys.chain(bridge).chain(physical).chain(options);
    let named = of_tables.filter(|(_, row)| is_at_once(*row)).map(|(prefix, row)| format!("{prefix}{}", row.name()));
    let types = DEVICE_TYPES.iter().filter(|device_type| device_type.applies == Applies::AtOnce);
    named.chain(types.map(|device_type| device_type.name.to_owned())).collect()
}

#[test]
fn every_key_that_applies_at_once_is_seen_to_or_says_why_not() {
    let of_limits = limits::CASES.iter().flat_map(|case| case.shows).copied();
    let shown: BTreeSet<&str> =
        of_limits.chain(devices::shown()).chain(rules::shown_keys()).chain(networks::shown_keys()).collect();
    let at_once = at_once();
    let excused: BTreeSet<&str> = REASONS.iter().map(|(key, _)| *key).collect();
    let missed: Vec<&String> =
        at_once.iter().filter(|key| !shown.contains(key.as_str()) && !excused.contains(key.as_str())).collect();
    assert!(missed.is_empty(), "no case shows them, and no reason says why: {missed:?}");
    let unknown: Vec<&&str> = shown.iter().chain(&excused).filter(|key| !at_once.contains(**key)).collect();
    assert!(unknown.is_empty(), "no table says that these apply at once: {unknown:?}");
    let both: Vec<_> = shown.intersection(&excused).collect();
    assert!(both.is_empty(), "shown and excused: {both:?}");
    // A reason that names a test names one that there is.
    for (key, reason) in REASONS {
        for named in reason.split('`').skip(1).step_by(2) {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let is_there = ELSEWHERE.iter().any(|directory| has_function(&root.join(directory), named));
            assert!(is_there, "{key}: there is no {named}");
        }
    }
}
