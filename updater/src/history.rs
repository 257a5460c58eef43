//! `yado-updater history`: the updates of this device that are over, and how each ended. The newest stands last.

use crate::command::Format;
use crate::places::Places;
use crate::record::{Cause, Ended, Outcome, history};
use crate::status::{name_of, update_json};
use serde_json::{Value, json};
use yado_wire::columns;

pub(crate) fn show(places: &Places, format: Format) -> Result<String, String> {
    let ended = history::read(&places.data.join("state")).map_err(|error| error.to_string())?;
    Ok(match format {
        Format::Table => table(&ended),
        Format::Json => format!("{}\n", Value::from_iter(ended.iter().map(json_of))),
    })
}

fn table(ended: &[Ended]) -> String {
    if ended.is_empty() {
        return "no update has ended on this device\n".to_owned();
    }
    let rows = ended.iter().map(|Ended { update, outcome, ended_unix }| {
        vec![
            update.number.to_string(),
            date(*ended_unix),
            update.kind.as_str().to_owned(),
            update.release.as_ref().map_or("-".to_owned(), name_of),
            update.system.as_ref().map_or("-".to_owned(), |system| system.slot.to_string()),
            words(outcome),
        ]
    });
    columns::text(&["UPDATE", "ENDED", "KIND", "RELEASE", "SLOT", "OUTCOME"], rows)
}

fn json_of(Ended { update, outcome, ended_unix }: &Ended) -> Value {
    let mut value = update_json(update);
    let cause = match outcome {
        Outcome::FellBack(cause) | Outcome::Degraded(cause) => Some(cause),
        Outcome::Confirmed | Outcome::Cancelled | Outcome::Failed(_) => None,
    };
    value["outcome"] = json!(name(outcome));
    value["cause"] = json!(cause.map(Cause::as_str));
    value["reason"] = json!(words(outcome));
    value["ended_unix"] = json!(ended_unix);
    value
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Confirmed => "confirmed",
        Outcome::FellBack(_) => "fell-back",
        Outcome::Degraded(_) => "degraded",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed(_) => "failed",
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Confirmed => "confirmed".to_owned(),
        Outcome::FellBack(cause @ Cause::Unwell(_)) => format!("fell back: health: {cause}"),
        Outcome::FellBack(cause) => format!("fell back: {cause}"),
        Outcome::Degraded(cause) => format!("runs although {cause}: there was nothing to fall back to"),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Failed(reason) => format!("failed: {reason}"),
    }
}

/// `2026-11-30 02:23`, in UTC. The days since 1970 are counted from the 1st of March of year 0, so that a leap day is a year's last.
fn date(unix: u64) -> String {
    let (days, minutes) = (unix / 86_400 + 719_468, unix % 86_400 / 60);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::boot_state::Slot;
    use crate::record::{Kind, Line, Release, SystemPart, Update};

    fn ended(number: u32, outcome: Outcome) -> Ended {
        let release =
            Release { fingerprint: [7; 32], number: number.into(), security_epoch: 1, version: Line::cut("1.4.0") };
        let update = Update {
            number,
            kind: Kind::Install,
            release: Some(release),
            system: Some(SystemPart { slot: Slot::B, fingerprint: None }),
            instances: Vec::new(),
            needs_uplink: false,
            source: Line::cut("/media/stick"),
            asked_unix: 1_796_000_000,
        };
        Ended { update, outcome, ended_unix: 1_796_005_400 }
    }

    #[test]
    fn each_update_that_is_over_is_a_line_that_says_how_it_ended() {
        let all = [ended(2, Outcome::Confirmed), ended(3, Outcome::FellBack(Cause::Panic))];
        assert_eq!(
            table(&all),
            "UPDATE  ENDED             KIND     RELEASE    SLOT  OUTCOME\n\
             2       2026-11-30 02:23  install  2 (1.4.0)  B     confirmed\n\
             3       2026-11-30 02:23  install  3 (1.4.0)  B     fell back: its kernel panicked\n"
        );
        let value = json_of(&all[1]);
        assert_eq!((&value["outcome"], &value["cause"]), (&json!("fell-back"), &json!("panic")));
        assert_eq!((&value["ended_unix"], &value["source"]), (&json!(1_796_005_400), &json!("/media/stick")));
        assert_eq!(table(&[]), "no update has ended on this device\n");
    }

    #[test]
    fn dates_are_those_of_date_1() {
        // date -u -d @SECONDS '+%F %R'
        for (unix, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_251_199, "2024-02-29 23:59"),
            (1_796_005_400, "2026-11-30 02:23"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(date(unix), text);
        }
    }

    #[test]
    fn a_device_without_a_history_has_an_empty_one_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path().to_owned();
        let places = Places { system: there.clone(), data: there.clone(), run: there, state: None };
        assert_eq!(show(&places, Format::Json).unwrap(), "[]\n");
        std::fs::create_dir(directory.path().join("state")).unwrap();
        std::fs::write(directory.path().join("state").join(history::NAME), "nonsense").unwrap();
        assert!(show(&places, Format::Table).is_err());
    }
}
