//! What links a static musl program: rustup's own rust-lld, Debian's musl (libc.a and the start files), and a stub
//! in place of the unwinder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::failure::BuildError;
use crate::arch::Arch;
use crate::cache::{Cache, Key};
use crate::command::Tool;
use crate::provision::{PrivateApt, ProvisionError, Purpose, Suite, ensure_packages};

const UNWIND_STUB: &str = include_str!("../../data/unwind_stub.c");

/// The linker of rustup's toolchain, wherever it keeps its targets.
pub(super) fn find_rust_lld(sysroot: &Path) -> Result<PathBuf, BuildError> {
    let targets = sysroot.join("lib/rustlib");
    let entries =
        fs::read_dir(&targets).map_err(|source| BuildError::Io { verb: "list", path: targets.clone(), source })?;
    let mut found = entries.flatten().map(|entry| entry.path().join("bin/rust-lld")).filter(|path| path.is_file());
    found.next().ok_or(BuildError::NoLinker { sysroot: sysroot.to_owned() })
}

/// A linker script for a target whose std we build ourselves: rustc then brings no start files of its own.
pub(super) fn musl_linker(cache: &Cache, arch: Arch, rust_lld: &Path) -> Result<PathBuf, BuildError> {
    ensure_packages(cache, &[Purpose::Fetching, Purpose::Compiler(arch)])?;
    let apt = PrivateApt::open(cache, Suite::Main)?;
    let musl = apt.look_up(arch, &["musl-dev"])?;
    let script = script(arch, rust_lld);
    let key = Key::new("musl linker 1").with(UNWIND_STUB).with(&script);
    let key = musl.iter().fold(key, |key, stanza| key.with(&stanza.sha256));
    let tree = cache.entry(&format!("musl-linker-{arch}"), &key, |aside| {
        apt.unpack_into(&format!("musl for {arch}"), &musl, aside)?;
        compile_stub(arch, aside)?;
        let path = aside.join("link");
        let fail = |verb| {
            let path = path.clone();
            move |source| ProvisionError::Io { verb, path, source }
        };
        fs::write(&path, &script).map_err(fail("write"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(fail("chmod"))
    })?;
    Ok(tree.join("link"))
}

fn compile_stub(arch: Arch, folder: &Path) -> Result<(), ProvisionError> {
    let source = folder.join("unwind_stub.c");
    fs::write(&source, UNWIND_STUB).map_err(|error| ProvisionError::Io {
        verb: "write",
        path: source.clone(),
        source: error,
    })?;
    let object = folder.join("unwind_stub.o");
    Tool::new(arch.gcc())
        .args(["-Os", "-ffreestanding", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-fno-pic"])
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .run()?;
    Tool::new("ar").arg("crs").arg(folder.join("libunwind.a")).arg(&object).run()?;
    Ok(())
}

/// rustc puts `-flavor gnu` in front, which rust-lld takes only there and a wrapper must drop.
///
/// The programs are not position independent: that would cost each process its whole relocation segment as private
/// memory, and PID 1's budget is small. Stack, heap and mappings are still randomised.
fn script(arch: Arch, rust_lld: &Path) -> String {
    let musl = arch.musl_name();
    let rust_lld = rust_lld.display();
    format!(
        r#"#!/bin/sh
here=${{0%/*}}
libc=$here/usr/lib/{musl}
[ "$1" = -flavor ] && shift 2
exec '{rust_lld}' -flavor gnu "$libc/crt1.o" "$libc/crti.o" -L"$libc" -L"$here" "$@" -lc "$libc/crtn.o"
"#
    )
}
