//! The root file systems of the board's two containers: what is put over Debian's, and the whole of busybox's.

use crate::board::ingredients::Ingredients;
use crate::board::tree::{Tree, TreeError};
use std::path::Path;

/// The programs of busybox that the container and the rescue shell call by name.
pub const BUSYBOX_APPLETS: &[&str] = &[
    "[",
    "awk",
    "base64",
    "basename",
    "blockdev",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "dmesg",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "head",
    "hexdump",
    "hostname",
    "id",
    "ifconfig",
    "insmod",
    "ip",
    "kill",
    "killall",
    "less",
    "ln",
    "ls",
    "lsmod",
    "lsusb",
    "md5sum",
    "mkdir",
    "mknod",
    "modprobe",
    "more",
    "mount",
    "mountpoint",
    "mv",
    "nc",
    "netstat",
    "nslookup",
    "od",
    "ping",
    "poweroff",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "reboot",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "stty",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "time",
    "top",
    "touch",
    "tr",
    "true",
    "tty",
    "udhcpc",
    "umount",
    "uname",
    "uniq",
    "uptime",
    "vi",
    "wc",
    "wget",
    "which",
    "whoami",
    "xargs",
    "yes",
];

/// What the two layouts are made by: this file. An image that was kept is only right for the same text.
pub const RECIPE: &str = include_str!("container_images.rs");

/// Where the payload tool is in both.
pub const TOOL: &str = "/usr/bin/guest-tool";

/// What each container answers on port 80.
pub fn greeting(container: &str) -> String {
    format!("this is {container}")
}

/// A root of nothing but busybox: its init, an address by DHCP, and a page on port 80.
pub fn lay_out_busybox(root: &Path, ingredients: &Ingredients) -> Result<Tree, TreeError> {
    let tree = Tree::create(root)?;
    for directory in ["dev", "proc", "sys", "run", "tmp", "root", "var"] {
        tree.directory(directory)?;
    }
    tree.copy("bin/busybox", 0o755, &ingredients.busybox)?;
    for applet in BUSYBOX_APPLETS {
        tree.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    tree.symlink("sbin/init", "../bin/busybox")?;
    tree.copy(TOOL, 0o755, &ingredients.programs.guest_tool)?;
    tree.file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")?;
    tree.file("etc/group", 0o644, "root:x:0:\n")?;
    // udhcpc replaces it: in a read-only image a link to a file on a tmpfs would do too, but this layer is writable.
    tree.file("etc/resolv.conf", 0o644, "")?;
    tree.file(
        "etc/inittab",
        0o644,
        format!(
            "::sysinit:/etc/start\n\
             ::respawn:/bin/udhcpc -f -i eth0 -s /etc/udhcpc.sh\n\
             ::respawn:{TOOL} serve 80 '{}'\n",
            greeting("busybox")
        ),
    )?;
    tree.file("etc/start", 0o755, "#!/bin/sh\nip link set lo up\nip link set eth0 up\n")?;
    tree.file("etc/udhcpc.sh", 0o755, UDHCPC_SCRIPT)?;
    Ok(tree)
}

/// What udhcpc calls with its findings in the environment.
const UDHCPC_SCRIPT: &str = "#!/bin/sh
case $1 in
deconfig) ip addr flush dev $interface ;;
bound|renew)
    ip addr flush dev $interface
    ip addr add $ip/$mask dev $interface
    for gateway in $router; do ip route replace default via $gateway dev $interface; break; done
    for server in $dns; do echo nameserver $server; done > /etc/resolv.conf
    ;;
esac
";

/// What is put over Debian's root, which has its network already: a page on port 80, and a trace of an orderly stop.
pub fn lay_out_over_debian(root: &Path, ingredients: &Ingredients) -> Result<Tree, TreeError> {
    let tree = Tree::create(root)?;
    tree.copy(TOOL, 0o755, &ingredients.programs.guest_tool)?;
    tree.file(
        "etc/systemd/system/greeting.service",
        0o644,
        format!(
            "[Unit]\nDescription=A page on port 80\n\
             [Service]\nExecStart={TOOL} serve 80 '{}'\nExecStopPost=/bin/touch {STOPPED_TRACE}\n",
            greeting("debian")
        ),
    )?;
    tree.symlink(
        "etc/systemd/system/multi-user.target.wants/greeting.service",
        "/etc/systemd/system/greeting.service",
    )?;
    Ok(tree)
}

/// A file that systemd makes when it stops Debian's service: proof of an orderly end, found on the disk afterwards.
pub const STOPPED_TRACE: &str = "/var/lib/greeting-was-stopped";
