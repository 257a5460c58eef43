//! `security.*`.

use crate::draft::ConfigDraft;
use crate::instance::USUAL_IDS;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::parse_label;

const LXD: Origin = Origin::Lxd("instance-security");

/// The kernel's ids are 32 bit and the upper half is for others.
const MAX_IDS: i64 = 1 << 30;

/// Keys of what an instance may do.
pub(super) static KEYS: &[Setting<ConfigDraft>] = &[
    Setting {
        name: "security.privileged",
        value: Value::Bool {
            get: |draft| Some(draft.security.privileged),
            set: |draft, on| draft.security.privileged = on,
        },
        default: "false",
        applies: AtRestart,
        origin: LXD,
        help: "No user namespace: root inside is root of the system. For what nothing else can do. Refused, unless the \
               system image has the word `allow` in /usr/lib/yado/privileged (hosted: DIR/system/privileged).",
    },
    Setting {
        name: "security.nesting",
        value: Value::Bool {
            get: |draft| Some(draft.security.nesting),
            set: |draft, on| draft.security.nesting = on,
        },
        default: "false",
        applies: AtRestart,
        origin: LXD,
        help: "Containers inside the container: nothing of /proc is hidden, inner containers can mount a /proc and a /sys of \
               their own, and controllers can be passed on to control groups inside (MemoryMax= of a unit).",
    },
    Setting {
        name: "security.idmap.isolated",
        value: Value::Always { value: "true", reason: "no two instances share user ids" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Give the instance user ids that no other instance has.",
    },
    Setting {
        name: "security.idmap.size",
        value: Value::Integer {
            min: USUAL_IDS as i64,
            max: MAX_IDS,
            get: |draft| draft.idmap_size.map(i64::from),
            set: |draft, size| draft.idmap_size = Some(size as u32),
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How many user and group ids the instance has. Without it 65536, and with security.nesting 1048576: the users of a \
               distribution have their own ranges for inner containers from 100000 on (subuid(5)).",
    },
    Setting {
        name: "security.idmap.base",
        value: Value::Refused { reason: "the system gives each instance its ids; files on disk have the inner ones" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The first of the instance's ids on the host.",
    },
    Setting {
        name: "security.no_new_privs",
        value: Value::Bool {
            get: |draft| Some(draft.security.no_new_privs),
            set: |draft, on| draft.security.no_new_privs = on,
        },
        default: "false",
        applies: AtRestart,
        origin: Origin::Ours,
        help: "No program in the instance gains rights by set-user-id bits or file capabilities. Breaks `sudo` and \
               `su` inside.",
    },
    Setting {
        name: "security.time_namespace",
        value: Value::Bool {
            get: |draft| Some(draft.security.time_namespace),
            set: |draft, on| draft.security.time_namespace = on,
        },
        default: "false",
        applies: AtRestart,
        origin: Origin::Ours,
        help: "Clocks that count from the start of the machine, such as `uptime`, count from the start of the instance. \
               Not on 32-bit ARM, whose kernel has no time namespaces.",
    },
    Setting {
        name: "security.update_lock",
        value: Value::Bool {
            get: |draft| Some(draft.security.update_lock),
            set: |draft, on| draft.security.update_lock = on,
        },
        default: "false",
        applies: AtRestart,
        origin: Origin::Ours,
        help: "The instance may delay the reboot of an update: while a process of it holds a lock (flock(2), shared or \
               exclusive) on the file /run/yado/update-lock, the device does not reboot into a new release, up to a limit of the \
               updater's. `flock /run/yado/update-lock COMMAND` holds it while the command runs; the end of its holders \
               releases it.",
    },
    Setting {
        name: "security.label",
        value: Value::Parsed {
            what: "an AppArmor profile's name or an SELinux context",
            get: |draft| draft.security.label.clone(),
            parse: |text| effect(parse_label(text)?, |draft, label| draft.security.label = Some(label)),
        },
        default: "",
        applies: AtRestart,
        origin: Origin::Ours,
        help: "What AppArmor or SELinux knows the instance's processes by. The profile must be loaded: a system image \
               brings it compiled, in `apparmor/`. Without it: no profile of their own.",
    },
    Setting {
        name: "security.syscalls.deny_default",
        value: Value::Bool {
            get: |draft| Some(draft.security.syscalls_deny_default),
            set: |draft, on| draft.security.syscalls_deny_default = on,
        },
        default: "true",
        applies: AtRestart,
        origin: LXD,
        help: "Deny system calls that no container needs and that have been ways out of one, or take memory of the kernel's \
               that no limit counts: keys, io_uring, the rings of packet sockets (and so tcpdump), odd netlink protocols.",
    },
    Setting {
        name: "security.protection.start",
        value: Value::Bool {
            get: |draft| Some(draft.security.protection_start),
            set: |draft, on| draft.security.protection_start = on,
        },
        default: "false",
        applies: AtOnce,
        origin: LXD,
        help: "The instance cannot be started.",
    },
    Setting {
        name: "security.protection.delete",
        value: Value::Bool {
            get: |draft| Some(draft.security.protection_delete),
            set: |draft, on| draft.security.protection_delete = on,
        },
        default: "false",
        applies: AtOnce,
        origin: LXD,
        help: "The instance cannot be deleted. Accepted; who takes away its file, which deletes it, takes this key away \
               too.",
    },
    Setting {
        name: "security.protection.shift",
        value: Value::Kept { what: "true or false", check: |text| crate::values::parse_bool(text).map(|_| ()) },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "Never change the owners of the instance's files. This runtime never does: it mounts them id-mapped.",
    },
    Setting {
        name: "security.devlxd",
        value: Value::Always { value: "false", reason: "there is no /dev/lxd in instances yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "A socket inside by which the instance reads its own configuration.",
    },
    Setting {
        name: "security.guestapi",
        value: Value::Always { value: "false", reason: "there is no /dev/incus in instances yet" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "Incus' name for security.devlxd.",
    },
    Setting {
        name: "security.devlxd.images",
        value: Value::Always { value: "false", reason: "there is no /dev/lxd in instances yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Let the instance read images by that socket.",
    },
    Setting {
        name: "security.guestapi.images",
        value: Value::Always { value: "false", reason: "there is no /dev/incus in instances yet" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "Incus' name for security.devlxd.images.",
    },
    Setting {
        name: "security.syscalls.intercept.*",
        value: Value::Always { value: "false", reason: "system calls are not served for the instance" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Do some system calls for the instance that it may not do itself.",
    },
    Setting {
        name: "security.syscalls.deny_compat",
        value: Value::Refused { reason: "the system call filter is built in" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Deny the system calls of the machine's 32 bit mode.",
    },
    Setting {
        name: "security.syscalls.allow",
        value: Value::Refused { reason: "the system call filter is built in" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "System calls that are allowed, all others being denied.",
    },
    Setting {
        name: "security.syscalls.deny",
        value: Value::Refused { reason: "the system call filter is built in" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "System calls that are denied besides the built-in ones.",
    },
    Setting {
        name: "security.secureboot",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Start a virtual machine by signed boot loaders only.",
    },
    Setting {
        name: "security.csm",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Start a virtual machine with a BIOS.",
    },
    Setting {
        name: "security.sev*",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Encrypt a virtual machine's memory.",
    },
    Setting {
        name: "security.agent.*",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The agent in a virtual machine.",
    },
    Setting {
        name: "security.iommu",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "An IOMMU in a virtual machine.",
    },
    Setting {
        name: "security.delegate_bpf*",
        value: Value::Refused { reason: "BPF programs of instances could look into the kernel" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Let the instance load BPF programs.",
    },
    Setting {
        name: "security.bpffs.*",
        value: Value::Refused { reason: "BPF programs of instances could look into the kernel" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "Mount a BPF file system in the instance.",
    },
    Setting {
        name: "security.selinux*",
        value: Value::Refused { reason: "use security.label" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "The instance's SELinux context.",
    },
];
