//! How the command shows what it knows: tables for people, JSON for programs, and texts of others made safe to print.

use clap::ValueEnum;
use std::borrow::Cow;
use std::io::{self, Write as _};
use yado_wire::{columns, hex};

pub(crate) use yado_wire::amounts::{bytes, duration};
pub(crate) use yado_wire::printable::printable;
use yado_wire::printable::{is_obeyed, is_plain};

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    Table,
    /// JSON for programs
    Json,
}

/// Columns under upper-case headings, of texts that others may have written.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let printable_row = |row: Vec<String>| row.iter().map(|cell| printable(cell).into_owned()).collect();
    columns::text(headings, rows.into_iter().map(printable_row))
}

/// Writes to standard output. A reader that has gone (`| head`) is the end of the work, not an error worth words.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// Writes one JSON value on lines of its own.
pub(crate) fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{}\n", printable_json(&format!("{value:#}"))))
}

/// Writes one JSON value on one line.
pub(crate) fn print_json_line(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{}\n", printable_json(&value.to_string())))
}

/// JSON must escape ASCII's control characters only. It may escape all others, and a terminal obeys more of them: the value
/// stays the same, for they stand in strings only.
fn printable_json(json: &str) -> Cow<'_, str> {
    if is_plain(json) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if is_obeyed(char) && char != '\n' {
            // Each of them is one unit of UTF-16.
            out.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// The first 12 digits of a fingerprint: what LXD shows.
pub(crate) fn short_fingerprint(fingerprint: &[u8; 32]) -> String {
    hex::encode(&fingerprint[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_value_and_nothing_in_it_is_obeyed() {
        let value =
            serde_json::json!({ "a\u{2066}": ["gpj\u{202e}exe\u{9b}2J\x1b\u{7f}\n\t\u{feff}", "ä\u{1f980}"] });
        for text in [printable_json(&value.to_string()), printable_json(&format!("{value:#}"))] {
            assert!(!text.replace('\n', "").contains(is_obeyed), "{text:?}");
            assert!(text.contains(r"gpj\u202eexe\u009b2J\u001b\u007f\n\t\ufeff"), "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn a_table_is_columns_without_borders() {
        let text = table(&["NAME", "STATE"], [vec!["debian".to_owned(), "ready".to_owned()]]);
        assert_eq!(text, "NAME    STATE\ndebian  ready\n");
    }
}
