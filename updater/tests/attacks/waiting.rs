//! Who can have the updater started as often as they like, or hold its lock for ever: what was waited for goes on from process to process.

use crate::board::Board;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use yado_updater::record::Phase;

/// More than a process of the updater waits by itself.
const LOCK_LIMIT: Duration = Duration::from_secs(24);
/// For what a start of the updater takes.
const SLACK: Duration = Duration::from_secs(20);

/// When init would start the updater again.
fn next_start(board: &Board) -> Duration {
    let said = fs::read_to_string(board.path("run/updater/next-start")).unwrap();
    Duration::from_secs(said.trim().parse().unwrap())
}

/// No init answers here, so that the updater has to take it that somebody minds the reboot, as long as one may.
#[test]
fn a_lock_that_is_held_for_ever_delays_the_reboot_by_its_limit_and_no_more() {
    let Some(board) = Board::new() else { return };
    let policy = format!("compatible = [\"board-1\"]\nreboot.lock_limit = \"{}s\"\n", LOCK_LIMIT.as_secs());
    fs::write(board.path("system/update.toml"), policy).unwrap();
    let built = board.workshop.build(|options| options.instances.clear());
    let folder = board.workshop.lay_out("good", &built);
    let begun = Instant::now();
    let mut ended = board.run(&["install", folder.to_str().unwrap()], None);
    while board.boot_state().trial.is_none() {
        let (waited, next) = (begun.elapsed(), next_start(&board));
        assert!(waited + next <= LOCK_LIMIT + SLACK, "after {waited:?} another {next:?}: {ended:?}");
        // Somebody has it started earlier than it wanted.
        thread::park_timeout(next.min(Duration::from_secs(7)));
        ended = board.start(&["resume"], None);
    }
    assert!(LOCK_LIMIT <= begun.elapsed(), "{ended:?}");
}

#[test]
fn a_source_that_gives_nothing_is_not_asked_each_time_that_the_updater_is_started() {
    let Some(board) = Board::new() else { return };
    let failures = || match board.record().phase {
        Phase::Candidate { failures, .. } => Some(failures),
        _ => None,
    };
    let ended = board.run(&["install", "http://127.0.0.1:1/release/"], None);
    let before = failures();
    assert!(before.is_some(), "{ended:?}");
    let until = next_start(&board);
    for _ in 0..12 {
        let ended = board.start(&["resume"], None);
        assert_eq!(failures(), before, "{ended:?}");
        assert!(Duration::ZERO < next_start(&board) && next_start(&board) <= until, "{ended:?}");
    }
    // Who asks for something does not wait.
    board.run(&["cancel"], None);
    assert_eq!(board.record().phase, Phase::Idle);
}

/// By so many crashes init leaves a trial; an exit code would be an answer, and end it here.
#[test]
fn an_updater_that_cannot_work_on_a_trial_crashes() {
    let Some(mut board) = Board::new() else { return };
    // The boot loader's state is on no disk.
    board.hide("state");
    let ended = board.start(&["resume"], None);
    assert_eq!((ended.code, ended.status.rule.as_deref()), (Some(61), Some("boot-loader")), "{ended:?}");
    fs::write(board.path("data/state/trial"), "A\n").unwrap();
    let ended = board.start(&["resume"], None);
    // By a signal, which timeout(1) then sends itself.
    assert_eq!((ended.code, ended.status.rule.as_deref()), (None, Some("boot-loader")), "{ended:?}");
    let ended = board.run(&["hold"], None);
    assert_eq!(ended.code, Some(61), "who asks is answered: {ended:?}");
}
