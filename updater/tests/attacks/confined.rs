//! No attack, but what one would find: what the processes of an update can still do, as the kernel says in the middle of a download.

use crate::board::Board;
use crate::rights::{UPDATER, WRITER_OF_BOOT_FILES, assert_confined, open_files, parent_and_children};
use crate::server::send_range;
use crate::servers::honest_about_the_release;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;
use yado_updater::boot_state::Slot;

/// Far more than any of these steps takes.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn in_the_middle_of_a_download_each_process_has_what_it_needs_and_no_more() {
    let Some(board) = Board::new() else { return };
    let ((reached, is_reached), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let waiting = Mutex::new((reached, may_go_on));
    let attempt = honest_about_the_release(&board, move |asked, stream, file| {
        let (reached, may_go_on) = &*waiting.lock().unwrap();
        let _ = reached.send(());
        // It ends when the test has looked, and for who asks later at once.
        let _ = may_go_on.recv();
        send_range(asked, stream, file, "")
    });
    let words = attempt.words.clone();
    let ended = thread::scope(|scope| {
        let update = scope.spawn(|| board.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), None));
        is_reached.recv_timeout(DEADLINE).unwrap();
        let processes = board.processes();
        let is_fetching = |process: &PathBuf| fs::read(process.join("cmdline")).unwrap().ends_with(b"\0fetch\0");
        let (fetching, others): (Vec<_>, Vec<_>) = processes.into_iter().partition(is_fetching);
        let (updater, writers) = parent_and_children(others);
        assert_eq!([updater.len(), writers.len(), fetching.len()], [1, 1, 1]);
        assert_confined(&updater[0], &UPDATER);
        assert_confined(&writers[0], &WRITER_OF_BOOT_FILES);
        assert_confined(&fetching[0], &[]);
        // What the other two have open ends with the updater.
        assert_eq!(open_files(&writers[0]), Vec::<PathBuf>::new(), "the lock");
        drop(go_on);
        update.join().unwrap()
    });
    let state = board.boot_state();
    assert_eq!((state.trial, state.next()), (Some(Slot::B), Some(Slot::B)), "{ended:?}");
    for path in &board.workshop.boot_files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(board.boot_file(name) == fs::read(path).unwrap(), "{name}");
    }
    assert_eq!(board.processes(), Vec::<PathBuf>::new());
}
