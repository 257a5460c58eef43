//! Steps 1 and 2: what boots, and what runs beside the containers.

use super::{BOOT_TIMEOUT, Demo, StepError, log};
use crate::board::system_image::{fingerprint, root_hash};
use crate::board::{BoardError, BuildError, Seen};
use crate::report::{Observer, Witness};
use serde_json::Value;
use std::time::Duration;

/// QEMU's user network, which answers for it.
const GATEWAY: &str = "10.0.2.2";
const SERVICES_TIMEOUT: Duration = Duration::from_secs(60);

/// The board is up, from slot A, on a verified root, with our program as its first process.
pub(super) fn verified_boot(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let board = &demo.board;
    let hello = board.agent.hello(BOOT_TIMEOUT).map_err(|error| with_serial(board, BoardError::Agent(error)))?;
    observer.check(
        Witness::Kernel,
        "the board runs Debian's kernel",
        board.introduced(&hello),
        hello.kernel == demo.prepared.ingredients.kernel.release,
    )?;
    let serial = board.serial();
    let uboot = serial.lines().find(|line| line.starts_with("U-Boot")).unwrap_or_default();
    observer.check(Witness::Kernel, "U-Boot started it", uboot, !uboot.is_empty())?;
    let command_line = read(demo, "/proc/cmdline")?;
    observer.check(Witness::Kernel, "U-Boot chose slot A", &command_line, command_line.contains("yado.slot=A"))?;

    let init = output(demo, &["/bin/readlink", "/proc/1/exe"])?;
    observer.check(Witness::Kernel, "process 1 is yado-init", &init, init.trim() == "/sbin/yado-init")?;
    let mounts = read(demo, "/proc/mounts")?;
    let root = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some("/")).unwrap_or_default();
    let is_verity = root.starts_with("/dev/dm-") || root.starts_with("/dev/mapper/");
    observer.check(
        Witness::Kernel,
        "the root is erofs, read-only, on device-mapper",
        root,
        is_verity && root.contains(" erofs ro"),
    )?;
    let below = output(demo, &["/bin/sh", "-c", "cat /sys/block/dm-0/dm/name /sys/block/dm-0/slaves/*/uevent"])?;
    observer.check(Witness::Kernel, "below that is slot A", &below, below.contains("PARTNAME=slot-a"))?;
    let table = output(demo, &["/bin/sh", "-c", "/sbin/dmsetup table $(cat /sys/block/dm-0/dm/name)"])?;
    let root_hash = root_hash(&demo.prepared.system.image).map_err(unreadable)?;
    let is_verified = table.contains(" verity 1 ") && table.contains(&root_hash);
    observer.check(
        Witness::Kernel,
        "each block is verified, by the root hash that was signed",
        &table,
        is_verified,
    )?;

    let serial = demo.board.serial();
    let trusted =
        serial.lines().map(str::trim).find(|line| line.starts_with("yado-init: slot A:")).unwrap_or_default();
    let signer = demo.prepared.keys.release_id().map_err(unreadable)?;
    observer.check(
        Witness::OwnWord,
        "the initramfs checked whose signature it has",
        trusted,
        trusted.ends_with(&signer),
    )?;
    let status = demo.board.status()?;
    let system = &status["system"];
    let wanted = fingerprint(&demo.prepared.system.image).map_err(unreadable)?;
    observer.check(
        Witness::OwnWord,
        "it runs the image that was signed",
        &system["fingerprint"],
        system["fingerprint"] == wanted.as_str(),
    )?;
    observer.check(
        Witness::OwnWord,
        "blocks are verified as they are read",
        &system["verify"],
        system["verify"] == "block",
    )?;
    Ok(())
}

/// Data is mounted, netd runs, the uplink has an address.
pub(super) fn services(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let logs = demo.board.yado(&["rescue", "logs"])?;
    let formatted = logs.lines().find(|line| line.contains("is blank: it is formatted")).unwrap_or_default();
    observer.check(Witness::OwnWord, "the blank data partition was formatted", formatted, !formatted.is_empty())?;
    let mounts = read(demo, "/proc/mounts")?;
    let data = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/data")).unwrap_or_default();
    observer.check(Witness::Kernel, "the data partition is mounted", data, data.contains(" ext4 rw"))?;
    let status = demo.board.status()?;
    observer.check(
        Witness::OwnWord,
        "nothing is wrong with it",
        &status["system"]["data"],
        status["system"]["data"].is_null(),
    )?;
    let netd = status["services"].as_array().and_then(|all| all.iter().find(|service| service["name"] == "netd"));
    let pid = netd.map_or(Value::Null, |netd| netd["pid"].clone());
    let program = output(demo, &["/bin/sh", "-c", &format!("readlink /proc/{pid}/exe; true")])?;
    let is_netd = pid.is_number() && program.trim().ends_with("/yado");
    observer.check(Witness::Kernel, "netd runs", format!("pid {pid}, {}", program.trim()), is_netd)?;
    log::entries(demo, observer, &pid)?;

    let uplink = demo.board.wait_status("uplink with a lease", SERVICES_TIMEOUT, |status| {
        let uplink = status["links"].as_array()?.iter().find(|link| link["role"] == "uplink")?;
        uplink["addresses"][0].is_string().then(|| uplink.clone())
    })?;
    let shown = format!("{} via {}, name servers {}", uplink["addresses"], uplink["gateways"], uplink["nameservers"]);
    observer.check(Witness::OwnWord, "the uplink has a lease by DHCP", shown, uplink["gateways"][0] == GATEWAY)?;
    let Seen { shown, holds } = demo.board.has_addresses(&uplink)?;
    let routes = output(demo, &["/bin/ip", "-4", "route"])?;
    let route = routes.lines().find(|line| line.starts_with("default ")).unwrap_or_default();
    let is_routed = route.contains(&format!("via {GATEWAY} "));
    observer.check(
        Witness::Kernel,
        "so says the kernel",
        format!("{shown}; {}", route.trim()),
        holds && is_routed,
    )?;
    let answer = output(demo, &["/bin/ping", "-c", "1", "-W", "10", GATEWAY])?;
    let line = answer.lines().nth(1).unwrap_or_default();
    observer.check(Witness::OtherEnd, "the gateway answers", line, line.contains("bytes from "))?;
    Ok(())
}

pub(super) fn read(demo: &Demo<'_>, path: &str) -> Result<String, StepError> {
    Ok(demo.board.agent.read_file(path).map_err(BoardError::Agent)?)
}

pub(super) fn output(demo: &Demo<'_>, argv: &[&str]) -> Result<String, StepError> {
    Ok(demo.board.agent.output(argv, Duration::from_secs(30)).map_err(BoardError::Agent)?)
}

/// A board that does not come up tells why on its serial line.
fn with_serial(board: &crate::board::Board, error: BoardError) -> StepError {
    const SHOWN: usize = 40;
    let serial = board.serial();
    let lines: Vec<&str> = serial.lines().collect();
    eprintln!("--- the end of {}", board.serial_log().display());
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        eprintln!("    {line}");
    }
    error.into()
}

fn unreadable(error: BuildError) -> StepError {
    match error {
        BuildError::Io { path, source } => StepError::Io { path, source },
        other => StepError::Outside(std::io::Error::other(other.to_string())),
    }
}
