//! The reference of all keys, made from the tables: markdown for the manual, and one key for `yado help keys KEY`.

use crate::device_types::{DEVICE_TYPES, Offer};
use crate::keys;
use crate::network_keys::{BRIDGE, PHYSICAL};
use crate::setting::{Applies, Origin, Setting, Value};
use core::fmt::Write;

/// LXD's manual.
const LXD_REFERENCE: &str = "https://documentation.ubuntu.com/lxd/en/latest/reference";

/// All of it.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Keys\n\nThe names and values are LXD's unless a key is marked as ours or as Incus'. Sizes: `64MiB` counts by \
         1024, `64MB` by 1000. Times: seconds, or with units as in `1m30s`.\n\nThe files are read when the system starts; \
         *applies* says which changes a running instance can take besides.\n\nA key that begins like another one, such as \
         `limits.memory.swap` beside `limits.memory`, is written in quotes: `\"limits.memory.swap\" = false`.\n",
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
    section(&mut out, "\n## Networks: `type = \"bridge\"`, `[config]`", "network_bridge", BRIDGE);
    section(&mut out, "\n## Networks: `type = \"physical\"`, `[config]`", "network_physical", PHYSICAL);
    out
}

/// What is to be said of one name: a key, a type of device, or an option of one (`nic.parent`); `None`: there is none.
pub fn explain(name: &str) -> Option<String> {
    if let Some(setting) = keys::key(name) {
        return Some(one(setting));
    }
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
        if let Some(setting) = options.and_then(|options| crate::setting::find(options, option)) {
            return Some(one(setting));
        }
    }
    let network = crate::setting::find(BRIDGE, name).or_else(|| crate::setting::find(PHYSICAL, name));
    network.map(one)
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
    names.extend(offered(BRIDGE).chain(offered(PHYSICAL)).map(|name| name.to_owned()));
    names.sort_unstable();
    names.dedup();
    names
}

fn offered<T>(table: &'static [Setting<T>]) -> impl Iterator<Item = &'static str> {
    table.iter().filter(|setting| !matches!(setting.value, Value::Refused { .. })).map(|setting| setting.name)
}

fn section<T>(out: &mut String, heading: &str, page: &str, table: &[Setting<T>]) {
    let _ = write!(out, "\n{heading}\n\n| key | value | default | applies | |\n|---|---|---|---|---|\n");
    for setting in table {
        let Some(value) = setting.describe() else { continue };
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let _ = writeln!(
            out,
            "| {} | {} | {default} | {} | {} |",
            linked(setting, page),
            value.replace('|', "\\|"),
            applies(setting.applies),
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
    out.push_str(&format!("    applies: {}\n    {}\n", applies(setting.applies), whose(setting.origin)));
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

fn applies(applies: Applies) -> &'static str {
    match applies {
        Applies::AtOnce => "at once",
        Applies::AtRestart => "at restart",
    }
}

fn whose(origin: Origin) -> &'static str {
    match origin {
        Origin::Lxd(_) => "a key of LXD's",
        Origin::Incus => "a key of Incus'",
        Origin::Ours => "ours",
    }
}
