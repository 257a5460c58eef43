//! A release on a USB stick, with the real `yado-updater` as init starts it, on a real file system on a loop device: only that it hangs
//! on USB is what a `/sys` of the test's own says. The disks say what became of the board, and the stick's bytes that it is as it was.
#![allow(clippy::unwrap_used)]

#[path = "../attacks/board.rs"]
#[allow(dead_code, reason = "the attacks use the rest")]
mod board;
mod confined;
mod instance;
#[path = "../attacks/rights.rs"]
mod rights;
mod stick;
#[path = "../workshop/mod.rs"]
mod workshop;

use board::{Board, Ended};
use std::fs;
use std::path::PathBuf;
use stick::{Format, Stick};
use workshop::key;
use yado_image::release::Built;
use yado_spec::instance::{DeviceSelect, UsbMatch};
use yado_updater::boot_state::Slot;
use yado_updater::record::Phase;

const TAKES_STICKS: &str = "sticks = true\n";

/// A board with this `update.toml` of its administrator's.
fn board(policy: &str) -> Option<Board> {
    let board = Board::new()?;
    fs::write(board.path("data/update.toml"), policy).unwrap();
    Some(board)
}

/// The release that the board takes.
fn good(board: &Board) -> Built {
    board.workshop.build(|options| options.instances.clear())
}

fn folder(board: &Board, built: &Built) -> PathBuf {
    let folder = board.path("on-stick");
    let _ = fs::remove_dir_all(&folder);
    built.write_folder(&folder).unwrap();
    folder
}

/// As init starts it when something was plugged in, long after the one before.
fn resume(board: &Board) -> Ended {
    let _ = fs::remove_file(board.path("run/updater/last-stick-look"));
    resume_at_once(board)
}

fn resume_at_once(board: &Board) -> Ended {
    let ended = board.start(&["resume"], None);
    println!("{}", ended.said);
    assert!(!ended.said.contains("panicked") && board.processes().is_empty(), "{ended:?}");
    ended
}

fn is_armed(board: &Board) -> bool {
    let state = board.boot_state();
    (state.trial, state.next()) == (Some(Slot::B), Some(Slot::B))
}

/// Slot B has the system of release 8.
fn is_written(board: &Board) -> bool {
    let image = fs::read(&board.workshop.system).unwrap();
    fs::read(board.partition("slot-b").path()).unwrap().starts_with(&image)
}

#[test]
fn a_release_on_a_stick_is_installed_and_the_stick_is_as_it_was() {
    for format in [Format::Ext4, Format::Vfat, Format::Ext4WithoutPartitions] {
        let Some(mut board) = board(TAKES_STICKS) else { return };
        let content = folder(&board, &good(&board));
        let Some(mut stick) = Stick::make(&board, format, &content) else { continue };
        stick.plug_in(&mut board);
        let before = stick.sha256();
        let ended = resume(&board);
        assert!(is_armed(&board) && is_written(&board), "{format:?}: {ended:?}");
        assert!(ended.said.contains(&format!("stick {}: release 8 may be installed", stick.name())), "{ended:?}");
        assert_eq!(ended.status.source.as_deref(), Some("usb"));
        assert!(stick.sha256() == before && stick.is_free(), "{format:?}");
    }
}

#[test]
fn without_the_policy_no_stick_is_looked_at_and_who_asks_for_one_gets_it() {
    let Some(mut board) = board("") else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    stick.plug_in(&mut board);
    let before = board.seen();
    let ended = resume(&board);
    assert!(!ended.said.contains("stick") && !board.path("run/updater/sticks").exists(), "{ended:?}");
    assert!(!board.path("run/updater/last-check").exists());
    let mut after = board.seen();
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(after, before);
    // No administrator's policy is needed for what an administrator does.
    let ended = board.run(&["check", "usb"], None);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    board.run(&["install", "usb"], None);
    assert!(is_armed(&board) && is_written(&board));
    stick.pull(&mut board);
}

#[test]
fn what_is_refused_is_told_once_with_its_rule_and_tried_again_when_that_may_help() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let content = folder(&board, &board.workshop.build(|options| options.keys = vec![key(2)]));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    let record = board.record();
    for plug in 0..3 {
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert_eq!(ended.said.contains("(rule release-signature)"), plug == 0, "{plug}: {ended:?}");
        let status = board.start(&["status"], None).said;
        assert!(status.contains(", usb: release: ") && status.contains("(rule release-signature)"), "{status}");
        // Plugged in as before, it is not even looked at.
        fs::remove_file(board.path("run/updater/last-check")).unwrap();
        let ended = resume(&board);
        assert!(!ended.said.contains("stick") && !board.path("run/updater/last-check").exists(), "{ended:?}");
        stick.pull(&mut board);
    }
    assert!(board.record() == record && !is_written(&board));

    // A good one, while updates are held; then it is.
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    board.run(&["hold"], None);
    for plug in 0..2 {
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert_eq!(ended.said.contains("but updates are held"), plug == 0, "{plug}: {ended:?}");
        stick.pull(&mut board);
    }
    assert!(board.record().phase == Phase::Idle && !is_written(&board));
    board.run(&["unhold"], None);
    stick.plug_in(&mut board);
    resume(&board);
    assert!(is_armed(&board) && is_written(&board));
}

#[test]
fn a_release_that_is_installed_already_is_told_once() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let built = good(&board);
    let content = folder(&board, &built);
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    let release = yado_updater::record::Release { fingerprint: built.fingerprint, ..board.record().current.unwrap() };
    let mut record = board.record();
    record.current = Some(release);
    board.write_record(&record);
    for plug in 0..2 {
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert_eq!(ended.said.contains("(rule already)"), plug == 0, "{plug}: {ended:?}");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        stick.pull(&mut board);
    }
    assert!(!is_written(&board));
}

#[test]
fn a_stick_that_is_pulled_in_the_middle_ends_with_a_sentence_and_the_next_plug_goes_on() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    stick.plug_in(&mut board);
    stick.break_off_in_the_image();
    let ended = resume(&board);
    assert_eq!(ended.status.rule.as_deref(), Some("source-broken"), "{ended:?}");
    let error = ended.status.error.unwrap();
    assert!(error.contains(&format!("the stick {}: ", stick.name())) && error.contains("os error 5"), "{error}");
    assert!(matches!(board.record().phase, Phase::Staging { .. }) && !is_armed(&board));
    stick.pull(&mut board);
    // Somebody else's stick meanwhile: it is not taken for the one that the update began with.
    let other = folder(&board, &board.workshop.build(|options| options.keys = vec![key(1), key(2)]));
    let Some(mut others) = Stick::make(&board, Format::Ext4, &other) else { return };
    others.plug_in(&mut board);
    let ended = resume(&board);
    let error = ended.status.error.unwrap();
    assert!(error.contains("no stick with it is plugged in") && error.contains("another release"), "{error}");
    assert!(matches!(board.record().phase, Phase::Staging { .. }) && !is_armed(&board));
    others.pull(&mut board);

    stick.mend();
    stick.plug_in(&mut board);
    let ended = resume(&board);
    assert!(is_armed(&board) && is_written(&board), "{ended:?}");
}

#[test]
fn a_release_that_is_installed_in_vain_again_and_again_is_left_until_somebody_asks() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let built = good(&board);
    let content = folder(&board, &built);
    // The image is another one than the signed release says.
    let image = fs::read_dir(content.join("images")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&image).unwrap();
    bytes[5000] ^= 1;
    fs::write(&image, bytes).unwrap();
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    for plug in 0..5 {
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert_eq!(ended.status.rule.as_deref() == Some("release-file"), plug < 3, "{plug}: {ended:?}");
        assert_eq!(ended.said.contains("3 times in vain"), 3 <= plug, "{plug}: {ended:?}");
        assert!(board.record().phase == Phase::Idle && !is_armed(&board), "{plug}");
        stick.pull(&mut board);
    }
    stick.plug_in(&mut board);
    let ended = board.run(&["install", "usb"], None);
    assert_eq!(ended.status.rule.as_deref(), Some("release-file"), "{ended:?}");
}

#[test]
fn of_ever_other_releases_that_are_installed_in_vain_eight_are_until_the_next_boot() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    for number in 8..17 {
        let content = folder(
            &board,
            &board.workshop.build(|options| {
                options.instances.clear();
                options.release = Some(number);
            }),
        );
        let image = fs::read_dir(content.join("images")).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&image).unwrap();
        bytes[5000] ^= 1;
        // It is a link to the workshop's.
        fs::remove_file(&image).unwrap();
        fs::write(&image, bytes).unwrap();
        let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert_eq!(ended.status.rule.as_deref() == Some("release-file"), number < 16, "{number}: {ended:?}");
        assert_eq!(ended.said.contains("8 were installed since the boot"), number == 16, "{number}: {ended:?}");
        assert!(board.record().phase == Phase::Idle && !is_armed(&board), "{number}");
        stick.pull(&mut board);
    }
}

#[test]
fn a_stick_that_comes_and_goes_all_the_time_is_looked_at_now_and_then_and_keeps_no_check_from_being_made() {
    let Some(mut board) = board(&format!("{TAKES_STICKS}check.interval = \"1h\"\n")) else { return };
    let content = folder(&board, &board.workshop.build(|options| options.keys = vec![key(2)]));
    // A check of this is due, which finds nothing to install.
    let policy = format!("{TAKES_STICKS}check.interval = \"1h\"\nsource = \"{}\"\n", content.display());
    fs::write(board.path("data/update.toml"), policy).unwrap();
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    fs::create_dir_all(board.path("run/updater")).unwrap();
    fs::write(board.path("run/updater/next-check"), "0\n").unwrap();
    for plug in 0..4 {
        stick.plug_in(&mut board);
        let ended = resume_at_once(&board);
        let is_looked_at = ended.said.contains(&format!("stick {}: ", stick.name()));
        let is_checked = ended.said.contains(&format!("looks at {}", content.display()));
        assert_eq!((is_looked_at, is_checked), (plug == 0, plug == 0), "{plug}: {ended:?}");
        let next: u64 = fs::read_to_string(board.path("run/updater/next-start")).unwrap().trim().parse().unwrap();
        // By then the one that is plugged in now is looked at.
        assert_eq!((1..=30).contains(&next), 0 < plug, "{plug}: {next}");
        stick.pull(&mut board);
    }
    assert!(board.record().phase == Phase::Idle && !is_written(&board));
}

#[test]
fn what_an_instance_has_is_not_taken_and_neither_is_a_disk() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    let usb = UsbMatch { vendor: Some(0x46f4), ..UsbMatch::default() };
    for select in [DeviceSelect::Usb(usb.clone()), DeviceSelect::Hotplug { usb, subsystem: Some("block".to_owned()) }]
    {
        instance::compiled(&board.path("run/specs"), "web", select);
        // Told once, however often it is plugged in, and no reason to start again.
        let _ = fs::remove_file(board.path("run/updater/sticks"));
        for plug in 0..2 {
            stick.plug_in(&mut board);
            let ended = resume_at_once(&board);
            assert_eq!(ended.said.contains("a device of instance web selects it"), plug == 0, "{ended:?}");
            assert!(!board.path("run/updater/last-stick-look").exists());
            if plug == 0 {
                stick.pull(&mut board);
            }
        }
        let ended = board.run(&["check", "usb"], None);
        let error = ended.status.error.unwrap();
        assert!(error.contains("a device of instance web selects it"), "{error}");
        stick.pull(&mut board);
    }
    fs::remove_dir_all(board.path("run/specs")).unwrap();
    for (attribute, value, words) in [("disk", "0", "a disk and no stick"), ("port", "fixed", "built in")] {
        stick.plug_in_as(&mut board, attribute, value);
        let ended = resume(&board);
        assert!(ended.said.contains(words), "{ended:?}");
        stick.pull(&mut board);
    }
    assert!(!is_written(&board) && board.record().phase == Phase::Idle);
}

#[test]
fn what_an_instance_runs_by_counts_and_where_it_is_not_known_no_stick_is_looked_at() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    // Its configuration has an error by now: there is no compiled spec, but it runs.
    let runtime = board.path("run/instances/web");
    let usb = UsbMatch { vendor: Some(0x46f4), ..UsbMatch::default() };
    instance::compiled(&runtime, "web", DeviceSelect::Usb(usb));
    fs::rename(runtime.join("web.bin"), runtime.join(yado_spec::file::ACTUAL)).unwrap();
    stick.plug_in(&mut board);
    let ended = resume(&board);
    assert!(ended.said.contains("a device of instance web selects it"), "{ended:?}");
    stick.pull(&mut board);
    fs::remove_dir_all(&runtime).unwrap();

    // It runs by nobody knows what; a compiled one that is torn.
    let torn = board.path("run/specs/web.bin");
    fs::create_dir_all(torn.parent().unwrap()).unwrap();
    stick.plug_in(&mut board);
    for (at, path) in [&runtime.join(yado_spec::file::ACTUAL), &torn].into_iter().enumerate() {
        match at {
            0 => fs::create_dir_all(&runtime).unwrap(),
            _ => fs::write(path, "YADOSPEC").unwrap(),
        }
        for start in 0..2 {
            let ended = resume(&board);
            let words =
                format!("no stick is looked at: which of them instances have is not known: {}", path.display());
            assert_eq!(ended.said.contains(&words), start == 0, "{start}: {ended:?}");
            assert!(!is_written(&board));
        }
        // Who asks decides.
        assert_eq!(board.run(&["check", "usb"], None).code, Some(0));
        let _ = fs::remove_dir_all(&runtime);
    }
    fs::remove_file(&torn).unwrap();
    resume(&board);
    assert!(is_armed(&board) && is_written(&board));
}

#[test]
fn a_stick_with_the_partition_names_of_the_system_is_a_source_and_no_slot() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    let before = stick.sha256();
    stick.call("slot-b");
    stick.plug_in(&mut board);
    board.hide("slot-b");
    let ended = resume(&board);
    assert!(ended.said.contains("(rule no-slot)"), "{ended:?}");
    board.mend();
    fs::write(board.path("data/update.toml"), TAKES_STICKS).unwrap();
    stick.pull(&mut board);
    stick.plug_in(&mut board);
    resume(&board);
    assert!(is_armed(&board) && is_written(&board) && stick.sha256() == before);
}

#[test]
fn hostile_file_systems_write_nothing_lead_nowhere_and_keep_nobody_waiting() {
    let Some(mut board) = board(TAKES_STICKS) else { return };
    // An open file that was removed, and a journal that was not replayed.
    let content = folder(&board, &good(&board));
    let Some(mut stick) = Stick::make(&board, Format::Ext4, &content) else { return };
    stick.leave_in_use();
    let before = stick.sha256();
    stick.plug_in(&mut board);
    let ended = resume(&board);
    assert!(ended.said.contains("it was not unmounted where it was written"), "{ended:?}");
    assert!(stick.sha256() == before);
    stick.pull(&mut board);

    for (what, words) in [
        ("link to a release", "it has no yado-release/release"),
        ("link to a folder", "Too many levels of symbolic links"),
        ("pipe", "it has no yado-release/release"),
        ("nothing", "it has no yado-release/release"),
    ] {
        let content = board.path("hostile");
        let _ = fs::remove_dir_all(&content);
        stick::hostile(&content, what, &folder(&board, &good(&board)));
        let Some(mut stick) = Stick::of(&board, Format::Ext4, &content) else { return };
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert!(ended.said.contains(words) && ended.code == Some(0), "{what}: {ended:?}");
        stick.pull(&mut board);
    }
    for (what, bytes) in [("none of FAT, exFAT, ext4 and ISO 9660", vec![0_u8; 1 << 20]), ("mount ", torn())] {
        let path = board.path("torn");
        fs::write(&path, bytes).unwrap();
        let Some(mut stick) = Stick::of_image(&path) else { return };
        stick.plug_in(&mut board);
        let ended = resume(&board);
        assert!(ended.said.contains(what) && ended.code == Some(0), "{what}: {ended:?}");
        stick.pull(&mut board);
    }
}

/// By its marks an ext4, and else nothing.
fn torn() -> Vec<u8> {
    let mut bytes = vec![0xff; 1 << 20];
    bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
    bytes
}
