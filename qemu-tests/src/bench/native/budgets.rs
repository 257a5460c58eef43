//! What `cargo accept` holds of the starts on this machine, and of the memory after them.

use super::{Track, failed_starts, warm_starts};
use crate::bench::Promise;
use crate::bench::rivals::CRUN;
use crate::bench::starts::{Times, times};
use crate::cache::Cache;
use std::error::Error;
use std::fs;
use std::path::Path;

/// Each one's turns that count, where only budgets are held.
const BUDGET_LAPS: u32 = 30;

/// Who else works on the machine makes a start slower and never quicker: of each, crun too, the attempt counts in which it was
/// disturbed least. One attempt would not tell which of the two was disturbed.
const MIN_BUDGET_ATTEMPTS: usize = 2;
const MAX_BUDGET_ATTEMPTS: usize = 3;

/// So much init, its reader and netd may take together at rest. That begins within eight seconds after work, mostly within two: whoever
/// caused netd work again and again shortly before, as the last containers of the race, has it rest only after five.
const MAX_KIB_AT_REST: u64 = 2048;

/// What came of holding the budgets.
pub(crate) enum Budgets {
    /// Each, and whether it is kept.
    Seen(Vec<Promise>),
    /// This machine cannot tell, and why.
    Untold(String),
}

/// Whether all starts succeed, and warm ones, and the memory that is taken after them, keep their budgets.
pub(crate) fn hold_budgets(cache: &Cache, directory: &Path) -> Result<Budgets, Box<dyn Error>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Budgets::Untold("starting containers needs root".to_owned()));
    }
    let mut attempts: Vec<Vec<Times>> = Vec::new();
    let ratios = loop {
        let track = Track::lay_out(cache, directory)?;
        let results = track.run(BUDGET_LAPS, &track.contestants)?;
        let failed = failed_starts(&results, BUDGET_LAPS);
        if !failed.is_empty() {
            return Ok(Budgets::Seen(failed));
        }
        if let Some(failed) = results.disqualified.iter().find(|failed| failed.contestant == CRUN) {
            return Ok(Budgets::Untold(format!("{CRUN}: {}", failed.reason)));
        }
        attempts.push(times(&results));
        let ratios = warm_starts(&attempts, |goal| goal.budget);
        let is_kept = MIN_BUDGET_ATTEMPTS <= attempts.len() && ratios.iter().all(|ratio| ratio.holds);
        if is_kept || MAX_BUDGET_ATTEMPTS <= attempts.len() {
            break ratios;
        }
    };
    let taken = fs::read_to_string(directory.join("yado/pss"))?;
    let taken = taken.lines().map(|line| line.split_whitespace().map(str::parse).collect());
    let taken = taken.collect::<Result<Vec<Vec<u64>>, _>>()?;
    // Fewer would say that somebody was not found.
    let rests = |taken: &&Vec<u64>| taken.len() == 3 && taken.iter().sum::<u64>() <= MAX_KIB_AT_REST;
    let second = taken.iter().position(|taken| rests(&taken)).map(|place| place.saturating_add(1));
    let memory = Promise {
        what: format!("init, its reader and netd: at most {MAX_KIB_AT_REST} KiB (PSS) eight seconds after work"),
        seen: match second {
            Some(second) => format!("after {second} s; each second: {taken:?}"),
            None => format!("each second: {taken:?}"),
        },
        holds: taken.last().is_some_and(|taken| rests(&taken)),
    };
    Ok(Budgets::Seen(ratios.into_iter().chain([memory]).collect()))
}
