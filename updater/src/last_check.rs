//! What the last check has found, for `yado update status`: one line of JSON in the updater's run directory. It is on tmpfs and of this
//! boot; one that cannot be read, or that another boot has left, is as none.

use crate::places::Places;
use crate::record::Line;
use crate::run_file::RunFile;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use yado_wire::amounts;

/// Three lines, in which a quotation mark takes two bytes.
const FILE: RunFile = RunFile { name: "last-check", mode: 0o644, max_bytes: 8 * 1024 };

/// The last check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastCheck {
    /// When it ended: seconds since the boot.
    pub(crate) at_s: u64,
    /// The same in seconds since 1970, as the device knew it.
    pub(crate) unix: u64,
    /// What was asked.
    pub(crate) source: String,
    /// The number of the release that is there, if it verifies.
    pub(crate) release: Option<u64>,
    /// The rule by which it may not be installed. `None`: it may be.
    pub(crate) rule: Option<String>,
    /// The same for people.
    pub(crate) says: String,
}

impl LastCheck {
    /// Replaces what the check before has found.
    pub(crate) fn write(&self, places: &Places) -> io::Result<()> {
        let line = serde_json::to_string(self).map_err(io::Error::other)?;
        FILE.write(places, format!("{line}\n").as_bytes())
    }

    /// What the last check of this boot has found.
    pub(crate) fn read(places: &Places, now: Duration) -> Option<LastCheck> {
        LastCheck::parse(&FILE.read(places)?).filter(|check| check.at_s <= now.as_secs())
    }

    /// Nothing in it is longer than what we write, and nothing is obeyed by a terminal.
    fn parse(bytes: &[u8]) -> Option<LastCheck> {
        let LastCheck { at_s, unix, source, release, rule, says } = serde_json::from_slice(bytes).ok()?;
        let line = |text: String| Line::cut(&text).to_string();
        Some(LastCheck { at_s, unix, source: line(source), release, rule: rule.map(line), says: line(says) })
    }

    /// `2m 5s ago, http://host/: release 4 may be installed`.
    pub(crate) fn words(&self, now: Duration) -> String {
        let LastCheck { at_s, unix: _, source, release: _, rule, says } = self;
        let when = match now.as_secs().saturating_sub(*at_s) {
            0 => "just now".to_owned(),
            seconds => format!("{} ago", amounts::duration(Duration::from_secs(seconds))),
        };
        // That what is there runs already is nothing to worry about.
        let rule =
            rule.as_ref().filter(|rule| *rule != ALREADY).map_or(String::new(), |rule| format!(" (rule {rule})"));
        format!("{when}, {source}: {says}{rule}")
    }
}

/// The rule of a release that runs already.
pub(crate) const ALREADY: &str = "already";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn places(run: &std::path::Path) -> Places {
        Places { system: run.into(), data: run.into(), run: run.into(), state: None }
    }

    fn check(rule: Option<&str>) -> LastCheck {
        LastCheck {
            at_s: 100,
            unix: 1_796_000_000,
            source: "http://host/\"4\"/".to_owned(),
            release: Some(4),
            rule: rule.map(str::to_owned),
            says: "release 4 may be installed".to_owned(),
        }
    }

    #[test]
    fn what_was_found_is_read_again_and_what_is_torn_or_of_another_boot_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(directory.path());
        std::fs::create_dir(places.own_run()).unwrap();
        let path = FILE.path(&places);
        let now = Duration::from_secs(100);
        assert_eq!(LastCheck::read(&places, now), None);
        let longest =
            LastCheck { says: "\"".repeat(Line::MAX_BYTES), source: "\\".repeat(Line::MAX_BYTES), ..check(None) };
        for check in [check(None), check(Some("older")), longest] {
            check.write(&places).unwrap();
            assert_eq!(LastCheck::read(&places, now), Some(check));
        }
        assert_eq!(LastCheck::read(&places, Duration::from_secs(99)), None, "it was not made yet");
        let whole = std::fs::read(&path).unwrap();
        for torn in [&b""[..], b"{}", b"7", &[0xff; 9000], &whole[..whole.len() / 2], &[b' '; 9000]] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(LastCheck::read(&places, now), None, "{torn:?}");
        }
        let hostile = serde_json::to_string(&LastCheck { says: "\x1b[2J\n".repeat(500), ..check(None) }).unwrap();
        std::fs::write(&path, &hostile).unwrap();
        let says = LastCheck::read(&places, now).map(|check| check.says).unwrap_or_default();
        assert!(says.len() <= Line::MAX_BYTES && !says.contains(char::is_control), "{says:?}");
    }

    #[test]
    fn people_see_when_where_what_and_the_rule_of_a_refusal() {
        let now = Duration::from_secs(225);
        let says = "2m 5s ago, http://host/\"4\"/: release 4 may be installed";
        assert_eq!(check(None).words(now), says);
        assert_eq!(check(Some("already")).words(now), says);
        assert!(check(None).words(Duration::from_secs(100)).starts_with("just now, http://host/"));
        assert_eq!(check(Some("older")).words(now), format!("{says} (rule older)"));
    }
}
