//! The reference of all keys, made from the tables: markdown for the manual, and one key for `yado help keys KEY`.

use crate::device_types::DEVICE_TYPES;
use crate::draft::NetworkDraft;
use crate::keys;
use crate::network_keys::{BRIDGE, PHYSICAL};
use crate::row::{Row, RowKind, find_row, rows};
use crate::setting::{Origin, Setting, find};
use crate::update_policy::UPDATE;
use core::fmt::Write;

/// LXD's manual.
const LXD_REFERENCE: &str = "https://documentation.ubuntu.com/lxd/en/latest/reference";

/// The kinds of network, each with its table.
static NETWORKS: [(&str, &[Setting<NetworkDraft>]); 2] = [("bridge", BRIDGE), ("physical", PHYSICAL)];

/// All of it.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Keys\n\nThe names and values are LXD's unless a key is marked as ours or as Incus'. Sizes: `64MiB` counts by \
         1024, `64MB` by 1000. Times: seconds, or with units as in `1m30s`.\n\nAfter a change run `yado apply`. What an \
         instance that runs has at once, and what it has after its next start, stands in the column \"applies\".\n\nA key that begins like another one, such as `limits.memory.swap` beside \
         `limits.memory`, is written in quotes: `\"limits.memory.swap\" = false`.\n",
    );
    out.push_str("\n## Instances: `[config]`\n");
    for (heading, table) in keys::GROUPS {
        section(&mut out, &format!("### {heading}"), "instance_options", &rows(table));
    }
    out.push_str("\n## Instances: `[devices.NAME]`\n");
    for device_type in DEVICE_TYPES {
        let _ = write!(out, "\n### `type = \"{}\"`\n\n{}\n", device_type.name, device_type.help);
        let options = device_type.options();
        if let Some(reason) = device_type.refusal() {
            let _ = writeln!(out, "\nNot offered: {reason}.");
        } else if !options.is_empty() {
            let _ = writeln!(out, "\nOne that is added or taken away comes or goes {}.", device_type.applies);
            section(&mut out, "", &format!("devices_{}", device_type.name.replace('-', "_")), &options);
        }
    }
    for (kind, table) in NETWORKS {
        let heading = format!("\n## Networks: `type = \"{kind}\"`, `[config]`");
        section(&mut out, &heading, &format!("network_{kind}"), &rows(table));
    }
    section(&mut out, "\n## Updates: `update.toml`", "update", &rows(UPDATE));
    out
}

/// What is to be said of one name: a key, a type of device, or an option of one (`nic.parent`); `None`: there is none.
/// Instances and kinds of network may each have a key of that name: then it is said of each.
pub fn explain(name: &str) -> Option<String> {
    if let Some(device_type) = DEVICE_TYPES.iter().find(|device_type| device_type.name == name) {
        let mut out = format!("{}\n    {}\n", device_type.name, device_type.help);
        if !device_type.options().is_empty() {
            let _ = writeln!(out, "    added or taken away, it comes or goes {}", device_type.applies);
        }
        device_type.options().into_iter().for_each(|row| out.push_str(&one(row)));
        if let Some(reason) = device_type.refusal() {
            out.push_str(&format!("    not offered: {reason}\n"));
        }
        return Some(out);
    }
    if let Some((device, option)) = name.split_once('.') {
        let device_type = DEVICE_TYPES.iter().find(|device_type| device_type.name == device);
        if let Some(row) = device_type.and_then(|device_type| find_row(&device_type.options(), option)) {
            return Some(one(row));
        }
    }
    let key = keys::key(name);
    let mut out = key.map(|setting| one(setting)).unwrap_or_default();
    for (kind, table) in NETWORKS {
        // A network's `security.*` is no news to who asks for a key of instances.
        if let Some(setting) = find(table, name).filter(|setting| key.is_none() || setting.name == name) {
            let _ = write!(out, "networks, type = \"{kind}\":\n{}", one(setting));
        }
    }
    if let Some(setting) = find(UPDATE, name) {
        let _ = write!(out, "update.toml:\n{}", one(setting));
    }
    (!out.is_empty()).then_some(out)
}

/// Every name that [`explain`] knows, for listing and completion.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> =
        keys::GROUPS.iter().flat_map(|(_, table)| offered(&rows(table))).map(|name| name.to_owned()).collect();
    for device_type in DEVICE_TYPES {
        if device_type.refusal().is_none() {
            names.push(device_type.name.to_owned());
            let options = offered(&device_type.options());
            names.extend(options.into_iter().map(|option| format!("{}.{option}", device_type.name)));
        }
    }
    names.extend(NETWORKS.iter().flat_map(|(_, table)| offered(&rows(table))).map(|name| name.to_owned()));
    names.extend(offered(&rows(UPDATE)).into_iter().map(str::to_owned));
    names.sort_unstable();
    names.dedup();
    names
}

fn offered(rows: &[&'static dyn Row]) -> Vec<&'static str> {
    rows.iter().filter(|row| !matches!(row.kind(), RowKind::Refused { .. })).map(|row| row.name()).collect()
}

fn section(out: &mut String, heading: &str, page: &str, rows: &[&dyn Row]) {
    let _ = write!(out, "\n{heading}\n\n| key | value | default | applies | |\n|---|---|---|---|---|\n");
    for row in rows {
        let Some(value) = row.describe() else { continue };
        let default = if row.default().is_empty() { String::new() } else { format!("`{}`", row.default()) };
        let _ = writeln!(
            out,
            "| {} | {} | {default} | {} | {} |",
            linked(*row, page),
            value.replace('|', "\\|"),
            row.applies(),
            row.help().replace('|', "\\|")
        );
    }
    let refused: Vec<String> = rows
        .iter()
        .filter_map(|row| match row.kind() {
            RowKind::Refused { reason } => Some(format!("`{}` ({reason})", row.name())),
            _ => None,
        })
        .collect();
    if !refused.is_empty() {
        let _ = writeln!(out, "\nKnown and not offered: {}.", refused.join(", "));
    }
}

fn one(row: &dyn Row) -> String {
    let mut out = format!("{}\n    {}\n", row.name(), row.help());
    match (row.kind(), row.describe()) {
        (RowKind::Refused { reason }, _) => out.push_str(&format!("    not offered: {reason}\n")),
        (_, Some(value)) => out.push_str(&format!("    value: {value}\n")),
        (_, None) => {}
    }
    if !row.default().is_empty() {
        out.push_str(&format!("    default: {}\n", row.default()));
    }
    if !matches!(row.kind(), RowKind::Refused { .. }) {
        out.push_str(&format!("    a change applies {}\n", row.applies()));
    }
    out.push_str(&format!("    {}\n", whose(row.origin())));
    out
}

fn linked(row: &dyn Row, page: &str) -> String {
    let name = row.name();
    match row.origin() {
        // LXD's anchors are `GROUP:KEY` on the page of instance options and `PAGE-…:KEY` elsewhere; the page will do there.
        Origin::Lxd(group) if page == "instance_options" => {
            format!("[`{name}`]({LXD_REFERENCE}/{page}/#{group}:{name})")
        }
        Origin::Lxd(_) => format!("[`{name}`]({LXD_REFERENCE}/{page}/)"),
        Origin::Incus => format!("`{name}` (Incus)"),
        Origin::Ours => format!("`{name}` (ours)"),
    }
}

fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Lxd(_) => "a key of LXD's",
        Origin::Incus => "a key of Incus'",
        Origin::Ours => "ours",
    }
}
