//! Attacks on a board's updates, each with a name and with the rule that refuses it: the table is the list of this program's tests, and
//! `cargo test -p yado-updater --test attacks -- --nocapture the_table` prints it with rules and exit codes.
//!
//! Each attack has a board of its own (`board.rs`) and runs the real `yado-updater` on it. What it says, by exit code and status, is one
//! thing; that the board is as before is asked of the disks: every partition and every file of the data partition, the system and
//! init's folder has the bytes that it had, nothing lies in the folder for temporary files, and no process is left. At last the same board
//! takes the good release. What may differ stands at [`Leaves`].
//!
//! Elsewhere, since it needs a running init: a container that forges the update lock (init's hosted test
//! `an_instance_delays_a_reboot_by_a_lock_and_by_nothing_else`) or the health of another
//! (`nobody_outside_an_instances_range_of_ids_speaks_for_it`), and one that reaches for the disks and their state (`node-disk` and others of
//! `cargo accept hostile-arm64`). A server that is too slow or silent is given up after minutes: `tests/http/hostile.rs` has shorter times.
#![allow(clippy::unwrap_used)]

/// Attacks by name, each a test: the rule that refuses it, what it leaves, and how it is prepared.
macro_rules! attacks {
    ($($name:ident: $rule:literal, $leaves:ident, $prepare:expr;)*) => {
        pub(crate) const TABLE: &[(&str, &str)] = &[$((stringify!($name), $rule)),*];
        $(
            #[test]
            fn $name() {
                crate::judge(stringify!($name), $rule, crate::Leaves::$leaves, $prepare);
            }
        )*
    };
}

mod board;
mod bundles;
mod confined;
mod disks;
mod files;
mod later_release;
mod releases;
mod rights;
#[path = "../http/server.rs"]
#[allow(dead_code, reason = "the tests of sources use the rest")]
mod server;
mod servers;
mod waiting;
#[path = "../workshop/mod.rs"]
mod workshop;

use board::{Board, Ended, Seen};
use std::any::Any;
use std::path::PathBuf;
use std::time::Instant;
use yado_updater::boot_state::{Mark, Order, Slot};
use yado_updater::exit_codes;
use yado_updater::record::{Phase, Record};

/// What an attack leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Nothing.
    Nothing,
    /// The source is asked again later, as one that only was down would be: a record of that, and a time for init. `cancel` ends it.
    Candidate,
    /// It was begun, and nothing of it could be done: the record's number and the history differ.
    Ended,
    /// What is wrong shows only when the files come: slot B was denied before its first byte changed, and stays so. Its partitions, the
    /// boot loader's word of it, the record's number and the history differ.
    DeniedSlot,
    /// Both: it is asked for the rest of the files again later, and `cancel` ends it.
    DeniedCandidate,
}

/// What somebody asks of the board, and what has to stay alive meanwhile.
struct Attempt {
    words: Vec<String>,
    input: Option<PathBuf>,
    _kept: Option<Box<dyn Any>>,
}

impl Attempt {
    fn install(source: impl AsRef<str>) -> Attempt {
        Attempt { words: vec!["install".to_owned(), source.as_ref().to_owned()], input: None, _kept: None }
    }

    fn install_folder(folder: &std::path::Path) -> Attempt {
        Attempt::install(folder.to_str().unwrap())
    }

    fn keeping(self, kept: impl Any) -> Attempt {
        Attempt { _kept: Some(Box::new(kept)), ..self }
    }

    fn run(&self, board: &Board) -> Ended {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        board.run(&words, self.input.as_deref())
    }
}

/// What the updater writes with each update that it begins, whatever comes of it.
const OF_THE_BEGUN: [&str; 5] =
    ["slot-b on mmcblk0", "boot-b on mmcblk0", "state on mmcblk0", "data/state/update", "data/state/update-history"];

fn judge(name: &str, rule: &str, leaves: Leaves, prepare: fn(&mut Board) -> Attempt) {
    let Some(mut board) = Board::new() else { return };
    let began = Instant::now();
    let attempt = prepare(&mut board);
    let before = board.seen();
    let record = board.record_if_any();
    let ended = attempt.run(&board);
    let code = exit_codes::of_rule(rule).unwrap().code;
    println!("{name}: {rule}, exit code {code}, {:.1} s: {}", began.elapsed().as_secs_f32(), word_of(&ended));
    assert_eq!(ended.code, Some(i32::from(code)), "{ended:#?}");
    assert_eq!((ended.status.rule.as_deref(), ended.status.exit), (Some(rule), Some(code)), "{ended:#?}");
    assert!(ended.status.error.is_some() && !ended.said.contains("panicked"), "{ended:#?}");

    if matches!(leaves, Leaves::Candidate | Leaves::DeniedCandidate) {
        assert!(board.path("run/updater/next-start").exists(), "it is asked again");
        let cancelled = board.run(&["cancel"], None);
        let code = if leaves == Leaves::Candidate { 0 } else { exit_codes::of_rule("cancelled").unwrap().code };
        assert_eq!(cancelled.code, Some(i32::from(code)), "{cancelled:#?}");
    }
    let may_differ: &[&str] = match leaves {
        Leaves::Nothing | Leaves::Candidate => &[],
        Leaves::Ended => &["data/state/update", "data/state/update-history"],
        Leaves::DeniedSlot | Leaves::DeniedCandidate => &OF_THE_BEGUN,
    };
    let mut after = board.seen();
    if record.is_none() {
        assert!(board.record_if_any().is_none_or(|record| record == Record::default()));
        after.remove("data/state/update");
    }
    assert_same(&before, &after, may_differ);
    if matches!(leaves, Leaves::DeniedSlot | Leaves::DeniedCandidate) {
        let now = board.boot_state();
        assert_eq!((now.order, now.trial, now.next()), (Order::A, None, Some(Slot::A)));
        assert_eq!((now.b.mark, now.blocked.fingerprints()), (Some(Mark::Writing), &[][..]));
    }
    if !may_differ.is_empty() {
        let (was, is) = (record.unwrap(), board.record());
        assert_eq!((is.phase, is.floors, is.current), (Phase::Idle, was.floors, was.current));
    }
    assert_eq!(board.processes(), Vec::<PathBuf>::new());
    drop(attempt);
    board.mend();
    board.takes_the_good_release();
}

fn word_of(ended: &Ended) -> &str {
    ended.status.error.as_deref().unwrap_or("no word")
}

fn assert_same(before: &Seen, after: &Seen, may_differ: &[&str]) {
    let names = before.keys().chain(after.keys()).filter(|name| !may_differ.contains(&name.as_str()));
    let different: Vec<_> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(different.is_empty(), "not as before: {different:?}\n{before:#?}\n{after:#?}");
}

#[test]
fn the_table_of_attacks_and_rules() {
    let all = [releases::TABLE, files::TABLE, bundles::TABLE, servers::TABLE, disks::TABLE].concat();
    let rows = all.iter().map(|(name, rule)| {
        let row = exit_codes::of_rule(rule).unwrap_or_else(|| panic!("{name}: no rule is called {rule}"));
        vec![name.replace('_', " "), row.rule.to_owned(), row.code.to_string(), row.meaning.to_owned()]
    });
    println!("{}", yado_wire::columns::text(&["ATTACK", "RULE", "CODE", "MEANING"], rows));
    let names: std::collections::BTreeSet<_> = all.iter().map(|(name, _)| name).collect();
    assert!(names.len() == all.len() && 25 <= all.len(), "{} attacks, {} names", all.len(), names.len());
}
