//! Steps 6 and 7: hardware that comes while the containers run, and goes to the one that declares it.

use super::start::read;
use super::{Demo, StepError, printed};
use crate::board::container_images::TOOL;
use crate::board::qemu::QemuError;
use crate::board::qmp::{QmpError, UsbStick};
use crate::board::{Board, BoardError, gpio_chip};
use crate::report::{Observer, Witness};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn gpio(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    // The label that busybox's `gpio` device names.
    let lines = gpio_chip::make(&demo.board, "relays", TIMEOUT)?;
    let chip = lines.rsplit('/').next().unwrap_or_default();
    let node = format!("/dev/{chip}");
    observer.check(Witness::Kernel, "a simulated chip came to the board", &lines, chip.starts_with("gpiochip"))?;
    wait_inside(&demo.board, "busybox", &node, true)?;
    let seen = demo.board.exec("busybox", &["ls", "-l", &node], TIMEOUT)?;
    observer.check(Witness::Peer, "it is in busybox", &seen.stdout, seen.stdout.starts_with('c'))?;
    let missed = demo.board.exec("debian", &["ls", &node], TIMEOUT)?;
    observer.check(Witness::Peer, "it is not in debian", &missed.stderr, missed.stderr.contains("No such file"))?;
    for (pull, level) in [("pull-up", "1"), ("pull-down", "0")] {
        demo.board.agent.write_file(&format!("{lines}/sim_gpio3/pull"), pull).map_err(BoardError::Agent)?;
        // The tool holds its lines while its input is open.
        let hold = format!("sleep 4 | {TOOL} gpio {node} 5 {level} 3");
        let argv = ["/usr/bin/yado", "rescue", "exec", "--no-tty", "busybox", "--", "sh", "-c", &hold];
        let holding = demo.board.agent.start_run(&argv, "", TIMEOUT).map_err(BoardError::Agent)?;
        let outside = format!("{lines}/sim_gpio5/value");
        let ask = || {
            let text = demo.board.agent.read_file(&outside).map_err(BoardError::Agent)?;
            Ok(serde_json::Value::String(text.trim().to_owned()))
        };
        demo.board.wait_for(&format!("line 5 at {level}"), TIMEOUT, ask, |value| (value == level).then_some(()))?;
        let said = holding.ran().map_err(BoardError::Agent)?;
        let is_so = printed(&said.stdout, "output") == Some(level) && printed(&said.stdout, "input") == Some(level);
        let shown = format!("{} {}(outside: {level})", said.stdout, said.stderr);
        observer.check(
            Witness::Kernel,
            &format!("busybox drives line 5 to {level} and reads line 3, pulled to {level}"),
            shown,
            is_so,
        )?;
    }
    Ok(())
}

/// What the stick says in its first bytes.
const STICK_TEXT: &str = "hermit crab moves";
const STICK_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn usb_stick(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let content = demo.directory.join("stick.img");
    std::fs::write(&content, STICK_TEXT).map_err(StepError::io(&content))?;
    let grow = || std::fs::File::options().write(true).open(&content)?.set_len(STICK_BYTES);
    grow().map_err(StepError::io(&content))?;
    let content = std::fs::canonicalize(&content).map_err(StepError::io(&content))?;
    let stick = UsbStick { id: "stick".to_owned(), content, serial: "0001".to_owned() };

    demo.board.qemu.qmp.plug(&stick).map_err(qmp)?;
    let added = demo.board.wait_event("device in busybox", TIMEOUT, |event| {
        event["kind"] == "device-added" && event["instance"] == "busybox" && is_disk(&event["node"])
    })?;
    let node = added["node"].as_str().unwrap_or_default().to_owned();
    observer.check(Witness::OwnWord, "plugged in, it is in busybox", &node, is_disk(&added["node"]))?;
    let text = demo.board.exec_output("busybox", &["head", "-c", "17", &node], TIMEOUT)?;
    observer.check(Witness::Peer, "its content can be read there", &text, text == STICK_TEXT)?;
    let missed = demo.board.exec("debian", &["ls", &node], TIMEOUT)?;
    observer.check(Witness::Peer, "it is not in debian", &missed.stderr, missed.stderr.contains("No such file"))?;

    demo.board.qemu.qmp.unplug(&stick).map_err(qmp)?;
    let removed = demo.board.wait_event("device gone from busybox", TIMEOUT, |event| {
        event["kind"] == "device-removed" && event["instance"] == "busybox" && event["node"] == node.as_str()
    })?;
    observer.note("pulled out, it is told as gone", &removed["node"]);
    wait_inside(&demo.board, "busybox", &node, false)?;
    let listing = demo.board.exec_output("busybox", &["ls", "/dev"], TIMEOUT)?;
    observer.check(
        Witness::Peer,
        "its node is gone from busybox",
        listing.replace('\n', " "),
        !listing.contains("sd"),
    )?;
    let blocks = read(demo, "/proc/partitions")?;
    observer.check(Witness::Kernel, "it is gone from the board", blocks.lines().count(), !blocks.contains("sda"))?;
    Ok(())
}

/// Waits until a path is, or is not, inside an instance.
fn wait_inside(board: &Board, instance: &str, path: &str, is_there: bool) -> Result<(), StepError> {
    let ask = || {
        let ran = board.exec(instance, &["test", "-e", path], TIMEOUT)?;
        Ok(serde_json::Value::Bool(ran.ended == qemu_guest::Ended::Code(0)))
    };
    let waited_for = format!("{path} {} {instance}", if is_there { "in" } else { "gone from" });
    Ok(board.wait_for(&waited_for, TIMEOUT, ask, |seen| (*seen == is_there).then_some(()))?)
}

fn is_disk(node: &serde_json::Value) -> bool {
    node.as_str().is_some_and(|node| node.contains("/sd"))
}

fn qmp(error: QmpError) -> StepError {
    StepError::Board(BoardError::Qemu(QemuError::Qmp(error)))
}
