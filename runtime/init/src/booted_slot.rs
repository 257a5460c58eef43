//! The slot and the system image that run. The initramfs stage writes them to a file on `/run`, and the system stage reads it.

use std::fs;
use std::io;
use std::path::Path;
use yado_sys::boot_parameter;

/// On the tmpfs that both stages share.
const FILE: &str = "/run/yado/boot";

/// The slot that the boot loader chose, with the image that the initramfs verified in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootedSlot {
    /// `A` or `B`.
    pub(crate) name: char,
    /// SHA-256 of the image's header.
    pub(crate) fingerprint: [u8; 32],
}

impl BootedSlot {
    /// Reads what the initramfs stage wrote. `None`: there was none.
    pub(crate) fn read() -> Option<BootedSlot> {
        parse_slot(&fs::read_to_string(FILE).ok()?)
    }

    /// Writes it for the system stage.
    pub(crate) fn write(self) -> io::Result<()> {
        let path = Path::new(FILE);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, self.text())
    }

    fn text(self) -> String {
        format!("slot={}\nfingerprint={}\n", self.name, yado_wire::hex::encode(&self.fingerprint))
    }
}

/// The slot that the kernel's command line names.
pub(crate) fn parse_command_line(command_line: &str) -> Option<char> {
    match boot_parameter::value(command_line, "yado.slot=")? {
        "A" => Some('A'),
        "B" => Some('B'),
        _ => None,
    }
}

fn parse_slot(text: &str) -> Option<BootedSlot> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let name = parse_command_line(&format!("yado.slot={}", value("slot")?))?;
    let fingerprint = yado_wire::hex::parse_digest(value("fingerprint")?)?;
    Some(BootedSlot { name, fingerprint })
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
            if let Some(slot) = parse_slot(&text) {
                assert_eq!(parse_slot(&slot.text()), Some(slot));
            }
            assert!(matches!(parse_command_line(&text), Some('A' | 'B') | None));
        });
    }

    #[test]
    fn slots_are_a_or_b() {
        assert_eq!(parse_command_line("console=ttyAMA0 quiet yado.slot=B panic=5"), Some('B'));
        assert_eq!(parse_command_line("console=ttyAMA0 yado.slot=C"), None);
        assert_eq!(parse_command_line("xyado.slot=A"), None);
        let hex = "ab".repeat(32);
        let slot = parse_slot(&format!("slot=A\nfingerprint={hex}\n"));
        assert_eq!(slot, Some(BootedSlot { name: 'A', fingerprint: [0xab; 32] }));
        assert_eq!(parse_slot("slot=A\nfingerprint=ab\n"), None);
    }
}
