//! Debian's Rust compilers, unpacked in the cache: the newest one, with the sources from which std is built for a
//! target, and the frozen 1.85, which is the floor that we promise.
//!
//! rustup's own cargo drives both. Nothing is installed, and rustup's toolchains are left alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::provision::{PrivateApt, ProvisionError, Purpose, Stanza, Suite, ensure_packages};

/// A compiler out of Debian's packages.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// What cargo takes as `RUSTC`.
    pub rustc: PathBuf,
    /// Of the package; for the key of what it builds.
    pub version: String,
}

/// The newest compiler that Debian has for bookworm, with std's sources.
pub fn newest_compiler(cache: &Cache) -> Result<Toolchain, ProvisionError> {
    let packages =
        |apt: &PrivateApt<'_>| apt.look_up_with_needs(Arch::Amd64, &["rustc-web", "rust-web-src"], is_part);
    unpack(cache, Suite::Security, "rust-newest", packages)
}

/// The compiler of bookworm itself, with prebuilt std for the machine and for 32-bit ARM.
pub fn floor_compiler(cache: &Cache) -> Result<Toolchain, ProvisionError> {
    unpack(cache, Suite::Main, "rust-floor", |apt| {
        let mut packages = apt.look_up_with_needs(Arch::Amd64, &["rustc-web"], is_part)?;
        packages.extend(apt.look_up(Arch::Armhf, &["libstd-rust-web-dev"])?);
        Ok(packages)
    })
}

/// What the compiler cannot run without; everything else it needs is Debian's own and installed ([`Purpose::DebianRust`]).
fn is_part(name: &str) -> bool {
    name.starts_with("libstd-rust-web") || name.starts_with("libllvm")
}

fn unpack(
    cache: &Cache,
    suite: Suite,
    name: &str,
    packages: impl Fn(&PrivateApt<'_>) -> Result<Vec<Stanza>, ProvisionError>,
) -> Result<Toolchain, ProvisionError> {
    ensure_packages(cache, &[Purpose::Fetching, Purpose::DebianRust])?;
    let apt = PrivateApt::open(cache, suite)?;
    let packages = packages(&apt)?;
    let version = packages.iter().find(|stanza| stanza.package == "rustc-web").map(|stanza| stanza.version.clone());
    let key = packages.iter().fold(Key::new("compiler 1").with(WRAPPER), |key, stanza| key.with(&stanza.sha256));
    let tree = cache.entry(name, &key, |aside| {
        apt.unpack_into(name, &packages, aside)?;
        write_wrapper(&aside.join("rustc"))
    })?;
    Ok(Toolchain { rustc: tree.join("rustc"), version: version.unwrap_or_default() })
}

/// The compiler finds neither its libraries nor its std outside `/usr` by itself. The place is taken at run time,
/// because the folder is renamed after the wrapper is written. By bash, since dash drops variables that are no names of
/// its own, as cargo's `CARGO_BIN_EXE_yado-init` is.
const WRAPPER: &str = r#"#!/bin/bash
prefix=${0%/*}/usr
LD_LIBRARY_PATH=$prefix/lib/x86_64-linux-gnu:$prefix/lib exec "$prefix/bin/rustc" --sysroot "$prefix" "$@"
"#;

fn write_wrapper(path: &Path) -> Result<(), ProvisionError> {
    let fail = |verb| move |source| ProvisionError::Io { verb, path: path.to_owned(), source };
    fs::write(path, WRAPPER).map_err(fail("write"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(fail("chmod"))
}
