//! A large image takes a while: on a terminal it is said how far it is, on a line which the result then takes.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write as _};

/// Says how far it is, in place of what was said before.
pub(super) fn show(text: impl Display) {
    if io::stderr().is_terminal() {
        // A terminal that has gone away does not matter here.
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }
}

/// Clears the line.
pub(super) fn clear() {
    show("");
}
