//! What all types have that give device nodes: when the device is needed, and whose its nodes are.

use crate::devices::{Builder, Built};
use crate::instance::{Device, DeviceSelect, Required};
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{Expected, parse_mode, show_mode};
use std::time::Duration;

/// What is said of such a device; `select`: which it is, as its type has it.
#[derive(Debug, Default)]
pub(super) struct NodeDraft<S> {
    pub(super) select: S,
    required: bool,
    required_timeout: Option<Duration>,
    uid: u32,
    gid: u32,
    mode: u16,
}

impl<S> NodeDraft<S> {
    /// The device with what was selected.
    pub(super) fn build(self, builder: &mut Builder<'_>, select: DeviceSelect) -> Built {
        let NodeDraft { select: _, required, required_timeout, uid, gid, mode } = self;
        let required = match required {
            true => Required::Within(required_timeout.unwrap_or(Duration::ZERO)),
            false => {
                builder.refuse("required.timeout", "only with required = true; write it as \"required.timeout\"");
                Required::No
            }
        };
        Built::Nodes(Device { name: builder.name.to_owned(), select, required, uid, gid, mode })
    }

    /// The draft of a device whose selection the type reads back; `None`: it is of another type.
    pub(super) fn read_back(built: &Built, select: fn(&DeviceSelect) -> Option<S>) -> Option<NodeDraft<S>> {
        let Built::Nodes(Device { name: _, select: found, required, uid, gid, mode }) = built else { return None };
        let (required, required_timeout) = match *required {
            Required::No => (false, None),
            Required::Within(Duration::ZERO) => (true, None),
            Required::Within(timeout) => (true, Some(timeout)),
        };
        let (uid, gid, mode) = (*uid, *gid, *mode);
        Some(NodeDraft { select: select(found)?, required, required_timeout, uid, gid, mode })
    }
}

/// Ids of an instance end here at the latest.
const MAX_ID: i64 = (1 << 30) - 1;

/// Whoever waits longer has another problem.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Longer than any serial number or name that sysfs shows.
const MAX_NAME_BYTES: usize = 126;

/// One word that sysfs could show.
pub(super) fn parse_word(text: &str, what: &str) -> Result<String, Expected> {
    let is_plain = text.chars().all(|char| !char.is_control() && char != '/');
    if text.is_empty() || !is_plain || MAX_NAME_BYTES < text.len() {
        return Err(Expected(what.to_owned()));
    }
    Ok(text.to_owned())
}

/// A device that is needed unless it is said otherwise.
pub(super) const fn required<S>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "required",
        value: Value::Bool { get: |draft| Some(draft.required), set: |draft, on| draft.required = on },
        default: "true",
        applies: AtOnce,
        origin,
        help: "Without the device the instance does not start. `false`: it starts, and is given the device when it \
               comes.",
    }
}

/// A device that comes and goes: not needed unless it is said otherwise.
pub(super) const fn not_required<S>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "required",
        value: Value::Bool { get: |draft| Some(draft.required), set: |draft, on| draft.required = on },
        default: "false",
        applies: AtOnce,
        origin,
        help: "`true`: without the device the instance does not start.",
    }
}

pub(super) const fn required_timeout<S>() -> Setting<NodeDraft<S>> {
    Setting {
        name: "required.timeout",
        value: Value::Time {
            min: Duration::ZERO,
            max: LONGEST_WAIT,
            get: |draft| draft.required_timeout,
            set: |draft, timeout| draft.required_timeout = Some(timeout),
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "With `required`: how long the start waits for the device. Without it: not at all.",
    }
}

pub(super) const fn uid<S>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "uid",
        value: Value::Integer {
            min: 0,
            max: MAX_ID,
            get: |draft| Some(draft.uid.into()),
            set: |draft, id| draft.uid = id as u32,
        },
        default: "0",
        applies: AtOnce,
        origin,
        help: "The node's owner, as an id of the instance.",
    }
}

pub(super) const fn gid<S>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "gid",
        value: Value::Integer {
            min: 0,
            max: MAX_ID,
            get: |draft| Some(draft.gid.into()),
            set: |draft, id| draft.gid = id as u32,
        },
        default: "0",
        applies: AtOnce,
        origin,
        help: "The node's group, as an id of the instance.",
    }
}

pub(super) const fn mode<S>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "mode",
        value: Value::Parsed {
            what: "permission bits in octal, such as 0660",
            get: |draft| Some(show_mode(draft.mode)),
            parse: |text| effect(parse_mode(text)?, |draft, mode| draft.mode = mode),
        },
        default: "0660",
        applies: AtOnce,
        origin,
        help: "The node's permission bits.",
    }
}

pub(super) const fn inherited_ownership<S>(origin: Origin) -> Setting<NodeDraft<S>> {
    Setting {
        name: "ownership.inherit",
        value: Value::Always { value: "false", reason: "owner and mode of a node are those that are said here" },
        default: "",
        applies: AtRestart,
        origin,
        help: "Give the node the owner and mode it has in the system.",
    }
}
