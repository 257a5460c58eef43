//! `limits.*`.

use crate::draft::ConfigDraft;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Choice, Origin, Setting, Value, effect};
use crate::values::{
    Expected, RESOURCES, parse_allowance, parse_cpus, parse_kernel_limit, parse_memory, parse_swap, show_allowance,
    show_cpus, show_kernel_limit, show_memory, show_swap,
};

const LXD: Origin = Origin::Lxd("instance-resource-limits");

/// The kernel's own bound of `pids.max` (`PID_MAX_LIMIT`).
const MAX_PROCESSES: i64 = 4_194_304;

/// Keys of what an instance may use.
pub(super) static KEYS: &[Setting<ConfigDraft>] = &[
    Setting {
        name: "limits.memory",
        value: Value::Parsed {
            what: "a size such as 64MiB, from 1MiB, or percent of the machine's memory such as 25%",
            get: |draft| draft.memory.map(show_memory),
            parse: |text| effect(parse_memory(text)?, |draft, memory| draft.memory = Some(memory)),
        },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "The most memory the instance may use, page cache included. Over it the kernel kills a process in the \
               instance (see `limits.memory.enforce`) and nothing elsewhere. Without it: all there is.",
    },
    Setting {
        name: "limits.memory.enforce",
        value: Value::Choice(&[
            Choice {
                word: "hard",
                is: |draft| draft.memory.is_some() && draft.is_memory_hard,
                set: |draft| draft.is_memory_hard = true,
            },
            Choice {
                word: "soft",
                is: |draft| draft.memory.is_some() && !draft.is_memory_hard,
                set: |draft| draft.is_memory_hard = false,
            },
        ]),
        default: "hard",
        applies: AtOnce,
        origin: LXD,
        help: "`hard`: never more than the limit. `soft`: above the limit the instance is slowed down and its memory is \
               taken back first, but nothing is killed.",
    },
    Setting {
        name: "limits.memory.swap",
        value: Value::Parsed {
            what: "true, false, or a size such as 64MiB",
            get: |draft| Some(show_swap(draft.swap_bytes)),
            parse: |text| effect(parse_swap(text)?, |draft, bytes| draft.swap_bytes = bytes),
        },
        default: "true",
        applies: AtOnce,
        origin: LXD,
        help: "Whether the instance's memory may be swapped out, or how much of it.",
    },
    Setting {
        name: "limits.cpu",
        value: Value::Parsed {
            what: "a number of CPUs such as 2, or CPUs such as 0-1,3 (CPU 3 alone is 3-3)",
            get: |draft| draft.cpus.as_ref().map(show_cpus),
            parse: |text| effect(parse_cpus(text)?, |draft, cpus| draft.cpus = Some(cpus)),
        },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "On which CPUs the instance runs, or on how many. Without it: on all.",
    },
    Setting {
        name: "limits.cpu.allowance",
        value: Value::Parsed {
            what: "a share such as 50%, or a time such as 25ms/100ms",
            get: |draft| draft.cpu.map(show_allowance),
            parse: |text| effect(parse_allowance(text)?, |draft, cpu| draft.cpu = Some(cpu)),
        },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "A share counts when others want the CPU too; a time in each period is never exceeded. 200ms/100ms is two \
               whole CPUs.",
    },
    Setting {
        name: "limits.cpu.priority",
        value: Value::Integer {
            min: 0,
            max: 10,
            get: |draft| Some(draft.cpu_priority.into()),
            set: |draft, priority| draft.cpu_priority = priority as u8,
        },
        default: "10",
        applies: AtOnce,
        origin: LXD,
        help: "Between instances of the same share, the one with the lower number waits.",
    },
    Setting {
        name: "limits.processes",
        value: Value::Integer {
            min: 1,
            max: MAX_PROCESSES,
            get: |draft| draft.processes.map(i64::from),
            set: |draft, processes| draft.processes = Some(processes as u32),
        },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "The most processes and threads in the instance. Without it: half of what the machine allows.",
    },
    Setting {
        name: "limits.kernel.*",
        value: Value::Each {
            what: "a number, unlimited, or SOFT:HARD such as 1024:4096",
            get: |draft| {
                draft.kernel.iter().map(|limit| (limit.resource.clone(), show_kernel_limit(limit))).collect()
            },
            parse: |resource, text| {
                if !RESOURCES.contains(&resource) {
                    return Err(Expected(format!("limits.kernel.RESOURCE with one of {}", RESOURCES.join(", "))));
                }
                effect(parse_kernel_limit(resource, text)?, |draft, limit| draft.kernel.push(limit))
            },
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "A resource limit of the instance's init, which every process in it inherits: setrlimit(2), as in \
               limits.kernel.nofile. Without it, nofile is 1024 and can be raised to a number that depends on the \
               machine's memory.",
    },
    Setting {
        name: "limits.memory.swap.priority",
        value: Value::Refused { reason: "cgroup v2 has no such thing" },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "Which instance is swapped out last.",
    },
    Setting {
        name: "limits.memory.oom_priority",
        value: Value::Refused { reason: "use limits.memory: each instance is killed for its own memory only" },
        default: "",
        applies: AtOnce,
        origin: Origin::Incus,
        help: "Which instance loses a process first when the machine has no memory left.",
    },
    Setting {
        name: "limits.memory.hugepages",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Back a virtual machine by huge pages.",
    },
    Setting {
        name: "limits.hugepages.*",
        value: Value::Refused { reason: "boards of this size have no huge pages to give" },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "How many huge pages of a size the instance may use.",
    },
    Setting {
        name: "limits.disk.priority",
        value: Value::Refused { reason: "input and output are not limited yet" },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "Whose disk requests go first.",
    },
    Setting {
        name: "limits.cpu.nodes",
        value: Value::Refused { reason: "boards have one memory node; use limits.cpu" },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "On which NUMA nodes the instance runs.",
    },
    Setting {
        name: "limits.max_bus_ports",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How many devices can be plugged into a virtual machine.",
    },
];
