//! What the design and the style fix about the tree itself: who may depend on whom, where `unsafe` may stand, how long a
//! file may be. A change that breaks one of these is wrong, or changes the rule here and says why.
#![allow(clippy::unwrap_used)]

mod built_once;
mod commands;
mod contributing;
mod dependencies;
mod sources;

use std::path::Path;

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn both_licences_and_the_security_policy_are_there() {
    for name in ["LICENSE-MIT", "LICENSE-APACHE", "SECURITY.md", "CHANGELOG.md", "README.md", "CONTRIBUTING.md"] {
        let length = std::fs::metadata(root().join(name)).map_or(0, |metadata| metadata.len());
        assert_ne!(length, 0, "{name} is missing or empty");
    }
}
