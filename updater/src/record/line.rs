//! Text of others that is kept and shown: one line, bounded, nothing in it that a terminal obeys.

use std::fmt;

/// At most [`Line::MAX_BYTES`] of printable text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Line(String);

impl Line {
    /// A long address of a source fits.
    pub const MAX_BYTES: usize = 1024;

    /// This text, if it is one.
    pub fn parse(text: &str) -> Option<Line> {
        let is_line = text.len() <= Line::MAX_BYTES && !text.chars().any(char::is_control) && text.trim() == text;
        is_line.then(|| Line(text.to_owned()))
    }

    /// This text, with a blank for each control character, cut where it is too long.
    pub fn cut(text: &str) -> Line {
        let mut end = text.len().min(Line::MAX_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let printable: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Line(printable.trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}
