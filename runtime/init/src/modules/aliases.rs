//! `modules.alias`: which modules drive a device. Pure.

use std::collections::BTreeSet;
use std::ops::Bound;

/// The modules for any of `devices`, in the order of the list, each once.
pub fn modules_for(list: &str, devices: &BTreeSet<String>) -> Vec<String> {
    let mut modules: Vec<String> = Vec::new();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        // Most lines are ruled out by what stands before the first wildcard.
        let fixed = pattern.split(['*', '?', '[', '\\']).next().unwrap_or("");
        let mut candidates = devices
            .range::<str, _>((Bound::Included(fixed), Bound::Unbounded))
            .take_while(|device| device.starts_with(fixed));
        if candidates.any(|device| matches(pattern.as_bytes(), device.as_bytes()))
            && !modules.iter().any(|known| known == module)
        {
            modules.push(module.to_owned());
        }
    }
    modules
}

/// fnmatch(3) without flags, as depmod and modprobe have it: `*`, `?`, `[…]`, backslash. It takes at most the product of
/// both lengths in steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when what follows the last star does not fit: the star takes one byte more.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match pattern.split_first() {
            None if text.is_empty() => return true,
            None => None,
            Some((b'*', rest)) => {
                retry = Some((rest, text));
                Some((rest, text))
            }
            Some(_) => match_one(pattern, text),
        };
        match step {
            Some(next) => (pattern, text) = next,
            None => {
                let Some((after_star, from)) = retry else { return false };
                let Some((_, shorter)) = from.split_first() else { return false };
                retry = Some((after_star, shorter));
                (pattern, text) = (after_star, shorter);
            }
        }
    }
}

/// Matches one element that is no star against one byte.
fn match_one<'a>(pattern: &'a [u8], text: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (&byte, rest) = text.split_first()?;
    match pattern.split_first()? {
        (b'?', after) => Some((after, rest)),
        (b'\\', after) => {
            let (&literal, after) = after.split_first()?;
            (literal == byte).then_some((after, rest))
        }
        (b'[', set) => {
            let (matched, after) = match_set(set, byte)?;
            matched.then_some((after, rest))
        }
        (&literal, after) => (literal == byte).then_some((after, rest)),
    }
}

/// A set after its `[`: single bytes and ranges. `None`: it is not closed.
fn match_set(set: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let negated = matches!(set.first(), Some(b'!' | b'^'));
    let mut rest = if negated { set.get(1..)? } else { set };
    let mut found = false;
    let mut is_first = true;
    loop {
        let (&low, after) = rest.split_first()?;
        if low == b']' && !is_first {
            return Some((found != negated, after));
        }
        is_first = false;
        rest = match after {
            [b'-', high, after @ ..] if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                after
            }
            _ => {
                found |= low == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines of Debian's 6.1.0-50-arm64.
    const LIST: &str = "\
# Aliases extracted from modules themselves.\n\
alias virtio:d00000002v* virtio_blk\n\
alias virtio:d00000001v* virtio_net\n\
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage\n\
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas\n\
alias usb:v0E8Fp0012d*dc*dsc*dp*ic03isc0[0-9A-F]ip*in* hid_x\n\
alias of:N*T*Cvirtio,mmio virtio_mmio\n\
alias of:N*T*Cvirtio,mmioC* virtio_mmio\n\
alias crc32c crc32c_generic\n\
alias cut\n";

    fn modules(devices: &[&str]) -> Vec<String> {
        modules_for(LIST, &devices.iter().map(|device| (*device).to_owned()).collect())
    }

    #[test]
    fn devices_of_a_board_find_their_drivers() {
        assert_eq!(modules(&["virtio:d00000002v00001AF4"]), ["virtio_blk"]);
        assert_eq!(
            modules(&["of:NvirtioT(null)Cvirtio,mmio", "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"]),
            ["virtio_pci", "virtio_mmio"]
        );
        assert_eq!(modules(&["usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00"]), ["usb_storage"]);
        assert_eq!(modules(&["usb:v0E8Fp0012d0100dc00dsc00dp00ic03isc0Aip02in01"]), ["hid_x"]);
        assert_eq!(modules(&["crc32c"]), ["crc32c_generic"]);
        assert!(modules(&["", "acpi:PNP0C0C:", "cut", "virtio:d00000002"]).is_empty());
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        let table = [
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[!a-c]x", "dx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\", "\\", false),
            ("", "a", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
