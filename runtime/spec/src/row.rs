//! A row of any table, as the reference, the tests and the search for a misspelt name see it: everything but the draft that
//! it writes into.

use crate::problem::Fault;
use crate::setting::{Applies, Origin, Setting, Value, is_called};

/// A row.
pub trait Row: Sync {
    /// Its name, perhaps with `*`.
    fn name(&self) -> &'static str;
    /// Whether it has a value, and where that goes.
    fn kind(&self) -> RowKind;
    /// What it can be, in words; `None` for what is refused.
    fn describe(&self) -> Option<String>;
    /// Whether the text is a value of it; `name` is one that the row is called.
    fn check(&self, name: &str, text: &str) -> Result<(), Fault>;
    /// What holds when it is not said; empty: nothing.
    fn default(&self) -> &'static str;
    /// When a change of it takes effect.
    fn applies(&self) -> Applies;
    /// Whose key it is.
    fn origin(&self) -> Origin;
    /// What it is for.
    fn help(&self) -> &'static str;
}

/// Whether a row has a value, and where that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// Into a draft, and so into a spec.
    One,
    /// The same for each name that `*` stands for.
    Each,
    /// Nowhere: it is kept for those who read the configuration.
    Kept,
    /// Nowhere: it can only have this one.
    Always {
        /// The value.
        value: &'static str,
    },
    /// It is refused.
    Refused {
        /// Why, and what to do instead.
        reason: &'static str,
    },
}

impl<T> Row for Setting<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> RowKind {
        match self.value {
            Value::Bool { .. }
            | Value::Integer { .. }
            | Value::Time { .. }
            | Value::Choice(_)
            | Value::Parsed { .. } => RowKind::One,
            Value::Each { .. } => RowKind::Each,
            Value::Kept { .. } => RowKind::Kept,
            Value::Always { value, reason: _ } => RowKind::Always { value },
            Value::Refused { reason } => RowKind::Refused { reason },
        }
    }

    fn describe(&self) -> Option<String> {
        Setting::describe(self)
    }

    fn check(&self, name: &str, text: &str) -> Result<(), Fault> {
        self.parse(name, text).map(drop)
    }

    fn default(&self) -> &'static str {
        self.default
    }

    fn applies(&self) -> Applies {
        self.applies
    }

    fn origin(&self) -> Origin {
        self.origin
    }

    fn help(&self) -> &'static str {
        self.help
    }
}

/// The rows of a table.
pub fn rows<T>(table: &'static [Setting<T>]) -> Vec<&'static dyn Row> {
    table.iter().map(|setting| -> &dyn Row { setting }).collect()
}

/// The row of that name: one that is called exactly so before one with `*`.
pub fn find_row(rows: &[&'static dyn Row], name: &str) -> Option<&'static dyn Row> {
    let exact = rows.iter().find(|row| row.name() == name && !name.ends_with('*'));
    exact.or_else(|| rows.iter().find(|row| is_called(row.name(), name))).copied()
}
