//! How often each place of this program was reached, as the compiler counts it (`-C instrument-coverage`), for tests that look
//! for inputs that lead to new ones. It is in no other build than that of `cargo accept fuzz`, which sets `--cfg yado_coverage`.
//!
//! Only one thread may run what is counted: what others count meanwhile is told, too, or lost.

// compiler-rt, lib/profile/InstrProfiling.h: where the counters of all that was linked begin, and where they end.
unsafe extern "C" {
    fn __llvm_profile_begin_counters() -> *mut u64;
    fn __llvm_profile_end_counters() -> *mut u64;
}

/// Sets all counters to zero.
pub fn reset() {
    let (begin, count) = counters();
    // SAFETY: so many counters lie there, in memory of this program that can be written; no reference to them exists.
    unsafe { begin.write_bytes(0, count) };
}

/// Tells of each place that was reached since the last [`reset`], and how often.
pub fn tell(mut reached: impl FnMut(usize, u64)) {
    let (begin, count) = counters();
    let mut copy = [0; AT_ONCE];
    for first in (0..count).step_by(AT_ONCE) {
        let copied = AT_ONCE.min(count.saturating_sub(first));
        // SAFETY: within the array, and `copy` has room. This loop is counted there itself, so that no reference is made to it.
        unsafe { begin.add(first).copy_to(copy.as_mut_ptr(), copied) };
        // Most were never reached. To compare them all at once is not counted, as the standard library is not.
        if copy == [0; AT_ONCE] {
            continue;
        }
        for (place, times) in (first..).zip(copy).take(copied).filter(|(_, times)| *times != 0) {
            reached(place, times);
        }
    }
}

/// See [`tell`].
const AT_ONCE: usize = 64;

/// The first, and how many there are.
fn counters() -> (*mut u64, usize) {
    // SAFETY: it only gives an address.
    let begin = unsafe { __llvm_profile_begin_counters() };
    // SAFETY: as above.
    let end = unsafe { __llvm_profile_end_counters() };
    // SAFETY: both are of the one section in which the linker puts all counters.
    let count = unsafe { end.offset_from(begin) };
    (begin, usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use crate::fuzzing::fuzz;
    use std::panic::catch_unwind;

    /// One input of 2^24, and of those that chance makes here far fewer. Each letter is a place of its own.
    #[allow(clippy::collapsible_if)]
    fn is_found(bytes: &[u8]) {
        if bytes.first() == Some(&b'y') {
            if bytes.get(1) == Some(&b'a') {
                assert_ne!(bytes.get(2), Some(&b'd'));
            }
        }
    }

    #[test]
    fn a_word_that_stands_nowhere_is_found_letter_by_letter_among_any_bytes() {
        // What an earlier run has found would be the first that is tried.
        if let Some(corpus) = std::env::var_os("YADO_FUZZ_CORPUS") {
            let _ = std::fs::remove_dir_all(std::path::Path::new(&corpus).join("guidance"));
        }
        let outcome = catch_unwind(|| fuzz("guidance", &[Vec::new()], &[], is_found));
        assert!(outcome.is_err(), "it is not guided");
    }
}
