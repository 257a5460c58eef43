//! Warns when the data partition is nearly full, and tells when there is room again: once each.
//!
//! It looks at most once a minute, and only when another event has woken the process.

use crate::boot_clock::Moment;
use crate::data_partition::MOUNT_POINT;
use crate::log::{Log, Priority};
use std::path::Path;
use std::time::Duration;
use yado_sys::file_reserve;
use yado_sys::volume::{self, Usage};

const PAUSE: Duration = Duration::from_secs(60);

/// What the last look found, and when the next one is due.
#[derive(Debug, Default)]
pub(crate) struct FreeSpace {
    next: Moment,
    room: Room,
}

/// How much room containers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Room {
    #[default]
    Enough,
    /// Of bytes or of files less than a tenth is left.
    Scarce,
}

/// Less than a tenth is little, and only more than a seventh is enough again: what hovers between is said once.
fn judge(before: Room, usage: &Usage) -> Room {
    let is_below = |part: u64| {
        usage.free_bytes.saturating_mul(part) < usage.total_bytes
            // Some file systems have no fixed number of files.
            || (usage.total_files != 0 && usage.free_files.saturating_mul(part) < usage.total_files)
    };
    match before {
        Room::Enough if is_below(10) => Room::Scarce,
        Room::Scarce if !is_below(7) => Room::Enough,
        Room::Enough | Room::Scarce => before,
    }
}

impl FreeSpace {
    /// Looks, if it is time. `true`: something is missing of the files that the system keeps for itself, and there is room.
    pub(crate) fn look(&mut self, log: &mut Log, now: Moment) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now.saturating_add(PAUSE);
        let Ok(usage) = volume::usage(Path::new(MOUNT_POINT)) else { return false };
        let room = judge(self.room, &usage);
        if room != self.room {
            self.room = room;
            tell(log, room, &usage);
        }
        is_fill_due(room, Path::new(MOUNT_POINT))
    }
}

fn tell(log: &mut Log, room: Room, usage: &Usage) {
    let Usage { total_bytes, free_bytes, total_files, free_files, .. } = usage;
    let left = format!("{free_bytes} of {total_bytes} bytes and {free_files} of {total_files} files are free");
    match room {
        Room::Scarce => log.say(Priority::Warning, format_args!("{MOUNT_POINT} is nearly full: {left}")),
        Room::Enough => log.say(Priority::Notice, format_args!("{MOUNT_POINT} has room again: {left}")),
    }
}

/// Also where the room was never scarce at a look: a minute is long.
fn is_fill_due(room: Room, top: &Path) -> bool {
    room == Room::Enough && file_reserve::is_short(top)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn usage(free_bytes: u64, total_files: u64, free_files: u64) -> Usage {
        Usage { total_bytes: 1000, free_bytes, total_files, free_files, magic: 0 }
    }

    #[test]
    fn little_room_is_told_once_and_a_little_more_is_not_enough() {
        use Room::{Enough, Scarce};
        for (before, found, after) in [
            (Enough, usage(100, 1000, 100), Enough),
            (Enough, usage(99, 1000, 1000), Scarce),
            (Enough, usage(1000, 1000, 99), Scarce),
            (Scarce, usage(120, 1000, 1000), Scarce),
            (Scarce, usage(1000, 1000, 120), Scarce),
            (Scarce, usage(150, 1000, 150), Enough),
            (Enough, usage(1000, 0, 0), Enough),
        ] {
            assert_eq!(judge(before, &found), after, "{before:?} {found:?}");
        }
    }

    #[test]
    fn what_is_missing_of_the_reserve_is_made_whenever_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path();
        if volume::usage(top).unwrap().total_files == 0 {
            println!("SKIPPED: the number of files is not fixed here");
            return;
        }
        assert!(is_fill_due(Room::Enough, top) && !is_fill_due(Room::Scarce, top));
        file_reserve::fill(top).unwrap();
        assert!(!is_fill_due(Room::Enough, top));
        let kept = std::fs::read_dir(top).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(kept.join("7")).unwrap();
        assert!(is_fill_due(Room::Enough, top));
    }
}
