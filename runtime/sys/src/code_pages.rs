//! Which pages of our own program are in memory.
//!
//! Giving back those that were only needed to start: the kernel maps sixteen pages around each one
//! that is touched, so a process that did much once shows most of a large binary as its own for ever.

use rustix::mm::{Advice, MlockFlags, madvise, mlock_with};
use rustix::thread::futex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Unmaps what this process has mapped of its program's file, code and constants; what is needed again comes back from the
/// page cache at its next use. Returns how many bytes were mapped.
pub fn unmap_unused() -> io::Result<usize> {
    let mappings = find_mappings()?;
    unmap(&mappings)?;
    Ok(mappings.iter().flatten().map(|mapping| mapping.resident).fold(0, usize::saturating_add))
}

/// What runs after the last of them is mapped again, sixteen pages around each: so nothing is left to be freed then.
fn unmap(mappings: &Mappings) -> io::Result<()> {
    for mapping in mappings.iter().flatten() {
        let start = std::ptr::with_exposed_provenance_mut(mapping.start);
        // SAFETY: the kernel told us that this range is a mapping of our program's file, that it cannot be written to,
        // and that no page of it differs from the file. So every page that is dropped is read again with the same bytes.
        unsafe { madvise(start, mapping.len, Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// Unmaps as [`unmap_unused`] does, when the others of this process sleep, and from a thread of its own. Who does that by itself
/// maps again what it runs on its way to sleep, and an event loop runs code of many places.
#[derive(Debug)]
pub struct Unmapper {
    /// 1: somebody has asked.
    asked: Arc<AtomicU32>,
}

/// Whoever asks is asleep by then.
const FALLING_ASLEEP: Duration = Duration::from_millis(50);

/// It reads a file and cuts it into lines.
const STACK_BYTES: usize = 64 * 1024;

impl Unmapper {
    /// Starts the thread, which lives as long as the process. `failed` is told, in that thread, what the kernel refuses.
    pub fn start(failed: impl Fn(io::Error) + Send + 'static) -> io::Result<Unmapper> {
        let asked = Arc::new(AtomicU32::new(0));
        let word = asked.clone();
        let serve = move || {
            // They stay as they are: nobody of ours makes code writable.
            let mut found = None;
            loop {
                wait(&word);
                let unmapped = match &found {
                    Some(mappings) => unmap_and_wait(mappings, &word),
                    None => find_mappings().and_then(|mappings| unmap_and_wait(found.insert(mappings), &word)),
                };
                if let Err(error) = unmapped {
                    word.store(0, Ordering::Release);
                    failed(error);
                }
            }
        };
        thread::Builder::new().name("unmapper".to_owned()).stack_size(STACK_BYTES).spawn(serve)?;
        Ok(Unmapper { asked })
    }

    /// Asks for it.
    pub fn ask(&self) {
        self.asked.store(1, Ordering::Release);
        // That nobody waits is no error.
        let _ = futex::wake(&self.asked, futex::Flags::PRIVATE, 1);
    }

    /// There is work again: it is not to be done, if it was not yet.
    pub fn withdraw(&self) {
        self.asked.store(0, Ordering::Release);
    }
}

/// The last that runs before all sleep: as little, and in as few places, as can be.
#[inline(never)]
fn unmap_and_wait(mappings: &Mappings, asked: &AtomicU32) -> io::Result<()> {
    thread::sleep(FALLING_ASLEEP);
    if asked.swap(0, Ordering::AcqRel) == 1 {
        unmap(mappings)?;
    }
    wait(asked);
    Ok(())
}

/// Until somebody has asked.
fn wait(asked: &AtomicU32) {
    while asked.load(Ordering::Acquire) == 0 {
        // Who is woken in vain, or by a signal, looks at the word again.
        let _ = futex::wait(asked, futex::Flags::PRIVATE, 0, None);
    }
}

type Mappings = [Option<Mapping>; 4];

/// The first few; a program has two.
fn find_mappings() -> io::Result<Mappings> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut found = parse_mappings(&smaps, &program.to_string_lossy()).into_iter();
    Ok(std::array::from_fn(|_| found.next()))
}

/// Keeps in memory what this process has touched, or will, of its program's file: when memory is short the kernel takes code
/// first, and who is to do something about it must not have to wait for a disk. [`unmap_unused`] is refused from then on.
pub fn keep_touched() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for mapping in maps.lines().filter(|line| line.ends_with(&*program.to_string_lossy())).filter_map(parse_head) {
        let start = std::ptr::with_exposed_provenance_mut(mapping.start);
        // SAFETY: locking changes nothing of what is at these addresses; of what is mapped there nothing is unmapped.
        unsafe { mlock_with(start, mapping.len, MlockFlags::ONFAULT)? };
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    len: usize,
    resident: usize,
}

/// The private mappings of `program` that are not writable and have no page of their own. Where the loader has written
/// (relocations, now read-only), pages differ from the file: those mappings are left out.
fn parse_mappings(smaps: &str, program: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut current: Option<Mapping> = None;
    for line in smaps.lines() {
        if let Some(mapping) = parse_head(line) {
            // proc_pid_smaps(5): range, permissions, offset, device, inode, path.
            let mut rest = line.split_whitespace().skip(1);
            let is_ours = matches!(rest.next(), Some("r-xp" | "r--p")) && rest.nth(3) == Some(program);
            current = is_ours.then_some(mapping);
        } else if let Some(kib) = field(line, "Rss:") {
            if let Some(mapping) = &mut current {
                // No more of it can be in memory than there is of it.
                mapping.resident = kib.saturating_mul(1024).min(mapping.len);
            }
        } else if ["Anonymous:", "Swap:"].iter().any(|name| field(line, name).is_some_and(|kib| kib != 0)) {
            // A page of its own, be it in memory or swapped out.
            current = None;
        } else if line.starts_with("VmFlags:") {
            // The last line of each: an old kernel that does not count anonymous pages is not guessed about.
            found.extend(current.take().filter(|mapping| mapping.resident != 0 && smaps.contains("Anonymous:")));
        }
    }
    found
}

fn parse_head(line: &str) -> Option<Mapping> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some(Mapping { start, len: end.checked_sub(start)?, resident: 0 })
}

fn field(line: &str, name: &str) -> Option<usize> {
    line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    const SMAPS: &str = "\
00400000-00700000 r-xp 00001000 08:01 77   /usr/bin/yado
Size:               3072 kB
Rss:                2172 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00700000-00780000 r--p 00301000 08:01 77   /usr/bin/yado
Rss:                 124 kB
Anonymous:           124 kB
VmFlags: rd mr mw me ac
00780000-00790000 rw-p 00381000 08:01 77   /usr/bin/yado
Rss:                  16 kB
Anonymous:             0 kB
VmFlags: rd wr mr mw me ac
7f000000-7f100000 r-xp 00000000 08:01 78   /lib/libc.so.6
Rss:                 900 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f200000-7f201000 r--p 00000000 08:01 77   /usr/bin/yado
Rss:                   0 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
";

    #[test]
    fn only_what_is_as_in_the_file_is_taken() {
        let expected = Mapping { start: 0x40_0000, len: 0x30_0000, resident: 2172 * 1024 };
        assert_eq!(parse_mappings(SMAPS, "/usr/bin/yado"), [expected]);
        let swapped = SMAPS.replacen("VmFlags:", "Swap:   4 kB\nVmFlags:", 1);
        assert_eq!(parse_mappings(&swapped, "/usr/bin/yado"), [], "a page of its own is swapped out");
        assert_eq!(parse_mappings(&SMAPS.replace("Anonymous:", "Other:"), "/usr/bin/yado"), []);
        assert_eq!(parse_mappings("", "/usr/bin/yado"), []);
        let absurd = SMAPS.replace("2172 kB", &format!("{} kB", usize::MAX));
        assert_eq!(parse_mappings(&absurd, "/usr/bin/yado")[0].resident, 0x30_0000);
    }

    #[test]
    fn maps_of_any_text_name_only_ranges_that_stand_in_them() {
        let words = [
            "VmFlags:\n",
            "Rss: 4 kB\n",
            "Anonymous: 0 kB\n",
            "Swap: ",
            " r-xp 0 0:0 1 /usr/bin/yado\n",
            "99999999999999999999",
        ];
        fuzz("smaps", &[SMAPS.as_bytes().to_vec()], &words, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            for Mapping { start, len, resident } in parse_mappings(&text, "/usr/bin/yado") {
                let is_head = |line: &str| {
                    parse_head(line).is_some_and(|head| (head.start, head.len) == (start, len))
                        && line.contains("/usr/bin/yado")
                };
                assert!(
                    text.lines().any(is_head) && (1..=len).contains(&resident) && start.checked_add(len).is_some()
                );
            }
        });
    }

    /// How much of this program the kernel has mapped for this process.
    fn mapped() -> usize {
        find_mappings().unwrap().iter().flatten().map(|mapping| mapping.resident).sum()
    }

    #[test]
    fn a_process_goes_on_without_noticing() {
        let unmapper = Unmapper::start(|error| panic!("{error}")).unwrap();
        let before = mapped();
        // What runs meanwhile, and there are other tests, is mapped again.
        let is_unmapped = (0..100).any(|_| {
            unmapper.ask();
            thread::sleep(FALLING_ASLEEP * 2);
            mapped() < before
        });
        assert!(is_unmapped);
        let table: Vec<String> = (0..100).map(|number| format!("{number}")).collect();
        assert!(0 < unmap_unused().unwrap());
        assert_eq!(table.concat().len(), 190);
        unmap_unused().unwrap();
        // From here on nothing of it can be unmapped any more: in one test, so that none comes between.
        let locked_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            status.lines().find_map(|line| field(line, "VmLck:")).unwrap()
        };
        let before = locked_kib();
        match keep_touched() {
            Ok(()) => assert!(before < locked_kib() && unmap_unused().is_err()),
            // Others than root may keep less than a test program.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOMEM), "{error}"),
        }
    }
}
