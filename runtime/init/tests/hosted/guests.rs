//! The matrix of guests: whole roots with the inits that there are, each judged in the same way (`guests/judge.rs`). The roots are
//! `NAME.tar` in the directory that `YADO_TEST_ROOTS` names; `cargo accept` makes them (`qemu-tests/src/provision/guests.rs`).

#[path = "../../../../qemu-tests/src/guests_on_board/expected.rs"]
#[expect(dead_code, reason = "some of it is for the boards")]
mod expected;
mod judge;
mod outside;

use judge::judge;

pub(crate) use judge::root_of;

#[test]
fn systemd_of_bookworm() {
    judge(&expected::SYSTEMD);
}

#[test]
fn systemd_of_bullseye() {
    judge(&expected::BULLSEYE);
}

#[test]
fn systemd_of_sid() {
    judge(&expected::SID);
}

#[test]
fn systemd_with_ssh_cron_and_a_log() {
    judge(&expected::FULL);
}

#[test]
fn sysvinit() {
    judge(&expected::SYSVINIT);
}

#[test]
fn openrc_under_sysvinit() {
    judge(&expected::OPENRC);
}

#[test]
fn openrc_with_its_own_init() {
    judge(&expected::OPENRC_INIT);
}

#[test]
fn runit() {
    judge(&expected::RUNIT);
}

#[test]
fn finit() {
    judge(&expected::FINIT);
}

#[test]
fn busybox() {
    judge(&expected::BUSYBOX);
}

#[test]
fn one_static_program() {
    judge(&expected::PROGRAM);
}
