//! Why the system was started: what init found out at the boot and leaves in `last-reset` in its runtime directory, for the updater
//! and the command. A few lines of text, `KEY VALUE` each.

use crate::names::{Text, clipped};
use core::fmt::Write as _;

/// The file's name in init's runtime directory.
pub const FILE: &str = "last-reset";

/// Nobody writes a longer one.
pub const MAX_BYTES: usize = 1024;

/// Why the system was started, and what is known of how the last one ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastReset {
    /// Why.
    pub cause: ResetCause,
    /// The slot of the last boot that came as far as its data partition, `A` or `B`; `None`: it is not known.
    pub slot: Option<char>,
    /// Who asked for it, with [`ResetCause::Asked`].
    pub by: Text<31>,
    /// Why, as they said it; often empty.
    pub reason: Text<200>,
    /// What the kernel said before it panicked is kept on the data partition.
    pub is_log_kept: bool,
}

/// Why the system was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetCause {
    /// Somebody asked for a reboot, or for power off, and then power came.
    Asked,
    /// The kernel panicked.
    Panic,
    /// The hardware watchdog was not fed in time.
    Watchdog,
    /// The power was cut, or a reset button pressed: the last system was up and nothing of it says that it ended.
    Power,
    /// Nothing tells: it is the first boot, or there was no data partition.
    Unknown,
}

impl ResetCause {
    /// All of them.
    pub const ALL: [ResetCause; 5] =
        [ResetCause::Asked, ResetCause::Panic, ResetCause::Watchdog, ResetCause::Power, ResetCause::Unknown];

    /// As the file and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            ResetCause::Asked => "asked",
            ResetCause::Panic => "panic",
            ResetCause::Watchdog => "watchdog",
            ResetCause::Power => "power",
            ResetCause::Unknown => "unknown",
        }
    }
}

impl LastReset {
    /// The content of the file.
    pub fn to_text(&self) -> String {
        let LastReset { cause, slot, by, reason, is_log_kept } = self;
        // Writing to a String does not fail.
        let mut text = format!("cause {}\n", cause.name());
        if let Some(slot) = slot {
            let _ = writeln!(text, "slot {slot}");
        }
        for (key, value) in [("by", by.as_str()), ("reason", reason.as_str())] {
            if !value.is_empty() {
                let _ = writeln!(text, "{key} {}", one_line(value));
            }
        }
        if *is_log_kept {
            text.push_str("log kept\n");
        }
        text
    }

    /// Reads the file's content. `None`: it does not say why. Lines that are not known are passed over.
    pub fn parse(text: &str) -> Option<LastReset> {
        let name = value(text, "cause")?;
        Some(LastReset {
            cause: ResetCause::ALL.into_iter().find(|cause| cause.name() == name)?,
            slot: value(text, "slot").and_then(parse_slot),
            by: clipped(value(text, "by").unwrap_or_default()),
            reason: clipped(value(text, "reason").unwrap_or_default()),
            is_log_kept: value(text, "log") == Some("kept"),
        })
    }
}

/// What stands behind this key in lines of `KEY VALUE`; the first one counts.
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// The letter of a slot.
pub fn parse_slot(text: &str) -> Option<char> {
    match text {
        "A" => Some('A'),
        "B" => Some('B'),
        _ => None,
    }
}

/// Somebody's words as the rest of one line.
pub fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_file_are_frozen_and_say_the_same_again() {
        let by_power = LastReset {
            cause: ResetCause::Power,
            slot: None,
            by: Text::new(),
            reason: Text::new(),
            is_log_kept: false,
        };
        assert_eq!(by_power.to_text(), "cause power\n");
        let asked = LastReset {
            cause: ResetCause::Asked,
            slot: Some('B'),
            by: clipped("updater"),
            reason: clipped("release 2 goes on trial in slot A"),
            is_log_kept: false,
        };
        let text = "cause asked\nslot B\nby updater\nreason release 2 goes on trial in slot A\n";
        assert_eq!(asked.to_text(), text);
        let panicked = LastReset { cause: ResetCause::Panic, is_log_kept: true, ..by_power.clone() };
        assert_eq!(panicked.to_text(), "cause panic\nlog kept\n");
        for reset in [by_power, asked, panicked] {
            assert_eq!(LastReset::parse(&reset.to_text()), Some(reset));
        }
    }

    #[test]
    fn words_of_others_make_no_line_of_their_own_and_what_is_not_known_is_passed_over() {
        let reset = LastReset {
            cause: ResetCause::Asked,
            slot: None,
            by: clipped("x\nlog kept"),
            reason: clipped("a\nslot B\n"),
            is_log_kept: false,
        };
        let read = LastReset::parse(&reset.to_text()).unwrap();
        assert_eq!((read.slot, read.is_log_kept, read.by.as_str()), (None, false, "x log kept"));
        let later = LastReset::parse("colour blue\ncause watchdog\nslot C\n").unwrap();
        assert_eq!((later.cause, later.slot), (ResetCause::Watchdog, None));
        for text in ["", "cause", "cause x\n", "causepower\n", "slot A\n"] {
            assert_eq!(LastReset::parse(text), None, "{text:?}");
        }
        for cause in ResetCause::ALL {
            assert_eq!(LastReset::parse(&format!("cause {}\n", cause.name())).unwrap().cause, cause);
        }
    }
}
