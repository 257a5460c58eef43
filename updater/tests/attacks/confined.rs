//! No attack, but what one would find: what the processes of an update can still do, as the kernel says in the middle of a download.

use crate::board::Board;
use crate::server::send_range;
use crate::servers::honest_about_the_release;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;
use yado_updater::boot_state::Slot;

/// <linux/capability.h>: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`, `SETPCAP`, `SYS_ADMIN`, `MKNOD`,
/// `SETFCAP`.
const UPDATER: [u32; 11] = [0, 1, 3, 4, 5, 6, 7, 8, 21, 27, 31];
/// `DAC_OVERRIDE`, `SYS_ADMIN`.
const WRITER_OF_BOOT_FILES: [u32; 2] = [1, 21];

/// Far more than any of these steps takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn status(process: &Path, field: &str) -> String {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_confined(process: &Path, capabilities: &[u32]) {
    let all = u64::from_str_radix(&status(Path::new("/proc/self"), "CapPrm"), 16).unwrap();
    let expected = format!("{:016x}", all & capabilities.iter().map(|number| 1 << number).sum::<u64>());
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(process, set), expected, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(process, set), "0".repeat(16), "{set}");
    }
    assert_eq!((status(process, "NoNewPrivs"), status(process, "Seccomp")), ("1".to_owned(), "2".to_owned()));
}

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
        let is_parent = |process: &PathBuf| {
            others.iter().all(|other| other == process || Path::new("/proc").join(status(other, "PPid")) == *process)
        };
        let (updater, writers): (Vec<_>, Vec<_>) = others.iter().cloned().partition(is_parent);
        assert_eq!([updater.len(), writers.len(), fetching.len()], [1, 1, 1]);
        assert_confined(&updater[0], &UPDATER);
        assert_confined(&writers[0], &WRITER_OF_BOOT_FILES);
        assert_confined(&fetching[0], &[]);
        // What the other two have open ends with the updater.
        let open =
            fs::read_dir(writers[0].join("fd")).unwrap().map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        let open: Vec<PathBuf> = open.filter(|target| target.is_absolute() && !target.starts_with("/dev")).collect();
        assert_eq!(open, Vec::<PathBuf>::new(), "the lock, or a device");
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
