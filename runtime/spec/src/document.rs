//! A TOML file as a list of what it says, each with its line: tables are dissolved into dotted names, so that
//! `limits.memory = …`, `"limits.memory" = …` and `[config.limits]` are the same. It knows TOML and none of our keys.

use crate::problem::{Fault, Location, Problem};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where in the file: names of tables, then the key.
    pub(crate) path: Vec<String>,
    /// Counted from 1.
    pub(crate) line: usize,
    /// What it says there.
    pub(crate) value: TomlValue,
}

impl Entry {
    /// What is wrong with it: it stands in this file and has, in the problem, this name.
    pub(crate) fn problem(&self, file: &str, key: &str, fault: Fault) -> Problem {
        let value = match &self.value {
            TomlValue::Text(text) => Some(text.clone()),
            TomlValue::List(_) | TomlValue::Other | TomlValue::Table => None,
        };
        let location = Location::File { file: file.to_owned(), line: self.line };
        Problem { location, key: key.to_owned(), value, fault }
    }
}

/// After so many problems a file is not worth reading on; it also bounds the work on hostile ones.
pub(crate) const MAX_PROBLEMS: usize = 50;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TomlValue {
    /// A string; numbers, truth values and dates as they are written.
    Text(String),
    /// An array of strings, each with its line.
    List(Vec<(String, usize)>),
    /// An array of anything else.
    Other,
    /// A table; what it holds follows as entries of their own.
    Table,
}

/// What the file says, in its order, and where it is not TOML. Reading goes on after an error.
pub(crate) fn parse_document(file: &str, bytes: &[u8]) -> (Vec<Entry>, Vec<Problem>) {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let lines_before = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            let line = lines_before.saturating_add(1);
            return (Vec::new(), vec![syntax_problem(file, line, "not UTF-8".to_owned())]);
        }
    };
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut entries = Vec::new();
    flatten(table.get_ref(), &mut Vec::new(), &lines, &mut entries);
    entries.sort_by_key(|entry: &Entry| entry.line);
    let problems = errors.iter().map(|error| {
        let line = error.span().map_or(0, |span| lines.line_of(span.start));
        let shown = text.lines().nth(line.wrapping_sub(1)).unwrap_or_default();
        syntax_problem(file, line, with_advice(error.message(), shown))
    });
    (entries, problems.take(MAX_PROBLEMS).collect())
}

fn syntax_problem(file: &str, line: usize, message: String) -> Problem {
    let location = Location::File { file: file.to_owned(), line };
    Problem { location, key: String::new(), value: None, fault: Fault::Syntax { message } }
}

/// LXD has keys that are the beginning of others (`limits.memory`, `limits.memory.swap`). As dotted keys TOML does not
/// allow both: the first would be a value and a table. In quotes they are names without an inside.
fn with_advice(message: &str, line: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let is_about_keys = message.contains("dotted key") || message.contains("duplicate key");
    match line.split_once('=').map(|(key, _)| key.trim()) {
        Some(key) if is_about_keys && key.contains('.') && !key.contains('"') => {
            format!("{message}; another key begins so or is its beginning: write it in quotes, \"{key}\" = …")
        }
        Some(_) | None => message.to_owned(),
    }
}

fn flatten(table: &DeTable, path: &mut Vec<String>, lines: &Lines, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let line = lines.line_of(key.span().start);
        entries.push(Entry { path: path.clone(), line, value: toml_value(value, lines) });
        if let DeValue::Table(below) = value.get_ref() {
            flatten(below, path, lines, entries);
        }
        path.pop();
    }
}

fn toml_value(value: &Spanned<DeValue>, lines: &Lines) -> TomlValue {
    match value.get_ref() {
        DeValue::Array(array) => {
            let texts = array.iter().map(|element| {
                let text = element.get_ref().as_str()?;
                Some((text.to_owned(), lines.line_of(element.span().start)))
            });
            texts.collect::<Option<_>>().map_or(TomlValue::Other, TomlValue::List)
        }
        DeValue::Table(_) => TomlValue::Table,
        DeValue::String(text) => TomlValue::Text(text.to_string()),
        DeValue::Boolean(on) => TomlValue::Text(on.to_string()),
        DeValue::Integer(number) => TomlValue::Text(match number.radix() {
            16 => format!("0x{}", number.as_str()),
            8 => format!("0o{}", number.as_str()),
            _ => number.as_str().to_owned(),
        }),
        DeValue::Float(number) => TomlValue::Text(number.as_str().to_owned()),
        DeValue::Datetime(date) => TomlValue::Text(date.to_string()),
    }
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn line_of(&self, at: usize) -> usize {
        self.0.partition_point(|newline| *newline < at).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let (entries, problems) = parse_document("f.toml", text.as_bytes());
        let entries =
            entries.iter().map(|entry| format!("{} {} {:?}", entry.line, entry.path.join("/"), entry.value));
        entries.chain(problems.iter().map(Problem::to_string)).collect()
    }

    #[test]
    fn dotted_quoted_and_nested_keys_and_all_kinds_of_values_come_out_with_their_lines() {
        let text = "image = 'x'\nafter = ['a',\n 'b']\n[config]\nlimits.cpu = 0x10\n\"boot.autostart\" = true\n[devices.e]\nmode = 0o660\n";
        assert_eq!(
            shown(text),
            [
                "1 image Text(\"x\")",
                "2 after List([(\"a\", 2), (\"b\", 3)])",
                "4 config Table",
                "5 config/limits Table",
                "5 config/limits/cpu Text(\"0x10\")",
                "6 config/boot.autostart Text(\"true\")",
                "7 devices Table",
                "7 devices/e Table",
                "8 devices/e/mode Text(\"0o660\")",
            ]
        );
    }

    #[test]
    fn every_error_is_told_and_reading_goes_on() {
        let text = "a = 1\nb = \nc = 32MiB\n[config]\nlimits.memory = '1'\nlimits.memory.swap = true\n";
        let shown = shown(text);
        assert!(shown.iter().any(|line| line.starts_with("f.toml:2: not TOML")), "{shown:#?}");
        assert!(shown.iter().any(|line| line.starts_with("f.toml:3: not TOML")), "{shown:#?}");
        let advice = shown.iter().find(|line| line.starts_with("f.toml:6: not TOML"));
        assert!(advice.is_some_and(|line| line.contains("in quotes, \"limits.memory.swap\" = …")), "{shown:#?}");
        assert!(shown.iter().any(|line| line.starts_with("1 a Text")), "{shown:#?}");
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_line() {
        assert_eq!(parse_document("f", b"a = 1\nb = \"\xff\"").1[0].to_string(), "f:2: not TOML: not UTF-8");
    }
}
