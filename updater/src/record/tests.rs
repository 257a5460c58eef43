//! What is written is read again, and nothing else is.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::boot_state::Slot;
use yado_wire::formats::Standing;

fn release(number: u8) -> Release {
    Release {
        fingerprint: [number; 32],
        number: u64::from(number),
        security_epoch: 2,
        version: Line::cut("2026.11 \"roof\" ü"),
    }
}

fn update(kind: Kind) -> Update {
    Update {
        number: 4,
        kind,
        release: (kind == Kind::Install).then(|| release(9)),
        system: Some(SystemPart { slot: Slot::B, fingerprint: (kind == Kind::Install).then_some([8; 32]) }),
        instances: ["web", "shop_db"].map(|name| InstanceName::parse(name).unwrap()).to_vec(),
        needs_uplink: true,
        source: Line::cut("https://example.org/releases/9/?a=b c"),
        asked_unix: 1_800_000_000,
    }
}

fn causes() -> Vec<Cause> {
    let unwell = |instance: Option<&str>, reason: &str| {
        let instance = instance.map(|name| InstanceName::parse(name).unwrap());
        Cause::Unwell(Unwell { instance, reason: Line::cut(reason) })
    };
    vec![
        Cause::TriesUsedUp,
        Cause::Panic,
        Cause::Watchdog,
        Cause::NotStarted,
        unwell(Some("web"), "not ready in 60 s: no answer"),
        unwell(None, "state cannot be written"),
        unwell(None, ""),
        Cause::Deadline,
        Cause::User,
        Cause::Cancelled,
        Cause::Damaged,
        Cause::BadStarts,
        Cause::OtherSystem,
    ]
}

fn phases() -> Vec<Phase> {
    let install = || update(Kind::Install);
    let source = Line::cut("-");
    let mut phases = vec![
        Phase::Idle,
        Phase::Candidate { number: 4, source, asked_unix: 5, failures: 1 },
        Phase::Checking { update: update(Kind::Rollback) },
        Phase::Staged { update: Update { system: None, ..install() } },
        Phase::Armed { update: Update { instances: Vec::new(), ..install() }, arms: 2 },
        Phase::Trial { update: update(Kind::Found), arms: 1, starts: 2, is_switched: true },
        Phase::Confirming { update: install() },
    ];
    for step in StagingStep::ALL {
        phases.push(Phase::Staging { update: install(), step, failures: 3, rewrites: 1 });
    }
    for cause in causes() {
        phases.push(Phase::Judged { update: update(Kind::Leave), cause: cause.clone(), is_other_bad: true });
        phases.push(Phase::Undoing { update: install(), cause: cause.clone(), is_log_kept: false, returns: 1 });
        for outcome in [Outcome::FellBack(cause.clone()), Outcome::Degraded(cause)] {
            phases.push(Phase::Ended { ended: Ended { update: install(), outcome, ended_unix: 7 } });
        }
    }
    for outcome in [Outcome::Confirmed, Outcome::Cancelled, Outcome::Failed(Line::cut("slot B: no space"))] {
        phases.push(Phase::Ended { ended: Ended { update: install(), outcome, ended_unix: 7 } });
    }
    phases
}

fn records() -> Vec<Record> {
    let full = |phase| Record {
        next_update: 5,
        is_held: true,
        floors: Floors { release: u64::MAX, security_epoch: 3 },
        current: Some(release(7)),
        previous: Some(Release { version: Line::default(), ..release(6) }),
        changed: Changed { system: true, instances: vec![InstanceName::parse("web").unwrap()] },
        blocked: causes()
            .into_iter()
            .take(MAX_BLOCKED)
            .map(|cause| Blocked { release: release(1), system: None, cause })
            .collect(),
        bad_starts: 2,
        degraded: Some(Cause::Damaged),
        phase,
    };
    let bare = |phase| Record { phase, ..Record::default() };
    phases().into_iter().flat_map(|phase| [full(phase.clone()), bare(phase)]).collect()
}

#[test]
fn each_phase_with_each_cause_is_read_as_it_was_written() {
    for record in records() {
        let text = record.to_text();
        assert!(text.len() <= MAX_BYTES);
        assert_eq!(Record::parse(text.as_bytes()), Ok(record), "{text}");
    }
}

#[test]
fn a_record_that_is_cut_changed_or_continued_is_none() {
    for record in records() {
        let text = record.to_text();
        for cut in 0..text.len() {
            assert!(Record::parse(&text.as_bytes()[..cut]).is_err(), "cut at {cut}: {text}");
        }
        let mut bytes = text.clone().into_bytes();
        for at in (0..bytes.len()).step_by(7) {
            bytes[at] ^= 1;
            assert!(Record::parse(&bytes).is_err(), "byte {at}: {text}");
            bytes[at] ^= 1;
        }
        assert_eq!(Record::parse(format!("{text}\n").as_bytes()), Err(RecordError::Damaged));
    }
}

#[test]
fn another_version_is_named() {
    let text = Record::default().to_text().replacen("yado-update 1", "yado-update 2", 1);
    assert_eq!(Record::parse(text.as_bytes()), Err(RecordError::OtherVersion { version: 2, newest: 1 }));
}

/// The bytes of version 1. If this fails, the version must rise: what is on the devices stays.
#[test]
fn the_text_is_frozen() {
    let record = Record {
        phase: Phase::Trial { update: update(Kind::Install), arms: 1, starts: 2, is_switched: true },
        ..Record::default()
    };
    let (eights, nines) = ("08".repeat(32), "09".repeat(32));
    let expected = format!(
        "yado-update 1\nnext 0\nheld no\nfloors 0 0\ncurrent -\nprevious -\nchanged no\nbad-starts 0\ndegraded -\n\
         blocked 0\nphase trial\nnumber 4\nkind install\nrelease {nines} 9 2 2026.11 \"roof\" ü\nsystem B {eights}\n\
         instances web shop_db\nuplink yes\nsource https://example.org/releases/9/?a=b c\nasked 1800000000\narms 1\n\
         starts 2\nswitched yes\n"
    );
    let text = record.to_text();
    let (body, checksum) = text.split_at(text.len() - "checksum 00000000\n".len());
    assert_eq!(body, expected);
    assert_eq!(checksum, format!("checksum {:08x}\n", crc32fast::hash(expected.as_bytes())));
}

#[test]
fn a_file_is_replaced_as_a_whole_and_what_is_none_of_ours_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(file::read(folder.path()).unwrap().is_none());
    for record in records() {
        file::write(folder.path(), &record, Standing::Confirmed).unwrap();
        assert_eq!(file::read(folder.path()).unwrap(), Some(record));
    }
    std::fs::write(folder.path().join(file::NAME), "hello\n").unwrap();
    let error = file::read(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("update: it was cut off, or is none of ours"), "{error}");
    std::fs::write(folder.path().join(file::NAME), vec![b'x'; MAX_BYTES + 1]).unwrap();
    assert!(matches!(file::read(folder.path()), Err(file::ReadError::TooLong { .. })));
    std::fs::remove_file(folder.path().join(file::NAME)).unwrap();
    std::fs::create_dir(folder.path().join(file::NAME)).unwrap();
    assert!(matches!(file::read(folder.path()), Err(file::ReadError::Open { .. })));
}

#[test]
fn the_history_keeps_the_last_ones_and_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let ended = |number: u32| {
        let update = Update { number, ..update(Kind::Install) };
        Ended { update, outcome: Outcome::FellBack(Cause::Panic), ended_unix: u64::from(number) }
    };
    for number in 1..=40 {
        for _ in 0..2 {
            assert!(history::add(folder.path(), &ended(number), Standing::Confirmed).unwrap().is_none());
        }
    }
    let entries = history::read(folder.path()).unwrap();
    assert_eq!(entries.len(), history::MAX_ENTRIES);
    assert_eq!((&entries[0], entries.last()), (&ended(9), Some(&ended(40))));

    std::fs::write(folder.path().join(history::NAME), "yado-update-history 1\nentries 1\n").unwrap();
    assert!(matches!(
        history::add(folder.path(), &ended(41), Standing::Confirmed).unwrap(),
        Some(file::ReadError::Bad { .. })
    ));
    assert_eq!(history::read(folder.path()).unwrap(), [ended(41)]);
}

/// The version that is found is the earliest one in any build; in that of a later release (`yado-wire/next-formats`) it is not the newest.
#[test]
fn what_is_found_in_an_earlier_version_stays_so_on_trial_and_a_later_one_comes_with_the_confirmation() {
    let folder = tempfile::tempdir().unwrap();
    let ended = Ended { update: update(Kind::Install), outcome: Outcome::Confirmed, ended_unix: 1 };
    for record in records() {
        std::fs::write(folder.path().join(file::NAME), record.to_text_in(1)).unwrap();
        for (standing, version) in [(Standing::OnTrial, 1), (Standing::Confirmed, text::VERSIONS.newest())] {
            file::write(folder.path(), &record, standing).unwrap();
            let written = std::fs::read_to_string(folder.path().join(file::NAME)).unwrap();
            assert_eq!(written, record.to_text_in(version));
            assert_eq!(file::read(folder.path()).unwrap().as_ref(), Some(&record));
        }
    }
    for (number, standing, version) in
        [(1, Standing::OnTrial, 1), (2, Standing::OnTrial, 1), (3, Standing::Confirmed, text::VERSIONS.newest())]
    {
        history::add(folder.path(), &Ended { ended_unix: number, ..ended.clone() }, standing).unwrap();
        let written = std::fs::read_to_string(folder.path().join(history::NAME)).unwrap();
        assert!(written.starts_with(&format!("yado-update-history {version}\n")), "{written}");
        assert_eq!(history::read(folder.path()).unwrap().len() as u64, number);
    }
}

#[test]
fn text_of_others_becomes_one_printable_line() {
    assert_eq!(Line::cut(" a\nb\x1b[31m\u{85} ").as_str(), "a b [31m");
    assert_eq!(Line::parse("a\nb"), None);
    assert_eq!(Line::parse(" a"), None);
    let long = "ü".repeat(Line::MAX_BYTES);
    assert_eq!(Line::cut(&long).as_str().len(), Line::MAX_BYTES);
    assert_eq!(Line::parse(&long), None);
    for text in ["", "x", &long, "\u{3000}x\u{85}"] {
        let line = Line::cut(text);
        assert_eq!(Line::parse(line.as_str()), Some(line));
    }
}
