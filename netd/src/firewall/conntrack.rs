//! Settings of the kernel's connection table: its size, and how long it keeps closed connections. Only on a board, since they are
//! settings of the whole machine.

use std::fs;
use std::io;
use std::path::Path;

const SETTINGS: &str = "/proc/sys/net/netfilter";
const SIZE: &str = "nf_conntrack_max";
/// An entry takes about 320 bytes: with so many for each MiB the table takes one hundredth of the memory at most.
const ENTRIES_PER_MIB: u64 = 32;
/// The least is what 64 MiB give, for ten containers and this machine itself; the most is more connections than a device has.
const SIZES: std::ops::RangeInclusive<u64> = 2048..=65536;

/// Seconds, where the kernel's own are made for servers with memory to spare: connections that never became one, and
/// those that are over. RFC 5382, 5: an idle connection is remembered for two hours and four minutes at least.
const TIMEOUTS: [(&str, u32); 12] = [
    ("nf_conntrack_tcp_timeout_syn_sent", 30),
    ("nf_conntrack_tcp_timeout_syn_recv", 30),
    ("nf_conntrack_tcp_timeout_established", 7440),
    ("nf_conntrack_tcp_timeout_fin_wait", 10),
    ("nf_conntrack_tcp_timeout_close_wait", 60),
    ("nf_conntrack_tcp_timeout_last_ack", 10),
    ("nf_conntrack_tcp_timeout_time_wait", 10),
    ("nf_conntrack_tcp_timeout_close", 2),
    ("nf_conntrack_tcp_timeout_unacknowledged", 60),
    ("nf_conntrack_udp_timeout", 10),
    ("nf_conntrack_icmp_timeout", 5),
    ("nf_conntrack_generic_timeout", 60),
];

/// How many connections the kernel has room for; `None`: it does not track any yet.
pub fn table_size() -> Option<u32> {
    fs::read_to_string(Path::new(SETTINGS).join(SIZE)).ok()?.trim().parse().ok()
}

/// How many a machine with this memory should have room for.
pub fn size_for(memory_bytes: u64) -> u32 {
    let entries = (memory_bytes >> 20).saturating_mul(ENTRIES_PER_MIB).clamp(*SIZES.start(), *SIZES.end());
    u32::try_from(entries).unwrap_or(u32::MAX)
}

/// Makes the settings what they should be. The first that could not be changed is told; the others are.
pub fn set(memory_bytes: u64) -> Result<(), (String, io::Error)> {
    let size = (SIZE, size_for(memory_bytes));
    let mut result = Ok(());
    for (name, value) in TIMEOUTS.into_iter().chain([size]) {
        let path = Path::new(SETTINGS).join(name);
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value.to_string()) {
            continue;
        }
        if let Err(error) = fs::write(&path, value.to_string()) {
            result = result.and(Err((path.display().to_string(), error)));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_a_hundredth_of_the_memory_at_most() {
        for (mib, expected) in [(32, 2048), (64, 2048), (256, 8192), (1024, 32768), (65536, 65536)] {
            assert_eq!(size_for(mib << 20), expected, "{mib} MiB");
        }
    }
}
