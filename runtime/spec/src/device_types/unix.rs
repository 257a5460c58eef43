//! `unix-char` and `unix-block`: one node of the system by its path.

use super::nodes::{NodeDraft, gid, inherited_ownership, mode, required, required_timeout, uid};
use crate::devices::{Builder, Built, Table};
use crate::instance::{DeviceSelect, NodeKind};
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::parse_node_path;

const CHAR: Origin = Origin::Lxd("unix_char");

/// Which node.
#[derive(Debug, Default)]
pub(super) struct UnixDraft {
    source: Option<String>,
    path: Option<String>,
}

/// `unix-char`.
pub(super) static UNIX_CHAR: Table<NodeDraft<UnixDraft>> = Table {
    options: OPTIONS,
    build: |builder, draft| build(builder, draft, NodeKind::Char),
    read_back: |built| NodeDraft::read_back(built, |select| read_back(select, NodeKind::Char)),
};

/// `unix-block`.
pub(super) static UNIX_BLOCK: Table<NodeDraft<UnixDraft>> = Table {
    options: OPTIONS,
    build: |builder, draft| build(builder, draft, NodeKind::Block),
    read_back: |built| NodeDraft::read_back(built, |select| read_back(select, NodeKind::Block)),
};

fn build(builder: &mut Builder<'_>, mut draft: NodeDraft<UnixDraft>, kind: NodeKind) -> Option<Built> {
    let UnixDraft { source, path } = std::mem::take(&mut draft.select);
    let source = builder.need(source.or(path.clone()), "source", "source = \"/dev/NODE\"")?;
    let path = path.unwrap_or_else(|| source.clone());
    Some(draft.build(builder, DeviceSelect::Node { kind, source, path }))
}

fn read_back(select: &DeviceSelect, wanted: NodeKind) -> Option<UnixDraft> {
    match select.clone() {
        DeviceSelect::Node { kind, source, path } if kind == wanted => {
            let path = (path != source).then_some(path);
            Some(UnixDraft { source: Some(source), path })
        }
        _ => None,
    }
}

static OPTIONS: &[Setting<NodeDraft<UnixDraft>>] = &[
    Setting {
        name: "source",
        value: Value::Parsed {
            what: "a path below /dev/",
            get: |draft| draft.select.source.clone(),
            parse: |text| effect(parse_node_path(text)?, |draft, source| draft.select.source = Some(source)),
        },
        default: "",
        applies: AtOnce,
        origin: CHAR,
        help: "The node in the system. Without it: `path`.",
    },
    Setting {
        name: "path",
        value: Value::Parsed {
            what: "a path below /dev/",
            get: |draft| draft.select.path.clone(),
            parse: |text| effect(parse_node_path(text)?, |draft, path| draft.select.path = Some(path)),
        },
        default: "",
        applies: AtOnce,
        origin: CHAR,
        help: "The node in the instance. Without it: `source`.",
    },
    required(CHAR),
    required_timeout(),
    uid(CHAR),
    gid(CHAR),
    mode(CHAR),
    Setting {
        name: "major",
        value: Value::Refused { reason: "the node is found by source" },
        default: "",
        applies: AtRestart,
        origin: CHAR,
        help: "The device's major number.",
    },
    Setting {
        name: "minor",
        value: Value::Refused { reason: "the node is found by source" },
        default: "",
        applies: AtRestart,
        origin: CHAR,
        help: "The device's minor number.",
    },
    inherited_ownership(CHAR),
];
