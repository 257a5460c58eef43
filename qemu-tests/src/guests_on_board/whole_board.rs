//! The board before the first guest, and after the last one.

use super::appliance::NEIGHBOUR;
use super::bench::{Bench, MEMORY_MIB, STICK, TIMEOUT};
use super::failure::GuestError;
use crate::board::BoardError;
use crate::command::Tool;
use crate::report::{Observer, Witness};
use qemu_guest::Presence;
use std::time::{Duration, Instant};

/// An emulated board beside other work; whoever does not end is killed after two minutes.
const IN_TIME: Duration = Duration::from_secs(100);
/// So many of the guests run at the end, as many as the memory is for.
const RUNNING: usize = 3;

pub(super) fn boot(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), GuestError> {
    let said = bench.switch_on()?;
    observer.note("the agent on the board speaks", said);
    let memory = bench.shell("grep MemTotal /proc/meminfo | tr -dc 0-9")?;
    let is_small = memory.parse::<u32>().is_ok_and(|kib| kib <= MEMORY_MIB * 1024);
    observer.check(Witness::Kernel, "the board has no more memory than it is to have", memory, is_small)?;
    bench.is_ready(observer, "a neighbour for the guests runs", NEIGHBOUR)?;
    bench.plug()?;
    bench.board()?.agent.wait_path("/sys/class/block/sda", Presence::Present, TIMEOUT)?;
    let listed = bench.shell(&format!("mkdir -p {STICK} && mount -t ext4 -o ro /dev/sda {STICK} && ls {STICK}"))?;
    let files: Vec<&str> = listed.lines().collect();
    let is_there = |end: &str, name: &str| files.contains(&format!("{name}.{end}").as_str());
    let holds = bench.guests.iter().all(|guest| is_there("img", guest.instance) && is_there("toml", guest.instance));
    observer.check(Witness::Kernel, "the stick has an image and a file for each guest", files.join(" "), holds)?;
    Ok(())
}

/// Each of them is asked to end in its own way, at once; the disk is then looked at by others' tools.
pub(super) fn power_off(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), GuestError> {
    let known = bench.board()?.status()?;
    let is_known =
        |name: &str| known["instances"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name));
    let names: Vec<&str> = bench.guests.iter().map(|guest| guest.instance).filter(|name| is_known(name)).collect();
    for name in names.iter().take(RUNNING) {
        bench.yado(&["rescue", "start", name])?;
        bench.is_ready(observer, &format!("{name} runs"), name)?;
    }
    bench.shell(&format!("umount {STICK}"))?;
    let began = Instant::now();
    bench.board()?.yado(&["rescue", "poweroff"])?;
    let ended = bench.board_mut()?.qemu.wait_end(TIMEOUT).map_err(BoardError::Qemu);
    let took = began.elapsed();
    let shown = format!("{:.1} s", took.as_secs_f64());
    observer.check(Witness::OtherEnd, "it is off", shown, ended.is_ok() && took < IN_TIME)?;
    let serial = bench.board()?.serial();
    let last = serial.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    observer.check(Witness::Kernel, "it powered itself off", last, serial.contains("reboot: Power down"))?;
    let data = bench.board()?.partition("data")?;
    let checked = Tool::new("e2fsck").args(["-f", "-n"]).arg(&data).output();
    let (shown, is_clean) = match &checked {
        Ok(said) => (said.trim().lines().last().unwrap_or_default().to_owned(), true),
        Err(error) => (error.to_string(), false),
    };
    observer.check(Witness::OtherEnd, "e2fsck finds the data partition clean", shown, is_clean)?;
    Ok(())
}
