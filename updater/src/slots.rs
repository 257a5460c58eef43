//! `yado-updater slots`: what the boot loader keeps of the slots, as a few lines for people or as JSON. It reads, and changes nothing.

use crate::boot_loader::Boots;
use crate::boot_state::Slot;
use crate::command::Format;
use crate::driver::{open_loader, read_policy};
use crate::places::Places;
use serde_json::{Value, json};
use yado_wire::{columns, hex};

/// What the boot loader will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotStates {
    pub(crate) boots: Boots,
    /// How often that was changed, where it is counted.
    pub(crate) changes: Option<u32>,
}

/// Shows the slots.
pub(crate) fn show(places: &Places, format: Format) -> Result<String, String> {
    Ok(render(&read(places)?, format))
}

/// What the boot loader that the board's policy names will do.
pub(crate) fn read(places: &Places) -> Result<SlotStates, String> {
    let read = || {
        let mut loader = open_loader(&read_policy(places), places)?;
        Ok(SlotStates { boots: loader.read()?, changes: loader.changes()? })
    };
    read().map_err(|error: crate::boot_loader::BootLoaderError| error.to_string())
}

fn render(states: &SlotStates, format: Format) -> String {
    match format {
        Format::Table => render_table(states),
        Format::Json => format!("{}\n", json_of(states)),
    }
}

pub(crate) fn render_table(SlotStates { boots, changes }: &SlotStates) -> String {
    let rows = Slot::ALL.into_iter().map(|slot| {
        let order = boots.order.slots().iter().position(|other| *other == slot);
        let order = order.map_or("-".to_owned(), |at| (at + 1).to_string());
        vec![slot.to_string(), order, boots.slot(slot).left.count().to_string(), word_for(boots, slot).to_owned()]
    });
    let mut out = columns::text(&["SLOT", "ORDER", "TRIES", "STATE"], rows);
    let next = boots.next().map_or("the boot script refills the tries".to_owned(), |slot| format!("slot {slot}"));
    out.push_str(&format!("next boot: {next}\n"));
    if let Some(changes) = changes {
        out.push_str(&format!("changes so far: {changes}\n"));
    }
    for fingerprint in boots.blocked.fingerprints() {
        out.push_str(&format!("blocked image: {}\n", hex::encode(fingerprint)));
    }
    out
}

/// As a value, to which others add.
pub(crate) fn json_of(SlotStates { boots, changes }: &SlotStates) -> Value {
    let slot = |slot: Slot| {
        json!({
            "name": slot.to_string(),
            "in_order": boots.is_in_order(slot),
            "tries_left": boots.slot(slot).left.count(),
            "state": word_for(boots, slot),
        })
    };
    let name = |slot: Option<Slot>| slot.map(|slot| slot.to_string());
    let blocked = boots.blocked.fingerprints().iter().map(|fingerprint| hex::encode(fingerprint));
    json!({
        "sequence": changes,
        "order": boots.order.slots().iter().map(Slot::to_string).collect::<Vec<_>>(),
        "next": name(boots.next()),
        "trial": name(boots.trial),
        "slots": Slot::ALL.map(slot),
        "blocked": blocked.collect::<Vec<_>>(),
    })
}

fn word_for(boots: &Boots, slot: Slot) -> &'static str {
    match boots.slot(slot).mark {
        Some(mark) => mark.as_str(),
        None if boots.trial == Some(slot) => "trial",
        // Not every boot loader has a place for why.
        None if !boots.is_in_order(slot) => "unused",
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
        let state = SlotStates { boots: Boots::factory(Some(Mark::Empty)), changes: Some(1) };
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
