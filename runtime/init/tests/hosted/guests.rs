//! The matrix of guests: whole roots with the inits that there are, each judged in the same way (`guests/judge.rs`). The roots are
//! `NAME.tar` in the directory that `YADO_TEST_ROOTS` names; `cargo accept` makes them (`qemu-tests/src/provision/guests.rs`).

mod judge;
mod outside;

use judge::{Commands, Guest, judge};

pub(crate) use judge::root_of;

/// systemd says when all that it starts has been started.
const NOTIFIES: &str = "health.ready = \"notify\"\nhealth.timeout = \"60s\"\n";

const NOTIFIES_NESTING: &str = "health.ready = \"notify\"\nhealth.timeout = \"60s\"\nsecurity.nesting = true\n";

const SYSTEMD: Guest = Guest {
    name: "systemd",
    health: NOTIFIES,
    commands: Commands::Systemd,
    programs: &["systemd", "systemd-journal", "systemd-network"],
    may_fail: &[],
};

const SYSVINIT: Guest = Guest {
    name: "sysvinit",
    health: "health.window = \"1s\"\n",
    commands: Commands::Shell,
    programs: &["init", "dhclient"],
    may_fail: &[
        // mount(8)'s second line, where Debian's scripts mount what is mounted already, or what no container may have.
        "after failed mount system call",
        // The kernel's log is not a container's.
        "read kernel buffer failed",
        // What the launcher has mounted stays until the last process has ended.
        "umount: ",
    ],
};

#[test]
fn systemd_of_bookworm() {
    judge(&SYSTEMD);
}

/// systemd before 248 gives up a unit with `ProtectProc=` where it may not mount a second /proc, which takes nesting.
#[test]
fn systemd_of_bullseye() {
    // The kernel gives no container its audit messages; later versions do not ask in one.
    judge(&Guest {
        name: "bullseye",
        health: NOTIFIES_NESTING,
        may_fail: &["systemd-journald-audit.socket"],
        ..SYSTEMD
    });
}

#[test]
fn systemd_of_sid() {
    judge(&Guest { name: "sid", ..SYSTEMD });
}

#[test]
fn systemd_with_ssh_cron_and_a_log() {
    judge(&Guest { name: "full", programs: &["systemd", "sshd", "cron", "rsyslogd"], ..SYSTEMD });
}

#[test]
fn sysvinit() {
    judge(&SYSVINIT);
}

#[test]
fn openrc_under_sysvinit() {
    judge(&Guest { name: "openrc", ..SYSVINIT });
}

#[test]
fn openrc_with_its_own_init() {
    judge(&Guest { name: "openrc-init", commands: Commands::Openrc, programs: &["init", "dhclient"], ..SYSVINIT });
}

#[test]
fn runit() {
    judge(&Guest { name: "runit", programs: &["runit", "runsvdir"], ..SYSVINIT });
}

#[test]
fn finit() {
    judge(&Guest { name: "finit", programs: &["init", "dhclient"], ..SYSVINIT });
}

#[test]
fn busybox() {
    judge(&Guest { name: "busybox-init", programs: &["init", "udhcpc"], commands: Commands::Busybox, ..SYSVINIT });
}

#[test]
fn one_static_program() {
    judge(&Guest { name: "program", commands: Commands::Program, programs: &["init"], ..SYSVINIT });
}
