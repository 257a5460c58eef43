//! How far an update is, as a line for people. Pure: values in, text out.

use crate::output::{bytes, duration, printable};
use std::time::Duration;
use yado_wire::update_status::UpdateStatus;

/// A bar is this wide, if the terminal is.
const BAR: usize = 24;

/// What it does now, in a few words: `release 2 (1.4.0): writing slot B`.
pub(super) fn headline(status: &UpdateStatus) -> String {
    let release = match (status.release, &status.version) {
        (Some(number), Some(version)) => format!("release {number} ({version}): "),
        (Some(number), None) => format!("release {number}: "),
        (None, _) => String::new(),
    };
    let slot = status.slot.map_or_else(String::new, |slot| format!(" slot {slot}"));
    let does = match status.stage.as_deref() {
        Some("compare") => format!("comparing{slot}"),
        Some("write") => format!("writing{slot}"),
        Some("read-back") => format!("reading back{slot}"),
        Some("boot-files") => format!("boot files of{slot}"),
        Some("images") => "images of instances".to_owned(),
        Some(other) => other.to_owned(),
        None => status.phase.clone(),
    };
    let note = status.note.as_ref().map_or_else(String::new, |note| format!(", {note}"));
    printable(&format!("{release}{does}{note}")).into_owned()
}

/// Headline, bar, bytes, rate and time left, as far as `width` has room for them.
pub(super) fn line(status: &UpdateStatus, width: usize) -> String {
    let mut line = headline(status);
    if status.total != 0 {
        let percent = percent(status);
        let filled = BAR * usize::from(percent) / 100;
        let bar = format!("[{:<BAR$}]", "#".repeat(filled));
        let amount = format!("{percent:>3}%  {} of {}", bytes(status.done), bytes(status.total));
        let rate = if status.rate == 0 { String::new() } else { format!("  {}/s", bytes(status.rate)) };
        let left = status.left_s.map(|left| format!("  {} left", duration(Duration::from_secs(left))));
        let amount = format!("{amount}{rate}{}", left.unwrap_or_default());
        // The bar goes first, then the words.
        let whole = format!("{line}  {bar} {amount}");
        line = if whole.chars().count() < width { whole } else { format!("{line}  {amount}") };
        if width <= line.chars().count() {
            line = amount;
        }
    }
    // A line that wraps cannot be written over.
    line.chars().take(width.saturating_sub(1)).collect()
}

/// How much of the stage is done.
pub(super) fn percent(status: &UpdateStatus) -> u8 {
    let done = u128::from(status.done.min(status.total)) * 100;
    u8::try_from(done.checked_div(u128::from(status.total)).unwrap_or(0)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing() -> UpdateStatus {
        UpdateStatus {
            phase: "staging".to_owned(),
            release: Some(2),
            version: Some("1.4.0".to_owned()),
            slot: Some('B'),
            stage: Some("write".to_owned()),
            done: 45 << 20,
            total: 60 << 20,
            rate: 1 << 20,
            left_s: Some(15),
            ..UpdateStatus::default()
        }
    }

    #[test]
    fn people_see_a_bar_bytes_rate_and_time_left() {
        assert_eq!(
            line(&writing(), 120),
            "release 2 (1.4.0): writing slot B  [##################      ]  75%  45.0 MiB of 60.0 MiB  1.0 MiB/s  15s left"
        );
        assert_eq!(
            line(&writing(), 90),
            "release 2 (1.4.0): writing slot B   75%  45.0 MiB of 60.0 MiB  1.0 MiB/s  15s left"
        );
        assert_eq!(line(&writing(), 60), " 75%  45.0 MiB of 60.0 MiB  1.0 MiB/s  15s left");
        for width in 0..130 {
            assert!(line(&writing(), width).chars().count() <= width.saturating_sub(1));
        }
    }

    #[test]
    fn what_is_not_known_is_not_shown_and_nothing_in_it_is_obeyed() {
        let begun = UpdateStatus { phase: "candidate".to_owned(), ..UpdateStatus::default() };
        assert_eq!(line(&begun, 80), "candidate");
        let waits = UpdateStatus {
            phase: "staged".to_owned(),
            note: Some("web holds the update lock\x1b[2J".to_owned()),
            ..UpdateStatus::default()
        };
        assert_eq!(line(&waits, 80), "staged, web holds the update lock\\u{1b}[2J");
        let strange = UpdateStatus { done: u64::MAX, total: 1, ..writing() };
        assert_eq!((percent(&strange), percent(&begun)), (100, 0));
    }
}
