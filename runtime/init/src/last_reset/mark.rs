//! What each boot leaves on the data partition for the next one: that it is up, and when it ends in order, who asked for that. A few
//! lines of text, `KEY VALUE` each.

use super::Asked;
use crate::shutdown::sequence;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use yado_sys::{regular_file, replace_file};
use yado_wire::formats::{self, Standing, Versions};
use yado_wire::last_reset::{one_line, parse_slot, value};
use yado_wire::names::clipped;

/// In the first line: what it is, before its version.
const MAGIC: &str = "yado-boot ";
const VERSIONS: Versions = Versions::new(1, 1);

/// Nobody writes a longer one.
const MAX_BYTES: u64 = 1024;

/// What one boot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `A` or `B`.
    pub(crate) slot: Option<char>,
    /// `None`: it is up.
    pub(crate) ended: Option<Ended>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) goal: Goal,
    pub(crate) asked: Asked,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Reboot,
    PowerOff,
}

impl From<&sequence::Goal> for Goal {
    fn from(goal: &sequence::Goal) -> Goal {
        match goal {
            sequence::Goal::Reboot | sequence::Goal::RebootWith(_) => Goal::Reboot,
            sequence::Goal::PowerOff | sequence::Goal::Exit => Goal::PowerOff,
        }
    }
}

/// Its name beside what else is remembered.
pub(crate) const FILE: &str = "last-boot";

/// Where it is.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join("state").join(FILE)
}

/// Reads it. `None`: it is not there, damaged, or of another version.
pub(super) fn read(path: &Path) -> Option<Mark> {
    Mark::parse(&read_text(path)?)
}

fn read_text(path: &Path) -> Option<String> {
    let mut text = String::new();
    regular_file::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes it, as a whole: these lines of a mark.
pub(crate) fn write(path: &Path, lines: &str, standing: Standing) -> io::Result<()> {
    let found = read_text(path).and_then(|text| formats::version(&text, MAGIC));
    let version = VERSIONS.to_write(standing, found);
    replace_file::replace(path, 0o644, format!("{MAGIC}{version}\n{lines}").as_bytes())
}

impl Mark {
    /// What stands below the first line.
    pub(crate) fn lines(&self) -> String {
        let Mark { slot, ended } = self;
        let state = match ended {
            None => "up",
            Some(Ended { goal: Goal::Reboot, .. }) => "reboot",
            Some(Ended { goal: Goal::PowerOff, .. }) => "poweroff",
        };
        let mut text = format!("state {state}\n");
        if let Some(slot) = slot {
            text.push_str(&format!("slot {slot}\n"));
        }
        if let Some(Ended { asked: Asked { by, reason }, .. }) = ended {
            text.push_str(&format!("by {}\nreason {}\n", one_line(by), one_line(reason)));
        }
        text
    }

    fn parse(text: &str) -> Option<Mark> {
        formats::version(text, MAGIC).filter(|version| VERSIONS.has(*version))?;
        let ended = |goal| {
            let said = |key| value(text, key).unwrap_or_default();
            Some(Ended { goal, asked: Asked { by: clipped(said("by")), reason: clipped(said("reason")) } })
        };
        let ended = match value(text, "state")? {
            "up" => None,
            "reboot" => ended(Goal::Reboot),
            "poweroff" => ended(Goal::PowerOff),
            _ => return None,
        };
        Some(Mark { slot: value(text, "slot").and_then(parse_slot), ended })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn the_bytes_of_a_mark_are_frozen_and_say_the_same_again() {
        let asked = Asked { by: clipped("updater"), reason: clipped("release 2 goes on trial") };
        let marks = [
            (Mark { slot: None, ended: None }, "yado-boot 1\nstate up\n"),
            (Mark { slot: Some('B'), ended: None }, "yado-boot 1\nstate up\nslot B\n"),
            (
                Mark { slot: Some('A'), ended: Some(Ended { goal: Goal::Reboot, asked }) },
                "yado-boot 1\nstate reboot\nslot A\nby updater\nreason release 2 goes on trial\n",
            ),
            (
                Mark { slot: None, ended: Some(Ended { goal: Goal::PowerOff, asked: Asked::by("power key") }) },
                "yado-boot 1\nstate poweroff\nby power key\nreason \n",
            ),
        ];
        for (mark, text) in marks {
            assert_eq!(format!("yado-boot 1\n{}", mark.lines()), text);
            assert_eq!(Mark::parse(text), Some(mark));
        }
    }

    #[test]
    fn any_text_is_a_mark_that_says_the_same_again_or_none() {
        let seeds = ["yado-boot 1\nstate reboot\nslot A\nby updater\nreason why\n", "yado-boot 1\nstate up\n"];
        let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
        fuzz("boot-mark", &seeds, &["state ", "up", "poweroff", "slot ", "B", "by ", "\n"], |bytes| {
            if let Some(mark) = core::str::from_utf8(bytes).ok().and_then(Mark::parse) {
                let again = Mark::parse(&format!("yado-boot 1\n{}", mark.lines())).unwrap();
                assert_eq!((again.slot, again.ended.is_some()), (mark.slot, mark.ended.is_some()));
            }
        });
    }

    /// The earliest version stays; in a build of a later release (`yado-wire/next-formats`) it is not the newest.
    #[test]
    fn what_is_found_in_an_earlier_version_stays_so_on_trial_and_a_later_one_comes_with_the_confirmation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mark = Mark { slot: Some('B'), ended: None };
        for (standing, version) in [(Standing::OnTrial, 1), (Standing::Confirmed, VERSIONS.newest())] {
            write(&path, &mark.lines(), standing).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("yado-boot {version}\n{}", mark.lines()));
            assert_eq!(read(&path).as_ref(), Some(&mark));
        }
    }

    #[test]
    fn what_is_no_file_or_is_torn_is_no_mark() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("torn"), "yado-boot 1\nsta").unwrap();
        std::fs::write(at("newer"), "yado-boot 2\nstate up\n").unwrap();
        std::fs::write(at("binary"), [0xff; 64]).unwrap();
        std::fs::File::create(at("huge")).unwrap().set_len(1 << 40).unwrap();
        std::os::unix::fs::symlink("/proc/kmsg", at("linked")).unwrap();
        for name in ["torn", "newer", "binary", "huge", "linked", "none", "."] {
            assert_eq!(read(&at(name)), None, "{name}");
        }
        write(&at("mark"), &Mark { slot: Some('A'), ended: None }.lines(), Standing::Confirmed).unwrap();
        assert_eq!(read(&at("mark")), Some(Mark { slot: Some('A'), ended: None }));
    }
}
