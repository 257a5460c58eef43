//! Every kernel option that the runtime uses, and what for: the one table behind `yado check-kernel`.

use super::requirement::Disabler::{Cgroup, Is};
use super::requirement::Probe::{Controller, FileSystem, Misc, Namespace, Path};
use super::requirement::Want::{Board, Recommended, Required};
use super::requirement::{Enabler, Requirement};

/// The oldest kernel: overlayfs and erofs on id-mapped mounts came with 5.19.
pub(super) const OLDEST: (u32, u32) = (5, 19);

const fn option(name: &'static str, want: super::requirement::Want, purpose: &'static str) -> Requirement {
    Requirement::new(name, want, purpose)
}

pub(super) const REQUIREMENTS: &[Requirement] = &[
    // Isolation.
    option("USER_NS", Required, "instances without privileges: their root is nobody outside")
        .disabled_by(&[Is("sysctl.user.max_user_namespaces", "0"), Is("user_namespace.enable", "0")])
        .probe(Namespace("user")),
    option("PID_NS", Required, "processes of an instance see only each other").probe(Namespace("pid")),
    option("NET_NS", Required, "interfaces of an instance's own").probe(Namespace("net")),
    option("UTS_NS", Required, "host name of an instance's own").probe(Namespace("uts")),
    option("IPC_NS", Required, "System V IPC and message queues of an instance's own").probe(Namespace("ipc")),
    option("SECCOMP_FILTER", Required, "the filter of system calls").probe(Path("/proc/sys/kernel/seccomp")),
    option("POSIX_MQUEUE", Recommended, "/dev/mqueue of an instance").probe(FileSystem("mqueue")),
    option("UNIX98_PTYS", Required, "consoles").probe(FileSystem("devpts")),
    option("TMPFS", Required, "/run, /dev and the log ring").probe(FileSystem("tmpfs")),
    option("TMPFS_XATTR", Recommended, "file capabilities on tmpfs"),
    option("TIME_NS", Recommended, "clocks of an instance's own, on request").probe(Namespace("time")),
    option("SECURITY_APPARMOR", Recommended, "security.label, a second fence around instances")
        .disabled_by(&[Is("apparmor", "0")])
        .probe(Path("/sys/kernel/security/apparmor")),
    // Limits.
    option("CGROUPS", Required, "limits, and killing an instance as a whole")
        .disabled_by(&[
            Is("systemd.unified_cgroup_hierarchy", "0"),
            Is("systemd.unified_cgroup_hierarchy", "no"),
            Is("systemd.unified_cgroup_hierarchy", "false"),
        ])
        .probe(FileSystem("cgroup2")),
    option("MEMCG", Required, "limits.memory").disabled_by(&[Cgroup("memory")]).probe(Controller("memory")),
    option("CGROUP_PIDS", Required, "limits.processes").disabled_by(&[Cgroup("pids")]).probe(Controller("pids")),
    option("FAIR_GROUP_SCHED", Required, "limits.cpu.allowance as a share, limits.cpu.priority")
        .disabled_by(&[Cgroup("cpu")])
        .probe(Controller("cpu")),
    option("CFS_BANDWIDTH", Required, "limits.cpu.allowance as a time").disabled_by(&[Cgroup("cpu")]),
    option("CPUSETS", Recommended, "limits.cpu as a set")
        .disabled_by(&[Cgroup("cpuset")])
        .probe(Controller("cpuset")),
    option("CGROUP_BPF", Required, "the device filter, default deny"),
    option("BPF_SYSCALL", Required, "the device filter, default deny")
        .probe(Path("/proc/sys/kernel/unprivileged_bpf_disabled")),
    option(
        "PSI",
        Recommended,
        "finds in time who uses up memory that no limit counts; systemd inside instances watches memory.pressure",
    )
    .disabled_by(&[Is("psi", "0"), Cgroup("pressure")])
    .enabled_by(Enabler { when: "PSI_DEFAULT_DISABLED", name: "psi", value: "1" })
    .probe(Path("/proc/pressure/memory")),
    // Images.
    option("EROFS_FS", Required, "the file system of images").module("erofs").probe(FileSystem("erofs")),
    option("EROFS_FS_ZIP", Required, "compressed images (lz4hc, the default)"),
    option("EROFS_FS_SECURITY", Recommended, "file capabilities in images"),
    option("OVERLAY_FS", Required, "an instance's writable layer over its image")
        .module("overlay")
        .probe(FileSystem("overlay")),
    option("BLK_DEV_LOOP", Required, "image files as block devices").module("loop").probe(Misc("loop-control")),
    option("BLK_DEV_DM", Board, "images verified at each block read").module("dm-mod").probe(Misc("device-mapper")),
    option("DM_VERITY", Board, "images verified at each block read").module("dm-verity"),
    option("CRYPTO_SHA256", Board, "dm-verity's hash").module("sha256_generic"),
    // The system's own boot.
    option("DEVTMPFS", Board, "/dev of the system").probe(FileSystem("devtmpfs")),
    option("BLK_DEV_INITRD", Board, "the stage that verifies the system image"),
    option("MODULE_DECOMPRESS", Board, "compressed modules, which nobody else decompresses").only_with(&[
        "MODULE_COMPRESS_GZIP",
        "MODULE_COMPRESS_XZ",
        "MODULE_COMPRESS_ZSTD",
    ]),
    option("EFI_PARTITION", Board, "partitions by their GPT name"),
    option("EXT4_FS", Board, "the data partition").module("ext4").probe(FileSystem("ext4")),
    option("EPOLL", Required, "programs in instances, and our own network daemon"),
    option("SIGNALFD", Required, "how PID 1 hears signals"),
    option("TIMERFD", Required, "programs in instances, and our own network daemon"),
    option("INOTIFY_USER", Required, "systemd in an instance").probe(Path("/proc/sys/fs/inotify")),
    option("FHANDLE", Required, "systemd in an instance"),
    option("AUTOFS_FS", Recommended, "automounts of systemd in an instance").module("autofs4"),
    option("WATCHDOG", Recommended, "a hardware watchdog that PID 1 feeds"),
    option("PSTORE_RAM", Recommended, "the last words of a kernel that died").module("ramoops"),
    // Networks.
    option("UNIX", Required, "how our processes talk").probe(Path("/proc/net/unix")),
    option("INET", Required, "IPv4").probe(Path("/proc/sys/net/ipv4")),
    option("PACKET", Required, "DHCP before there is an address").module("af_packet"),
    option("VETH", Required, "the interface of an instance").module("veth"),
    option("BRIDGE", Required, "networks of instances").module("bridge"),
    option("NF_TABLES", Required, "NAT").module("nf_tables"),
    option("NF_TABLES_INET", Required, "NAT: netd's table of rules"),
    option("NF_TABLES_BRIDGE", Recommended, "what one instance may ask of netd is limited"),
    option("NFT_LIMIT", Recommended, "what one instance may ask of netd, and begin of connections, is limited")
        .module("nft_limit"),
    option("NFT_BRIDGE_META", Recommended, "what one instance may ask of netd is limited for each port of a bridge")
        .module("nft_meta_bridge"),
    option("NFT_CONNLIMIT", Recommended, "one instance does not use up the table of connections")
        .module("nft_connlimit"),
    option("NFT_NAT", Required, "NAT").module("nft_chain_nat"),
    option("NFT_MASQ", Required, "NAT").module("nft_masq"),
    option("NFT_CT", Required, "NAT").module("nft_ct"),
    option("NF_CONNTRACK", Required, "NAT").module("nf_conntrack"),
    option("IPV6", Recommended, "IPv6")
        .module("ipv6")
        .disabled_by(&[Is("ipv6.disable", "1")])
        .probe(Path("/proc/sys/net/ipv6")),
    option("MACVLAN", Recommended, "nic devices with nictype=macvlan").module("macvlan"),
    // Devices.
    option("GPIO_CDEV", Recommended, "gpio devices"),
    option("USB", Recommended, "usb and unix-hotplug devices").module("usbcore").probe(Path("/sys/bus/usb")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_stands_twice_and_each_says_what_it_is_for() {
        for (index, requirement) in REQUIREMENTS.iter().enumerate() {
            assert!(!requirement.purpose.is_empty(), "{}", requirement.option);
            let later = &REQUIREMENTS[index + 1..];
            assert!(later.iter().all(|other| other.option != requirement.option), "{}", requirement.option);
        }
    }
}
