//! `environment.*`, the keys that are data for others, and the groups that are not offered.

use crate::draft::ConfigDraft;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{Expected, check_expiry, check_schedule, check_variable};

/// Any text is right.
fn any(_: &str) -> Result<(), Expected> {
    Ok(())
}

/// Keys without a group of their own.
pub(super) static KEYS: &[Setting<ConfigDraft>] = &[
    Setting {
        name: "environment.*",
        value: Value::Each {
            what: "any text",
            get: |draft| draft.environment.iter().map(|(name, text)| (name.clone(), text.clone())).collect(),
            parse: |name, text| {
                check_variable(name, text)?;
                effect((name.to_owned(), text.to_owned()), |draft, variable| draft.environment.extend([variable]))
            },
        },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "A variable in the environment of the instance's init and of commands run in it.",
    },
    Setting {
        name: "user.*",
        value: Value::Kept { what: "any text", check: any },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "Whatever you want to remember with the instance.",
    },
    Setting {
        name: "image.*",
        value: Value::Kept { what: "any text", check: any },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "Properties of the image the instance was made from.",
    },
    Setting {
        name: "volatile.*",
        value: Value::Kept { what: "any text", check: any },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-volatile"),
        help: "What LXD's server remembers with an instance. Accepted, so that an exported configuration can be used as \
               it is; nothing of it is read.",
    },
    Setting {
        name: "snapshots.expiry",
        value: Value::Kept {
            what: "a time such as 30M, 6H, 2d, 4w, 3m or 1y, or several of them",
            check: check_expiry,
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-snapshots"),
        help: "How long a snapshot is kept. Accepted; nothing makes snapshots yet.",
    },
    Setting {
        name: "snapshots.pattern",
        value: Value::Kept { what: "a name, or a template of one", check: any },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-snapshots"),
        help: "What a snapshot without a name is called. Accepted; nothing makes snapshots yet.",
    },
    Setting {
        name: "snapshots.schedule",
        value: Value::Kept { what: "five fields of cron, or @hourly, @daily and the like", check: check_schedule },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-snapshots"),
        help: "When snapshots are made by themselves. Accepted; nothing makes snapshots yet.",
    },
    Setting {
        name: "snapshots.schedule.stopped",
        value: Value::Kept { what: "true or false", check: |text| crate::values::parse_bool(text).map(|_| ()) },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-snapshots"),
        help: "Make scheduled snapshots of stopped instances too. Accepted; nothing makes snapshots yet.",
    },
    Setting {
        name: "migration.stateful",
        value: Value::Always { value: "false", reason: "instances do not move while they run" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-migration"),
        help: "Whether the instance can be stopped with its memory, and moved so.",
    },
    Setting {
        name: "migration.*",
        value: Value::Refused { reason: "instances do not move while they run" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-migration"),
        help: "How an instance moves to another machine.",
    },
    Setting {
        name: "cloud-init.*",
        value: Value::Refused { reason: "it needs /dev/lxd in the instance; put the settings into the image" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-cloud-init"),
        help: "What cloud-init finds when the instance starts for the first time.",
    },
    Setting {
        name: "linux.sysctl.*",
        value: Value::Refused { reason: "set it inside the instance, where its namespace allows it" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "A sysctl of the instance.",
    },
    Setting {
        name: "linux.kernel_modules*",
        value: Value::Refused { reason: "modules belong to the system image, which loads them at boot" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "Kernel modules that are loaded before the instance starts.",
    },
    Setting {
        name: "raw.*",
        value: Value::Refused {
            reason: "there is no LXC, AppArmor profile or QEMU below; use the keys above, and boot.stop.method for lxc.signal.halt",
        },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-raw"),
        help: "Lines for LXD's own back ends.",
    },
    Setting {
        name: "nvidia.*",
        value: Value::Refused { reason: "NVIDIA's container runtime is not part of this" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-nvidia"),
        help: "NVIDIA's libraries and devices in the instance.",
    },
    Setting {
        name: "cluster.*",
        value: Value::Refused { reason: "a device is no member of a cluster" },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "What happens to the instance when a member of the cluster is emptied.",
    },
    Setting {
        name: "placement.*",
        value: Value::Refused { reason: "a device is no member of a cluster" },
        default: "",
        applies: AtOnce,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "On which member of a cluster the instance is put.",
    },
    Setting {
        name: "agent.*",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "The agent in a virtual machine.",
    },
    Setting {
        name: "oci.*",
        value: Value::Refused { reason: "images are whole systems; their init is part of the signed image" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "How an application container is run.",
    },
    Setting {
        name: "systemd.credential*",
        value: Value::Refused { reason: "credentials are not passed yet; mount them with a disk device" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "Credentials for systemd in the instance.",
    },
    Setting {
        name: "smbios11.*",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: Origin::Incus,
        help: "Texts in a virtual machine's SMBIOS.",
    },
    Setting {
        name: "ubuntu_pro.*",
        value: Value::Refused { reason: "it needs /dev/lxd in the instance" },
        default: "",
        applies: AtRestart,
        origin: Origin::Lxd("instance-miscellaneous"),
        help: "Attach the instance to Ubuntu Pro.",
    },
];
