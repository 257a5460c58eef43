//! Amounts as people read them; programs are given the exact number.

/// `1.5 MiB`: two or three digits are enough.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = "B";
    let mut tenths = u128::from(count).saturating_mul(10);
    for larger in UNITS {
        if tenths < 10_240 {
            break;
        }
        (unit, tenths) = (larger, tenths / 1024);
    }
    match (unit, tenths / 10) {
        ("B", whole) => format!("{whole} B"),
        (_, whole) if 100 <= whole => format!("{whole} {unit}"),
        (_, whole) => format!("{whole}.{} {unit}", tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (200 << 30, "200 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
