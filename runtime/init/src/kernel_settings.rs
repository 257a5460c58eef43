//! Settings of the whole machine that PID 1 makes: who may see what, and how much one container may use of tables that all share.
//! They depend on the machine's memory, since most of these tables use memory that is charged to no container.
//!
//! A hosted init changes none of the host's settings.

use crate::log::{Log, Priority};
use std::fs;
use yado_spec::kernel_table_share;

const MIB: u64 = 1 << 20;

/// The kernel's own default for socket buffers: `SK_RMEM_MAX`.
const DEFAULT_BUFFER_BYTES: u64 = 212_992;

/// Sets all of it. What this kernel does not have is told.
pub(crate) fn apply(memory_bytes: u64, log: &mut Log) {
    let fixed = FIXED.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in fixed.chain(by_memory(memory_bytes)) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        if let Err(error) = fs::write(&path, value) {
            log.say(Priority::Info, format_args!("set {name}: {error}"));
        }
    }
}

const FIXED: [(&str, &str); 10] = [
    // Until all that is needed is loaded, the kernel asks for modules by this program.
    ("kernel.modprobe", "/sbin/yado-init"),
    // A container's root must not read kernel addresses or the kernel's log.
    ("kernel.dmesg_restrict", "1"),
    ("kernel.kptr_restrict", "1"),
    ("fs.protected_hardlinks", "1"),
    ("fs.protected_symlinks", "1"),
    ("fs.protected_fifos", "1"),
    ("fs.protected_regular", "1"),
    // systemd in each container watches many files. Counted for each container on its own, as all of `user.*` is: its user
    // namespace belongs to an id of its own.
    ("fs.inotify.max_user_instances", "1024"),
    // The largest that every kernel takes. Open files count as memory of the container that opened them, and that is the
    // bound; by this one a single container would keep all others, and us, from opening any.
    ("fs.file-max", "2147483647"),
    // The most that the kernel takes: where there is memory for more threads than its usual 32768, there are ids for them. Of a
    // 32-bit kernel it is the most already.
    ("kernel.pid_max", if cfg!(target_pointer_width = "64") { "4194304" } else { "32768" }),
];

fn by_memory(memory_bytes: u64) -> Vec<(&'static str, String)> {
    let mib = memory_bytes / MIB;
    // The first terminals of each container come out of the reserve, from its own `/dev/pts`, which gives no more than its
    // share. A `/dev/pts` that a container mounts itself takes from the rest, and there containers are in each other's way
    // only.
    let reserve = u64::from(kernel_table_share::terminals(memory_bytes)) * 16;
    let of_own_mounts = (mib / 4).clamp(16, 1024);
    let mut settings = vec![
        ("kernel.pty.max", reserve.saturating_add(of_own_mounts)),
        ("kernel.pty.reserve", reserve),
        // A request in a ring takes 64 bytes that count as the container's memory: so it is its limit that it meets first.
        ("fs.aio-max-nr", (memory_bytes / 64).clamp(65_536, i32::MAX as u64)),
        // Some 300 bytes each, and a mount of FUSE some kilobytes. In each mount namespace; the kernel's default is the upper end.
        ("fs.mount-max", mib.saturating_mul(80).clamp(5_000, 100_000)),
        // Some 100 KiB each; services of systemd with a private network have one.
        ("user.max_net_namespaces", (mib / 8).clamp(16, 1024)),
        ("user.max_ipc_namespaces", (mib / 2).clamp(64, 4096)),
        ("user.max_pid_namespaces", (mib / 2).clamp(64, 4096)),
    ];
    // The queues of netlink sockets are charged to nobody, and each may be as long as this.
    let buffer = (memory_bytes / 2048).max(64 << 10);
    if buffer < DEFAULT_BUFFER_BYTES {
        let names = ["net.core.rmem_default", "net.core.wmem_default", "net.core.rmem_max", "net.core.wmem_max"];
        settings.extend(names.map(|name| (name, buffer)));
    }
    settings.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn value(mib: u64, name: &str) -> Option<u64> {
        let settings = by_memory(mib * MIB);
        settings.iter().find(|(found, _)| *found == name).map(|(_, value)| value.parse().unwrap())
    }

    #[test]
    fn ten_containers_have_their_terminals_whatever_one_of_them_mounts() {
        for mib in [64, 256, 1024, 64 << 10] {
            let [max, reserve] = ["kernel.pty.max", "kernel.pty.reserve"].map(|name| value(mib, name).unwrap());
            assert!(10 * u64::from(kernel_table_share::terminals(mib * MIB)) + (max - reserve) <= max, "{mib} MiB");
            // At 27 KiB each.
            assert!(mib < 256 || (max - reserve) * 27 * 1024 <= mib * MIB / 100, "{mib} MiB");
        }
    }

    #[test]
    fn socket_buffers_are_shorter_on_small_machines_only() {
        assert_eq!(value(64, "net.core.rmem_max"), Some(65_536));
        assert_eq!(value(256, "net.core.rmem_max"), Some(131_072));
        assert_eq!(value(1024, "net.core.rmem_max"), None);
    }

    #[test]
    fn the_kernel_has_what_we_set() {
        for (name, _) in FIXED.iter().map(|(name, _)| (*name, String::new())).chain(by_memory(64 * MIB)) {
            // A kernel without modules lacks this one.
            let is_there = fs::metadata(format!("/proc/sys/{}", name.replace('.', "/"))).is_ok();
            assert!(is_there || name == "kernel.modprobe", "{name}");
        }
    }
}
