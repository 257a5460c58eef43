//! `qemu-tests provision`: makes one kind of thing ready, or all, and prints where it is.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use super::failure::ProvisionError;
use super::host_packages::Purpose;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::command_line::parse;
use crate::cross::{floor_compiler, newest_compiler};

/// Fetch and build what the boards need, into the cache.
#[derive(Debug, Parser)]
#[command(name = "provision", no_binary_name = true)]
struct Arguments {
    /// What to make ready
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// For which board; both without this
    #[arg(long)]
    arch: Option<Arch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Everything below
    All,
    /// Debian packages of the host
    Packages,
    /// The board's kernel and its modules
    Kernel,
    /// The boot loaders
    Uboot,
    /// Busybox, and the tools that make and mend ext4
    Busybox,
    /// The simulated GPIO chip, a kernel module
    Gpio,
    /// The Rust compilers for devices, with the source of their standard library
    Toolchain,
    /// The root of the Debian container
    Rootfs,
    /// crun and LXC, which the benchmark measures beside us
    Peers,
    /// The root of a board with RAUC and SWUpdate, and what makes bundles for it
    Updaters,
    /// Roots with other inits, for this machine if no board is named
    Guests,
}

/// Runs the command.
pub fn main(args: &[OsString]) -> ExitCode {
    let arguments: Arguments = match parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let made = Cache::open().map_err(Into::into).and_then(|cache| make_ready(&cache, arguments.what, arguments.arch));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("provision: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes ready all that the boards are made of and built with, and prints where it is.
pub fn board_parts(cache: &Cache) -> Result<(), ProvisionError> {
    use What::{Busybox, Gpio, Kernel, Peers, Rootfs, Toolchain, Uboot};
    [Toolchain, Kernel, Uboot, Busybox, Gpio, Rootfs, Peers]
        .into_iter()
        .try_for_each(|what| make_ready(cache, what, None))
}

fn make_ready(cache: &Cache, what: What, arch: Option<Arch>) -> Result<(), ProvisionError> {
    let boards = arch.map_or_else(|| Arch::BOARDS.to_vec(), |arch| vec![arch]);
    let wants = |one| what == one || what == What::All;
    if wants(What::Packages) {
        super::ensure_packages(cache, &Purpose::ALL)?;
    }
    if wants(What::Toolchain) {
        for toolchain in [newest_compiler(cache)?, floor_compiler(cache)?] {
            println!("{:<10} {:<6} {}", "rustc", toolchain.version, toolchain.rustc.display());
        }
    }
    for arch in boards {
        if wants(What::Kernel) {
            for kernel in [super::kernel(cache, arch)?, super::newer_kernel(cache, arch)?] {
                print_place("kernel", arch, &kernel.image);
                print_place("modules", arch, &kernel.modules);
            }
        }
        if wants(What::Uboot) {
            print_place("uboot", arch, &super::uboot(cache, arch)?);
            if arch == Arch::Arm64 {
                print_place("edk2", arch, &super::edk2(cache)?);
            }
        }
        if wants(What::Busybox) {
            print_place("busybox", arch, &super::busybox(cache, arch)?);
            print_place("tools", arch, &super::debian_tools(cache, arch)?);
        }
        if wants(What::Gpio) {
            print_place("gpio-sim", arch, &super::gpio_sim(cache, arch)?);
        }
        if wants(What::Rootfs) {
            print_place("rootfs", arch, &super::debian_root(cache, arch)?);
        }
        if wants(What::Peers) {
            print_place("peers", arch, &super::peers(cache, arch)?);
        }
    }
    if wants(What::Updaters) {
        let arch = arch.unwrap_or(Arch::Arm64);
        print_place("updaters", arch, &super::updaters_root(cache, arch)?);
        super::rauc_bundler(cache)?;
    }
    if wants(What::Guests) {
        let arch = arch.unwrap_or(Arch::Amd64);
        for guest in super::GUESTS {
            print_place(guest.name, arch, &super::guest_root(cache, arch, guest)?);
        }
    }
    Ok(())
}

fn print_place(what: &str, arch: Arch, path: &Path) {
    println!("{what:<10} {arch:<6} {}", path.display());
}
