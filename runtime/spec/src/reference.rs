//! The reference of all keys, made from the tables: markdown for the manual, and one key for `yado help keys KEY`.

use crate::device_types::{DEVICE_TYPES, Offer};
use crate::draft::NetworkDraft;
use crate::keys;
use crate::network_keys::{BRIDGE, PHYSICAL};
use crate::setting::{Origin, Setting, Value, find};
use core::fmt::Write;

/// LXD's manual.
const LXD_REFERENCE: &str = "https://documentation.ubuntu.com/lxd/en/latest/reference";

/// The kinds of network, each with its table.
static NETWORKS: [(&str, &[Setting<NetworkDraft>]); 2] = [("bridge", BRIDGE), ("physical", PHYSICAL)];

/// All of it.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Keys\n\nThe names and values are LXD's unless a key is marked as ours or as Incus'. Sizes: `64MiB` counts by \
         1024, `64MB` by 1000. Times: seconds, or with units as in `1m30s`.\n\nThe files are read when yado-init starts: \
         after a change, restart it or reboot.\n\nA key that begins like another one, such as `limits.memory.swap` beside \
         `limits.memory`, is written in quotes: `\"limits.memory.swap\" = false`.\n",
    );
    out.push_str("\n## Instances: `[config]`\n");
    for (heading, table) in keys::GROUPS {
        section(&mut out, &format!("### {heading}"), "instance_options", table);
    }
    out.push_str("\n## Instances: `[devices.NAME]`\n");
    for device_type in DEVICE_TYPES {
        let _ = write!(out, "\n### `type = \"{}\"`\n\n{}\n", device_type.name, device_type.help);
        match device_type.offer {
            Offer::As(_, []) => {}
            Offer::As(_, options) => {
                section(&mut out, "", &format!("devices_{}", device_type.name.replace('-', "_")), options);
            }
            Offer::Refused { reason } => {
                let _ = writeln!(out, "\nNot offered: {reason}.");
            }
        }
    }
    for (kind, table) in NETWORKS {
        let heading = format!("\n## Networks: `type = \"{kind}\"`, `[config]`");
        section(&mut out, &heading, &format!("network_{kind}"), table);
    }
    out
}

/// What is to be said of one name: a key, a type of device, or an option of one (`nic.parent`); `None`: there is none.
/// Instances and kinds of network may each have a key of that name: then it is said of each.
pub fn explain(name: &str) -> Option<String> {
    if let Some(device_type) = DEVICE_TYPES.iter().find(|device_type| device_type.name == name) {
        let mut out = format!("{}\n    {}\n", device_type.name, device_type.help);
        match device_type.offer {
            Offer::As(_, options) => options.iter().for_each(|setting| out.push_str(&one(setting))),
            Offer::Refused { reason } => out.push_str(&format!("    not offered: {reason}\n")),
        }
        return Some(out);
    }
    if let Some((device, option)) = name.split_once('.') {
        let options = DEVICE_TYPES.iter().find_map(|device_type| match device_type.offer {
            Offer::As(_, options) if device_type.name == device => Some(options),
            Offer::As(..) | Offer::Refused { .. } => None,
        });
        if let Some(setting) = options.and_then(|options| find(options, option)) {
            return Some(one(setting));
        }
    }
    let key = keys::key(name);
    let mut out = key.map(one).unwrap_or_default();
    for (kind, table) in NETWORKS {
        // A network's `security.*` is no news to who asks for a key of instances.
        if let Some(setting) = find(table, name).filter(|setting| key.is_none() || setting.name == name) {
            let _ = write!(out, "networks, type = \"{kind}\":\n{}", one(setting));
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Every name that [`explain`] knows, for listing and completion.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> =
        keys::GROUPS.iter().flat_map(|(_, table)| offered(table)).map(|name| name.to_owned()).collect();
    for device_type in DEVICE_TYPES {
        if let Offer::As(_, options) = device_type.offer {
            names.push(device_type.name.to_owned());
            names.extend(offered(options).map(|option| format!("{}.{option}", device_type.name)));
        }
    }
    names.extend(NETWORKS.iter().flat_map(|(_, table)| offered(table)).map(|name| name.to_owned()));
    names.sort_unstable();
    names.dedup();
    names
}

fn offered<T>(table: &'static [Setting<T>]) -> impl Iterator<Item = &'static str> {
    table.iter().filter(|setting| !matches!(setting.value, Value::Refused { .. })).map(|setting| setting.name)
}

fn section<T>(out: &mut String, heading: &str, page: &str, table: &[Setting<T>]) {
    let _ = write!(out, "\n{heading}\n\n| key | value | default | |\n|---|---|---|---|\n");
    for setting in table {
        let Some(value) = setting.describe() else { continue };
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let _ = writeln!(
            out,
            "| {} | {} | {default} | {} |",
            linked(setting, page),
            value.replace('|', "\\|"),
            setting.help.replace('|', "\\|")
        );
    }
    let refused: Vec<String> = table
        .iter()
        .filter_map(|setting| match setting.value {
            Value::Refused { reason } => Some(format!("`{}` ({reason})", setting.name)),
            _ => None,
        })
        .collect();
    if !refused.is_empty() {
        let _ = writeln!(out, "\nKnown and not offered: {}.", refused.join(", "));
    }
}

fn one<T>(setting: &Setting<T>) -> String {
    let mut out = format!("{}\n    {}\n", setting.name, setting.help);
    match (&setting.value, setting.describe()) {
        (Value::Refused { reason }, _) => out.push_str(&format!("    not offered: {reason}\n")),
        (_, Some(value)) => out.push_str(&format!("    value: {value}\n")),
        (_, None) => {}
    }
    if !setting.default.is_empty() {
        out.push_str(&format!("    default: {}\n", setting.default));
    }
    out.push_str(&format!("    {}\n", whose(setting.origin)));
    out
}

fn linked<T>(setting: &Setting<T>, page: &str) -> String {
    match setting.origin {
        // LXD's anchors are `GROUP:KEY` on the page of instance options and `PAGE-…:KEY` elsewhere; the page will do there.
        Origin::Lxd(group) if page == "instance_options" => {
            format!("[`{0}`]({LXD_REFERENCE}/{page}/#{group}:{0})", setting.name)
        }
        Origin::Lxd(_) => format!("[`{}`]({LXD_REFERENCE}/{page}/)", setting.name),
        Origin::Incus => format!("`{}` (Incus)", setting.name),
        Origin::Ours => format!("`{}` (ours)", setting.name),
    }
}

fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Lxd(_) => "a key of LXD's",
        Origin::Incus => "a key of Incus'",
        Origin::Ours => "ours",
    }
}
