//! `disk`: its options, and the mount or the root that they make.

use crate::devices::{Builder, Built, Table};
use crate::instance::{Disk, DiskSource, RootSpec};
use crate::setting::Applies::AtRestart;
use crate::setting::{Origin, Setting, Value, effect};
use crate::values::{Expected, parse_path, parse_size, show_size};

const LXD: Origin = Origin::Lxd("disk");

/// What `source` says for a file system in memory.
const TMPFS: &str = "tmpfs:";

/// A tmpfs smaller than a page is a slip.
const MIN_TMPFS_BYTES: u64 = 4096;

/// What is said of a disk.
#[derive(Debug, Default)]
pub(super) struct DiskDraft {
    /// `path`, unless it is the root.
    path: Option<String>,
    /// `path = "/"`.
    is_root: bool,
    source: Option<String>,
    size_bytes: Option<u64>,
    readonly: bool,
    required: bool,
    shift: bool,
    recursive: bool,
}

/// The type.
pub(super) static DISK: Table<DiskDraft> = Table { options: OPTIONS, build, read_back };

fn build(builder: &mut Builder<'_>, draft: DiskDraft) -> Option<Built> {
    let DiskDraft { path, is_root, source, size_bytes, readonly, required, shift, recursive } = draft;
    if is_root {
        builder.refuse("source", "the root comes from the image; choose another path");
        builder.refuse("readonly", "the root's layer is writable");
        // `pool` has one value, which the default is.
        return Some(Built::Root(RootSpec { size_bytes, ..RootSpec::default() }));
    }
    builder.refuse("pool", "only the root is kept in a pool");
    let path = builder.need(path, "path", "path = \"/where/in/the/instance\"");
    let source = builder.need(source, "source", "source = \"/where/in/the/system\" or \"tmpfs:\"");
    let source = match source? {
        text if text == TMPFS => {
            builder.refuse("shift", "a tmpfs belongs to the instance anyway");
            builder.refuse("recursive", "nothing is mounted below a tmpfs");
            DiskSource::Tmpfs { size_bytes }
        }
        text => {
            builder.refuse("size", "only a tmpfs has one");
            DiskSource::Path(text)
        }
    };
    let name = builder.name.to_owned();
    Some(Built::Disk(Disk { name, source, path: path?, readonly, required, shift, recursive }))
}

fn read_back(built: &Built) -> Option<DiskDraft> {
    let Built::Disk(disk) = built else { return None };
    let Disk { name: _, source, path, readonly, required, shift, recursive } = disk.clone();
    let (source, size_bytes) = match source {
        DiskSource::Path(path) => (path, None),
        DiskSource::Tmpfs { size_bytes } => (TMPFS.to_owned(), size_bytes),
    };
    let (path, source) = (Some(path), Some(source));
    Some(DiskDraft { path, is_root: false, source, size_bytes, readonly, required, shift, recursive })
}

static OPTIONS: &[Setting<DiskDraft>] = &[
    Setting {
        name: "path",
        value: Value::Parsed {
            what: "an absolute path in the instance; / is its root",
            get: |draft| if draft.is_root { Some("/".to_owned()) } else { draft.path.clone() },
            parse: |text| match text {
                "/" => effect((), |draft, ()| draft.is_root = true),
                _ => effect(parse_path(text)?, |draft, path| draft.path = Some(path)),
            },
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Where it is mounted in the instance. Required.",
    },
    Setting {
        name: "source",
        value: Value::Parsed {
            what: "an absolute path of the system, or tmpfs:",
            get: |draft| draft.source.clone(),
            parse: |text| {
                let source = match text {
                    TMPFS => TMPFS.to_owned(),
                    _ if text.contains(':') && !text.starts_with('/') => {
                        return Err(Expected("an absolute path of the system, or tmpfs:".to_owned()));
                    }
                    _ => parse_path(text)?,
                };
                effect(source, |draft, source| draft.source = Some(source))
            },
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "What is mounted: a file or directory of the system, or `tmpfs:` for one in memory. Required but for \
               the root.",
    },
    Setting {
        name: "size",
        value: Value::Parsed {
            what: "a size such as 16MiB",
            get: |draft| draft.size_bytes.map(show_size),
            parse: |text| match parse_size(text)? {
                bytes if bytes < MIN_TMPFS_BYTES => Err(Expected("at least 4KiB".to_owned())),
                bytes => effect(bytes, |draft, bytes| draft.size_bytes = Some(bytes)),
            },
        },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The size of a tmpfs; without it: half of the instance's memory limit. Of the root: what its layer is meant to \
               have; it is kept and shown, and not enforced yet.",
    },
    Setting {
        name: "readonly",
        value: Value::Bool { get: |draft| Some(draft.readonly), set: |draft, on| draft.readonly = on },
        default: "false",
        applies: AtRestart,
        origin: LXD,
        help: "Nothing can be written through this mount.",
    },
    Setting {
        name: "required",
        value: Value::Bool { get: |draft| Some(draft.required), set: |draft, on| draft.required = on },
        default: "true",
        applies: AtRestart,
        origin: LXD,
        help: "Without its source the instance does not start. `false`: it starts without this mount.",
    },
    Setting {
        name: "shift",
        value: Value::Bool { get: |draft| Some(draft.shift), set: |draft, on| draft.shift = on },
        default: "false",
        applies: AtRestart,
        origin: LXD,
        help: "The instance sees the owners of files as the system does: its root owns what the system's root owns \
               (an id-mapped mount). Without it such files belong to nobody inside.",
    },
    Setting {
        name: "recursive",
        value: Value::Bool { get: |draft| Some(draft.recursive), set: |draft, on| draft.recursive = on },
        default: "false",
        applies: AtRestart,
        origin: LXD,
        help: "With everything that is mounted below the source.",
    },
    Setting {
        name: "pool",
        value: Value::Always { value: "default", reason: "there is one pool, the data partition" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "The storage pool of the root.",
    },
    Setting {
        name: "propagation",
        value: Value::Always { value: "private", reason: "mounts made on one side do not appear on the other" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Whether later mounts on one side appear on the other.",
    },
    Setting {
        name: "raw.mount.options",
        value: Value::Refused { reason: "use readonly, shift and recursive" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Options for mount(8).",
    },
    Setting {
        name: "size.state",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "Room for a virtual machine's memory.",
    },
    Setting {
        name: "limits.*",
        value: Value::Refused { reason: "input and output are not limited yet" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How fast the disk may be used.",
    },
    Setting {
        name: "boot.priority",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "From which disk a virtual machine starts.",
    },
    Setting {
        name: "ceph.*",
        value: Value::Refused { reason: "there is no Ceph on a board" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "A Ceph volume.",
    },
    Setting {
        name: "io.*",
        value: Value::Refused { reason: "it is for virtual machines" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How a virtual machine sees the disk.",
    },
    Setting {
        name: "initial.*",
        value: Value::Refused { reason: "the root is a layer on the data partition" },
        default: "",
        applies: AtRestart,
        origin: LXD,
        help: "How the root's volume is made.",
    },
];
