//! FNV-1a, for names and addresses that are made of other names: any well-mixed hash does that never changes. It resists
//! nobody who looks for two texts of one hash.

/// Of 32 bits.
pub fn fnv32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Of 64 bits.
pub fn fnv64(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let offset = 0xcbf2_9ce4_8422_2325;
    bytes.into_iter().fold(offset, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_its_authors() {
        // Test vectors of draft-eastlake-fnv: the empty text, `a`, `foobar`.
        for (text, short, long) in [
            ("", 0x811c_9dc5, 0xcbf2_9ce4_8422_2325),
            ("a", 0xe40c_292c, 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0xbf9c_f968, 0x8594_4171_f739_67e8),
        ] {
            assert_eq!((fnv32(text.bytes()), fnv64(text.bytes())), (short, long), "{text}");
        }
    }
}
