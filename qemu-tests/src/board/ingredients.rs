//! Everything a board is made of that is not ours to describe: kernel, boot loader, foreign programs, and our own
//! programs built for it.

use crate::arch::Arch;
use crate::board::failure::BuildError;
use crate::cache::Cache;
use crate::cross::{self, Artifact, Program, SHIPPED};
use crate::provision::{self, Kernel};
use std::io;
use std::path::PathBuf;

/// Files for one architecture; all of them stay where they are.
#[derive(Debug, Clone)]
pub struct Ingredients {
    /// The board's processor.
    pub arch: Arch,
    /// Debian's kernel.
    pub kernel: Kernel,
    /// The simulated GPIO chip's module, built for that kernel; not for every kernel.
    pub gpio_sim: Option<PathBuf>,
    /// U-Boot.
    pub uboot: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// mke2fs, e2fsck and dmsetup with their libraries, as a tree.
    pub debian_tools: PathBuf,
    /// A Debian root file system as a tar.
    pub debian: PathBuf,
    /// Our own programs.
    pub programs: Programs,
}

/// Our own programs, static.
#[derive(Debug, Clone)]
pub struct Programs {
    /// PID 1.
    pub yado_init: PathBuf,
    /// Everything else that is shipped.
    pub yado: PathBuf,
    /// The tests' agent on the board.
    pub guest_agent: PathBuf,
    /// The tests' tool in the containers.
    pub guest_tool: PathBuf,
    /// The tests' attacks from inside a container.
    pub guest_attack: PathBuf,
    /// A program on the board that logs.
    pub guest_log: PathBuf,
    /// The benchmark's stopwatch on the board.
    pub guest_race: PathBuf,
    /// What measures one command there.
    pub guest_turn: PathBuf,
}

/// Fetches and builds them, or finds them in the cache.
pub fn gather(cache: &Cache, arch: Arch) -> Result<Ingredients, BuildError> {
    provision::ensure_packages(cache, &[provision::Purpose::Emulator, provision::Purpose::Disks])?;
    Ok(Ingredients {
        arch,
        kernel: provision::kernel(cache, arch)?,
        gpio_sim: Some(provision::gpio_sim(cache, arch)?),
        uboot: provision::uboot(cache, arch)?,
        busybox: provision::busybox(cache, arch)?,
        debian_tools: provision::debian_tools(cache, arch)?,
        debian: provision::debian_root(cache, arch)?,
        programs: programs(cache, arch)?,
    })
}

impl Ingredients {
    /// The same with the kernel of bookworm's backports.
    pub fn with_newer_kernel(&self, cache: &Cache) -> Result<Ingredients, BuildError> {
        let kernel = provision::newer_kernel(cache, self.arch)?;
        Ok(Ingredients { kernel, gpio_sim: None, ..self.clone() })
    }

    /// The same with the programs of a later release, whose formats on the data partition have one version more.
    pub fn with_later_programs(&self, cache: &Cache) -> Result<Ingredients, BuildError> {
        let built = cross::build_later(cache, self.arch)?;
        let programs =
            Programs { yado_init: path(&built, "yado-init")?, yado: path(&built, "yado")?, ..self.programs.clone() };
        Ok(Ingredients { programs, ..self.clone() })
    }
}

fn programs(cache: &Cache, arch: Arch) -> Result<Programs, BuildError> {
    let [init, rest] = SHIPPED;
    let built = cross::build(cache, arch, &[init, rest, Program { package: "qemu-guest", binary: None }])?;
    let path = |name: &str| path(&built, name);
    Ok(Programs {
        yado_init: path("yado-init")?,
        yado: path("yado")?,
        guest_agent: path("guest-agent")?,
        guest_tool: path("guest-tool")?,
        guest_attack: path("guest-attack")?,
        guest_log: path("guest-log")?,
        guest_race: path("guest-race")?,
        guest_turn: path("guest-turn")?,
    })
}

fn path(built: &[Artifact], name: &str) -> Result<PathBuf, BuildError> {
    let artifact = built.iter().find(|Artifact { name: built, .. }| built == name);
    artifact.map(|artifact| artifact.path.clone()).ok_or_else(|| BuildError::Io {
        path: name.into(),
        source: io::Error::new(io::ErrorKind::NotFound, "cargo built no such program"),
    })
}
