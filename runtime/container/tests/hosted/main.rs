//! The launcher against this kernel: this program plays init's role, and is also the launcher that it starts. It needs root,
//! a cgroup2 mount, erofs, overlayfs and a static busybox (package busybox-static), and says so when it skips.
//!
//! `cargo test -p yado-container --test hosted [NAME…]`; with `--bench` it measures against crun and bare namespaces.

#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod attack_program;
mod attacks;
mod bench;
mod cached_images;
mod cases;
mod failures;
mod fixture;
mod init_role;
mod rights;
mod start_defaults;
mod systemd;
mod walls;

use fixture::Fixture;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.first().is_some_and(|name| name == "yado-container") {
        return yado_container::main(&args);
    }
    if args.first().is_some_and(|name| name.to_string_lossy().ends_with(qemu_guest::attack::PROGRAM)) {
        let words: Vec<String> = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        return qemu_guest::attack::main(&words);
    }
    if let Some(reason) = fixture::missing() {
        println!("SKIPPED: {reason}");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = args.iter().skip(1).filter_map(|arg| arg.to_str().map(str::to_owned)).collect();
    yado_sys::children::become_subreaper().unwrap();
    let fixture = Fixture::new();
    if wanted.iter().any(|arg| arg == "--bench") {
        bench::measure(&fixture);
        return ExitCode::SUCCESS;
    }
    let names: Vec<&String> = wanted.iter().filter(|arg| !arg.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    let cases = [
        cases::ALL,
        start_defaults::ALL,
        cached_images::ALL,
        attacks::ALL,
        attack_program::ALL,
        walls::ALL,
        rights::ALL,
        failures::ALL,
        systemd::ALL,
    ];
    for (name, case) in cases.into_iter().flatten() {
        if !names.is_empty() && !names.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        // As libtest says whose output follows: a skip is counted by its name.
        println!("---- {name} stdout ----");
        match catch_unwind(AssertUnwindSafe(|| case(&fixture))) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED");
                failed += 1;
            }
        }
    }
    let devices = fixture.devices_that_stay();
    if !devices.is_empty() {
        println!("block devices are left: {devices:?}");
        failed += 1;
    }
    drop(fixture);
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
