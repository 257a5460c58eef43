//! What a row of our tables of keys is: one setting, its type with how it reaches the draft of a spec and how it is read back
//! from one, its default, when a change of it applies, and what people are told of it. The row is the only place where a key
//! is known: parsing, showing, defaults, refusals, changes and the reference are all made from it.

use crate::nearest::nearest;
use crate::problem::Fault;
use crate::values::{Expected, parse_bool, parse_duration, parse_integer, show_duration};
use std::time::Duration;

/// One key of a draft `T`.
pub struct Setting<T: 'static> {
    /// Its name. `group.*` stands for all that begin with `group.` and go on, `name*` for all that begin so.
    pub name: &'static str,
    /// What it can be, and what it does to the draft.
    pub value: Value<T>,
    /// What holds when it is not said, in the same words; empty: nothing.
    pub default: &'static str,
    /// When a change of it takes effect on an instance that runs. What init does, [`crate::apply`], is held to this by a test
    /// of every key.
    pub applies: Applies,
    /// Whose key it is.
    pub origin: Origin,
    /// What it is for: whole sentences.
    pub help: &'static str,
}

/// What a setting can be, what it does to a draft, and how it is read back: `get` says nothing where the key does not count
/// (`health.window` of an instance that says when it is ready).
pub enum Value<T: 'static> {
    /// `true` or `false`, in LXD's spellings.
    Bool {
        /// Reads it back.
        get: fn(&T) -> Option<bool>,
        /// What it does.
        set: fn(&mut T, bool),
    },
    /// A whole number.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// Reads it back.
        get: fn(&T) -> Option<i64>,
        /// What it does; the number is in range.
        set: fn(&mut T, i64),
    },
    /// Seconds, or a time with units.
    Time {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// Reads it back.
        get: fn(&T) -> Option<Duration>,
        /// What it does; the time is in range.
        set: fn(&mut T, Duration),
    },
    /// One of some words.
    Choice(&'static [Choice<T>]),
    /// Anything else.
    Parsed {
        /// What it is, to be read after "Value:".
        what: &'static str,
        /// Reads it back, as `parse` takes it.
        get: fn(&T) -> Option<String>,
        /// Takes the value.
        parse: fn(&str) -> Result<Effect<T>, Expected>,
    },
    /// A key for each name that `*` stands for.
    Each {
        /// What one is.
        what: &'static str,
        /// Reads all back: what `*` stands for, and the value as `parse` takes it.
        get: fn(&T) -> Vec<(String, String)>,
        /// Takes what `*` stands for, and the value.
        parse: fn(&str, &str) -> Result<Effect<T>, Expected>,
    },
    /// Kept in the configuration for those who read it; no running instance depends on it.
    Kept {
        /// What it is.
        what: &'static str,
        /// Whether it is that.
        check: fn(&str) -> Result<(), Expected>,
    },
    /// This runtime does it in one way only: that value is accepted, any other refused.
    Always {
        /// The value.
        value: &'static str,
        /// Why no other.
        reason: &'static str,
    },
    /// Known to LXD, and not offered.
    Refused {
        /// Why, and what to do instead.
        reason: &'static str,
    },
}

/// What a value does to a draft. It was parsed; it can be done to any number of drafts and cannot fail.
pub struct Effect<T: 'static>(Box<dyn Fn(&mut T) + Send + Sync>);

/// Does `set` with a parsed value.
pub fn effect<T, V: Clone + Send + Sync + 'static>(value: V, set: fn(&mut T, V)) -> Result<Effect<T>, Expected> {
    Ok(Effect(Box::new(move |draft| set(draft, value.clone()))))
}

impl<T> Effect<T> {
    fn none() -> Effect<T> {
        Effect(Box::new(|_| {}))
    }

    /// Does it.
    pub fn apply(&self, draft: &mut T) {
        (self.0)(draft);
    }
}

impl<T> core::fmt::Debug for Effect<T> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("Effect")
    }
}

/// A word.
pub struct Choice<T: 'static> {
    /// As it is written.
    pub word: &'static str,
    /// Whether the draft has it.
    pub is: fn(&T) -> bool,
    /// What it does.
    pub set: fn(&mut T),
}

/// When a change takes effect on a running instance; the later one is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applies {
    /// At once, or it concerns the next decision that is taken anyway: to start, to stop, to delete.
    AtOnce,
    /// When the instance is started the next time.
    AtRestart,
}

impl core::fmt::Display for Applies {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(match self {
            Applies::AtOnce => "at once",
            Applies::AtRestart => "at restart",
        })
    }
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// LXD's; the page and the anchor's group in its reference.
    Lxd(&'static str),
    /// Incus has it and LXD does not.
    Incus,
    /// Ours.
    Ours,
}

impl<T> Setting<T> {
    /// What the value does to a draft, or why it is none.
    pub fn parse(&self, name: &str, text: &str) -> Result<Effect<T>, Fault> {
        let wrong = |Expected(expected)| Fault::Value { expected };
        match &self.value {
            Value::Bool { get: _, set } => parse_bool(text).and_then(|value| effect(value, *set)).map_err(wrong),
            Value::Integer { min, max, get: _, set } => {
                parse_integer(text, *min, *max).and_then(|value| effect(value, *set)).map_err(wrong)
            }
            Value::Time { min, max, get: _, set } => {
                parse_duration(text, *min, *max).and_then(|value| effect(value, *set)).map_err(wrong)
            }
            Value::Choice(choices) => match choices.iter().find(|choice| choice.word == text) {
                Some(choice) => Ok(Effect(Box::new(choice.set))),
                None => Err(Fault::Value { expected: words(choices) }),
            },
            Value::Parsed { what: _, get: _, parse } => parse(text).map_err(wrong),
            Value::Each { what: _, get: _, parse } => parse(self.rest(name), text).map_err(wrong),
            Value::Kept { what: _, check } => check(text).map(|()| Effect::none()).map_err(wrong),
            Value::Always { value, reason } => {
                let same_bool = parse_bool(value).ok().is_some_and(|value| parse_bool(text) == Ok(value));
                match *value == text || same_bool {
                    true => Ok(Effect::none()),
                    false => Err(Fault::Refused { reason: format!("only {value}; {reason}") }),
                }
            }
            Value::Refused { reason } => Err(Fault::Refused { reason: (*reason).to_owned() }),
        }
    }

    /// What the draft has for it, as names and the texts that [`Setting::parse`] would take: none, one, or with `*` any number.
    /// What no running instance depends on, and what is always the same, is not in a draft.
    pub fn show(&self, draft: &T) -> Vec<(String, String)> {
        let text = match &self.value {
            Value::Bool { get, set: _ } => get(draft).map(|on| on.to_string()),
            Value::Integer { min: _, max: _, get, set: _ } => get(draft).map(|number| number.to_string()),
            Value::Time { min: _, max: _, get, set: _ } => get(draft).map(show_duration),
            Value::Choice(choices) => {
                choices.iter().find(|choice| (choice.is)(draft)).map(|choice| choice.word.to_owned())
            }
            Value::Parsed { what: _, get, parse: _ } => get(draft),
            Value::Each { what: _, get, parse: _ } => {
                let prefix = self.name.strip_suffix('*').unwrap_or(self.name);
                return get(draft).into_iter().map(|(rest, text)| (format!("{prefix}{rest}"), text)).collect();
            }
            Value::Kept { what: _, check: _ }
            | Value::Always { value: _, reason: _ }
            | Value::Refused { reason: _ } => None,
        };
        text.into_iter().map(|text| (self.name.to_owned(), text)).collect()
    }

    /// What it can be, in words; `None` for what is refused.
    pub fn describe(&self) -> Option<String> {
        Some(match &self.value {
            Value::Bool { get: _, set: _ } => "true or false".to_owned(),
            Value::Integer { min, max, get: _, set: _ } => format!("a whole number from {min} to {max}"),
            Value::Time { min, max, get: _, set: _ } => {
                format!("a time from {} to {}: seconds, or with units", show_duration(*min), show_duration(*max))
            }
            Value::Choice(choices) => words(choices),
            Value::Parsed { what, get: _, parse: _ }
            | Value::Each { what, get: _, parse: _ }
            | Value::Kept { what, check: _ } => (*what).to_owned(),
            Value::Always { value, reason } => format!("{value}, always: {reason}"),
            Value::Refused { reason: _ } => return None,
        })
    }

    /// What `*` stands for in `name`.
    fn rest<'a>(&self, name: &'a str) -> &'a str {
        let prefix = self.name.strip_suffix('*').unwrap_or(self.name);
        name.strip_prefix(prefix).unwrap_or_default()
    }
}

/// Whether a row with this name, perhaps with `*`, is the row of `name`.
pub(crate) fn is_called(row: &str, name: &str) -> bool {
    match row.strip_suffix('*') {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() || !prefix.ends_with('.')),
        None => row == name,
    }
}

/// The setting of that name: one that is called exactly so before one with `*`.
pub fn find<T>(table: &'static [Setting<T>], name: &str) -> Option<&'static Setting<T>> {
    let exact = table.iter().find(|setting| setting.name == name && !setting.name.ends_with('*'));
    exact.or_else(|| table.iter().find(|setting| is_called(setting.name, name)))
}

/// The name in the table that was probably meant. What is refused is never proposed.
pub fn nearest_setting<T>(table: &'static [Setting<T>], name: &str) -> Option<String> {
    let offered = table.iter().filter(|setting| !matches!(setting.value, Value::Refused { .. }));
    let (patterns, names): (Vec<&Setting<T>>, Vec<&Setting<T>>) = offered.partition(|row| row.name.ends_with('*'));
    if let Some(found) = nearest(name, names.iter().map(|setting| setting.name)) {
        return Some(found.to_owned());
    }
    let (head, rest) = name.rsplit_once('.')?;
    let prefixes = patterns.iter().filter_map(|setting| setting.name.strip_suffix(".*"));
    nearest(head, prefixes).filter(|prefix| *prefix != head).map(|prefix| format!("{prefix}.{rest}"))
}

/// Puts every default of the table into the draft.
pub fn set_defaults<T>(table: &'static [Setting<T>], draft: &mut T) {
    for setting in table.iter().filter(|setting| !setting.default.is_empty()) {
        // A test of each table parses each default; one that is wrong never gets here.
        if let Ok(effect) = setting.parse(setting.name, setting.default) {
            effect.apply(draft);
        }
    }
}

fn words<T>(choices: &[Choice<T>]) -> String {
    choices.iter().map(|choice| choice.word).collect::<Vec<_>>().join(" or ")
}
