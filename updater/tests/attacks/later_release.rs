//! No attack, but what would cost a board its floors: a release that writes the files on the data partition in later versions of their
//! formats. On trial it leaves them in those in which it found them, so that the release before reads all of it; confirmed, it writes
//! its own. Both are real programs: `cargo build -p yado-updater --features yado-wire/next-formats --target-dir target/later` makes the
//! later one, and `YADO_LATER_UPDATER` names it.

use crate::board::Board;
use std::fs;
use std::path::{Path, PathBuf};
use yado_updater::boot_state::Slot;
use yado_updater::record::history;
use yado_updater::record::{Ended, Kind, Line, Outcome, Phase, Update};
use yado_wire::formats::{self, Standing};

/// Files on the data partition that have a version, and what stands before it.
const FILES: [(&str, &str); 2] =
    [("data/state/update", "yado-update "), ("data/state/update-history", "yado-update-history ")];

fn later_updater() -> Option<PathBuf> {
    let path = std::env::var_os("YADO_LATER_UPDATER").map(PathBuf::from);
    if path.is_none() {
        println!("SKIPPED: it takes long: --long runs it, and YADO_LATER_UPDATER=… names the program");
    }
    path
}

fn versions(board: &Board) -> [Option<u32>; 2] {
    FILES.map(|(file, magic)| formats::version(&fs::read_to_string(board.path(file)).ok()?, magic))
}

/// An update that is over, which the history has.
fn of_before() -> Ended {
    let update = Update {
        number: 1,
        kind: Kind::Install,
        release: None,
        system: None,
        instances: Vec::new(),
        needs_uplink: false,
        source: Line::cut("/media/stick"),
        asked_unix: 1,
    };
    Ended { update, outcome: Outcome::Confirmed, ended_unix: 2 }
}

/// Release 8 is armed in slot B by the earlier program, and the machine starts it with the later one.
fn on_trial(later: &Path) -> Option<Board> {
    let mut board = Board::new()?;
    history::add(&board.path("data/state"), &of_before(), Standing::Confirmed).unwrap();
    board.takes_the_good_release();
    assert!(matches!(board.record().phase, Phase::Armed { .. }));
    assert_eq!(versions(&board), [Some(1), Some(1)]);
    board.start_from(Slot::B, later);
    Some(board)
}

#[test]
fn a_later_release_on_trial_writes_nothing_that_the_earlier_one_cannot_read() {
    let Some(later) = later_updater() else { return };
    let Some(mut board) = on_trial(&later) else { return };
    let before = board.record();
    // Nobody says that it is well, and its time is over: it is left.
    let ended = board.start(&["resume"], None);
    assert!(matches!(board.record().phase, Phase::Undoing { .. }), "{ended:?}");
    assert_eq!((board.boot_state().trial, board.boot_state().next()), (None, Some(Slot::A)));
    assert_eq!(versions(&board), [Some(1), Some(1)], "{ended:?}");

    board.start_from(Slot::A, env!("CARGO_BIN_EXE_yado-updater").as_ref());
    let ended = board.start(&["resume"], None);
    let record = board.record();
    assert_eq!(record.phase, Phase::Idle, "{ended:?}");
    assert_eq!((record.floors, &record.current), (before.floors, &before.current), "{ended:?}");
    assert_eq!(record.blocked.len(), 1, "the release that failed");
    let history = history::read(&board.path("data/state")).unwrap();
    assert_eq!((history.len(), &history[0]), (2, &of_before()), "{history:?}");
    assert!(matches!(history[1].outcome, Outcome::FellBack(_)), "{history:?}");
    assert!(!ended.said.contains("anew"), "{ended:?}");
    let (code, said) = board.show("history");
    assert!(code == Some(0) && said.contains("fell-back"), "{said}");
}

#[test]
fn a_later_release_that_is_confirmed_writes_its_own_formats_and_reads_the_earlier_ones() {
    let Some(later) = later_updater() else { return };
    let Some(mut board) = on_trial(&later) else { return };
    let ended = board.run(&["confirm"], None);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(board.boot_state().trial, None);
    assert_eq!(versions(&board), [Some(2), Some(2)], "{ended:?}");
    let (code, said) = board.show("history");
    assert!(code == Some(0) && said.contains("confirmed"), "{said}");
    // Who goes back to the earlier one loses what it cannot read, and is told so.
    board.start_from(Slot::A, env!("CARGO_BIN_EXE_yado-updater").as_ref());
    let ended = board.start(&["resume"], None);
    assert!(ended.said.contains("it has version 2, and this release knows 1: it is begun anew"), "{ended:?}");
}
