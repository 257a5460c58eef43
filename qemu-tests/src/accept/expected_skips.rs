//! Which tests may say that they cannot run, and where. A test that skips anywhere else has lost what it is for without a failure
//! that tells, so `cargo accept` fails by it. Programs that a test needs are not in the list: `cargo accept packages` installs them.

use crate::length::Length;
use std::env::consts::ARCH;
use std::fs;
use std::path::Path;

/// A reason that tests give, and where it is true.
struct Expected {
    /// How the reason begins.
    reason: &'static str,
    /// Whether it is true here, by another look than the test's own.
    is_here: fn(&Skip<'_>) -> bool,
}

/// A test that said that it cannot run.
pub(super) struct Skip<'a> {
    /// Why, in its own words.
    pub(super) reason: &'a str,
    /// Of the run that it is a part of.
    pub(super) length: Length,
}

const EXPECTED: &[Expected] = &[
    // Who is not root, and has no sudo for the tests that need it.
    Expected { reason: "needs root", is_here: |_| !is_root() },
    Expected { reason: "mounting needs root", is_here: |_| !is_root() },
    Expected { reason: "starting containers needs root", is_here: |_| !is_root() },
    // Kernels and containers that lack something.
    Expected { reason: "needs root and a cgroup2 mount", is_here: |_| !is_mounted("cgroup2") },
    Expected { reason: "needs a cgroup2 mount", is_here: |_| !is_mounted("cgroup2") },
    Expected { reason: "needs root and /dev/loop-control", is_here: |_| is_absent("/dev/loop-control") },
    Expected { reason: "needs root and loop devices", is_here: |_| is_absent("/dev/loop-control") },
    Expected { reason: "needs mke2fs and loop devices", is_here: |_| is_absent("/dev/loop-control") },
    Expected { reason: "no loop device: ", is_here: |_| is_absent("/dev/loop-control") },
    Expected { reason: "this kernel has no erofs", is_here: |_| !has_file_system("erofs") },
    Expected { reason: "this kernel has no vfat", is_here: |_| !has_file_system("vfat") },
    Expected { reason: "this kernel has no overlay", is_here: |_| !has_file_system("overlay") },
    Expected { reason: "this kernel has no FUSE", is_here: |_| !has_file_system("fuse") },
    Expected { reason: "this kernel has no /dev/fuse", is_here: |_| is_absent("/dev/fuse") },
    Expected { reason: "no /dev/fuse", is_here: |_| is_absent("/dev/fuse") },
    Expected { reason: "this kernel has no /proc/", is_here: |skip| is_last_word_absent(skip.reason) },
    Expected { reason: "this kernel has no keys", is_here: |_| is_absent("/proc/key-users") },
    Expected {
        reason: "this kernel has no Landlock",
        is_here: |_| !has("/proc/kallsyms", "sys_landlock_create_ruleset"),
    },
    Expected { reason: "this kernel has no IPv6", is_here: |_| is_absent("/proc/net/if_inet6") },
    Expected {
        reason: "this kernel or container allows no network namespace",
        is_here: |_| !is_root() || is_absent("/proc/self/ns/net"),
    },
    Expected { reason: "needs a kernel with CONFIG_KCMP", is_here: |_| !has("/proc/kallsyms", "do_sys_kcmp") },
    Expected { reason: "needs /proc/pressure/", is_here: |skip| is_last_word_absent(skip.reason) },
    Expected { reason: "no terminals here", is_here: |_| is_absent("/dev/ptmx") },
    Expected {
        reason: "version 2 has no controllers here",
        is_here: |_| !has_controller("pids") && !has_controller("hugetlb"),
    },
    Expected {
        reason: "version 2 has no controllers here: README",
        is_here: |_| !has_controller("memory") || !has_controller("pids"),
    },
    Expected { reason: "version 2 has no memory controller here", is_here: |_| !has_controller("memory") },
    Expected { reason: "no i386 programs on ", is_here: |_| ARCH != "x86_64" },
    Expected { reason: "no 32 bits on ", is_here: |_| !matches!(ARCH, "x86_64" | "aarch64") },
    // Where limits are written, none is refused.
    Expected { reason: "this machine has the controller, and refuses no limit", is_here: |_| has_controller("pids") },
    Expected { reason: "/dev/shm is no tmpfs", is_here: |_| !has("/proc/mounts", " /dev/shm tmpfs ") },
    // What only the machine below can tell, and what is no property of ours.
    Expected { reason: "real-time scheduling is not for us here", is_here: |_| true },
    Expected { reason: "no device here has a module alias", is_here: |_| true },
    Expected { reason: "the number of files is not fixed here", is_here: |_| true },
    Expected { reason: "a process here has fewer descriptors", is_here: |_| true },
    // Debian has those of the boards for every machine (linux-libc-dev-…-cross); of a board no need to know a PC's numbers.
    Expected { reason: "no kernel headers of X86_64", is_here: |_| cfg!(not(target_arch = "x86_64")) },
    Expected { reason: "no kernel headers of I386", is_here: |_| cfg!(not(target_arch = "x86_64")) },
    // It is shown by every start on a board.
    Expected { reason: "this kernel has no device-mapper", is_here: |_| !has("/proc/misc", "device-mapper") },
    // What is made in another run.
    Expected { reason: "it takes long: --long runs it", is_here: |skip| skip.length == Length::Short },
    Expected { reason: "no root ", is_here: |skip| skip.length == Length::Short },
    // A demo that had to build something, or beside which others were at work, is not judged by its time.
    Expected { reason: "its time is not judged: ", is_here: |_| true },
];

/// Whether it is one of those that may be, here.
pub(super) fn is_expected(skip: &Skip<'_>) -> bool {
    EXPECTED.iter().any(|Expected { reason, is_here }| skip.reason.starts_with(reason) && is_here(skip))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_absent(path: &str) -> bool {
    !Path::new(path).exists()
}

fn is_last_word_absent(reason: &str) -> bool {
    reason.split_whitespace().next_back().is_some_and(|word| word.starts_with('/') && is_absent(word))
}

fn has(path: &str, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| content.contains(text))
}

fn is_mounted(file_system: &str) -> bool {
    has("/proc/self/mountinfo", &format!(" - {file_system} "))
}

/// Loaded, or built in: a module that nobody loaded is not there.
fn has_file_system(name: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().next_back() == Some(name))
}

/// Of version 2, wherever it is mounted.
fn has_controller(name: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let controllers = mount.and_then(|mount| fs::read_to_string(format!("{mount}/cgroup.controllers")).ok());
    controllers.is_some_and(|controllers| controllers.split_whitespace().any(|controller| controller == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_expected(reason: &str, length: Length) -> bool {
        super::is_expected(&Skip { reason, length })
    }

    #[test]
    fn a_skip_is_expected_only_where_its_reason_is_true() {
        assert_eq!(is_expected("needs root to mount", Length::Short), !is_root());
        assert!(is_expected("this kernel has no /proc/is-not-there", Length::Short));
        assert!(!is_expected("this kernel has no /proc/self", Length::Short));
        assert!(!is_expected("this kernel has no /proc/", Length::Short));
        assert!(is_expected("it takes long: --long runs it, and so does its name", Length::Short));
        assert!(!is_expected("it takes long: --long runs it, and so does its name", Length::Long));
    }

    #[test]
    fn a_program_that_is_not_installed_and_a_reason_that_nobody_knows_are_not_expected() {
        for reason in ["mkfs.erofs is not installed", "needs the program dnsmasq", "", "I do not feel like it"] {
            assert!(!is_expected(reason, Length::Long), "{reason}");
        }
    }
}
