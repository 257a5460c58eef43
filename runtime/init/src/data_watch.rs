//! Whether the data partition runs full while the system runs: said once when it begins, and once when it is over.
//!
//! It looks at most once a minute, and only when something else woke us.

use crate::data_partition::MOUNT_POINT;
use crate::log::{Log, Priority};
use crate::moment::Moment;
use std::path::Path;
use std::time::Duration;
use yado_sys::volume::{self, Usage};

const PAUSE: Duration = Duration::from_secs(60);

/// What the last look found, and when the next one is due.
#[derive(Debug, Default)]
pub(crate) struct DataWatch {
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
        usage.free_bytes < usage.total_bytes / part
            // Some file systems have no fixed number of files.
            || (usage.total_files != 0 && usage.free_files < usage.total_files / part)
    };
    match before {
        Room::Enough if is_below(10) => Room::Scarce,
        Room::Scarce if !is_below(7) => Room::Enough,
        Room::Enough | Room::Scarce => before,
    }
}

impl DataWatch {
    /// Looks, if it is time. `true`: there is room again, also for what the system keeps for itself.
    pub(crate) fn look(&mut self, log: &mut Log, now: Moment) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now.saturating_add(PAUSE);
        let Ok(usage) = volume::usage(Path::new(MOUNT_POINT)) else { return false };
        let room = judge(self.room, &usage);
        if room == self.room {
            return false;
        }
        self.room = room;
        let Usage { total_bytes, free_bytes, total_files, free_files, .. } = usage;
        let left = format!("{free_bytes} of {total_bytes} bytes and {free_files} of {total_files} files are free");
        match room {
            Room::Scarce => log.say(Priority::Warning, format_args!("{MOUNT_POINT} runs full: {left}")),
            Room::Enough => log.say(Priority::Notice, format_args!("{MOUNT_POINT} has room again: {left}")),
        }
        room == Room::Enough
    }
}

#[cfg(test)]
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
}
