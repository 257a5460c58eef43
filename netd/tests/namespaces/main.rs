//! netd as a whole, in network namespaces: real links, a real DHCP client in the containers, a real DHCP and name server
//! outside, and `nft` and `dig` to look at what came of it. Needs root and iproute2, nftables, dnsmasq, busybox, dig, python3
//! and strace; says so and skips without.

#![allow(clippy::unwrap_used, missing_docs)]

mod containers;
mod costs;
mod floods;
mod forged;
mod full_pool;
mod ipv6;
mod isolation;
mod machines;
mod reload;
mod state_file;
mod uplinks;

/// netd itself, started by the tests in a namespace. Not a test.
#[test]
#[ignore = "the program under test, run by the others"]
fn netd_itself() {
    let Some(run) = std::env::var_os("YADO_TEST_NETD") else { return };
    let mut arguments: Vec<std::ffi::OsString> = vec!["--run".into(), run.clone(), "--log".into(), "stderr".into()];
    if !std::path::Path::new(&run).join("networks.bin").exists() {
        arguments.push("--hosted".into());
    }
    let code = yado_netd::main(&arguments);
    std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
}

/// Whether the tests can run here; says why not.
fn can_run(tools: &[&str]) -> bool {
    let id = std::process::Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        eprintln!("SKIPPED: needs root for network namespaces");
        return false;
    }
    let is_missing = |tool: &&&str| {
        let found = std::process::Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        !found.status.success()
    };
    if let Some(tool) = tools.iter().find(is_missing) {
        eprintln!("SKIPPED: needs the program {tool}");
        return false;
    }
    let inside = std::process::Command::new("unshare").args(["--net", "true"]).status().unwrap();
    if !inside.success() {
        eprintln!("SKIPPED: this kernel or container allows no network namespace");
        return false;
    }
    true
}
