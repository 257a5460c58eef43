//! A small fuzzer for pure parsers, as an ordinary test. It changes seeds at random. In a build of `cargo accept fuzz` it is guided:
//! what takes a path through the program that nothing took before is kept, and changed further. A crate takes it in with
//! `#[path = "…/runtime/spec/tests/fuzzing/mod.rs"] mod fuzzing;`.
//!
//! Inputs that once failed are in `kept/`, in a folder of the target's name, and are tried first in every run.
//!
//! | in the environment | |
//! |---|---|
//! | `YADO_FUZZ_SECONDS` | for each target; 2 without it |
//! | `YADO_FUZZ_SEED` | what a run printed: the same inputs come again, if what was kept is the same |
//! | `YADO_FUZZ_CORPUS` | the folder in which guided runs keep inputs, for the next one to go on from |

mod corpus;
mod paths;

use corpus::Corpus;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longer inputs find nothing that shorter ones do not, and cost time.
const MAX_INPUT_BYTES: usize = 4096;

/// Of so many inputs, one is of those that were kept last: what was just reached leads on.
const TURNS_OF_THE_LAST: usize = 2;

/// See [`TURNS_OF_THE_LAST`].
const LAST: usize = 8;

/// Runs `target` on the seeds and on what becomes of them. `words` are pieces of the language that chance would not find.
/// Fails with the input that made the target panic.
pub(crate) fn fuzz(name: &str, seeds: &[Vec<u8>], words: &[&str], target: impl Fn(&[u8])) {
    let seconds = number("YADO_FUZZ_SECONDS").unwrap_or(2);
    let seed = number("YADO_FUZZ_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut chance = Chance::new(seed);
    let mut corpus = Corpus::read(name);
    let mut runs = 0_u64;
    let mut run = |corpus: &mut Corpus, input: &[u8]| {
        corpus.paths.begin();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
        if outcome.is_err() {
            let kept = corpus.keep_failing(input);
            panic!("{name}: input {runs} of YADO_FUZZ_SEED={seed} fails{kept}: b\"{}\"", input.escape_ascii());
        }
        runs += 1;
        corpus.paths.end()
    };
    for input in seeds.iter().cloned().chain(corpus.take_inputs()) {
        // What others have kept may lead nowhere new by now; a seed is changed whatever it leads to.
        if run(&mut corpus, &input) || seeds.contains(&input) {
            corpus.inputs.push(input);
        }
    }
    let began_with = corpus.inputs.len();
    while Instant::now() < deadline {
        let mut input = choose(&corpus.inputs, &mut chance).clone();
        mutate(&mut input, &corpus.inputs, words, &mut chance);
        while chance.below(2) == 0 {
            mutate(&mut input, &corpus.inputs, words, &mut chance);
        }
        input.truncate(MAX_INPUT_BYTES);
        if run(&mut corpus, &input) {
            corpus.keep(input);
        }
    }
    let guided = corpus.paths.count().map_or(String::new(), |paths| {
        let found = corpus.inputs.len() - began_with;
        format!(", {paths} places reached, {} inputs kept, {found} of them new", corpus.inputs.len())
    });
    println!("FUZZED: {name}: {runs} inputs in {seconds} s{guided}; YADO_FUZZ_SEED={seed}");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn choose<'a>(inputs: &'a [Vec<u8>], chance: &mut Chance) -> &'a Vec<u8> {
    let last = if chance.below(TURNS_OF_THE_LAST) == 0 { inputs.len().saturating_sub(LAST) } else { 0 };
    &inputs[last + chance.below(inputs.len() - last)]
}

fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str], chance: &mut Chance) {
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
            let other = &others[chance.below(others.len())];
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
    fn new(seed: u64) -> Chance {
        // Small seeds would begin with small numbers, and of 0 there comes nothing but 0.
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

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
