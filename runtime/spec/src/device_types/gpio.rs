//! `gpio`: the character device of a GPIO chip.

use super::nodes::{NodeDraft, gid, mode, parse_word, required, required_timeout, uid};
use crate::devices::{Builder, Built, Table};
use crate::instance::DeviceSelect;
use crate::setting::Applies::{AtOnce, AtRestart};
use crate::setting::{Origin, Setting, Value, effect};

/// Which chip.
#[derive(Debug, Default)]
pub(super) struct GpioDraft {
    chip: Option<String>,
}

/// The type.
pub(super) static GPIO: Table<NodeDraft<GpioDraft>> = Table {
    options: OPTIONS,
    build,
    read_back: |built| {
        NodeDraft::read_back(built, |select| match select.clone() {
            DeviceSelect::Gpio { chip } => Some(GpioDraft { chip: Some(chip) }),
            _ => None,
        })
    },
};

fn build(builder: &mut Builder<'_>, mut draft: NodeDraft<GpioDraft>) -> Option<Built> {
    let chip = draft.select.chip.take();
    let chip = builder.need(chip, "chip", "chip = \"LABEL\", as `gpiodetect` shows it in brackets")?;
    Some(draft.build(builder, DeviceSelect::Gpio { chip }))
}

static OPTIONS: &[Setting<NodeDraft<GpioDraft>>] = &[
    Setting {
        name: "chip",
        value: Value::Parsed {
            what: "a chip's label such as pinctrl-bcm2835, or its name such as gpiochip0",
            get: |draft| draft.select.chip.clone(),
            parse: |text| {
                effect(
                    parse_word(text, "a chip's label such as pinctrl-bcm2835, or its name such as gpiochip0")?,
                    |draft, chip| draft.select.chip = Some(chip),
                )
            },
        },
        default: "",
        applies: AtOnce,
        origin: Origin::Ours,
        help: "The chip: its label, which stays the same, or its name, which depends on the order in which chips \
               are found. Required.",
    },
    Setting {
        name: "lines",
        value: Value::Refused { reason: "a chip is given as a whole; lines are not told apart yet" },
        default: "",
        applies: AtRestart,
        origin: Origin::Ours,
        help: "Single lines of a chip.",
    },
    required(Origin::Ours),
    required_timeout(),
    uid(Origin::Ours),
    gid(Origin::Ours),
    mode(Origin::Ours),
];
