//! Every state that a board can come to, with the power cut after every write: the invariants of an update hold in each.

use super::world::{Budget, Content, Loader, Next, Power, World, going_on, system_image};
use crate::boot_loader::Counting;
use crate::boot_state::{Slot, Tries};
use crate::machine::{Action, Event, Now, Refused, ResetCause, State, step};
use crate::record::{Cause, Ended, Kind, Line, Outcome, Phase, Record, StagingStep, Unwell};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// A walk of all that can happen, and what was seen.
#[derive(Default)]
struct Walk {
    /// Each board, with the one that it came from, and how.
    seen: HashMap<u64, (u64, &'static str)>,
    /// What is on the media, each once.
    disks: HashSet<u64>,
    /// Boards of which it is known that they come to rest.
    settled: HashSet<u64>,
    machine_states: HashSet<u64>,
    transitions: usize,
    pairs: usize,
    phases: HashMap<&'static str, usize>,
    ends: HashMap<String, usize>,
}

/// 64 bits tell some million states apart: that two of them are taken for one is less likely than one in a million.
fn key(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// What happened before decides nothing, so it tells no boards apart; the random walk looks at it.
fn key_of(world: &World) -> u64 {
    key(&(&world.disk, &world.power, world.budget, world.seen.is_left))
}

/// A rule that does not hold, and where.
macro_rules! ensure {
    ($rule:expr, $($words:tt)*) => {
        if !$rule {
            return Err(format!("{}: {}", stringify!($rule), format!($($words)*)));
        }
    };
}

impl Walk {
    fn all_from(&mut self, start: World) {
        let is_rotting = 0 < start.budget.rots;
        let start_key = key_of(&start);
        self.seen.insert(start_key, (start_key, "the factory"));
        let mut queue = VecDeque::from([(start_key, start)]);
        while let Some((from, world)) = queue.pop_front() {
            let checked = self.check(&world, is_rotting);
            assert!(checked.is_ok(), "{}\n{}", checked.unwrap_err(), self.way_to(from));
            for Next { what, world: after } in world.next() {
                self.transitions += 1;
                let checked = check_transition(&world, what, &after);
                assert!(checked.is_ok(), "{}\n{}", checked.unwrap_err(), self.way_to(from));
                let to = key_of(&after);
                if let Entry::Vacant(place) = self.seen.entry(to) {
                    place.insert((from, what));
                    queue.push_back((to, after));
                }
            }
        }
    }

    fn check(&mut self, world: &World, is_rotting: bool) -> Result<(), String> {
        if self.disks.insert(key(&(&world.disk, world.budget.rots, world.seen.is_left))) {
            check_disk(world, is_rotting)?;
            check_end(world, is_rotting, &mut self.settled)?;
        }
        let Power::On { state, action, .. } = &world.power else { return Ok(()) };
        check_action(state, action)?;
        if self.machine_states.insert(key(state)) {
            *self.phases.entry(state.record.phase.as_str()).or_default() += 1;
            self.pairs += check_every_event(state)?;
        }
        match action {
            Action::End(ended) => self.note_end(world, &state.record, ended),
            _ => Ok(()),
        }
    }

    /// What happened until then.
    fn way_to(&self, mut at: u64) -> String {
        let mut way = Vec::new();
        while let Some((from, what)) = self.seen.get(&at) {
            way.push(*what);
            if *from == at {
                break;
            }
            at = *from;
        }
        way.reverse();
        way.join(", ")
    }

    fn note_end(&mut self, world: &World, record: &Record, ended: &Ended) -> Result<(), String> {
        *self.ends.entry(name_of(&ended.outcome)).or_default() += 1;
        // 6 and 7.
        match (&ended.outcome, ended.update.kind, &ended.update.release) {
            (Outcome::FellBack(cause), Kind::Install, Some(release)) if *cause != Cause::Damaged => {
                ensure!(record.blocked_for(&release.fingerprint).is_some(), "{ended:?}");
            }
            (Outcome::Confirmed, _, _) => {
                if let Some(slot) = ended.update.slot() {
                    let boots = world.disk.loader.view();
                    ensure!(boots.trial != Some(slot), "success before the boot loader knows: {ended:?}");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn name_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Confirmed => "confirmed".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Failed(_) => "failed".to_owned(),
        Outcome::FellBack(cause) => format!("fell back: {}", cause.as_str()),
        Outcome::Degraded(cause) => format!("degraded: {}", cause.as_str()),
    }
}

/// 1: something is there that starts and verifies, and does not depend on a trial.
pub(super) fn check_disk(world: &World, is_rotting: bool) -> Result<(), String> {
    let boots = world.disk.loader.view();
    let is_good = |slot: Slot| {
        let content = world.disk.slots[slot as usize];
        boots.trial != Some(slot)
            && boots.slot(slot).left != Tries::NONE
            && (matches!(content, Content::Whole(_)) || is_rotting && matches!(content, Content::Rotten(_)))
    };
    ensure!(boots.order.slots().iter().any(|slot| is_good(*slot)), "{:?}", world.disk);
    Ok(())
}

pub(super) fn check_transition(before: &World, what: &'static str, after: &World) -> Result<(), String> {
    let (old, new) = (&before.disk, &after.disk);
    // 2: what is written is not what may be started.
    for slot in Slot::ALL {
        let (from, to) = (old.slots[slot as usize], new.slots[slot as usize]);
        if from != to && !matches!(to, Content::Rotten(_)) {
            let boots = new.loader.view();
            ensure!(!boots.is_in_order(slot) && boots.trial.is_none(), "{what}: {:?} {:?}", old, new);
        }
    }
    // 3: one write at a time. (Each of them leaves the old or the new: the tests of the back ends and of the record.)
    let changes = [
        old.record != new.record,
        old.loader != new.loader,
        old.slots != new.slots,
        old.instance != new.instance,
        old.history != new.history,
    ];
    ensure!(changes.iter().filter(|changed| **changed).count() <= 1, "{what}");
    // 5: floors rise when the boot loader starts it for good, and with nothing else.
    if new.record.floors != old.record.floors {
        let Phase::Ended { ended } = &new.record.phase else { return Err(format!("{what}: {:?}", new.record)) };
        let boots = new.loader.view();
        ensure!(ended.outcome == Outcome::Confirmed, "{what}");
        ensure!(ended.update.slot().is_none_or(|slot| boots.trial.is_none() && boots.next() == Some(slot)), "{what}");
        ensure!(old.record.floors.release <= new.record.floors.release, "{what}");
    }
    // 8: only tries of a trial are counted.
    if let (Loader::Tries(from), Loader::Tries(to)) = (&old.loader, &new.loader) {
        if matches!(before.power, Power::Off(_)) && what != "the boot script refills the tries" {
            for slot in Slot::ALL {
                ensure!(from.slot(slot).left == to.slot(slot).left || from.trial == Some(slot), "{what}");
            }
        }
    }
    Ok(())
}

/// What an action may never do, whatever led to it.
pub(super) fn check_action(state: &State, action: &Action) -> Result<(), String> {
    let boots = &state.boots;
    let running = state.place.slot;
    match action {
        // 2 and 4.
        Action::Stage(StagingStep::Write | StagingStep::ReadBack | StagingStep::BootFiles) => {
            let slot = going_on(state).and_then(|update| update.slot()).expect("an update of a system");
            ensure!(slot != running && !boots.is_in_order(slot) && boots.trial.is_none(), "{state:?}");
        }
        Action::Stage(StagingStep::Deny) => ensure!(boots.trial.is_none(), "{state:?}"),
        Action::Stage(StagingStep::Images) => {}
        Action::Arm { slot, .. } => {
            ensure!(*slot != running && boots.trial != Some(running), "{state:?}");
        }
        Action::Confirm { slot } | Action::KeepOnly { slot } => ensure!(*slot == running, "{state:?}"),
        Action::Verify { slot } => ensure!(*slot != running, "{state:?}"),
        Action::Fail { slot, .. } | Action::Deny { slot } => {
            ensure!(boots.is_in_order(slot.other()), "nothing would be left: {state:?}");
        }
        Action::Reboot { trial: Some(slot) } => ensure!(boots.trial == Some(*slot), "{state:?}"),
        // For another system than this one, or to use up this one's tries.
        Action::Reboot { trial: None } => {
            let is_left = boots.next() == Some(running.other()) || state.wait.leave_by_tries;
            ensure!(is_left, "{state:?}");
        }
        Action::Rest
        | Action::Wait { .. }
        | Action::Admit { .. }
        | Action::AskReboot
        | Action::SwitchInstances
        | Action::Watch { .. }
        | Action::KeepInstances
        | Action::KeepLog
        | Action::Allow { .. }
        | Action::UndoInstances
        | Action::End(_) => {}
    }
    Ok(())
}

/// Every event in this state, also those that nobody asked for: none leads to an action that may not be.
fn check_every_event(state: &State) -> Result<usize, String> {
    let now = Now { since_start: Duration::from_secs(20), unix: 0 };
    let mut pairs = 0;
    for event in every_event(state) {
        let after = step(state, event.clone(), now);
        // What was done could not be told to be done when it was not: these are told wrongly on purpose.
        check_action(&after.state, &after.action).map_err(|error| format!("{event:?}: {error}"))?;
        let is_trial = state.boots.trial.is_some() || matches!(state.record.phase, Phase::Trial { .. });
        if is_trial && matches!(event, Event::Asked { .. }) && !matches!(state.record.phase, Phase::Ended { .. }) {
            // 4, and what is refused has changed nothing.
            let is_known = going_on(state).is_some() && after.state.record == state.record;
            ensure!(is_known || after.refused.is_some() || state.record.phase == Phase::Idle, "{state:?}");
        }
        if let Some(Refused::Busy | Refused::TrialGoesOn | Refused::Held | Refused::TooLate) = after.refused {
            ensure!(after.state.record == state.record, "{event:?}");
        }
        // 5.
        if after.state.record.floors != state.record.floors {
            let is_confirmed = matches!(
                &after.state.record.phase,
                Phase::Ended { ended } if ended.outcome == Outcome::Confirmed
            );
            ensure!(is_confirmed, "{event:?} {state:?}");
        }
        pairs += 1;
    }
    Ok(pairs)
}

fn every_event(state: &State) -> Vec<Event> {
    let reason = Line::cut("x");
    let mut events = vec![
        Event::Resumed,
        Event::Tick,
        Event::Asked { source: Line::cut("2") },
        Event::Admitted(super::world::offer(2)),
        Event::Admitted(super::world::offer(3)),
        Event::NotAdmitted,
        Event::SourceFailed { reason: reason.clone(), is_final: false },
        Event::SourceFailed { reason: reason.clone(), is_final: true },
        Event::Changed(state.boots.clone()),
        Event::LoaderFailed { reason: reason.clone() },
        Event::NotReadBack { reason: reason.clone() },
        Event::StageFailed { reason: reason.clone() },
        Event::MayReboot,
        Event::MustWait,
        Event::Switched,
        Event::Healthy,
        Event::Unhealthy(Unwell { instance: None, reason }),
        Event::Damaged,
        Event::Verified { fingerprint: [1; 32], security_epoch: 1 },
        Event::Verified { fingerprint: [1; 32], security_epoch: 9 },
        Event::NotVerified,
        Event::Kept,
        Event::LogKept,
        Event::Undone,
        Event::Recorded,
        Event::UserConfirms,
        Event::UserRollsBack,
        Event::UserHolds,
        Event::UserReleases,
        Event::UserCancels,
        Event::UserAllows { release: super::world::release(2).fingerprint },
    ];
    events.extend(StagingStep::ALL.map(Event::Staged));
    for reset in
        [ResetCause::PowerOn, ResetCause::Panic, ResetCause::Watchdog, ResetCause::Asked, ResetCause::Unknown]
    {
        events.push(Event::Started { place: state.place, reset });
    }
    events
}

/// When nothing more goes wrong, it comes to rest, whatever is on the disks: with a system that is well, and with one that is not.
/// Then another start changes nothing.
pub(super) fn check_end(world: &World, is_rotting: bool, settled: &mut HashSet<u64>) -> Result<(), String> {
    for health in ["all is well", "something is not well", "the deadline passes"] {
        let mut at = World { power: Power::Off(ResetCause::PowerOn), ..world.clone() };
        if comes_to_rest(&mut at, health, settled)? == Rest::Known {
            continue;
        }
        let Power::On { state, .. } = &at.power else { return Err("it is off".to_owned()) };
        let is_held = matches!(&state.record.phase, Phase::Staged { update } if update.kind == Kind::Install)
            && state.record.is_held;
        ensure!(state.record.phase == Phase::Idle || is_held, "{state:?}\n from {:?}", world.disk);
        if !is_rotting && !at.seen.is_left && !is_held {
            check_consistent(&at, state).map_err(|error| format!("{health}: {error}\n from {:?}", world.disk))?;
        }
        let mut again = World { power: Power::Off(ResetCause::PowerOn), ..at.clone() };
        let rest = comes_to_rest(&mut again, health, &mut HashSet::new())?;
        ensure!(
            rest == Rest::Reached { reboots: 0 } && again.disk == at.disk,
            "{rest:?} {:?}\n{:?}",
            again.disk,
            at.disk
        );
    }
    Ok(())
}

/// How a board came to rest.
#[derive(Debug, PartialEq)]
enum Rest {
    Reached {
        reboots: usize,
    },
    /// It came to where another one came to rest from.
    Known,
}

fn comes_to_rest(world: &mut World, health: &str, settled: &mut HashSet<u64>) -> Result<Rest, String> {
    const FINE: &[&str] = &[
        "the system starts",
        "the boot script refills the tries",
        "the record is written",
        "the time comes",
        "the release is admitted",
        "nobody minds a reboot",
        "it reboots",
        "the other slot verifies",
        "the other slot does not verify",
        "what was before is kept",
        "the log is kept",
        "the end is recorded",
        "the history is written",
        "an image is there",
        "the rest is written",
        "the first block is written",
        "a step is done",
        "the boot loader may not",
        "the boot loader's state is written",
        "the boot loader's state is read back",
        "the images are new",
        "the images are exchanged",
        "the images are put back",
        "the images are old",
        "damage is seen",
    ];
    let mut way = Vec::new();
    let mut reboots = 0;
    let mut passed = Vec::new();
    for _ in 0..300 {
        let at = key(&(&world.disk, &world.power, world.seen.is_left, health));
        if settled.contains(&at) {
            settled.extend(passed);
            return Ok(Rest::Known);
        }
        passed.push(at);
        if let Power::On { state, action: Action::Rest, .. } = &world.power {
            if state.record == world.disk.record {
                settled.extend(passed);
                if 6 < reboots {
                    break;
                }
                return Ok(Rest::Reached { reboots });
            }
        }
        let next = world.next_by_itself();
        // Of a slot that holds no system nothing starts but a panic.
        let chosen = next
            .iter()
            .find(|next| FINE.contains(&next.what) || next.what == health)
            .or_else(|| next.iter().find(|next| next.what == "the kernel panics"));
        let Some(chosen) = chosen else { break };
        way.push(chosen.what);
        reboots += usize::from(chosen.what == "it reboots" || chosen.what == "the kernel panics");
        *world = chosen.world.clone();
    }
    Err(format!("{reboots} reboots and no rest with \"{health}\": {}: {world:?}", way.join(", ")))
}

/// System and images belong together, and are what the record says.
fn check_consistent(world: &World, state: &State) -> Result<(), String> {
    let current = state.record.current.as_ref().map_or(1, |release| release.number);
    ensure!(world.disk.instance.image == current, "{:?}", world.disk);
    let running = world.disk.slots[state.place.slot as usize];
    let is_system = current != 3;
    ensure!(!is_system || running == Content::Whole(current), "{:?}", world.disk);
    let is_known = matches!(running, Content::Whole(image) if state.place.fingerprint == Some(system_image(image)));
    ensure!(is_known, "{:?}", world.disk);
    Ok(())
}

fn walk(counting: Counting, budget: Budget) -> Walk {
    let mut walk = Walk::default();
    for b in [Content::Nothing, Content::Whole(1)] {
        walk.all_from(World::new(counting, b, budget));
    }
    let Walk { seen, disks, machine_states, transitions, pairs, phases, ends, settled: _ } = &walk;
    println!(
        "{counting:?} {budget:?}: {} boards, {} disks, {} states of the machine, {transitions} transitions, \
         {pairs} pairs of state and event\n  {phases:?}\n  {ends:?}",
        seen.len(),
        disks.len(),
        machine_states.len()
    );
    walk
}

/// The ends that must be among those that were seen: a walk that does not come there shows nothing of them.
fn assert_ends(walk: &Walk, ends: &[&str]) {
    for end in ends {
        assert!(walk.ends.contains_key(*end), "{end} is not among {:?}", walk.ends);
    }
    assert_eq!(walk.phases.len(), 11, "{:?}", walk.phases);
}

const ALWAYS: &[&str] = &[
    "confirmed",
    "cancelled",
    "failed",
    "fell back: tries-used-up",
    "fell back: panic",
    "fell back: watchdog",
    "fell back: unwell",
    "fell back: deadline",
    "fell back: user",
    "fell back: bad-starts",
];

#[test]
fn with_a_boot_loader_that_counts_no_state_breaks_an_invariant() {
    let walk = walk(Counting::Tries, Budget { asks: 1, whims: 1, rots: 0, failures: 1 });
    assert_ends(&walk, ALWAYS);
    assert_ends(&walk, &["fell back: not-started"]);
}

#[test]
fn with_a_boot_loader_that_forgets_no_state_breaks_an_invariant() {
    let walk = walk(Counting::Once, Budget { asks: 1, whims: 1, rots: 0, failures: 1 });
    assert_ends(&walk, ALWAYS);
}

#[test]
fn one_update_after_another_breaks_no_invariant() {
    for counting in [Counting::Tries, Counting::Once] {
        walk(counting, Budget { asks: 2, whims: 0, rots: 0, failures: 0 });
    }
}

#[test]
fn a_slot_that_rots_makes_it_fall_back_or_stay_and_never_reboot_for_ever() {
    for counting in [Counting::Tries, Counting::Once] {
        let walk = walk(counting, Budget { asks: 1, whims: 0, rots: 1, failures: 0 });
        for end in ["fell back: damaged", "degraded: damaged", "degraded: unwell"] {
            assert!(walk.ends.contains_key(end), "{end} is not among {:?}", walk.ends);
        }
    }
}
