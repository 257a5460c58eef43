//! What the processes of an update can still do, as the kernel says while a stick is mounted.

use crate::rights::{UPDATER, WRITER_OF_BOOT_FILES, assert_confined, open_files, parent_and_children};
use crate::stick::{Format, Stick};
use crate::{TAKES_STICKS, board, folder, good, is_armed, is_written};
use rustix::pipe::PipeFlags;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use yado_updater::record::Phase;

/// <linux/capability.h>: `DAC_READ_SEARCH`, `SYS_ADMIN`.
const READER_OF_STICKS: [u32; 2] = [2, 21];

/// Far more than any of these steps takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// The updater waits at each line until the one before was read: each is a packet of its own, and there is room for one.
fn lockstep() -> (File, File) {
    let (said, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).unwrap();
    rustix::pipe::fcntl_setpipe_size(&says, 4096).unwrap();
    (said.into(), says.into())
}

#[test]
fn what_is_installed_is_the_release_that_was_checked() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let other = board.workshop.build(|options| {
        options.instances.clear();
        options.release = Some(9);
    });
    let content = folder(&board, &other);
    let Some(other) = Stick::make(&board, Format::Ext4, &content) else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    stick.plug_in(&mut board);
    let (mut said, says) = lockstep();
    let mut update = board.command(&["resume"]).stdout(says.try_clone().unwrap()).stderr(says).spawn().unwrap();
    let (mut line, mut all) = ([0; 4096], String::new());
    loop {
        let length = said.read(&mut line).unwrap();
        if length == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line[..length]).into_owned();
        // The release was read for the check; there is room for the line that it may be installed, and no further until that is read.
        if text.contains("ask init") && !all.contains("ask init") {
            stick.become_like(&other);
        }
        all.push_str(&text);
    }
    update.wait().unwrap();
    assert!(all.contains("another release than it gave when it was checked (rule source-broken)"), "{all}");
    assert!(board.record().phase == Phase::Idle && !is_armed(&board) && !is_written(&board), "{all}");
    // Who asks takes what is there.
    board.run(&["install", "usb"], None);
    assert!(is_armed(&board) && is_written(&board));
}

#[test]
fn while_a_stick_is_mounted_each_process_has_what_it_needs_and_no_more() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    stick.plug_in(&mut board);
    let (mut said, says) = lockstep();
    let mut update = board.command(&["resume"]).stdout(says.try_clone().unwrap()).stderr(says).spawn().unwrap();
    let mut line = [0; 4096];
    let mut next_line = move || {
        let length = said.read(&mut line).unwrap();
        (0 < length).then(|| String::from_utf8_lossy(&line[..length]).into_owned())
    };
    let has_it_mounted = |process: &PathBuf| open_files(process).iter().any(|file| file.starts_with("/yado-release"));
    let until = Instant::now() + DEADLINE;
    // It goes on to the second line after this: until then the image is written, and boot files have yet to be read.
    while next_line().is_some_and(|line| !line.contains("staging")) {}
    while !board.processes().iter().any(has_it_mounted) {
        assert!(Instant::now() < until, "no process has the stick mounted: {:?}", board.processes());
        std::thread::yield_now();
    }
    let (updater, others) = parent_and_children(board.processes());
    let (readers, writers): (Vec<_>, Vec<_>) = others.into_iter().partition(has_it_mounted);
    assert_eq!([updater.len(), readers.len(), writers.len()], [1, 1, 1]);
    assert_confined(&updater[0], &UPDATER);
    assert_confined(&readers[0], &READER_OF_STICKS);
    assert_confined(&writers[0], &WRITER_OF_BOOT_FILES);
    let beyond = |process| open_files(process).into_iter().filter(|file| !file.starts_with("/yado-release"));
    assert_eq!(beyond(&readers[0]).chain(beyond(&writers[0])).collect::<Vec<_>>(), Vec::<PathBuf>::new(), "the lock");
    while next_line().is_some() {}
    update.wait().unwrap();
    assert!(board.processes().is_empty() && is_armed(&board) && is_written(&board) && stick.is_free());
}
