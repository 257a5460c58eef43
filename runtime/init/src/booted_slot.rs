//! The slot and the system image that run. The initramfs stage writes them to a file on `/run`, and the system stage reads it.

use std::fs;
use std::io;
use std::path::Path;
use yado_sys::boot_parameter;
use yado_wire::booted_slot::BootedSlot;
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

/// The slot that the kernel's command line names.
pub(crate) fn parse_command_line(command_line: &str) -> Option<char> {
    parse_slot(boot_parameter::value(command_line, "yado.slot=")?)
}

#[cfg(test)]
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
    fn slots_are_a_or_b() {
        assert_eq!(parse_command_line("console=ttyAMA0 quiet yado.slot=B panic=5"), Some('B'));
        assert_eq!(parse_command_line("console=ttyAMA0 yado.slot=C"), None);
        assert_eq!(parse_command_line("xyado.slot=A"), None);
    }
}
