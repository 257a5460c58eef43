//! The oldest compiler that we promise is the one in bookworm: the whole workspace, tests included, must compile
//! with the real one for 32-bit ARM. cargo's resolver does not see every crate that needs a newer one. What there is in
//! other forms for other processors is all in `sys`, which is checked for this machine's, too.

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
    for (packages, arch) in [(&["--workspace"][..], Arch::Armhf), (&["--package", "yado-sys"], Arch::Amd64)] {
        cargo()
            .args(["check", "--all-targets", "--locked", "--quiet"])
            .args(packages)
            .args(["--target", arch.rust_gnu_target()])
            .env("RUSTC", &compiler.rustc)
            .env("CARGO_TARGET_DIR", target_folder().join("floor"))
            .run()?;
    }
    step.done();
    Ok(())
}
