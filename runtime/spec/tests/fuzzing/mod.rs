//! A small mutational fuzzer for pure parsers, as an ordinary test: seeded, so that a failure comes again, and bounded by
//! `YADO_FUZZ_SECONDS` (2 by default) for each target. A crate takes it in with
//! `#[path = "…/runtime/spec/tests/fuzzing/mod.rs"] mod fuzzing;`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longer inputs find nothing that shorter ones do not, and cost time.
const MAX_INPUT_BYTES: usize = 4096;

/// Runs `target` on the seeds and on what becomes of them. `words` are pieces of the language that chance would not find.
/// Fails with the input that made the target panic.
pub(crate) fn fuzz(name: &str, seeds: &[Vec<u8>], words: &[&str], target: impl Fn(&[u8])) {
    let seconds = std::env::var("YADO_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut runs = 0_u64;
    for seed in seeds {
        run(name, runs, seed, &target);
        runs += 1;
    }
    while Instant::now() < deadline {
        let mut input = seeds[chance.below(seeds.len())].clone();
        for _ in 0..=chance.below(4) {
            mutate(&mut input, seeds, words, &mut chance);
        }
        input.truncate(MAX_INPUT_BYTES);
        run(name, runs, &input, &target);
        runs += 1;
    }
    println!("{name}: {runs} inputs in {seconds} s");
}

fn run(name: &str, runs: u64, input: &[u8], target: &impl Fn(&[u8])) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(outcome.is_ok(), "{name}: input {runs} fails: b\"{}\"", input.escape_ascii());
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let end = at + chance.below((input.len() - at).min(64) + 1);
    match chance.below(9) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'['][chance.below(8)],
        2 => input.insert(at, chance.next() as u8),
        3 => drop(input.drain(at..end)),
        4 => input.truncate(at),
        5 => {
            let piece = input[at..end].to_vec();
            let to = chance.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        6 => {
            let other = &seeds[chance.below(seeds.len())];
            let from = chance.below(other.len() + 1);
            input.splice(at.., other[from..].iter().copied());
        }
        7 if !words.is_empty() => {
            let word = words[chance.below(words.len())];
            input.splice(at..end, word.bytes());
        }
        _ => input.extend(std::iter::repeat_n(chance.next() as u8, chance.below(200))),
    }
}

/// xorshift64: any generator will do that is the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
