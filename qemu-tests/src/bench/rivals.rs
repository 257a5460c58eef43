//! Those whom a start of ours is compared with, in the same guest or on the same machine: crun and LXC from Debian, told to
//! build what we build.
//! The same namespaces with the same user map, control group with the same limits, device filter, denied system calls,
//! dropped capabilities, file systems; no network and no console. Their root is the image's files in a plain directory:
//! they verify nothing and mount no overlay, which is less work than ours.

use super::appliance::{PEERS, ROOT};
use qemu_guest::contest::{Contestant, Gone, Start};
use serde_json::{Value, json};

/// Where their configuration and state are: on a tmpfs.
pub(super) const PLACE: &str = "/run/bench";
/// crun's name in the results.
pub(super) const CRUN: &str = "crun run";
/// The first id outside of the user map, and how many there are.
pub(super) const MAP: (u32, u32) = (1_000_000, 65_536);
/// As in `once.toml`.
const MEMORY_BYTES: u64 = 16 * 1024 * 1024;
const PROCESSES: u32 = 20;

/// What security.syscalls.deny_default denies with `ENOSYS`.
const DENIED: [&str; 5] = ["kexec_load", "open_by_handle_at", "init_module", "finit_module", "delete_module"];
const ENOSYS: u32 = 38;
const EACCES: u32 = 13;
/// The one flag of umount2(2) that is denied.
const MNT_FORCE: u32 = 1;

const DROPPED: [&str; 5] = ["sys_time", "sys_module", "sys_rawio", "mac_admin", "mac_override"];
/// capabilities(7), without [`DROPPED`].
const KEPT: [&str; 36] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Major and minor of the nodes that every container may open; `None`: any minor.
const DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Both, and what they can be told on this machine.
#[derive(Debug)]
pub(super) struct Rivals {
    /// crun's program.
    pub(super) crun: String,
    /// LXC's.
    pub(super) lxc_start: String,
    /// Where their libraries are.
    pub(super) libraries: String,
    /// Their root: the files of the image in a plain directory.
    pub(super) root: String,
    /// Whether the machine has the controllers for limits; ours has none either where it has not.
    pub(super) has_limits: bool,
    /// Whether crun may load a device filter, for which it first raises its limit of locked memory.
    pub(super) has_device_filter: bool,
}

impl Rivals {
    /// On the board.
    pub(super) fn on_board() -> Rivals {
        Rivals {
            crun: format!("{PEERS}/bin/crun"),
            lxc_start: format!("{PEERS}/bin/lxc-start"),
            libraries: format!("{PEERS}/lib"),
            root: ROOT.to_owned(),
            has_limits: true,
            has_device_filter: true,
        }
    }

    /// crun, and LXC by its foreground start.
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        let contestant = |name: &str, words: &str| Contestant {
            name: name.to_owned(),
            before: Vec::new(),
            start: Start::Command {
                argv: words.split_whitespace().map(str::to_owned).collect(),
                environment: vec![("LD_LIBRARY_PATH".to_owned(), self.libraries.clone())],
            },
            gone: Gone::WhenItEnds,
        };
        let crun = format!(
            "{} --root {PLACE}/crun --cgroup-manager=cgroupfs run --bundle {PLACE}/bundle bench-crun",
            self.crun
        );
        let lxc = format!(
            "{} --foreground --name bench-lxc --lxcpath {PLACE}/lxc --rcfile {PLACE}/lxc.conf \
             --logfile {PLACE}/lxc.log --logpriority ERROR",
            self.lxc_start
        );
        vec![contestant(CRUN, &crun), contestant("lxc-start -F", &lxc)]
    }

    /// Files that they need, by their paths.
    pub(super) fn files(&self) -> [(String, String); 3] {
        [
            (format!("{PLACE}/bundle/config.json"), self.crun_config().to_string()),
            (format!("{PLACE}/lxc.conf"), self.lxc_config()),
            (format!("{PLACE}/lxc.seccomp"), lxc_seccomp()),
        ]
    }

    fn resources(&self) -> Value {
        let mut devices = vec![json!({ "allow": false, "access": "rwm" })];
        for (major, minor) in DEVICES {
            let mut device = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
            if let Some(minor) = minor {
                device["minor"] = json!(minor);
            }
            devices.push(device);
        }
        let mut resources = json!({});
        if self.has_device_filter {
            resources["devices"] = json!(devices);
        }
        if self.has_limits {
            resources["memory"] = json!({ "limit": MEMORY_BYTES });
            resources["pids"] = json!({ "limit": PROCESSES });
        }
        resources
    }

    fn crun_config(&self) -> Value {
        let mount = |kind: &str, place: &str, options: &str| {
            let options: Vec<&str> = options.split(',').collect();
            json!({ "type": kind, "source": kind, "destination": place, "options": options })
        };
        let map = json!([{ "containerID": 0, "hostID": MAP.0, "size": MAP.1 }]);
        let kept: Vec<String> = KEPT.iter().map(|name| format!("CAP_{name}")).collect();
        let namespaces: Vec<Value> = ["user", "pid", "network", "ipc", "uts", "mount", "cgroup"]
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.root },
            "hostname": "once",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "cwd": "/",
                "args": ["/bin/true"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=lxc"],
                "capabilities": { "bounding": kept, "effective": kept, "permitted": kept },
            },
            "mounts": [
                mount("proc", "/proc", "nosuid,nodev,noexec"),
                mount("tmpfs", "/dev", "nosuid,mode=755,size=500k"),
                mount("devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
                mount("mqueue", "/dev/mqueue", "nosuid,nodev,noexec"),
                mount("tmpfs", "/run", "nosuid,nodev,mode=755"),
                mount("sysfs", "/sys", "nosuid,nodev,noexec,ro"),
                mount("cgroup", "/sys/fs/cgroup", "nosuid,nodev,noexec"),
            ],
            "linux": {
                "namespaces": namespaces,
                "uidMappings": map,
                "gidMappings": map,
                "cgroupsPath": "/bench-crun",
                "resources": self.resources(),
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [
                        { "names": DENIED, "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS },
                        {
                            "names": ["umount2"],
                            "action": "SCMP_ACT_ERRNO",
                            "errnoRet": EACCES,
                            "args": [
                                { "index": 1, "value": MNT_FORCE, "valueTwo": MNT_FORCE, "op": "SCMP_CMP_MASKED_EQ" },
                            ],
                        },
                    ],
                },
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
                "readonlyPaths": ["/proc/sysrq-trigger"],
            },
        })
    }

    /// LXC's configuration of a container in the directory `place` that is started with the system: it has the same as the
    /// benchmark's other, and runs `program`.
    pub(super) fn autostarted(place: &str, program: &str) -> String {
        let rivals = Rivals { root: format!("{place}/rootfs"), ..Rivals::on_board() };
        let config = rivals.lxc_config_of(program, &format!("{place}/seccomp"));
        format!("{config}lxc.start.auto = 1\n")
    }

    fn lxc_config(&self) -> String {
        let place = format!("lxc.rootfs.mount = {PLACE}/lxc-root\n");
        place + &self.lxc_config_of("/bin/true", &format!("{PLACE}/lxc.seccomp"))
    }

    fn lxc_config_of(&self, program: &str, seccomp: &str) -> String {
        let (first, count) = MAP;
        let mut lines = vec![
            format!("lxc.rootfs.path = dir:{}", self.root),
            "lxc.uts.name = once".to_owned(),
            format!("lxc.init.cmd = {program}"),
            format!("lxc.idmap = u 0 {first} {count}"),
            format!("lxc.idmap = g 0 {first} {count}"),
            "lxc.net.0.type = empty".to_owned(),
            "lxc.autodev = 1".to_owned(),
            "lxc.console.path = none".to_owned(),
            "lxc.tty.max = 0".to_owned(),
            "lxc.mount.auto = proc:mixed sys:ro cgroup:rw:force".to_owned(),
            "lxc.mount.entry = mqueue dev/mqueue mqueue nosuid,nodev,noexec,create=dir 0 0".to_owned(),
            "lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=755 0 0".to_owned(),
            "lxc.apparmor.profile = unconfined".to_owned(),
            format!("lxc.seccomp.profile = {seccomp}"),
            format!("lxc.cap.drop = {}", DROPPED.join(" ")),
            "lxc.cgroup2.devices.deny = a".to_owned(),
        ];
        if self.has_limits {
            lines.push(format!("lxc.cgroup2.memory.max = {MEMORY_BYTES}"));
            lines.push(format!("lxc.cgroup2.pids.max = {PROCESSES}"));
        }
        for (major, minor) in DEVICES {
            let minor = minor.map_or("*".to_owned(), |minor| minor.to_string());
            lines.push(format!("lxc.cgroup2.devices.allow = c {major}:{minor} rwm"));
        }
        lines.join("\n") + "\n"
    }
}

/// LXC's own format, version 2.
pub(super) fn lxc_seccomp() -> String {
    let mut lines = vec!["2".to_owned(), "denylist".to_owned(), "reject_force_umount".to_owned()];
    lines.extend(DENIED.map(|call| format!("{call} errno {ENOSYS}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_told_the_same_limits_and_the_same_map() {
        let rivals = Rivals::on_board();
        let (crun, lxc) = (rivals.crun_config(), rivals.lxc_config());
        assert_eq!(crun["linux"]["resources"]["memory"]["limit"], MEMORY_BYTES);
        assert!(lxc.contains(&format!("memory.max = {MEMORY_BYTES}\n")));
        assert_eq!(crun["linux"]["uidMappings"][0]["hostID"], MAP.0);
        assert!(lxc.contains("lxc.idmap = u 0 1000000 65536\n"));
        assert_eq!(crun["linux"]["resources"]["devices"].as_array().map(Vec::len), Some(1 + DEVICES.len()));
    }

    #[test]
    fn what_one_drops_the_other_does_not_keep() {
        for dropped in DROPPED {
            assert!(!KEPT.contains(&dropped.to_uppercase().as_str()), "{dropped}");
        }
    }
}
