//! Updates the devices of a running instance to what its spec and sysfs say now: first the device filter, then the nodes. A
//! record says which nodes are ours; others are left alone.

use crate::dev_directory;
use crate::devices::{self, Node, NodeSource};
use crate::launch_request;
use crate::report::{Reporter, at, show};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use yado_spec::LaunchRequest;
use yado_sys::device_filter::{self, DeviceKind};
use yado_sys::replace_file;
use yado_wire::{Failure, Step};

/// The record, in the instance's runtime directory, of which only the socket `notify` and the file `update-lock` are seen inside: one
/// node a line.
const RECORD: &str = "devices";
/// A thousand nodes; more is not ours.
const MAX_RECORD_BYTES: u64 = 128 * 1024;

/// Does it, and reports what changed. All of it is done from outside: making nodes needs the system's own root, who has no
/// business where the instance decides what a path leads to. We are in no instance's group either: a chip's label is asked
/// of its node, which this instance's filter may forbid.
pub(crate) fn sync(request: &LaunchRequest, reporter: &mut Reporter) -> Result<(), Failure> {
    show(Step::Device);
    rustix::process::umask(Mode::empty());
    let dev = launch_request::dev_mount()?;
    let runtime = &request.paths.runtime;
    rustix::process::chdir(runtime.as_str()).map_err(at(Step::Device, runtime))?;
    let before = read_record().map_err(at(Step::Device, RECORD))?;
    let now = devices::find(&request.spec.devices)?.nodes;

    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = &request.paths.cgroup;
    rustix::fs::open(cgroup.as_str(), flags, Mode::empty())
        .map_err(Into::into)
        .and_then(|cgroup| device_filter::install(&cgroup, &dev_directory::rules(&now)))
        .map_err(at(Step::DeviceFilter, cgroup))?;

    let (added, removed) = difference(&before, &now);
    let (mut gone, mut made, mut failure) = (Vec::new(), Vec::new(), None);
    // What stands in the way of one node is the instance's own doing, and keeps no other from it.
    for node in removed {
        match dev_directory::remove_node(&dev, &node.path) {
            Ok(()) => gone.push(node),
            Err(errno) => failure = failure.or(Some(at(Step::Device, &node.path)(errno))),
        }
    }
    for node in added {
        match dev_directory::make_node(&dev, node, request.idmap_base) {
            Ok(()) => made.push(node),
            Err(errno) => failure = failure.or(Some(at(Step::Device, &node.path)(errno))),
        }
    }
    write_record(Path::new(RECORD), &in_place(&before, &gone, &made)).map_err(at(Step::Device, RECORD))?;
    let names =
        |nodes: Vec<&Node>| -> Vec<String> { nodes.iter().map(|node| format!("/dev/{}", node.path)).collect() };
    reporter.devices_synced(&names(made), &names(gone))?;
    failure.map_or(Ok(()), Err)
}

/// Records the nodes of a start. No record means no nodes, which is how a run's runtime directory begins.
pub(crate) fn record(runtime: &OwnedFd, nodes: &[Node]) -> Result<(), Failure> {
    if nodes.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}/{RECORD}", runtime.as_raw_fd());
    write_record(Path::new(&path), nodes).map_err(at(Step::Device, RECORD))
}

/// What is to be made and what removed. A node of which anything changed is made anew.
fn difference<'a>(before: &'a [Node], now: &'a [Node]) -> (Vec<&'a Node>, Vec<&'a Node>) {
    let added = now.iter().filter(|node| !before.contains(node)).collect();
    let removed = before.iter().filter(|old| !now.iter().any(|node| node.path == old.path)).collect();
    (added, removed)
}

/// What is there when `gone` was removed and `made` was made: a node made anew stands for an older one of its name.
fn in_place(before: &[Node], gone: &[&Node], made: &[&Node]) -> Vec<Node> {
    let stays = |old: &&Node| !gone.contains(old) && !made.iter().any(|node| node.path == old.path);
    before.iter().filter(stays).chain(made.iter().copied()).cloned().collect()
}

fn read_record() -> io::Result<Vec<Node>> {
    let file = match File::open(RECORD) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_RECORD_BYTES).read_to_string(&mut text)?;
    text.lines().map(parse_line).collect::<Option<_>>().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// It lives on a tmpfs.
fn write_record(path: &Path, nodes: &[Node]) -> io::Result<()> {
    replace_file::replace_unsynced(path, 0o600, nodes.iter().map(line).collect::<String>().as_bytes())
}

/// `c 189 2 0 0 432 bus/usb/001/003`; the path last, as it may hold anything but a line's end.
fn line(node: &Node) -> String {
    let Node { path, source: NodeSource { kind, major, minor }, uid, gid, mode } = node;
    let kind = match kind {
        DeviceKind::Char => 'c',
        DeviceKind::Block => 'b',
    };
    format!("{kind} {major} {minor} {uid} {gid} {mode} {path}\n")
}

fn parse_line(line: &str) -> Option<Node> {
    let mut parts = line.splitn(7, ' ');
    let kind = match parts.next()? {
        "c" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        _ => return None,
    };
    let source = NodeSource { kind, major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? };
    Some(Node {
        source,
        uid: parts.next()?.parse().ok()?,
        gid: parts.next()?.parse().ok()?,
        mode: parts.next()?.parse().ok()?,
        path: parts.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    fn node(path: &str, minor: u32) -> Node {
        let source = NodeSource { kind: DeviceKind::Block, major: 8, minor };
        Node { path: path.to_owned(), source, uid: 0, gid: 6, mode: 0o660 }
    }

    #[test]
    fn a_line_says_all_of_a_node_and_a_torn_one_says_nothing() {
        let node = node("disk/by id", 1);
        assert_eq!(line(&node), "b 8 1 0 6 432 disk/by id\n");
        assert_eq!(parse_line("b 8 1 0 6 432 disk/by id"), Some(node));
        for torn in ["", "b 8 1 0 6 432", "x 8 1 0 6 432 a", "b 8 -1 0 6 432 a"] {
            assert_eq!(parse_line(torn), None, "{torn}");
        }
    }

    #[test]
    fn lines_of_any_text_say_a_node_that_is_written_the_same_again_or_nothing() {
        fuzz(
            "device record",
            &[line(&node("bus/usb/001/003", 2)).into_bytes()],
            &["c ", " ", "4294967296"],
            |bytes| {
                for text in String::from_utf8_lossy(bytes).lines() {
                    if let Some(node) = parse_line(text) {
                        assert_eq!(parse_line(line(&node).trim_end_matches('\n')), Some(node));
                    }
                }
            },
        );
    }

    #[test]
    fn a_changed_device_is_made_anew_and_a_gone_one_removed() {
        let (before, now) = ([node("sda", 0), node("sdb", 16)], [node("sda", 32), node("sdc", 48)]);
        let (added, removed) = difference(&before, &now);
        assert_eq!(added, [&now[0], &now[1]]);
        assert_eq!(removed, [&before[1]]);
        assert_eq!(in_place(&before, &removed, &added), now);
        // What could be neither removed nor made is looked at again the next time.
        assert_eq!(in_place(&before, &[], &[&now[1]]), [node("sda", 0), node("sdb", 16), node("sdc", 48)]);
    }
}
