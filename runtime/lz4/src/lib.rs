//! LZ4 blocks of a given size: of the input as much as fits. A cluster of erofs is such a block and decompressed on its
//! own, so matches never reach back before its first byte.
//!
//! The cheapest encoding is found by dynamic programming: for every position the fewest bytes that lead to it, by one
//! more literal or by any length of the longest match there. Then the block ends at the furthest position that leaves
//! room for the last literals. Packing is done once, reading on every start, so time is spent here.

use std::fmt;

/// How long to look for the smallest block: 1 is quickest, 12 smallest, as the levels of LZ4 HC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// The quickest.
    pub const MIN: u8 = 1;
    /// The smallest blocks.
    pub const MAX: u8 = 12;
    /// Packing is done once, reading on every start.
    pub const DEFAULT: Level = Level(Level::MAX);

    /// `None`: there is no such level.
    pub fn new(level: u8) -> Option<Level> {
        (Level::MIN..=Level::MAX).contains(&level).then_some(Level(level))
    }

    /// How many earlier places are looked at. Twice as many as at the highest save less than 0.1 % of Debian's root.
    fn max_attempts(self) -> usize {
        const BY_LEVEL: [usize; Level::MAX as usize] = [1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 96, 128];
        BY_LEVEL[usize::from(self.0 - Level::MIN)]
    }

    /// A match of this length is taken as it is.
    fn long_enough(self) -> usize {
        const BY_LEVEL: [usize; Level::MAX as usize] = [12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256];
        BY_LEVEL[usize::from(self.0 - Level::MIN)]
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Compresses parts of one window of input. The tables are reused from block to block.
pub struct Encoder {
    max_attempts: usize,
    long_enough: usize,
    /// For each hash of 4 bytes the last position that has it, plus one.
    heads: Vec<u32>,
    /// For each position the one before it with the same hash, plus one.
    previous: Vec<u32>,
    steps: Vec<Step>,
}

/// The cheapest way to a position.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Bytes up to here, without the last literals' token.
    cost: u32,
    /// Length of the match that ends here; 0 after a literal.
    match_bytes: u32,
    /// How far back that match lies.
    distance: u32,
    /// How many literals stand before this position since the last match.
    literals: u32,
}

/// A match and the literals before it.
struct Sequence {
    literals: usize,
    match_bytes: usize,
    distance: usize,
}

impl Encoder {
    /// Empty tables.
    pub fn new(level: Level) -> Encoder {
        Encoder {
            max_attempts: level.max_attempts(),
            long_enough: level.long_enough(),
            heads: vec![0; 1 << HASH_BITS],
            previous: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Learns where the window has what. To be called again whenever its bytes have changed.
    pub fn scan(&mut self, window: &[u8]) {
        self.heads.fill(0);
        self.previous.clear();
        self.previous.resize(window.len(), 0);
        for (position, four) in window.windows(MIN_MATCH).enumerate() {
            let head = &mut self.heads[hash(four)];
            self.previous[position] = std::mem::replace(head, position as u32 + 1);
        }
    }

    /// Appends to `out` a block of at most `room` bytes, which stands for the first bytes of `window[start..end]`;
    /// answers how many. It may be that none fits.
    pub fn compress(&mut self, window: &[u8], (start, end): (usize, usize), room: usize, out: &mut Vec<u8>) -> usize {
        let input = &window[..end];
        let reached = self.find_cheapest(input, start, room);
        let Some((last_match, taken)) = self.choose_end(end - start, reached, room) else { return 0 };
        let mut literals_at = start;
        for Sequence { literals, match_bytes, distance } in self.sequences(last_match) {
            write_token(out, literals, match_bytes - MIN_MATCH);
            out.extend(&input[literals_at..literals_at + literals]);
            out.extend((distance as u16).to_le_bytes());
            write_extra(out, match_bytes - MIN_MATCH);
            literals_at += literals + match_bytes;
        }
        write_token(out, taken - last_match, 0);
        out.extend(&input[literals_at..start + taken]);
        taken
    }

    /// Fills `steps`, counted from `start`; answers with the last position that was reached.
    fn find_cheapest(&mut self, input: &[u8], start: usize, room: usize) -> usize {
        let length = input.len() - start;
        self.steps.clear();
        self.steps.resize(length + 1, Step { cost: u32::MAX, match_bytes: 0, distance: 0, literals: 0 });
        self.steps[0].cost = 0;
        let mut reached = 0;
        let mut at = 0;
        while at < length && at <= reached {
            let Step { cost, literals, .. } = self.steps[at];
            if room < cost as usize {
                at += 1;
                continue;
            }
            let literals = literals + 1;
            let literal_cost = cost + 1 + u32::from(15 <= literals && (literals - 15) % 255 == 0);
            if literal_cost < self.steps[at + 1].cost {
                self.steps[at + 1] = Step { cost: literal_cost, match_bytes: 0, distance: 0, literals };
                reached = reached.max(at + 1);
            }
            let found =
                if at + MATCH_START_LIMIT <= length { self.longest_match(input, start, start + at) } else { (0, 0) };
            let (longest, distance) = found;
            let shortest = if longest < self.long_enough { MIN_MATCH } else { longest };
            for match_bytes in shortest..=longest {
                let cost = cost + 3 + extra_bytes(match_bytes - MIN_MATCH) as u32;
                let step = &mut self.steps[at + match_bytes];
                if cost <= step.cost {
                    *step = Step { cost, match_bytes: match_bytes as u32, distance: distance as u32, literals: 0 };
                    reached = reached.max(at + match_bytes);
                }
            }
            at += if longest < self.long_enough { 1 } else { longest };
        }
        reached
    }

    /// The longest match at a position that lies at or after `start`: length and distance.
    fn longest_match(&self, input: &[u8], start: usize, position: usize) -> (usize, usize) {
        let limit = input.len() - LAST_LITERALS - position;
        let mut best = (0, 0);
        let mut candidate = self.previous[position] as usize;
        for _ in 0..self.max_attempts {
            if candidate <= start || MAX_DISTANCE < position + 1 - candidate {
                break;
            }
            let before = candidate - 1;
            if best.0 == 0 || input[before + best.0] == input[position + best.0] {
                let length = common_bytes(&input[before..], &input[position..position + limit]);
                if MIN_MATCH <= length && best.0 < length {
                    best = (length, position - before);
                    if self.long_enough <= length || length == limit {
                        break;
                    }
                }
            }
            candidate = self.previous[before] as usize;
        }
        best
    }

    /// The position of the last match's end and the block's end that take most input, for fewest bytes. The format
    /// wants 5 literals at the end, and the last match to begin 12 bytes before it.
    fn choose_end(&self, length: usize, reached: usize, room: usize) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize, usize)> = None;
        for (at, step) in self.steps[..=reached].iter().enumerate() {
            let cost = step.cost as usize + 1;
            if (at != 0 && step.match_bytes == 0) || room < cost {
                continue;
            }
            let literals = (length - at).min(max_literals(room - cost));
            let needed = if at == 0 {
                1
            } else {
                LAST_LITERALS.max(MATCH_START_LIMIT.saturating_sub(step.match_bytes as usize))
            };
            if literals < needed {
                continue;
            }
            let (end, cost) = (at + literals, cost + literals + extra_bytes(literals));
            if best.is_none_or(|(_, best_end, best_cost)| best_end < end || (best_end == end && cost < best_cost)) {
                best = Some((at, end, cost));
            }
        }
        best.map(|(at, end, _)| (at, end))
    }

    /// The sequences up to the end of the last match.
    fn sequences(&self, last_match: usize) -> Vec<Sequence> {
        let mut sequences = Vec::new();
        let mut at = last_match;
        while at != 0 {
            let Step { match_bytes, distance, .. } = self.steps[at];
            let match_start = at - match_bytes as usize;
            let literals = self.steps[match_start].literals as usize;
            sequences.push(Sequence { literals, match_bytes: match_bytes as usize, distance: distance as usize });
            at = match_start - literals;
        }
        sequences.reverse();
        sequences
    }
}

const MIN_MATCH: usize = 4;
/// The format's rules for a block's end, which fast decoders rely on.
const LAST_LITERALS: usize = 5;
const MATCH_START_LIMIT: usize = 12;
/// Distances have 16 bits.
const MAX_DISTANCE: usize = 65535;

const HASH_BITS: u32 = 16;

fn hash(four: &[u8]) -> usize {
    let word = four.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (word.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)) as usize
}

fn common_bytes(left: &[u8], right: &[u8]) -> usize {
    let mut length = 0;
    while let (Some(a), Some(b)) = (left[length..].first_chunk::<8>(), right[length..].first_chunk::<8>()) {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return length + (difference.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length + left[length..].iter().zip(&right[length..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes a length takes besides its 4 bits in the token.
fn extra_bytes(length: usize) -> usize {
    if length < 15 { 0 } else { (length - 15) / 255 + 1 }
}

/// How many literals fit into so many bytes, with the extra bytes of their length.
fn max_literals(room: usize) -> usize {
    if room < 16 { room.min(14) } else { room - 1 - (room - 15) / 256 }
}

fn write_token(out: &mut Vec<u8>, literals: usize, match_length: usize) {
    out.push(((literals.min(15) << 4) | match_length.min(15)) as u8);
    write_extra(out, literals);
}

fn write_extra(out: &mut Vec<u8>, length: usize) {
    if let Some(mut rest) = length.checked_sub(15) {
        while 255 <= rest {
            out.push(255);
            rest -= 255;
        }
        out.push(rest as u8);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As the format is described, with its rules for the end; `None` if the block breaks one.
    fn decompress(block: &[u8], length: usize) -> Option<Vec<u8>> {
        let mut bytes = block.iter().copied();
        let mut out: Vec<u8> = Vec::new();
        let extended = |base: u8, bytes: &mut dyn Iterator<Item = u8>| {
            let mut length = usize::from(base);
            let mut last = if base == 15 { 255 } else { 0 };
            while last == 255 {
                last = bytes.next()?;
                length += usize::from(last);
            }
            Some(length)
        };
        loop {
            let token = bytes.next()?;
            let literals = extended(token >> 4, &mut bytes)?;
            out.extend(bytes.by_ref().take(literals));
            if bytes.len() == 0 {
                return (out.len() == length && (literals >= 5 || literals == length)).then_some(out);
            }
            if length < out.len() + 12 {
                return None;
            }
            let distance = usize::from(u16::from_le_bytes([bytes.next()?, bytes.next()?]));
            let match_bytes = extended(token & 15, &mut bytes)? + 4;
            let from = out.len().checked_sub(distance).filter(|_| distance != 0)?;
            (from..from + match_bytes).for_each(|at| out.push(out[at]));
        }
    }

    fn check_all(window: &[u8], room: usize) -> usize {
        let mut encoder = Encoder::new(Level::DEFAULT);
        encoder.scan(window);
        let mut start = 0;
        let mut total = 0;
        while start < window.len() {
            let mut block = Vec::new();
            let taken = encoder.compress(window, (start, window.len()), room, &mut block);
            assert!(0 < taken && block.len() <= room, "{taken} in {} at {start}", block.len());
            assert_eq!(decompress(&block, taken).as_deref(), Some(&window[start..start + taken]), "at {start}");
            start += taken;
            total += block.len();
        }
        total
    }

    /// Text-like bytes from a small generator.
    fn text(length: usize, mut seed: u32) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < length {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = seed >> 24;
            out.extend(format!("word{} ", word % 97 * word % 31).as_bytes());
        }
        out.truncate(length);
        out
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut seed = 7_u32;
        (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect()
    }

    #[test]
    fn every_length_and_every_room_decompresses_to_what_it_was() {
        for length in 0..80 {
            for room in [16, 17, 31, 64, 4096] {
                check_all(&vec![0; length], room);
                check_all(&text(length, 3), room);
                check_all(&noise(length), room);
            }
        }
        for length in [250, 255, 256, 270, 271, 300, 600, 5000, 70_000, 200_000] {
            check_all(&vec![0; length], 4096);
            check_all(&noise(length), 4096);
            check_all(&[noise(length), noise(length)].concat(), 4096);
            assert!(check_all(&text(length, 9), 4096) < length);
        }
    }

    #[test]
    fn a_block_is_filled_to_its_last_bytes() {
        let window = text(40_000, 5);
        let mut encoder = Encoder::new(Level::DEFAULT);
        encoder.scan(&window);
        let mut block = Vec::new();
        let taken = encoder.compress(&window, (0, window.len()), 4096, &mut block);
        assert!(12_000 < taken && taken < window.len(), "{taken}");
        assert!(4090 < block.len(), "{}", block.len());
    }

    #[test]
    fn max_literals_is_exact() {
        for room in 0..5000 {
            let most = max_literals(room);
            assert!(most + extra_bytes(most) <= room, "{room}");
            assert!(room < most + 1 + extra_bytes(most + 1), "{room}");
        }
    }
}
