//! A release that comes later than this one: the same programs, with one version more of each format on the data partition. Tests of
//! what it may write while it is on trial need it as a program, or are run in such a build.

use std::path::PathBuf;

use super::cargo_tests;
use super::tally::Tally;
use crate::cache::Cache;
use crate::command::{CommandError, Tool};

/// One version more.
const FEATURE: &str = "yado-wire/next-formats";

/// Of tests that say something else in such a build.
const TESTS: &str = "a_later_one_comes_with_the_confirmation";

fn target(cache: &Cache) -> PathBuf {
    cache.root().join("later-target")
}

/// Builds its updater: it lies elsewhere than this one's.
pub(super) fn updater(cache: &Cache, tally: &mut Tally) -> Option<PathBuf> {
    let target = target(cache);
    tally.check("the updater of a later release is built", || {
        let build = ["build", "--quiet", "--locked", "--package", "yado-updater", "--features", FEATURE];
        Tool::new("cargo").args(build).env("CARGO_TARGET_DIR", &target).run()?;
        Ok::<PathBuf, CommandError>(target.join("debug/yado-updater"))
    })
}

/// Runs the unit tests of its formats.
pub(super) fn test(cache: &Cache, tally: &mut Tally) {
    let packages = ["--locked", "--package", "yado-updater", "--package", "yado-init", "--lib"];
    let words = [&packages[..], &["--features", FEATURE, TESTS]].concat();
    cargo_tests::run(tally, &words, &[("CARGO_TARGET_DIR", &target(cache))]);
}
