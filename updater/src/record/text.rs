//! The record as text and back. One line for each thing, in one order: a key, a blank, the value. The first line has the version, the
//! last one a checksum over all before it, so that a file that was cut or is another's is not taken for one.

use super::{
    Blocked, Cause, Changed, Ended, Floors, Kind, Line, MAX_BLOCKED, Outcome, Phase, Record, Release, StagingStep,
    SystemPart, Unwell, Update,
};
use crate::boot_state::Slot;
use std::fmt;
use std::str::FromStr;
use yado_wire::formats::{self, Versions};
use yado_wire::{InstanceName, MAX_INSTANCES, hex};

/// The longest record: names of all instances twice, and some twenty lines of text.
pub const MAX_BYTES: usize = 2 * MAX_INSTANCES * (InstanceName::MAX_LEN + 1) + 24 * (Line::MAX_BYTES + 256);

pub(super) const MAGIC: &str = "yado-update ";
pub(super) const VERSIONS: Versions = Versions::new(1, 1);

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// It was cut, or was never one.
    Damaged,
    /// Another release of ours wrote it.
    OtherVersion {
        /// Its version.
        version: u32,
        /// The newest that this release knows.
        newest: u32,
    },
}

impl Record {
    /// Reads the text.
    ///
    /// # Errors
    /// When it is not what [`Record::to_text`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Damaged)?;
        let version = known_version(text, MAGIC, VERSIONS)?;
        let mut lines = Lines(text.lines().skip(1));
        let record = read_record(&mut lines).ok_or(RecordError::Damaged)?;
        // The checksum, and whatever else could be written in more than one way.
        if record.to_text_in(version) == text { Ok(record) } else { Err(RecordError::Damaged) }
    }

    /// The content of `state/update`, as a confirmed release writes it.
    pub fn to_text(&self) -> String {
        self.to_text_in(VERSIONS.newest())
    }

    /// The same in this version.
    pub(super) fn to_text_in(&self, version: u32) -> String {
        let Record { next_update, is_held, floors, current, previous, changed, blocked, bad_starts, degraded, phase } =
            self;
        let mut out = format!("{MAGIC}{version}\n");
        put(&mut out, "next", next_update);
        put(&mut out, "held", word(*is_held));
        put(&mut out, "floors", format!("{} {}", floors.release, floors.security_epoch));
        put(&mut out, "current", release_text(current.as_ref()));
        put(&mut out, "previous", release_text(previous.as_ref()));
        put(&mut out, "changed", format!("{}{}", word(changed.system), names_text(&changed.instances)));
        put(&mut out, "bad-starts", bad_starts);
        put(&mut out, "degraded", degraded.as_ref().map_or("-".to_owned(), cause_text));
        put(&mut out, "blocked", blocked.len());
        for Blocked { release, system, cause } in blocked {
            put(&mut out, "release", release_text(Some(release)));
            put(&mut out, "image", digest_text(system.as_ref()));
            put(&mut out, "cause", cause_text(cause));
        }
        put_phase(&mut out, phase);
        let checksum = crc32fast::hash(out.as_bytes());
        put(&mut out, "checksum", format!("{checksum:08x}"));
        out
    }
}

/// The version in the first line, if it is one of these.
pub(super) fn known_version(text: &str, magic: &str, versions: Versions) -> Result<u32, RecordError> {
    match formats::version(text, magic) {
        Some(version) if versions.has(version) => Ok(version),
        Some(version) => Err(RecordError::OtherVersion { version, newest: versions.newest() }),
        None => Err(RecordError::Damaged),
    }
}

fn read_record(lines: &mut Lines<'_>) -> Option<Record> {
    let next_update = lines.number("next")?;
    let is_held = lines.yes_or_no("held")?;
    let (release, security_epoch) = lines.value("floors")?.split_once(' ')?;
    let floors = Floors { release: number(release)?, security_epoch: number(security_epoch)? };
    let current = parse_release(lines.value("current")?)?;
    let previous = parse_release(lines.value("previous")?)?;
    let (is_system, names) = first_word(lines.value("changed")?);
    let changed = Changed { system: parse_word(is_system)?, instances: parse_names(names)? };
    let bad_starts = lines.number("bad-starts")?;
    let degraded = match lines.value("degraded")? {
        "-" => None,
        cause => Some(parse_cause(cause)?),
    };
    let count: usize = lines.number("blocked")?;
    if MAX_BLOCKED < count {
        return None;
    }
    let mut blocked = Vec::with_capacity(count);
    for _ in 0..count {
        let release = parse_release(lines.value("release")?)??;
        let system = parse_digest(lines.value("image")?)?;
        blocked.push(Blocked { release, system, cause: parse_cause(lines.value("cause")?)? });
    }
    let phase = read_phase(lines)?;
    Some(Record { next_update, is_held, floors, current, previous, changed, blocked, bad_starts, degraded, phase })
}

fn put_phase(out: &mut String, phase: &Phase) {
    put(out, "phase", phase.as_str());
    match phase {
        Phase::Idle => {}
        Phase::Candidate { number, source, asked_unix, failures } => {
            put(out, "number", number);
            put(out, "source", source);
            put(out, "asked", asked_unix);
            put(out, "failures", failures);
        }
        Phase::Checking { update } | Phase::Staged { update } | Phase::Confirming { update } => {
            put_update(out, update)
        }
        Phase::Staging { update, step, failures, rewrites } => {
            put_update(out, update);
            put(out, "step", step.as_str());
            put(out, "failures", failures);
            put(out, "rewrites", rewrites);
        }
        Phase::Armed { update, arms } => {
            put_update(out, update);
            put(out, "arms", arms);
        }
        Phase::Trial { update, arms, starts, is_switched } => {
            put_update(out, update);
            put(out, "arms", arms);
            put(out, "starts", starts);
            put(out, "switched", word(*is_switched));
        }
        Phase::Judged { update, cause, is_other_bad } => {
            put_update(out, update);
            put(out, "cause", cause_text(cause));
            put(out, "other-bad", word(*is_other_bad));
        }
        Phase::Undoing { update, cause, is_log_kept, returns } => {
            put_update(out, update);
            put(out, "cause", cause_text(cause));
            put(out, "log-kept", word(*is_log_kept));
            put(out, "returns", returns);
        }
        Phase::Ended { ended } => put_ended(out, ended),
    }
}

fn read_phase(lines: &mut Lines<'_>) -> Option<Phase> {
    let phase = match lines.value("phase")? {
        "idle" => Phase::Idle,
        "candidate" => Phase::Candidate {
            number: lines.number("number")?,
            source: Line::parse(lines.value("source")?)?,
            asked_unix: lines.number("asked")?,
            failures: lines.number("failures")?,
        },
        "checking" => Phase::Checking { update: read_update(lines)? },
        "staging" => Phase::Staging {
            update: read_update(lines)?,
            step: StagingStep::parse(lines.value("step")?)?,
            failures: lines.number("failures")?,
            rewrites: lines.number("rewrites")?,
        },
        "staged" => Phase::Staged { update: read_update(lines)? },
        "armed" => Phase::Armed { update: read_update(lines)?, arms: lines.number("arms")? },
        "trial" => Phase::Trial {
            update: read_update(lines)?,
            arms: lines.number("arms")?,
            starts: lines.number("starts")?,
            is_switched: lines.yes_or_no("switched")?,
        },
        "judged" => Phase::Judged {
            update: read_update(lines)?,
            cause: parse_cause(lines.value("cause")?)?,
            is_other_bad: lines.yes_or_no("other-bad")?,
        },
        "confirming" => Phase::Confirming { update: read_update(lines)? },
        "undoing" => Phase::Undoing {
            update: read_update(lines)?,
            cause: parse_cause(lines.value("cause")?)?,
            is_log_kept: lines.yes_or_no("log-kept")?,
            returns: lines.number("returns")?,
        },
        "ended" => Phase::Ended { ended: read_ended(lines)? },
        _ => return None,
    };
    Some(phase)
}

pub(super) fn put_ended(out: &mut String, ended: &Ended) {
    let Ended { update, outcome, ended_unix } = ended;
    put_update(out, update);
    let outcome = match outcome {
        Outcome::Confirmed => "confirmed".to_owned(),
        Outcome::FellBack(cause) => format!("fell-back {}", cause_text(cause)),
        Outcome::Degraded(cause) => format!("degraded {}", cause_text(cause)),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Failed(reason) => format!("failed {reason}"),
    };
    put(out, "outcome", outcome);
    put(out, "ended", ended_unix);
}

pub(super) fn read_ended(lines: &mut Lines<'_>) -> Option<Ended> {
    let update = read_update(lines)?;
    let outcome = match first_word(lines.value("outcome")?) {
        ("confirmed", "") => Outcome::Confirmed,
        ("fell-back", cause) => Outcome::FellBack(parse_cause(cause)?),
        ("degraded", cause) => Outcome::Degraded(parse_cause(cause)?),
        ("cancelled", "") => Outcome::Cancelled,
        ("failed", reason) => Outcome::Failed(Line::parse(reason)?),
        _ => return None,
    };
    Some(Ended { update, outcome, ended_unix: lines.number("ended")? })
}

fn put_update(out: &mut String, update: &Update) {
    let Update { number, kind, release, system, instances, needs_uplink, source, asked_unix } = update;
    put(out, "number", number);
    put(out, "kind", kind.as_str());
    put(out, "release", release_text(release.as_ref()));
    let system = system.as_ref().map(|part| format!("{} {}", part.slot, digest_text(part.fingerprint.as_ref())));
    put(out, "system", system.unwrap_or("-".to_owned()));
    put(out, "instances", names_text(instances).trim_start());
    put(out, "uplink", word(*needs_uplink));
    put(out, "source", source);
    put(out, "asked", asked_unix);
}

fn read_update(lines: &mut Lines<'_>) -> Option<Update> {
    Some(Update {
        number: lines.number("number")?,
        kind: Kind::parse(lines.value("kind")?)?,
        release: parse_release(lines.value("release")?)?,
        system: match lines.value("system")?.split_once(' ') {
            None => None,
            Some((slot, digest)) => Some(SystemPart { slot: Slot::parse(slot)?, fingerprint: parse_digest(digest)? }),
        },
        instances: parse_names(lines.value("instances")?)?,
        needs_uplink: lines.yes_or_no("uplink")?,
        source: Line::parse(lines.value("source")?)?,
        asked_unix: lines.number("asked")?,
    })
}

/// The lines that follow.
pub(super) struct Lines<'a>(std::iter::Skip<std::str::Lines<'a>>);

impl<'a> Lines<'a> {
    pub(super) fn after(text: &'a str, count: usize) -> Lines<'a> {
        Lines(text.lines().skip(count))
    }

    /// The value of the next line, which must have this key.
    pub(super) fn value(&mut self, key: &str) -> Option<&'a str> {
        self.0.next()?.strip_prefix(key)?.strip_prefix(' ')
    }

    pub(super) fn number<T: FromStr>(&mut self, key: &str) -> Option<T> {
        number(self.value(key)?)
    }

    fn yes_or_no(&mut self, key: &str) -> Option<bool> {
        parse_word(self.value(key)?)
    }
}

pub(super) fn put(out: &mut String, key: &str, value: impl fmt::Display) {
    use std::fmt::Write;
    // Into a string it does not fail.
    let _ = writeln!(out, "{key} {value}");
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn word(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn parse_word(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn first_word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

fn digest_text(digest: Option<&[u8; 32]>) -> String {
    digest.map_or("-".to_owned(), |digest| hex::encode(digest))
}

/// The outer option: whether it is one.
fn parse_digest(text: &str) -> Option<Option<[u8; 32]>> {
    if text == "-" { Some(None) } else { hex::parse_digest(text).map(Some) }
}

fn release_text(release: Option<&Release>) -> String {
    match release {
        None => "-".to_owned(),
        Some(Release { fingerprint, number, security_epoch, version }) => {
            format!("{} {number} {security_epoch} {version}", hex::encode(fingerprint))
        }
    }
}

fn parse_release(text: &str) -> Option<Option<Release>> {
    if text == "-" {
        return Some(None);
    }
    let (fingerprint, rest) = first_word(text);
    let (release, rest) = first_word(rest);
    let (security_epoch, version) = first_word(rest);
    Some(Some(Release {
        fingerprint: hex::parse_digest(fingerprint)?,
        number: number(release)?,
        security_epoch: number(security_epoch)?,
        version: Line::parse(version)?,
    }))
}

/// Each with a blank before it.
fn names_text(names: &[InstanceName]) -> String {
    names.iter().map(|name| format!(" {name}")).collect()
}

fn parse_names(text: &str) -> Option<Vec<InstanceName>> {
    let names = text.split(' ').filter(|name| !name.is_empty()).map(|name| InstanceName::parse(name).ok());
    names.collect::<Option<Vec<_>>>().filter(|names| names.len() <= MAX_INSTANCES)
}

pub(super) fn cause_text(cause: &Cause) -> String {
    match cause {
        Cause::Unwell(Unwell { instance, reason }) => {
            let instance = instance.as_ref().map_or("-", InstanceName::as_str);
            format!("unwell {instance} {reason}")
        }
        Cause::TriesUsedUp
        | Cause::Panic
        | Cause::Watchdog
        | Cause::NotStarted
        | Cause::Deadline
        | Cause::User
        | Cause::Cancelled
        | Cause::Damaged
        | Cause::BadStarts
        | Cause::OtherSystem => cause.as_str().to_owned(),
    }
}

fn parse_cause(text: &str) -> Option<Cause> {
    let (first, rest) = first_word(text);
    if first == "unwell" {
        let (instance, reason) = first_word(rest);
        let instance = match instance {
            "-" => None,
            name => Some(InstanceName::parse(name).ok()?),
        };
        return Some(Cause::Unwell(Unwell { instance, reason: Line::parse(reason)? }));
    }
    let plain = [
        Cause::TriesUsedUp,
        Cause::Panic,
        Cause::Watchdog,
        Cause::NotStarted,
        Cause::Deadline,
        Cause::User,
        Cause::Cancelled,
        Cause::Damaged,
        Cause::BadStarts,
        Cause::OtherSystem,
    ];
    plain.into_iter().find(|cause| cause.as_str() == text)
}

impl Cause {
    /// The cause's name, in files and in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Cause::TriesUsedUp => "tries-used-up",
            Cause::Panic => "panic",
            Cause::Watchdog => "watchdog",
            Cause::NotStarted => "not-started",
            Cause::Unwell(_) => "unwell",
            Cause::Deadline => "deadline",
            Cause::User => "user",
            Cause::Cancelled => "cancelled",
            Cause::Damaged => "damaged",
            Cause::BadStarts => "bad-starts",
            Cause::OtherSystem => "other-system",
        }
    }
}

impl Kind {
    /// The kind's name, in files and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Install => "install",
            Kind::Rollback => "rollback",
            Kind::Leave => "leave",
            Kind::Found => "found",
        }
    }

    fn parse(text: &str) -> Option<Kind> {
        [Kind::Install, Kind::Rollback, Kind::Leave, Kind::Found].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl StagingStep {
    /// All, in order.
    pub const ALL: [StagingStep; 5] =
        [StagingStep::Deny, StagingStep::Write, StagingStep::ReadBack, StagingStep::BootFiles, StagingStep::Images];

    /// The step's name, in files and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            StagingStep::Deny => "deny",
            StagingStep::Write => "write",
            StagingStep::ReadBack => "read-back",
            StagingStep::BootFiles => "boot-files",
            StagingStep::Images => "images",
        }
    }

    fn parse(text: &str) -> Option<StagingStep> {
        StagingStep::ALL.into_iter().find(|step| step.as_str() == text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::TriesUsedUp => out.write_str("it used up its tries"),
            Cause::Panic => out.write_str("its kernel panicked"),
            Cause::Watchdog => out.write_str("the watchdog reset it"),
            Cause::NotStarted => out.write_str("the boot loader could not start it"),
            Cause::Unwell(Unwell { instance: Some(name), reason }) => write!(out, "instance {name}: {reason}"),
            Cause::Unwell(Unwell { instance: None, reason }) => write!(out, "{reason}"),
            Cause::Deadline => out.write_str("it was not healthy in time"),
            Cause::User => out.write_str("a user rolled it back"),
            Cause::Cancelled => out.write_str("a user cancelled it"),
            Cause::Damaged => out.write_str("its blocks do not verify"),
            Cause::BadStarts => out.write_str("it panicked or hung three times in a row"),
            Cause::OtherSystem => out.write_str("another image ran than the one that was armed"),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Damaged => out.write_str("it was cut off, or is none of ours"),
            RecordError::OtherVersion { version, newest } => {
                write!(out, "it has version {version}, and this release knows {newest}")
            }
        }
    }
}

impl std::error::Error for RecordError {}
