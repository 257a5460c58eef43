//! `yado-updater status`: the release that runs, the update that goes on, and what the boot loader does next. It reads, and changes
//! nothing; what cannot be read is said, and the rest is shown.

use crate::command::Format;
use crate::driver;
use crate::last_check::LastCheck;
use crate::places::Places;
use crate::record::{Blocked, Phase, Record, Release, Update, file};
use crate::slots::{self, SlotStates};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use yado_sys::clock;
use yado_wire::amounts;
use yado_wire::hex;
use yado_wire::last_reset;
use yado_wire::update_status::{FILE, MAX_BYTES, UpdateStatus};

/// All that is shown.
#[derive(Debug)]
struct Shown {
    boots: Result<SlotStates, String>,
    record: Result<Record, String>,
    /// What the updater says that is at work.
    live: Option<UpdateStatus>,
    /// Why the system was started, by init.
    reset: Option<last_reset::LastReset>,
    /// What the last check has found.
    check: Option<LastCheck>,
    /// When the next one is due, since the boot.
    next_check: Option<Duration>,
    /// The time since the boot.
    now: Duration,
}

pub(crate) fn show(places: &Places, format: Format) -> Result<String, String> {
    let now = clock::since_boot();
    let shown = Shown {
        boots: slots::read(places),
        record: file::read(&places.data.join("state"))
            .map(Option::unwrap_or_default)
            .map_err(|error| error.to_string()),
        live: read_bounded(&places.run.join(FILE), MAX_BYTES).and_then(|text| serde_json::from_str(&text).ok()),
        reset: read_bounded(&places.run.join(last_reset::FILE), last_reset::MAX_BYTES)
            .and_then(|text| last_reset::LastReset::parse(&text)),
        check: LastCheck::read(places, now),
        next_check: driver::next_check(places),
        now,
    };
    Ok(match format {
        Format::Table => shown.table(),
        Format::Json => format!("{}\n", shown.json()),
    })
}

fn read_bounded(path: &Path, max: usize) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(max as u64).read_to_string(&mut text).ok()?;
    Some(text)
}

impl Shown {
    fn table(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        match &self.record {
            Ok(record) => {
                let release = record
                    .current
                    .as_ref()
                    .map_or("as it was installed; no update was confirmed".to_owned(), name_of);
                lines.push(format!("release:  {release}"));
                if let Some(previous) = &record.previous {
                    lines.push(format!("before:   {}", name_of(previous)));
                }
                lines.push(format!("update:   {}", update_words(&record.phase)));
                if record.is_held {
                    lines.push("held:     nothing is installed until `yado update unhold`".to_owned());
                }
                if let Some(cause) = &record.degraded {
                    lines.push(format!("degraded: {cause}; there is nothing to fall back to"));
                }
                lines.extend(record.blocked.iter().map(|Blocked { release, cause, .. }| {
                    format!("blocked:  {}: {cause}; `yado update allow` lets it be tried again", name_of(release))
                }));
            }
            Err(reason) => lines.push(format!("update:   {reason}")),
        }
        if let Some(live) = self.live.as_ref().filter(|live| live.exit.is_none()) {
            let stage = live.stage.as_deref().unwrap_or(&live.phase);
            let bytes =
                if live.total == 0 { String::new() } else { format!(", {} of {} bytes", live.done, live.total) };
            let note = live.note.as_ref().map_or_else(String::new, |note| format!(", {note}"));
            lines.push(format!("at work:  {stage}{bytes}{note} (`yado update status --follow` shows it live)"));
        }
        if let Some(check) = &self.check {
            lines.push(format!("last check: {}", check.words(self.now)));
        }
        if let Some(next) = self.next_check {
            let left = Duration::from_secs(next.saturating_sub(self.now).as_secs());
            let when = if left.is_zero() { "now".to_owned() } else { format!("in {}", amounts::duration(left)) };
            lines.push(format!("next check: {when}"));
        }
        if let Some(reset) = &self.reset {
            lines.push(format!("last reset: {}", reset.cause.name()));
        }
        let mut out = lines.join("\n");
        out.push_str("\n\n");
        match &self.boots {
            Ok(boots) => out.push_str(&slots::render_table(boots)),
            Err(reason) => out.push_str(&format!("slots: {reason}\n")),
        }
        out
    }

    /// The boot state's own keys stand at the top, as they always have.
    fn json(&self) -> Value {
        let Shown { boots, record, live, reset, check, next_check, now } = self;
        let mut value = boots.as_ref().map_or_else(|_| json!({}), slots::json_of);
        value["boot_state_error"] = json!(boots.as_ref().err());
        value["record_error"] = json!(record.as_ref().err());
        let record = record.as_ref().ok();
        let current = record.and_then(|record| record.current.as_ref());
        value["release"] = json!(current.map(|release| release.number));
        value["current"] = json!(current.map(release_json));
        value["previous"] = json!(record.and_then(|record| record.previous.as_ref()).map(release_json));
        value["phase"] = json!(record.map(|record| record.phase.as_str()));
        value["update"] = json!(record.and_then(|record| record.phase.update()).map(update_json));
        value["held"] = json!(record.map(|record| record.is_held));
        value["degraded"] = json!(record.and_then(|record| record.degraded.as_ref()).map(ToString::to_string));
        value["blocked_releases"] = json!(record.map(|record| {
            let blocked = |Blocked { release, cause, .. }: &Blocked| {
                let mut value = release_json(release);
                value["cause"] = json!(cause.as_str());
                value["reason"] = json!(cause.to_string());
                value
            };
            record.blocked.iter().map(blocked).collect::<Vec<_>>()
        }));
        value["last_reset"] = json!(reset.as_ref().map(|reset| reset.cause.name()));
        value["last_check"] = json!(check);
        if let Some(check) = check {
            value["last_check"]["ago_s"] = json!(now.as_secs().saturating_sub(check.at_s));
        }
        value["next_check_s"] = json!(next_check.map(|next| next.saturating_sub(*now).as_secs()));
        value["work"] = json!(live.as_ref().filter(|live| live.exit.is_none()));
        value
    }
}

/// `release 2 (1.4.0)`.
pub(crate) fn name_of(release: &Release) -> String {
    format!("{} ({})", release.number, release.version)
}

pub(crate) fn release_json(release: &Release) -> Value {
    let Release { fingerprint, number, security_epoch, version } = release;
    json!({
        "number": number, "version": version.as_str(), "fingerprint": hex::encode(fingerprint),
        "security_epoch": security_epoch,
    })
}

/// What is known of an update.
pub(crate) fn update_json(update: &Update) -> Value {
    let Update { number, kind, release, system, instances, needs_uplink, source, asked_unix } = update;
    json!({
        "number": number,
        "kind": kind.as_str(),
        "release": release.as_ref().map(release_json),
        "slot": system.as_ref().map(|system| system.slot.to_string()),
        "instances": instances.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "needs_uplink": needs_uplink,
        "source": source.as_str(),
        "asked_unix": asked_unix,
    })
}

fn update_words(phase: &Phase) -> String {
    if *phase == Phase::Idle {
        return "none".to_owned();
    }
    let mut words = phase.as_str().to_owned();
    if let Some(update) = phase.update() {
        if let Some(release) = &update.release {
            words.push_str(&format!(", release {}", name_of(release)));
        }
        if let Some(system) = &update.system {
            words.push_str(&format!(", slot {}", system.slot));
        }
        if !update.source.as_str().is_empty() {
            words.push_str(&format!(", from {}", update.source));
        }
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::boot_loader::Boots;
    use crate::boot_state::{Mark, Slot};
    use crate::record::{Cause, Kind, Line, StagingStep, SystemPart, Unwell};
    use yado_wire::InstanceName;

    fn release(number: u64, version: &str) -> Release {
        Release { fingerprint: [7; 32], number, security_epoch: 1, version: Line::cut(version) }
    }

    fn shown(record: Record) -> Shown {
        let boots = SlotStates { boots: Boots::factory(Some(Mark::Empty)), changes: Some(1) };
        Shown {
            boots: Ok(boots),
            record: Ok(record),
            live: None,
            reset: None,
            check: None,
            next_check: None,
            now: Duration::from_secs(500),
        }
    }

    fn staging() -> Record {
        let update = Update {
            number: 4,
            kind: Kind::Install,
            release: Some(release(3, "1.5.0")),
            system: Some(SystemPart { slot: Slot::B, fingerprint: Some([9; 32]) }),
            instances: vec![InstanceName::parse("web").unwrap()],
            needs_uplink: false,
            source: Line::cut("http://host/release-3/"),
            asked_unix: 7,
        };
        let unwell =
            Unwell { instance: Some(InstanceName::parse("web").unwrap()), reason: Line::cut("not ready in time") };
        Record {
            is_held: true,
            current: Some(release(2, "1.4.0")),
            previous: Some(release(1, "1.3.0")),
            blocked: vec![Blocked { release: release(9, "x"), system: None, cause: Cause::Unwell(unwell) }],
            phase: Phase::Staging { update, step: StagingStep::Write, failures: 0, rewrites: 0 },
            ..Record::default()
        }
    }

    #[test]
    fn people_see_what_runs_what_goes_on_and_what_comes_next() {
        let live = UpdateStatus { stage: Some("write".to_owned()), done: 3, total: 9, ..UpdateStatus::default() };
        let check = LastCheck {
            at_s: 300,
            unix: 7,
            source: "http://host/next/".to_owned(),
            release: Some(4),
            rule: Some("stepping-stone".to_owned()),
            says: "release 3 has to be installed first".to_owned(),
        };
        let next_check = Some(Duration::from_secs(3800));
        let shown_live = Shown { live: Some(live), check: Some(check), next_check, ..shown(staging()) };
        let value = shown_live.json();
        assert_eq!((&value["work"]["total"], &value["next_check_s"]), (&json!(9), &json!(3300)));
        let check = &value["last_check"];
        assert_eq!(
            (&check["at_s"], &check["ago_s"], &check["rule"]),
            (&json!(300), &json!(200), &json!("stepping-stone"))
        );
        let table = shown_live.table();
        let expected = "\
release:  2 (1.4.0)
before:   1 (1.3.0)
update:   staging, release 3 (1.5.0), slot B, from http://host/release-3/
held:     nothing is installed until `yado update unhold`
blocked:  9 (x): instance web: not ready in time; `yado update allow` lets it be tried again
at work:  write, 3 of 9 bytes (`yado update status --follow` shows it live)
last check: 3m 20s ago, http://host/next/: release 3 has to be installed first (rule stepping-stone)
next check: in 55m 0s

SLOT  ORDER  TRIES  STATE
A     1      3      good
B     -      0      empty
next boot: slot A
changes so far: 1
";
        assert_eq!(table, expected);
        let fresh = shown(Record::default()).table();
        assert!(
            fresh.starts_with("release:  as it was installed; no update was confirmed\nupdate:   none\n\nSLOT"),
            "{fresh}"
        );
    }

    #[test]
    fn programs_see_the_same_and_what_cannot_be_read_is_said() {
        let value = shown(staging()).json();
        assert_eq!((&value["release"], &value["next"]), (&json!(2), &json!("A")));
        assert_eq!((&value["current"]["version"], &value["previous"]["number"]), (&json!("1.4.0"), &json!(1)));
        assert_eq!((&value["phase"], &value["update"]["slot"]), (&json!("staging"), &json!("B")));
        assert_eq!(value["blocked_releases"][0]["reason"], "instance web: not ready in time");
        assert_eq!((&value["held"], &value["work"]), (&json!(true), &Value::Null));
        let broken = Shown {
            boots: Err("no partition is named `state`".to_owned()),
            record: Err("/data/state/update: damaged".to_owned()),
            ..shown(Record::default())
        };
        assert_eq!(broken.json()["record_error"], "/data/state/update: damaged");
        assert_eq!(broken.json()["boot_state_error"], "no partition is named `state`");
        assert_eq!(broken.table(), "update:   /data/state/update: damaged\n\nslots: no partition is named `state`\n");
    }
}
