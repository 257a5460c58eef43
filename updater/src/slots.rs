//! `yado-updater slots`: the boot state, as a few lines for people or as JSON. It reads, and changes nothing.

use crate::boot_state::{BootState, PARTITION, Slot};
use crate::command::Format;
use crate::driver;
use crate::places::Places;
use crate::state_partition;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use yado_sys::named_partition::{self, Disks, SYSFS};
use yado_wire::{columns, hex};

pub(crate) fn show(places: &Places, format: Format) -> Result<String, String> {
    Ok(render(&read_state(places)?, format))
}

/// The boot loader's state: of the raw partition or the file that is named, or else of the system's disk.
pub(crate) fn read_state(places: &Places) -> Result<BootState, String> {
    let path = match driver::state_file(places) {
        Some(path) => path,
        // As init takes `data`: another disk's partition of that name is not ours.
        None => named_partition::find(Path::new(SYSFS), &[PARTITION], &Disks::of_system(true))
            .map_err(|error| format!("partition `{PARTITION}`: {error}"))?
            .ok_or_else(|| format!("no partition is named `{PARTITION}`; name its device or a file with --state"))?,
    };
    let file = File::open(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
    state_partition::read(&file).map_err(|error| format!("{}: {error}", path.display()))
}

fn render(state: &BootState, format: Format) -> String {
    match format {
        Format::Table => render_table(state),
        Format::Json => format!("{}\n", json_of(state)),
    }
}

pub(crate) fn render_table(state: &BootState) -> String {
    let rows = Slot::ALL.into_iter().map(|slot| {
        let order = state.order.slots().iter().position(|other| *other == slot);
        let order = order.map_or("-".to_owned(), |at| (at + 1).to_string());
        vec![slot.to_string(), order, state.slot(slot).left.count().to_string(), word_for(state, slot).to_owned()]
    });
    let mut out = columns::text(&["SLOT", "ORDER", "TRIES", "STATE"], rows);
    let next = state.next().map_or("the boot script refills the tries".to_owned(), |slot| format!("slot {slot}"));
    out.push_str(&format!("next boot: {next}\nchanges so far: {}\n", state.sequence));
    for fingerprint in state.blocked.fingerprints() {
        out.push_str(&format!("blocked image: {}\n", hex::encode(fingerprint)));
    }
    out
}

/// As a value, to which others add.
pub(crate) fn json_of(state: &BootState) -> Value {
    let slot = |slot: Slot| {
        json!({
            "name": slot.to_string(),
            "in_order": state.order.slots().contains(&slot),
            "tries_left": state.slot(slot).left.count(),
            "state": word_for(state, slot),
        })
    };
    let name = |slot: Option<Slot>| slot.map(|slot| slot.to_string());
    let blocked = state.blocked.fingerprints().iter().map(|fingerprint| hex::encode(fingerprint));
    json!({
        "sequence": state.sequence,
        "order": state.order.slots().iter().map(Slot::to_string).collect::<Vec<_>>(),
        "next": name(state.next()),
        "trial": name(state.trial),
        "slots": Slot::ALL.map(slot),
        "blocked": blocked.collect::<Vec<_>>(),
    })
}

fn word_for(state: &BootState, slot: Slot) -> &'static str {
    match state.slot(slot).mark {
        Some(mark) => mark.as_str(),
        None if state.trial == Some(slot) => "trial",
        None => "good",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::boot_state::Mark;

    #[test]
    fn a_fresh_device_with_one_system_reads_as_such() {
        let state = BootState::factory(Some(Mark::Empty));
        assert_eq!(
            render(&state, Format::Table),
            "SLOT  ORDER  TRIES  STATE\nA     1      3      good\nB     -      0      empty\n\
             next boot: slot A\nchanges so far: 1\n"
        );
        let value: Value = serde_json::from_str(&render(&state, Format::Json)).unwrap();
        let slot = |name, in_order, tries_left, state| json!({ "name": name, "in_order": in_order, "tries_left": tries_left, "state": state });
        let slots = [slot("A", true, 3, "good"), slot("B", false, 0, "empty")];
        let expected = json!({
            "sequence": 1, "order": ["A"], "next": "A", "trial": null, "slots": slots, "blocked": [],
        });
        assert_eq!(value, expected);
    }
}
