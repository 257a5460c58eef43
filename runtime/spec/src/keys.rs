//! The one table of every key of an instance's `[config]`, in the order in which the reference shows them. A new key is a
//! new row. A key that LXD has and this runtime cannot honour has a row too, which refuses it and says why.

mod boot;
mod data;
mod limits;
mod security;

use crate::draft::ConfigDraft;
use crate::setting::{Setting, find};

/// The tables, each with its heading.
pub static GROUPS: &[(&str, &[Setting<ConfigDraft>])] = &[
    ("Start, stop and restart", boot::KEYS),
    ("Limits", limits::KEYS),
    ("Security", security::KEYS),
    ("Environment, data and what is not offered", data::KEYS),
];

/// The key of that name.
pub fn key(name: &str) -> Option<&'static Setting<ConfigDraft>> {
    // A pattern of one group never covers a name of another: a test holds the groups to it.
    GROUPS.iter().find_map(|(_, table)| find(table, name))
}

/// The known key that is most like `name`.
pub fn nearest_key(name: &str) -> Option<String> {
    GROUPS.iter().find_map(|(_, table)| crate::setting::nearest_setting(table, name))
}

/// A draft with every key at its default.
pub fn default_config() -> ConfigDraft {
    let mut draft = ConfigDraft::blank();
    for (_, table) in GROUPS {
        crate::setting::set_defaults(table, &mut draft);
    }
    draft
}
