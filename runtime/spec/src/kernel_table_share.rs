//! What one instance may have of the kernel's tables that all share and that no `limits.*` counts, by the machine's memory.
//! Whoever sets a limit of the machine's, and whoever sets an instance's, must mean the same.

const MIB: u64 = 1 << 20;

/// Terminals in an instance's own `/dev/pts`. Each takes some 27 KiB of memory that no limit counts: at most a three-hundredth
/// of the machine's, and enough for a dozen sessions on the smallest.
pub fn terminals(memory_bytes: u64) -> u32 {
    (memory_bytes / (8 * MIB)).clamp(16, 1024) as u32
}

/// To how many open files an instance's processes may raise their limit, each; systemd's own number from 8 GiB on. Files count
/// as memory of the instance, what they stand for not always: a socket's queue, for one.
pub fn open_files(memory_bytes: u64) -> u64 {
    (memory_bytes / (16 << 10)).clamp(4096, 524_288)
}

/// Control groups below an instance's. Each takes some 10 KiB of memory that no limit counts, and up to 20 more for the thread
/// that watches its pressure; systemd with all its services makes some forty.
pub fn control_groups(memory_bytes: u64) -> u32 {
    (memory_bytes / MIB).clamp(128, 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_gives_enough_and_a_large_one_what_is_usual() {
        for (mib, expected) in [
            (64, (16, 4096, 128)),
            (256, (32, 16_384, 256)),
            (1024, (128, 65_536, 1000)),
            (32 << 10, (1024, 524_288, 1000)),
        ] {
            let memory = mib * MIB;
            assert_eq!((terminals(memory), open_files(memory), control_groups(memory)), expected, "{mib} MiB");
        }
    }
}
