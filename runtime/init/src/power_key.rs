//! The power key: finds input devices that have one, and tells when it is pressed.

use crate::boot_clock::Moment;
use crate::supervisor::Supervisor;
use std::fs;
use std::io::Read;
use yado_sys::signals::Signal;

/// Bytes of one input event: two words of time (of the kernel's width), type, code, value.
const INPUT_EVENT_BYTES: usize = 2 * size_of::<usize>() + 8;

impl Supervisor {
    /// Opens the input devices with a power key.
    pub(crate) fn open_power_keys(&mut self) {
        self.sockets.power_keys = find_power_keys();
    }

    /// Reads a power key.
    pub(crate) fn read_power_key(&mut self, number: usize, now: Moment) {
        let mut buffer = [0; 64 * INPUT_EVENT_BYTES];
        let Some(mut key) = self.sockets.power_keys.get(number) else { return };
        match key.read(&mut buffer) {
            Ok(len) if 0 < len => {
                if is_power_key_pressed(buffer.get(..len).unwrap_or(&[])) {
                    self.take_signal(Signal::Power, now);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                self.sockets.power_keys.remove(number);
            }
        }
    }
}

/// Whether among these input events is a power key that was pressed. Pure.
fn is_power_key_pressed(events: &[u8]) -> bool {
    // EV_KEY, KEY_POWER, value 1 (pressed).
    const PRESSED: [u8; 8] = {
        let [low, high] = 1u16.to_ne_bytes();
        let [code_low, code_high] = 116u16.to_ne_bytes();
        let [a, b, c, d] = 1i32.to_ne_bytes();
        [low, high, code_low, code_high, a, b, c, d]
    };
    events.chunks_exact(INPUT_EVENT_BYTES).any(|event| event.ends_with(&PRESSED))
}

/// `/sys/class/input/eventN/device/capabilities/key` is a bitmap in words, the highest first; bit 116 is the power key.
fn find_power_keys() -> Vec<fs::File> {
    const MAX_KEYS: usize = 4;
    let Ok(entries) = fs::read_dir("/sys/class/input") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("event"))
        .filter(|name| {
            let path = format!("/sys/class/input/{name}/device/capabilities/key");
            fs::read_to_string(path).is_ok_and(|bitmap| has_power_key(&bitmap, usize::BITS))
        })
        .filter_map(|name| {
            let file = fs::File::open(format!("/dev/input/{name}")).ok()?;
            yado_sys::packet::set_nonblocking(&file).ok()?;
            Some(file)
        })
        .take(MAX_KEYS)
        .collect()
}

fn has_power_key(bitmap: &str, word_bits: u32) -> bool {
    const KEY_POWER: u32 = 116;
    let (Some(word), Some(bit)) = (KEY_POWER.checked_div(word_bits), KEY_POWER.checked_rem(word_bits)) else {
        return false;
    };
    let word = bitmap.split_whitespace().rev().nth(word as usize);
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok()).and_then(|word| word.checked_shr(bit));
    word.is_some_and(|word| word & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressed_power_key_is_told_from_all_else() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![0; 2 * size_of::<usize>()];
            event.extend_from_slice(&kind.to_ne_bytes());
            event.extend_from_slice(&code.to_ne_bytes());
            event.extend_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(is_power_key_pressed(&[event(4, 4, 1), event(1, 116, 1), event(0, 0, 0)].concat()));
        assert!(!is_power_key_pressed(&event(1, 116, 0)));
        assert!(!is_power_key_pressed(&event(1, 115, 1)));
        assert!(!is_power_key_pressed(&event(1, 116, 1)[1..]));
        // gpio-keys of QEMU's virt board on 64 and on 32 bits: only KEY_POWER.
        assert!(has_power_key("10000000000000 0", 64));
        assert!(has_power_key("100000 0 0 0", 32));
        assert!(!has_power_key("10000000000000", 64));
        assert!(!has_power_key("", 64));
    }
}
