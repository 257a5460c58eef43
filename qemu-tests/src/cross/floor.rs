//! The oldest compiler that we promise is the one in bookworm: the whole workspace, tests included, must compile
//! with the real one, also for 32-bit ARM. cargo's resolver does not see every crate that needs a newer one.

use super::build::{cargo, target_folder};
use super::failure::BuildError;
use super::toolchain;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::progress::Step;

/// Compiles the workspace with rustc 1.85, without making programs.
pub fn floor_check(cache: &Cache) -> Result<(), BuildError> {
    let compiler = toolchain::floor_compiler(cache)?;
    let step = Step::begin(format!("the workspace on rustc {}", compiler.version));
    let targets = [Arch::Amd64, Arch::Armhf].map(Arch::rust_gnu_target);
    cargo()
        .args(["check", "--workspace", "--all-targets", "--locked", "--quiet"])
        .args(targets.iter().flat_map(|target| ["--target", target]))
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_TARGET_DIR", target_folder().join("floor"))
        .run()?;
    step.done();
    Ok(())
}
