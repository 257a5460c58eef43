//! The machine's own packages: what the tests call must be installed. Missing ones are installed through apt,
//! with sudo where we are not root, and never at the price of removing something.

use super::apt::{PrivateApt, Suite};
use super::failure::ProvisionError;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::command::{CommandError, Tool};
use crate::progress::Step;

/// What packages are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Fetching and unpacking anything at all.
    Fetching,
    /// Running the board.
    Emulator,
    /// Making the board's disk, and looking at images with tools that we did not write.
    Disks,
    /// Compiling for an architecture.
    Compiler(Arch),
    /// The C library to link programs of C for a board with.
    Linking(Arch),
    /// Running the Rust compilers that are unpacked and not installed: what their LLVM is linked with.
    DebianRust,
    /// Making a Debian root file system.
    RootFileSystem,
    /// Building a kernel module.
    KernelModule,
    /// Programs that we did not write and that tests on this machine run against ours.
    Judges,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Purpose; 13] = [
        Purpose::Fetching,
        Purpose::Emulator,
        Purpose::Disks,
        Purpose::Compiler(Arch::Amd64),
        Purpose::Compiler(Arch::Arm64),
        Purpose::Compiler(Arch::Armhf),
        Purpose::Linking(Arch::Amd64),
        Purpose::Linking(Arch::Arm64),
        Purpose::Linking(Arch::Armhf),
        Purpose::DebianRust,
        Purpose::RootFileSystem,
        Purpose::KernelModule,
        Purpose::Judges,
    ];

    fn packages(self) -> Vec<&'static str> {
        match self {
            Purpose::Fetching => vec!["debian-archive-keyring", "kmod", "xz-utils"],
            Purpose::Emulator => vec!["qemu-system-arm"],
            Purpose::Disks => {
                vec!["cryptsetup-bin", "dosfstools", "e2fsprogs", "erofs-utils", "gdisk", "mtools", "u-boot-tools"]
            }
            Purpose::Compiler(arch) => vec![arch.gcc_package(), "binutils"],
            Purpose::Linking(Arch::Amd64) => vec!["libc6-dev"],
            Purpose::Linking(Arch::Arm64) => vec!["libc6-dev-arm64-cross"],
            Purpose::Linking(Arch::Armhf) => vec!["libc6-dev-armhf-cross"],
            Purpose::DebianRust => vec!["libedit2", "libxml2", "libz3-4"],
            Purpose::RootFileSystem => vec!["arch-test", "mmdebstrap", "qemu-user-static"],
            Purpose::KernelModule => vec!["bc", "libc6-dev", "make"],
            Purpose::Judges => {
                vec![
                    "bind9-dnsutils",
                    "busybox-static",
                    "crun",
                    "dnsmasq-base",
                    "iproute2",
                    // fw_printenv and fw_setenv: U-Boot's environment as its own tools see it.
                    "libubootenv-tool",
                    // The numbers of system calls, as the kernel gives them to programs.
                    "linux-libc-dev",
                    "linux-libc-dev-arm64-cross",
                    "linux-libc-dev-armhf-cross",
                    "nftables",
                    "nginx-light",
                    "openssl",
                    "python3",
                    "strace",
                ]
            }
        }
    }
}

/// Installs what these purposes need and the machine lacks.
pub fn ensure(cache: &Cache, purposes: &[Purpose]) -> Result<(), ProvisionError> {
    let mut wanted: Vec<&str> = purposes.iter().flat_map(|purpose| purpose.packages()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if missing(&wanted)?.is_empty() {
        return Ok(());
    }
    // Two runs would fight for dpkg's lock; the second finds nothing missing.
    let _lock = cache.lock("host-packages")?;
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let step = Step::begin(format!("apt-get install {}", missing.join(" ")));
    install(cache, &missing)?;
    cache.note_made(missing.join(" "));
    step.done();
    Ok(())
}

fn install(cache: &Cache, missing: &[&str]) -> Result<(), ProvisionError> {
    if try_install(missing, &[]).is_ok() {
        return Ok(());
    }
    Tool::as_root("apt-get").args(["-qq", "update"]).run()?;
    match try_install(missing, &[]) {
        Ok(()) => Ok(()),
        // A machine whose qemu-utils is of backports would have to lose it for bookworm's own emulator: those
        // packages must then come from backports too, and its sources may not list them.
        Err(_) => Ok(install_from_backports(cache, missing)?),
    }
}

fn install_from_backports(cache: &Cache, missing: &[&str]) -> Result<(), ProvisionError> {
    let (emulator, others): (Vec<&str>, Vec<&str>) = missing.iter().partition(|name| name.starts_with("qemu-"));
    if !others.is_empty() {
        try_install(&others, &[])?;
    }
    let backports = PrivateApt::open(cache, Suite::Backports)?;
    let mut options = backports.own_lists();
    options.extend(["-t", Suite::Backports.name()].map(str::to_owned));
    Ok(try_install(&emulator, &options)?)
}

fn try_install(packages: &[&str], options: &[String]) -> Result<(), CommandError> {
    Tool::as_root("env")
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(["install", "-qq", "--no-install-recommends", "--no-remove"])
        .args(options)
        .args(packages)
        .run()
}

fn missing<'p>(wanted: &[&'p str]) -> Result<Vec<&'p str>, CommandError> {
    // dpkg-query fails when it does not know one of the names; what it prints of the others is right.
    let query = Tool::new("dpkg-query").args(["-W", "-f", QUERY_FORMAT]).args(wanted);
    let installed = query.output_even_if_failed()?;
    Ok(wanted.iter().copied().filter(|name| !is_installed(&installed, name)).collect())
}

const QUERY_FORMAT: &str = "${Package} ${db:Status-Status}\\n";

fn is_installed(query_output: &str, name: &str) -> bool {
    query_output.lines().any(|line| line.strip_prefix(name) == Some(" installed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_package_that_is_installed_whole_counts() {
        let said = "mtools installed\ngdisk config-files\nqemu-system-arm-dbg installed\n";
        assert!(is_installed(said, "mtools"));
        assert!(!is_installed(said, "gdisk"));
        assert!(!is_installed(said, "qemu-system-arm"));
        assert!(!is_installed(said, "kmod"));
    }

    #[test]
    fn no_purpose_asks_for_what_would_replace_the_machines_disk_tools() {
        for purpose in Purpose::ALL {
            assert!(!purpose.packages().contains(&"qemu-utils"), "{purpose:?}");
        }
    }
}
