//! Long lives of boards, at random: updates one after another, with everything that can happen to them. The seed is printed, and
//! `YADO_WALK_SEED` lives the same life again.

use super::walk::{check_action, check_disk, check_transition, name_of};
use super::world::{Budget, Content, Power, World, is_true};
use crate::boot_loader::Counting;
use crate::machine::Action;
use crate::record::Outcome;
use std::collections::BTreeMap;

/// Lives of one run, and what happens in each: together some seconds.
const LIVES: usize = 300;
const EVENTS: usize = 600;

/// What ends a life is rare, or nothing else would be seen.
fn weight(what: &str) -> u32 {
    match what {
        "the power is cut" | "the kernel panics" | "the watchdog resets it" => 1,
        "the power is cut before anything of ours runs" | "the power is cut when the try is counted" => 2,
        "a slot rots" | "a user holds" | "the updater is started again" => 1,
        "a release is asked for" | "a user releases" => 20,
        _ => 15,
    }
}

fn live(seed: u64, ends: &mut BTreeMap<String, usize>) -> Result<(), String> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let counting = if chance.bool() { Counting::Tries } else { Counting::Once };
    let b = if chance.bool() { Content::Nothing } else { Content::Whole(1) };
    let rots = chance.u8(0..2);
    let mut world = World::new(counting, b, Budget { asks: 40, whims: 20, rots, failures: 20 });
    let mut way = Vec::new();
    let told = |error: String, way: &[&str]| format!("{error}\n{}", way.join(", "));
    for _ in 0..EVENTS {
        let mut next = world.next();
        let total: u32 = next.iter().map(|next| weight(next.what)).sum();
        if total == 0 {
            break;
        }
        let mut at = chance.u32(0..total);
        let chosen = next.iter().position(|next| {
            let is_it = at < weight(next.what);
            at = at.saturating_sub(weight(next.what));
            is_it
        });
        let chosen = next.swap_remove(chosen.unwrap_or(0));
        way.push(chosen.what);
        check_transition(&world, chosen.what, &chosen.world).map_err(|error| told(error, &way))?;
        world = chosen.world;
        check_disk(&world, 0 < rots).map_err(|error| told(error, &way))?;
        let Power::On { state, action, .. } = &world.power else { continue };
        check_action(state, action).map_err(|error| told(error, &way))?;
        if let Action::End(ended) = action {
            *ends.entry(name_of(&ended.outcome)).or_default() += 1;
            // 6: the cause that is told is one that was.
            if let Outcome::FellBack(cause) | Outcome::Degraded(cause) = &ended.outcome {
                if !is_true(cause, world.seen) {
                    return Err(told(format!("{cause:?} was not: {:?}", world.seen), &way));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_happens_to_a_board_in_its_life_the_invariants_hold() {
    let seed = std::env::var("YADO_WALK_SEED").ok().and_then(|text| text.parse().ok());
    let first: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("YADO_WALK_SEED={first} lives the first of them again");
    let mut ends = BTreeMap::new();
    let lives = if seed.is_some() { 1 } else { LIVES };
    for life in 0..lives as u64 {
        let seed = first.wrapping_add(life);
        if let Err(error) = live(seed, &mut ends) {
            panic!("YADO_WALK_SEED={seed}: {error}");
        }
    }
    println!("{lives} lives: {ends:?}");
    assert!(seed.is_some() || 9 <= ends.len(), "a life that comes nowhere shows nothing: {ends:?}");
}
