//! How much of the machine's memory is free, and how much is used that no control group counts.

use crate::instance::cgroup;
use crate::paths::Paths;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Memory is short when less than this part of it is available.
const SHORT_PART: u64 = 8;

/// And it is not the groups that took it when this part is missing.
const MISSING_PART: u64 = 8;

/// Drivers that are loaded when instances run already may take what their modules are, and at most this part. What is used
/// beyond it counts as missing, for an instance may have taken it.
const DRIVERS_PART: u64 = 16;

/// With more than this part nobody has to look again soon: a container at its own limit lets the kernel wake us all the time.
const PLENTY_PART: u64 = 3;

/// The machine's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    total: u64,
    available: u64,
    /// What is kept for large buffers of devices: until they are needed, only programs and files can use it.
    not_for_kernel: u64,
    /// What the groups of instances and services are charged with.
    counted: u64,
}

/// What is to be thought of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// There is more than enough.
    Plenty,
    /// There is enough, or the groups explain why there is not.
    Enough,
    /// It is short, and so much of it no group counts, beyond what was so at first.
    Missing { bytes: u64 },
}

impl Figures {
    /// Reads them. `None`: this kernel does not count memory by groups.
    pub(super) fn read(paths: &Paths) -> Option<Figures> {
        // All of it, with room for what later kernels add.
        let mut buffer = [0; 4096];
        let len = File::open("/proc/meminfo").and_then(|mut file| file.read(&mut buffer)).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..len)?);
        let instances = cgroup::read_number(&paths.groups, "memory.current")?;
        // Without a service there is no such group, and the updater has one only while it runs.
        let of_group = |group| cgroup::read_number(group, "memory.current").unwrap_or(0);
        let others = of_group(&paths.service_groups).saturating_add(of_group(&paths.updater_group));
        Figures::parse(&text, instances.saturating_add(others))
    }

    fn parse(meminfo: &str, counted: u64) -> Option<Figures> {
        let kib = |name: &str| {
            let rest = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        let bytes = |name| kib(name).map(|kib| kib.saturating_mul(1024));
        // Only kernels with such memory have the line.
        let not_for_kernel = bytes("CmaTotal").unwrap_or(0);
        Some(Figures { total: bytes("MemTotal")?, available: bytes("MemAvailable")?, not_for_kernel, counted })
    }

    /// What is used, and no group counts: the kernel's own, PID 1's, and what sockets hold.
    pub(super) fn uncounted(self) -> u64 {
        self.total.saturating_sub(self.available).saturating_sub(self.counted)
    }

    /// What counts as used at first, where `first` was so before the first instance started, and now all drivers are loaded:
    /// `modules` bytes of them since.
    pub(super) fn first_with_drivers(self, first: u64, modules: u64) -> u64 {
        self.uncounted().clamp(first, first.saturating_add(modules.min(self.total / DRIVERS_PART)))
    }

    /// What is to be thought of it, where `first` was uncounted before any instance ran.
    pub(super) fn judge(self, first: u64) -> Memory {
        let bytes = self.uncounted().saturating_sub(first);
        // Arm64 kernels of Debian's keep 64 MiB by default, which count as available while they are free or hold what was read
        // from files: what sockets hold cannot be there, so that everything of a small machine stands still while so much is
        // available. Where programs' own memory is there, this is some too little; then only memory that is missing counts.
        let available = self.available.saturating_sub(self.not_for_kernel);
        if self.total / PLENTY_PART <= available {
            Memory::Plenty
        } else if available < self.total / SHORT_PART && self.total / MISSING_PART <= bytes {
            Memory::Missing { bytes }
        } else {
            Memory::Enough
        }
    }
}

/// What the kernel's modules take, in bytes, without what they keep for their devices. 0 where the kernel does not say.
pub(super) fn modules() -> u64 {
    File::open("/proc/modules").map_or(0, |list| sum_of_modules(BufReader::new(list)))
}

/// Name and size are the first words of a line. Pure.
fn sum_of_modules(list: impl BufRead) -> u64 {
    let size = |line: String| line.split(' ').nth(1)?.parse::<u64>().ok();
    list.lines().map_while(Result::ok).filter_map(size).fold(0, u64::saturating_add)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_is_missing_when_it_is_short_and_the_groups_do_not_explain_it() {
        use Memory::{Enough, Missing, Plenty};
        for (available, counted, found) in [
            (160, 20, Plenty),
            (86, 0, Plenty),
            (85, 0, Enough),
            (32, 40, Enough),
            // Instances without a limit took it, and they are counted.
            (20, 200, Enough),
            (31, 153, Missing { bytes: 32 * MIB }),
            (31, 154, Enough),
            (0, 40, Missing { bytes: 176 * MIB }),
            // What is charged can be more than what is used: it is what could be taken back, too.
            (20, 300, Enough),
        ] {
            let counted = counted * MIB;
            let figures = Figures { total: 256 * MIB, available: available * MIB, not_for_kernel: 0, counted };
            assert_eq!(figures.judge(40 * MIB), found, "{available} {counted}");
            assert!(!matches!(figures.judge(u64::MAX), Missing { .. }));
        }
    }

    #[test]
    fn drivers_raise_what_counts_as_used_by_no_more_than_their_modules() {
        let figures = Figures { total: 64 * MIB, available: 20 * MIB, not_for_kernel: 0, counted: 14 * MIB };
        // 30 MiB are uncounted.
        for (first, modules, expected) in
            [(20, 0, 20), (20, 1, 21), (20, 4, 24), (20, 60, 24), (29, 4, 30), (31, 4, 31)]
        {
            assert_eq!(figures.first_with_drivers(first * MIB, modules * MIB), expected * MIB, "{first} {modules}");
        }
    }

    #[test]
    fn the_sizes_of_modules_are_added_up() {
        let list = "erofs 151552 1 - Live 0x0\ndm_verity 36864 1 - Live 0x0\nodd x 1\ncut\n\n";
        assert_eq!(sum_of_modules(list.as_bytes()), 188_416);
    }

    #[test]
    fn what_the_kernel_cannot_use_itself_is_not_available_to_it() {
        // The arm64 board with full queues: nothing went on any more.
        let figures = Figures {
            total: 230_520 * 1024,
            available: 76_554_240,
            not_for_kernel: 65_536 * 1024,
            counted: 7_696_384,
        };
        assert_eq!(figures.judge(26_083_328), Memory::Missing { bytes: 125_718_528 });
    }

    #[test]
    fn the_kernels_words_are_understood_and_others_are_not() {
        let text = "MemTotal:         230560 kB\nMemFree:          101236 kB\nMemAvailable:     170108 kB\nCmaTotal:     61440 kB\nX";
        let figures =
            Figures { total: 230_560 * 1024, available: 170_108 * 1024, not_for_kernel: 61_440 * 1024, counted: 7 };
        assert_eq!(Figures::parse(text, 7), Some(figures));
        assert_eq!(
            Figures::parse(text.split_once("Cma").unwrap().0, 7),
            Some(Figures { not_for_kernel: 0, ..figures })
        );
        for wrong in ["", "MemTotal: 1 kB\n", "MemTotal: 1 kB\nMemAvailable: x kB", "MemTotal: 1\nMemAvailable: 1"] {
            assert_eq!(Figures::parse(wrong, 7), None, "{wrong}");
        }
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        assert!(meminfo.len() < 4096 && Figures::parse(&meminfo, 0).is_some(), "{meminfo}");
    }
}
