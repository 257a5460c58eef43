//! One call of cargo for each package, so that one package's features never leak into another's program.
//!
//! With a prebuilt std (`rustup target add …`) that one is used; otherwise std is built from Debian's source. For
//! armhf std is always built, when that is possible: a prebuilt one may have a 32-bit `time_t`, and then every look
//! at the clock panics after January 2038 — in PID 1, a kernel panic.
//!
//! For armhf everything is Thumb-2 code, which each ARMv7-A processor runs and rustc does not choose by itself: it makes
//! PID 1 a quarter smaller. The linker puts the changes of state where ARM code of the C library is called.

use std::path::{Path, PathBuf};

use super::artifact::{self, Artifact};
use super::failure::BuildError;
use super::linker;
use super::toolchain;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::Tool;
use crate::progress::Step;
use crate::provision::{Purpose, ensure_packages};

/// Something to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    /// The package in this workspace.
    pub package: &'a str,
    /// Its binary, or all of the package's when it is `None`.
    pub binary: Option<&'a str>,
}

/// The two programs that a device carries.
pub const SHIPPED: [Program<'static>; 2] =
    [Program { package: "yado-init", binary: None }, Program { package: "yado", binary: None }];

/// Builds these programs for `arch`: static, in the release profile.
pub fn build(cache: &Cache, arch: Arch, programs: &[Program<'_>]) -> Result<Vec<Artifact>, BuildError> {
    build_by(cache, arch, programs, |tool| tool)
}

/// Those of [`SHIPPED`] as a later release would have them: each format on the data partition has one version more. They lie elsewhere.
pub fn build_later(cache: &Cache, arch: Arch) -> Result<Vec<Artifact>, BuildError> {
    build_by(cache, arch, &SHIPPED, |tool| {
        let tool = tool.args(["--package", "yado-wire", "--features", "yado-wire/next-formats"]);
        tool.env("CARGO_TARGET_DIR", target_folder().join("cross-later"))
    })
}

fn build_by(
    cache: &Cache,
    arch: Arch,
    programs: &[Program<'_>],
    change: impl Fn(Tool) -> Tool,
) -> Result<Vec<Artifact>, BuildError> {
    let setting = (arch, Setting::choose(cache, arch)?);
    let mut built = Vec::new();
    for program in programs {
        let step =
            Step::begin(format!("{} for {arch}, {}", program.binary.unwrap_or(program.package), setting.1.std));
        let messages = change(cargo_for(std::slice::from_ref(&setting), program)).output()?;
        let artifacts = artifact::parse_messages(&messages);
        if artifacts.is_empty() {
            return Err(BuildError::NoProgram { package: program.package.to_owned() });
        }
        if artifacts.iter().any(|artifact| !artifact.is_fresh) {
            cache.note_made(format!("{} for {arch}", program.package));
        }
        built.extend(artifacts);
        step.done();
    }
    Ok(built)
}

/// Builds these programs for several architectures in one call of cargo each. The end of a build is one thread at work, for
/// minutes: so there is one for each processor. What was built, [`build`] finds there.
pub fn build_together(cache: &Cache, arches: &[Arch], programs: &[Program<'_>]) -> Result<(), BuildError> {
    let mut settings = Vec::new();
    for &arch in arches {
        settings.push((arch, Setting::choose(cache, arch)?));
    }
    let (from_source, prebuilt): (Vec<_>, Vec<_>) =
        settings.into_iter().partition(|(_, setting)| setting.rustc.is_some());
    for group in [from_source, prebuilt].into_iter().filter(|group| !group.is_empty()) {
        let names: Vec<String> = group.iter().map(|(arch, _)| arch.to_string()).collect();
        for program in programs {
            let step = Step::begin(format!("{} for {}", program.binary.unwrap_or(program.package), names.join(", ")));
            cargo_for(&group, program).output()?;
            step.done();
        }
    }
    Ok(())
}

/// The root of the workspace that this crate was compiled in.
pub(super) fn workspace_root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// cargo's target folder of the workspace.
pub(crate) fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace_root().join(folder),
        None => workspace_root().join("target"),
    }
}

/// A call of the cargo that runs us, without the flags that were meant for the machine's own build.
pub(super) fn cargo() -> Tool {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Tool::new(cargo)
        .in_folder(workspace_root())
        .without_env("RUSTFLAGS")
        .without_env("CARGO_ENCODED_RUSTFLAGS")
        .without_env("RUSTC_WRAPPER")
        .without_env("CARGO_BUILD_TARGET")
}

/// Where std comes from, and what follows from it.
#[derive(Debug)]
struct Setting {
    std: &'static str,
    linker: PathBuf,
    flags: String,
    rustc: Option<PathBuf>,
}

impl Setting {
    fn choose(cache: &Cache, arch: Arch) -> Result<Setting, BuildError> {
        ensure_packages(cache, &[Purpose::Compiler(arch)])?;
        let sysroot = PathBuf::from(Tool::new("rustc").args(["--print", "sysroot"]).output()?.trim());
        let rust_lld = linker::find_rust_lld(&sysroot)?;
        let is_prebuilt = has_prebuilt_std(&sysroot, arch);
        if is_prebuilt && arch != Arch::Armhf {
            return Ok(Setting::prebuilt(arch, rust_lld));
        }
        match Setting::from_source(cache, arch, &rust_lld) {
            Err(error) if is_prebuilt => {
                eprintln!("warning: std is not built from source: {error}");
                eprintln!("warning: the prebuilt std may have a 32-bit time_t: not for a release, it dies in 2038");
                Ok(Setting::prebuilt(arch, rust_lld))
            }
            chosen => chosen,
        }
    }

    /// std as rustup installed it; it brings its own start files and libc.
    fn prebuilt(arch: Arch, rust_lld: PathBuf) -> Setting {
        let flags = format!("-C linker-flavor=ld.lld{}", instruction_set(arch));
        Setting { std: "with rustup's std", linker: rust_lld, flags, rustc: None }
    }

    fn from_source(cache: &Cache, arch: Arch, rust_lld: &Path) -> Result<Setting, BuildError> {
        let toolchain = toolchain::newest_compiler(cache)?;
        let flags = "-C linker-flavor=ld.lld -C link-self-contained=no -C relocation-model=static";
        Ok(Setting {
            std: "with std from source",
            linker: linker::musl_linker(cache, arch, rust_lld)?,
            flags: format!("{flags}{}", instruction_set(arch)),
            rustc: Some(toolchain.rustc),
        })
    }
}

/// Builds a program for all of these, whose std comes from the same place.
fn cargo_for(settings: &[(Arch, Setting)], program: &Program<'_>) -> Tool {
    let rustc = settings.iter().find_map(|(_, setting)| setting.rustc.as_ref());
    let folder = if rustc.is_some() { "cross" } else { "cross-prebuilt" };
    let mut tool = cargo()
        .args(["build", "--release", "--locked", "--quiet", "--message-format=json-render-diagnostics"])
        .args(["--package", program.package])
        .env("CARGO_TARGET_DIR", target_folder().join(folder));
    for (arch, setting) in settings {
        let target = arch.rust_musl_target();
        let variable = target.to_uppercase().replace('-', "_");
        tool = tool
            .args(["--target", target])
            // ring's C and assembly, the only ones in what ships. They use nothing of a C library but its memory functions.
            .env(format!("CC_{}", target.replace('-', "_")), arch.gcc())
            .env(format!("AR_{}", target.replace('-', "_")), arch.gcc().replace("gcc", "ar"))
            .env(format!("CFLAGS_{}", target.replace('-', "_")), "-fno-stack-protector -U_FORTIFY_SOURCE")
            .env(format!("CARGO_TARGET_{variable}_LINKER"), &setting.linker)
            .env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), &setting.flags);
    }
    if let Some(binary) = program.binary {
        tool = tool.args(["--bin", binary]);
    }
    if program.package == "yado" {
        // A device makes no images: without the packer its program is some 200 KiB smaller.
        tool = tool.args(["--no-default-features", "--features", "device"]);
    }
    let Some(rustc) = rustc else { return tool };
    if program.package == "yado-init" {
        tool = tool.args(["-Z", "profile-rustflags", "--config", SMALL_HASHES]);
    }
    tool.args(["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"])
        .env("RUSTC", rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        // musl's 64-bit time_t on 32-bit targets.
        .env("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1")
}

/// The sha2 crate's small code. PID 1 hashes a few KiB: what was signed, and its files. Unrolled, SHA-512 alone takes 27 KiB of
/// armv7 code. The other program hashes whole images and keeps the fast code: on armv7 the small one hashes a third as fast.
const SMALL_HASHES: &str = r#"profile.release.package.sha2.rustflags=["--cfg", "sha2_backend_soft=\"compact\""]"#;

/// What rustc is told about the instructions to use, beside its target's own choice.
const fn instruction_set(arch: Arch) -> &'static str {
    match arch {
        // The name is not settled: rustc warns (not shown unless the build fails). 1.85 takes it as well.
        Arch::Armhf => " -C target-feature=+thumb-mode",
        Arch::Arm64 | Arch::Amd64 => "",
    }
}

fn has_prebuilt_std(sysroot: &Path, arch: Arch) -> bool {
    let folder = sysroot.join("lib/rustlib").join(arch.rust_musl_target()).join("lib");
    let is_std = |name: &str| name.starts_with("libstd-") && name.ends_with(".rlib");
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| is_std(&entry.file_name().to_string_lossy())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_prebuilt_std_is_seen_by_its_library_and_not_by_an_empty_folder() {
        let sysroot = tempfile::tempdir().unwrap();
        let folder = sysroot.path().join("lib/rustlib/aarch64-unknown-linux-musl/lib");
        std::fs::create_dir_all(&folder).unwrap();
        assert!(!has_prebuilt_std(sysroot.path(), Arch::Arm64));
        std::fs::write(folder.join("libstd-0123.rlib"), "").unwrap();
        assert!(has_prebuilt_std(sysroot.path(), Arch::Arm64));
        assert!(!has_prebuilt_std(sysroot.path(), Arch::Armhf));
    }
}
