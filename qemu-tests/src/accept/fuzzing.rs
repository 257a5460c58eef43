//! Guided fuzzing: every target is built so that it tells which paths an input takes, and goes on from what leads to new ones. What
//! was found so is kept in the cache, and the next run goes on from there.
//!
//! It is the compiler's own instrumentation, which every release of rustc from rustup has; no other tool, and nothing of it in any
//! other build.

use std::path::Path;

use super::cargo_tests;
use super::tally::Tally;
use crate::cache::Cache;

/// How long each target is fuzzed: with what it had before, it goes on where it stood.
const SECONDS_EACH: &str = "30";

/// Tests that are targets: all of `tests/fuzz.rs`, and those beside the code, in whose names is what comes in: "of any bytes".
const TARGETS: [&[&str]; 2] = [&["--workspace", "--test", "fuzz"], &["--workspace", "--lib", "any_"]];

/// Runs all of them.
pub(super) fn run(cache: &Cache, tally: &mut Tally) {
    let (corpus, target) = (cache.root().join("fuzz-corpus"), cache.root().join("fuzz-target"));
    let environment = [
        ("RUSTFLAGS", Path::new("-C instrument-coverage --cfg yado_coverage")),
        // What the instrumentation would write at the end, of build scripts too.
        ("LLVM_PROFILE_FILE", Path::new("/dev/null")),
        ("CARGO_TARGET_DIR", &target),
        // Here it is worth the time to build it.
        ("CARGO_PROFILE_DEV_OPT_LEVEL", Path::new("1")),
        ("YADO_FUZZ_SECONDS", Path::new(SECONDS_EACH)),
        ("YADO_FUZZ_CORPUS", &corpus),
        // What one target reaches is counted for the whole process.
        ("RUST_TEST_THREADS", Path::new("1")),
    ];
    for targets in TARGETS {
        cargo_tests::run(tally, targets, &environment);
    }
}
