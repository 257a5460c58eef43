//! `boot.*` and `health.*`.

use crate::draft::{ConfigDraft, ReadyWord};
use crate::instance::RestartPolicy;
use crate::probe::parse_probe;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Choice, Origin, Setting, Value, effect};
use crate::values::parse_stop_method;
use std::time::Duration;

const LXD: Origin = Origin::Lxd("instance-boot");

/// A day: whoever waits longer has another problem.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Keys of the instance's life.
pub(super) static KEYS: &[Setting<ConfigDraft>] = &[
    Setting {
        name: "boot.autostart",
        value: Value::Bool { get: |draft| Some(draft.boot.autostart), set: |draft, on| draft.boot.autostart = on },
        default: "false",
        applies: AtOnce,
        origin: LXD,
        help: "Start the instance when the system starts. LXD without this key starts again what ran last; a device \
               always starts the same.",
    },
    Setting {
        name: "boot.autostart.delay",
        value: Value::Time {
            min: Duration::ZERO,
            max: LONGEST,
            get: |draft| Some(draft.boot.delay),
            set: |draft, delay| draft.boot.delay = delay,
        },
        default: "0",
        applies: AtOnce,
        origin: LXD,
        help: "How long to wait after this instance was started before the next one is.",
    },
    Setting {
        name: "boot.autostart.priority",
        value: Value::Integer {
            min: -1_000_000,
            max: 1_000_000,
            get: |draft| Some(draft.boot.priority.into()),
            set: |draft, priority| draft.boot.priority = priority as i32,
        },
        default: "0",
        applies: AtOnce,
        origin: LXD,
        help: "Instances with a higher number are started first. What stands in `after` goes before any number.",
    },
    Setting {
        name: "boot.stop.priority",
        value: Value::Integer {
            min: -1_000_000,
            max: 1_000_000,
            get: |draft| Some(draft.boot.stop_priority.into()),
            set: |draft, priority| draft.boot.stop_priority = priority as i32,
        },
        default: "0",
        applies: AtOnce,
        origin: LXD,
        help: "Instances with a higher number are stopped first when the system goes down.",
    },
    Setting {
        name: "boot.stop.method",
        value: Value::Parsed {
            what: "a signal such as SIGRTMIN+3, or a command with its path such as /sbin/init 0",
            get: |draft| draft.boot.stop_method.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_stop_method(text)?, |draft, method| draft.boot.stop_method = Some(method)),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "How the instance's init is asked to power off: what lxc.signal.halt is in LXC, or a command that is run inside \
               as root. A command's words are split at blanks and no shell is asked. Without it: as the image says, whose \
               builder knows the usual inits; and if that says nothing, SIGRTMIN+3 for systemd and SIGPWR for any other.",
    },
    Setting {
        name: "boot.host_shutdown_timeout",
        value: Value::Time {
            min: Duration::from_secs(1),
            max: LONGEST,
            get: |draft| Some(draft.boot.shutdown_timeout),
            set: |draft, timeout| draft.boot.shutdown_timeout = timeout,
        },
        default: "30",
        applies: AtOnce,
        origin: LXD,
        help: "How long the instance's init may take to power off before everything in the instance is killed. \
            When the system goes down, all instances together have 120 seconds.",
    },
    Setting {
        name: "boot.host_shutdown_action",
        value: Value::Always { value: "stop", reason: "the instance is asked to power off, then killed" },
        default: "",
        applies: AtOnce,
        origin: LXD,
        help: "What happens to the instance when the system goes down.",
    },
    Setting {
        name: "boot.autorestart",
        value: Value::Bool { get: |draft| draft.autorestart, set: |draft, on| draft.autorestart = Some(on) },
        default: "",
        applies: AtOnce,
        origin: Origin::Incus,
        help: "`true` is `boot.restart = \"on-failure\"`, `false` is `boot.restart = \"never\"`.",
    },
    Setting {
        name: "boot.restart",
        value: Value::Choice(&[
            Choice {
                word: "never",
                is: |draft| draft.restart.policy == Some(RestartPolicy::Never),
                set: |draft| draft.restart.policy = Some(RestartPolicy::Never),
            },
            Choice {
                word: "on-failure",
                is: |draft| draft.restart.policy == Some(RestartPolicy::OnFailure),
                set: |draft| draft.restart.policy = Some(RestartPolicy::OnFailure),
            },
            Choice {
                word: "always",
                is: |draft| draft.restart.policy == Some(RestartPolicy::Always),
                set: |draft| draft.restart.policy = Some(RestartPolicy::Always),
            },
        ]),
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "When the instance is started again after it ended by itself; `on-failure`: after any end but exit code 0 \
               or powering itself off. An instance that reboots itself is always started again, with `never` too. Without \
               this key and `boot.autorestart`: never.",
    },
    Setting {
        name: "boot.restart.pause",
        value: Value::Time {
            min: Duration::from_millis(100),
            max: LONGEST,
            get: |draft| Some(draft.restart.pause),
            set: |draft, pause| draft.restart.pause = pause,
        },
        default: "1s",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The pause before the first restart. It doubles with each further one, until the instance has been ready \
               for a minute, or with `health.ready = \"alive\"` is ready.",
    },
    Setting {
        name: "boot.restart.pause_max",
        value: Value::Time {
            min: Duration::from_millis(100),
            max: LONGEST,
            get: |draft| Some(draft.restart.pause_max),
            set: |draft, pause| draft.restart.pause_max = pause,
        },
        default: "1m",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The longest pause between restarts.",
    },
    Setting {
        name: "boot.restart.attempts",
        value: Value::Integer {
            min: 1,
            max: 1_000_000,
            get: |draft| Some(draft.restart.attempts.into()),
            set: |draft, attempts| draft.restart.attempts = attempts as u32,
        },
        default: "10",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "After so many ends in a row, with no minute of being ready in between (with `health.ready = \"alive\"`: no \
               `health.window`), the instance has failed and is not started again by itself.",
    },
    Setting {
        name: "health.ready",
        value: Value::Choice(&[
            Choice {
                word: "alive",
                is: |draft| draft.health.ready == ReadyWord::Alive,
                set: |draft| draft.health.ready = ReadyWord::Alive,
            },
            Choice {
                word: "notify",
                is: |draft| draft.health.ready == ReadyWord::Notify,
                set: |draft| draft.health.ready = ReadyWord::Notify,
            },
            Choice {
                word: "probe",
                is: |draft| draft.health.ready == ReadyWord::Probe,
                set: |draft| draft.health.ready = ReadyWord::Probe,
            },
        ]),
        default: "alive",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "When the instance counts as ready. `notify`: its init says READY=1 over $NOTIFY_SOCKET, as systemd does \
               when it has reached its target. `probe`: what `health.probe` tries has passed. `alive`: its init has run \
               for `health.window`.",
    },
    Setting {
        name: "health.timeout",
        value: Value::Time {
            min: Duration::from_secs(1),
            max: LONGEST,
            get: |draft| (draft.health.ready != ReadyWord::Alive).then_some(draft.health.timeout),
            set: |draft, timeout| draft.health.timeout = timeout,
        },
        default: "90s",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "With `health.ready = \"notify\"` or `\"probe\"`: how long it may take to become ready before the start has \
               failed.",
    },
    Setting {
        name: "health.window",
        value: Value::Time {
            min: Duration::from_millis(100),
            max: LONGEST,
            get: |draft| (draft.health.ready == ReadyWord::Alive).then_some(draft.health.window),
            set: |draft, window| draft.health.window = window,
        },
        default: "10s",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "With `health.ready = \"alive\"`: how long the instance's init has to run before the instance counts as \
               ready.",
    },
    Setting {
        name: "health.probe",
        value: Value::Parsed {
            what: "exec:PROGRAM ARGUMENT…, tcp:[ADDRESS:]PORT or http:[ADDRESS:]PORT[/PATH]",
            get: |draft| draft.health.probe.as_ref().map(ToString::to_string),
            parse: |text| effect(parse_probe(text)?, |draft, probe| draft.health.probe = Some(probe)),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "What is tried inside the instance, again and again, to see whether it is healthy. `exec`: the program ends \
               with code 0; words are split at blanks and no shell is asked. `tcp`: a connection is taken. `http`: a GET \
               is answered with a status from 200 to 399. Without an address: 127.0.0.1. An instance that is no longer \
               healthy is stopped, and `boot.restart` says what then; with `never` it is left running, and is ready again \
               when the probe passes.",
    },
    Setting {
        name: "health.probe.interval",
        value: Value::Time {
            min: Duration::from_secs(1),
            max: LONGEST,
            get: |draft| draft.health.probe.as_ref().map(|_| draft.health.probe_interval),
            set: |draft, interval| draft.health.probe_interval = interval,
        },
        default: "30s",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The pause between two tries of `health.probe`. Until the instance is ready it is a second.",
    },
    Setting {
        name: "health.probe.timeout",
        value: Value::Time {
            min: Duration::from_millis(100),
            max: Duration::from_secs(600),
            get: |draft| draft.health.probe.as_ref().map(|_| draft.health.probe_timeout),
            set: |draft, timeout| draft.health.probe_timeout = timeout,
        },
        default: "5s",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "How long one try of `health.probe` may take; a program that takes longer is killed.",
    },
    Setting {
        name: "health.probe.failures",
        value: Value::Integer {
            min: 1,
            max: 1_000,
            get: |draft| draft.health.probe.as_ref().map(|_| draft.health.probe_failures.into()),
            set: |draft, failures| draft.health.probe_failures = failures as u32,
        },
        default: "3",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "After so many tries in a row that did not pass, the instance is no longer healthy.",
    },
    Setting {
        name: "health.watchdog",
        value: Value::Time {
            min: Duration::from_secs(1),
            max: LONGEST,
            get: |draft| draft.health.watchdog,
            set: |draft, longest| draft.health.watchdog = Some(longest),
        },
        default: "",
        // Its init was told the time when it started.
        applies: AtRestart,
        origin: Origin::Ours,
        help: "Once it is ready, the instance says WATCHDOG=1 over $NOTIFY_SOCKET at least this often, or it is no longer \
               healthy, as with `health.probe`. Its init finds the time in $WATCHDOG_USEC, as sd_watchdog_enabled(3) has \
               it. systemd as an instance's init does not say it by itself; a service of its own can.",
    },
    Setting {
        name: "health.required",
        value: Value::Bool { get: |draft| Some(draft.health.required), set: |draft, on| draft.health.required = on },
        default: "true",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "A release on trial is kept only when this instance is ready and stays so, if it starts with the system \
               (`boot.autostart`). `false`: an update is kept also where this instance fails.",
    },
    Setting {
        name: "boot.mode",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How a virtual machine boots.",
    },
    Setting {
        name: "boot.debug_edk2",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Log what a virtual machine's firmware says.",
    },
];
