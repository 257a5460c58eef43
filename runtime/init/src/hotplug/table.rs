//! What follows when devices come and go, as one table: which drivers are loaded, when instances are updated, and when the updater
//! looks at sticks.

use crate::boot_clock::Moment;
use std::time::Duration;
use yado_wire::Budget;

/// A USB stick makes a dozen events in a tenth of a second; they are answered once, after this time.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(150);

/// The most aliases that wait for drivers. If more come, all devices are looked at.
const MAX_ALIASES: usize = 64;

/// The budget of events: so many at once, as when a machine starts, and then so many a second. A container with a USB device can
/// reset it without end. Events that the kernel then drops are made up for by looking at all devices.
const EVENTS_PER_SECOND: u32 = 100;
const EVENTS_BURST: u32 = 2000;

/// How often drivers are loaded at once, and the interval after that: each time costs a process that reads the list of modules.
const LOADS_BURST: u32 = 60;
const LOADS_INTERVAL: Duration = Duration::from_secs(2);

/// Looking at all devices costs as much as loading drivers so many times.
const LOAD_ALL_COST: u32 = 10;

/// How often instances are updated at once, as when a machine starts, and the interval after that: each time costs a launcher for
/// each instance with devices.
const TELLS_BURST: u32 = 60;
const TELLS_INTERVAL: Duration = Duration::from_secs(5);

/// What is due because of devices that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hotplug {
    drivers: Drivers,
    /// When instances are updated.
    due: Option<Moment>,
    /// Before instances are: a stick came, which may be a source of updates.
    has_stick: bool,
    /// For loading drivers.
    loads: Budget,
    /// For telling instances.
    tells: Budget,
}

/// Which drivers are to be loaded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Drivers {
    /// None.
    #[default]
    None,
    /// Those for new devices with these module aliases: at least one, at most [`MAX_ALIASES`].
    For(Vec<String>),
    /// Those for all devices: too many came, or the kernel lost some events.
    ForAll,
}

/// Whether drivers may be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayLoad {
    /// Yes.
    Now,
    /// When another job is over, and not while the system goes down.
    Later,
    /// This is somebody else's machine.
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Time passed, or what `MayLoad` says has changed.
    Wake,
    /// A device came, with this module alias.
    Added { alias: &'a str, is_for_instances: bool },
    /// A device came without one, went, or changed.
    Changed { is_for_instances: bool },
    /// A disk came that hangs on USB, or one of its partitions.
    StickCame,
    /// The kernel dropped events (`ENOBUFS`): which devices came is unknown.
    Lost,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    None,
    /// Load drivers for these aliases.
    Load(Vec<String>),
    /// Load drivers for all devices.
    LoadAll,
    /// The updater is told that a stick came.
    TellUpdater,
    /// Instances are told that devices have changed.
    TellInstances,
}

/// The table. Ask it again after an action: there may be another.
pub(super) fn step(state: Hotplug, may_load: MayLoad, event: Event<'_>, now: Moment) -> (Hotplug, Action) {
    let Hotplug { drivers, due, has_stick, mut loads, mut tells } = state;
    let has_budget = loads.paused(now).is_none();
    match (event, may_load, drivers) {
        (Event::Wake, MayLoad::Now, Drivers::For(aliases)) if has_budget => {
            loads.spend(1, now);
            (Hotplug { drivers: Drivers::None, due, has_stick, loads, tells }, Action::Load(aliases))
        }
        (Event::Wake, MayLoad::Now, Drivers::ForAll) if has_budget => {
            loads.spend(LOAD_ALL_COST, now);
            (Hotplug { drivers: Drivers::None, due, has_stick, loads, tells }, Action::LoadAll)
        }
        (Event::Wake, MayLoad::Now | MayLoad::Later | MayLoad::Never, drivers) => match due {
            // It has the budget of the instances, which are told then.
            Some(at) if at <= now && has_stick => {
                (Hotplug { drivers, due, has_stick: false, loads, tells }, Action::TellUpdater)
            }
            Some(at) if at <= now => {
                tells.spend(1, now);
                (Hotplug { drivers, due: None, has_stick, loads, tells }, Action::TellInstances)
            }
            Some(_) | None => (Hotplug { drivers, due, has_stick, loads, tells }, Action::None),
        },
        (Event::Added { alias, is_for_instances }, MayLoad::Now | MayLoad::Later, drivers) => {
            let due = due_after(due, is_for_instances, &tells, now);
            (Hotplug { drivers: drivers.and(alias), due, has_stick, loads, tells }, Action::None)
        }
        (Event::Added { is_for_instances, .. }, MayLoad::Never, drivers)
        | (Event::Changed { is_for_instances }, MayLoad::Now | MayLoad::Later | MayLoad::Never, drivers) => {
            let due = due_after(due, is_for_instances, &tells, now);
            (Hotplug { drivers, due, has_stick, loads, tells }, Action::None)
        }
        (Event::Lost, MayLoad::Now | MayLoad::Later, _) => {
            let due = due_after(due, true, &tells, now);
            (Hotplug { drivers: Drivers::ForAll, due, has_stick: true, loads, tells }, Action::None)
        }
        (Event::Lost, MayLoad::Never, drivers) | (Event::StickCame, _, drivers) => {
            let due = due_after(due, true, &tells, now);
            (Hotplug { drivers, due, has_stick: true, loads, tells }, Action::None)
        }
    }
}

impl Drivers {
    fn and(self, alias: &str) -> Drivers {
        let mut aliases = match self {
            Drivers::ForAll => return Drivers::ForAll,
            Drivers::For(aliases) => aliases,
            Drivers::None => Vec::new(),
        };
        if aliases.iter().any(|known| known == alias) {
            return Drivers::For(aliases);
        }
        if MAX_ALIASES <= aliases.len() {
            return Drivers::ForAll;
        }
        aliases.push(alias.to_owned());
        Drivers::For(aliases)
    }
}

/// When instances are updated. The first of several events sets the time, later if instances were updated often.
fn due_after(due: Option<Moment>, is_for_instances: bool, tells: &Budget, now: Moment) -> Option<Moment> {
    let at = now.saturating_add(DEBOUNCE);
    due.or_else(|| is_for_instances.then(|| tells.paused(now).map_or(at, |paused| paused.max(at))))
}

impl Default for Hotplug {
    fn default() -> Hotplug {
        let loads = Budget::each(LOADS_BURST, LOADS_INTERVAL);
        let tells = Budget::each(TELLS_BURST, TELLS_INTERVAL);
        Hotplug { drivers: Drivers::None, due: None, has_stick: false, loads, tells }
    }
}

impl Hotplug {
    /// When something is to be done.
    pub(crate) fn deadline(&self, now: Moment) -> Option<Moment> {
        // Where another job is in the way its end wakes us.
        let loads = self.loads.paused(now).filter(|_| self.drivers != Drivers::None);
        self.due.into_iter().chain(loads).min()
    }
}

/// The budget of the kernel's events.
pub(crate) const fn event_budget() -> Budget {
    Budget::per_second(EVENTS_PER_SECOND, EVENTS_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Moment {
        Moment::from_millis(milliseconds)
    }

    fn after(state: Hotplug, may_load: MayLoad, events: &[Event<'_>]) -> Hotplug {
        events.iter().fold(state, |state, event| {
            let (state, action) = step(state, may_load, *event, ms(0));
            assert_eq!(action, Action::None, "{event:?}");
            state
        })
    }

    const CAMERA: Event<'_> = Event::Added { alias: "usb:camera", is_for_instances: true };

    #[test]
    fn a_new_device_gets_its_driver_when_it_can_and_instances_hear_of_it_once() {
        let seen = after(Hotplug::default(), MayLoad::Later, &[CAMERA, CAMERA, Event::Wake]);
        let (seen, action) = step(seen, MayLoad::Now, Event::Wake, ms(10));
        assert_eq!(action, Action::Load(vec!["usb:camera".to_owned()]));
        assert_eq!(step(seen.clone(), MayLoad::Later, Event::Wake, ms(149)), (seen.clone(), Action::None));
        let (told, action) = step(seen, MayLoad::Later, Event::Wake, ms(150));
        assert_eq!((told.drivers, told.due, action), (Drivers::None, None, Action::TellInstances));
    }

    #[test]
    fn what_was_lost_or_came_in_too_great_a_number_is_found_by_looking_at_all() {
        let names: Vec<String> = (0..=MAX_ALIASES).map(|number| format!("platform:{number}")).collect();
        let many: Vec<_> = names.iter().map(|alias| Event::Added { alias, is_for_instances: false }).collect();
        let fits = after(Hotplug::default(), MayLoad::Later, many.split_last().map_or(&[], |(_, rest)| rest));
        assert!(matches!(&fits.drivers, Drivers::For(aliases) if aliases.len() == MAX_ALIASES));
        assert_eq!(fits.due, None, "no instance has a platform device without a node");
        let over = after(fits, MayLoad::Later, many.last().map_or(&[], std::slice::from_ref));
        assert_eq!(over.drivers, Drivers::ForAll);
        let lost = after(Hotplug::default(), MayLoad::Now, &[CAMERA, Event::Lost, CAMERA]);
        let (lost, action) = step(lost, MayLoad::Now, Event::Wake, ms(0));
        assert_eq!((lost.drivers, action), (Drivers::None, Action::LoadAll));
    }

    #[test]
    fn on_a_host_nothing_is_ever_loaded_and_instances_hear_of_devices_all_the_same() {
        let events = [CAMERA, Event::Changed { is_for_instances: false }, Event::Wake];
        let seen = after(Hotplug::default(), MayLoad::Never, &events);
        assert_eq!(seen, Hotplug { due: Some(DEBOUNCE), ..Hotplug::default() });
        assert_eq!(step(seen, MayLoad::Never, Event::Wake, DEBOUNCE).1, Action::TellInstances);
    }

    #[test]
    fn the_updater_hears_of_a_stick_once_and_of_one_that_may_have_come() {
        let plugged_in = [CAMERA, Event::StickCame, Event::StickCame, Event::Wake];
        for (events, may_load) in [
            (&plugged_in[..], MayLoad::Never),
            (&plugged_in, MayLoad::Later),
            (&[Event::Lost], MayLoad::Never),
            (&[Event::Lost], MayLoad::Later),
        ] {
            let seen = after(Hotplug::default(), may_load, events);
            assert_eq!(step(seen.clone(), may_load, Event::Wake, ms(149)).1, Action::None);
            let (seen, action) = step(seen, may_load, Event::Wake, DEBOUNCE);
            assert_eq!(action, Action::TellUpdater, "{events:?}");
            let (seen, action) = step(seen, may_load, Event::Wake, DEBOUNCE);
            assert_eq!((action, seen.due), (Action::TellInstances, None), "{events:?}");
        }
    }

    /// How often drivers were loaded and instances told from `from` to `until` if each `event` came again every 10 ms.
    fn done(state: &mut Hotplug, event: Event<'_>, from: Moment, until: Moment) -> (u32, u32) {
        let (mut loads, mut tells, mut sticks, mut now) = (0, 0, 0, from);
        while now < until {
            let mut next = event;
            loop {
                let (after, action) = step(std::mem::take(state), MayLoad::Now, next, now);
                *state = after;
                match action {
                    Action::None if next == Event::Wake => break,
                    Action::None => {}
                    Action::Load(_) | Action::LoadAll => loads += 1,
                    Action::TellInstances => tells += 1,
                    Action::TellUpdater => sticks += 1,
                }
                next = Event::Wake;
            }
            now = now.saturating_add(ms(10));
        }
        // The updater hears of sticks no more often than instances do.
        assert_eq!(sticks, if matches!(event, Event::StickCame | Event::Lost) { tells } else { 0 });
        (loads, tells)
    }

    #[test]
    fn a_device_that_comes_and_goes_without_end_costs_little_and_a_quiet_time_makes_good_for_it() {
        let (mut reset, mut lost, mut stick) = (Hotplug::default(), Hotplug::default(), Hotplug::default());
        let (first, hour) = (ms(60_000), ms(3_600_000));
        // At first as soon as ever; then drivers every two seconds, or all every twenty, and instances every five.
        assert!(matches!(done(&mut reset, CAMERA, ms(0), first), (60..=92, 60..=73)));
        assert!(matches!(done(&mut lost, Event::Lost, ms(0), first), (6..=10, 60..=73)));
        assert!(matches!(done(&mut stick, Event::StickCame, ms(0), first), (0, 60..=73)));
        assert!(matches!(done(&mut reset, CAMERA, first, hour), (1700..=1800, 700..=720)));
        assert!(matches!(done(&mut lost, Event::Lost, first, hour), (170..=180, 700..=720)));
        // What waits is done when there is budget again, though nothing comes.
        let waiting = step(reset, MayLoad::Later, CAMERA, hour).0;
        let at = waiting.deadline(hour).unwrap();
        assert!(hour < at && at <= hour.saturating_add(ms(5000)), "{at:?}");
        let later = ms(7_200_000);
        let quiet = step(waiting, MayLoad::Now, Event::Wake, later).0;
        let quiet = step(step(quiet, MayLoad::Now, Event::Wake, later).0, MayLoad::Now, CAMERA, later).0;
        assert_eq!(quiet.deadline(later), Some(later.saturating_add(DEBOUNCE)));
        assert!(matches!(step(quiet, MayLoad::Now, Event::Wake, later).1, Action::Load(_)));
    }
}
