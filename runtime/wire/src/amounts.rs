//! Amounts as people read them; programs are given the exact number.

use core::time::Duration;

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

/// `2d 3h`, `3m 12s`, `850ms`: the two largest units.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
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

    #[test]
    fn times_are_short() {
        for (millis, text) in [(12, "12ms"), (5_900, "5s"), (192_000, "3m 12s"), (7_260_000, "2h 1m")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration(Duration::from_secs(183_600)), "2d 3h");
    }
}
