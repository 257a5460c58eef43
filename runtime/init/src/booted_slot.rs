//! The slot and the system image that run. The initramfs stage writes them to a file on `/run`, and the system stage reads it.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use yado_sys::{boot_parameter, regular_file};
use yado_wire::booted_slot::{BootedSlot, MAX_BYTES, TRIAL_FILE};
use yado_wire::formats::Standing;
use yado_wire::last_reset::parse_slot;

/// On the tmpfs that both stages share.
const FILE: &str = "/run/yado/boot";

/// Reads what the initramfs stage wrote. `None`: there was none.
pub(crate) fn read() -> Option<BootedSlot> {
    BootedSlot::parse(&fs::read_to_string(FILE).ok()?)
}

/// Writes it for the system stage.
pub(crate) fn write(slot: BootedSlot) -> io::Result<()> {
    let path = Path::new(FILE);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, slot.text())
}

/// What the updater has noted of a trial, in the folder `state` of the data partition. Unreadable, there is none: a confirmed system
/// stays.
pub(crate) fn read_trial(state: &Path) -> Option<String> {
    let mut text = String::new();
    regular_file::open(&state.join(TRIAL_FILE)).ok()?.take(MAX_BYTES as u64).read_to_string(&mut text).ok()?;
    Some(text)
}

/// How it stands with the system that runs, by the updater's word.
pub(crate) fn standing(running: Option<BootedSlot>, state: &Path) -> Standing {
    let on_trial = read_trial(state).and_then(|text| BootedSlot::parse(&text));
    if on_trial.is_some() && on_trial == running { Standing::OnTrial } else { Standing::Confirmed }
}

/// The slot that the kernel's command line names.
pub(crate) fn parse_command_line(command_line: &str) -> Option<char> {
    parse_slot(boot_parameter::value(command_line, "yado.slot=")?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn slots_of_any_text_come_out_the_same_again_or_there_is_none() {
        let hex = "ab".repeat(32);
        let seeds =
            [format!("slot=A\nfingerprint={hex}\n"), "console=ttyAMA0 quiet yado.slot=B panic=5\n".to_owned()];
        fuzz("slot", &seeds.map(String::into_bytes), &["slot=A", "yado.slot=", "fingerprint="], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(slot) = BootedSlot::parse(&text) {
                assert_eq!(BootedSlot::parse(&slot.text()), Some(slot));
            }
            assert!(matches!(parse_command_line(&text), Some('A' | 'B') | None));
        });
    }

    #[test]
    fn what_runs_is_on_trial_if_the_updater_says_so_of_this_image() {
        let state = tempfile::tempdir().unwrap();
        let slot = BootedSlot { name: 'B', fingerprint: [7; 32] };
        assert_eq!(standing(Some(slot), state.path()), Standing::Confirmed);
        fs::write(state.path().join(TRIAL_FILE), slot.text()).unwrap();
        assert_eq!(standing(Some(slot), state.path()), Standing::OnTrial);
        for other in [None, Some(BootedSlot { name: 'A', ..slot }), Some(BootedSlot { fingerprint: [8; 32], ..slot })]
        {
            assert_eq!(standing(other, state.path()), Standing::Confirmed);
        }
        for text in [&b"slot=B\n"[..], &[0xff; 1000], b""] {
            fs::write(state.path().join(TRIAL_FILE), text).unwrap();
            assert_eq!(standing(Some(slot), state.path()), Standing::Confirmed);
            assert_eq!(standing(None, state.path()), Standing::Confirmed);
        }
    }

    #[test]
    fn slots_are_a_or_b() {
        assert_eq!(parse_command_line("console=ttyAMA0 quiet yado.slot=B panic=5"), Some('B'));
        assert_eq!(parse_command_line("console=ttyAMA0 yado.slot=C"), None);
        assert_eq!(parse_command_line("xyado.slot=A"), None);
    }
}
