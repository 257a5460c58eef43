//! The stages of a shutdown as one table. Every stage has a deadline that nobody can extend, so the whole has one, too: after at
//! most 214 s a board restarts or powers off, and a hosted init has ended, whatever is left.

use crate::boot_clock::Moment;
use crate::last_reset::Asked;
use crate::process::KILLED_LIMIT;
use std::time::Duration;
use yado_wire::names::RebootArgument;
use yado_wire::rescue::Mode;

/// All instances together have no longer than this to end by themselves, however long each might take: a board that was
/// told to restart is expected back within minutes.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);

/// Services are asked and then killed by their own table, each step in 5 s.
const SERVICES_LIMIT: Duration = Duration::from_secs(11);

/// How long what is neither an instance nor a service (a rescue shell, a repair of a file system, an orphan) may take to
/// end when it is asked.
const ASKED_LIMIT: Duration = Duration::from_secs(3);

/// What is still there is killed again: it may have been about to fork.
const KILL_AGAIN: Duration = Duration::from_millis(200);

/// How long unmounting and writing back may take: 64 MiB at 2 MB/s, a slow card, take half of it.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// The kernel refused to end the machine: it is asked again.
const END_AGAIN: Duration = Duration::from_secs(20);

/// What is wanted in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    Reboot,
    /// With this argument for the boot loader.
    RebootWith(RebootArgument),
    PowerOff,
    /// The process ends (hosted).
    Exit,
}

/// A shutdown on its way.
#[derive(Debug)]
pub(crate) struct Shutdown {
    pub(super) goal: Goal,
    /// Who asked for it last.
    pub(super) asked: Asked,
    pub(super) stage: Stage,
}

impl Shutdown {
    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        Some(self.stage.deadline())
    }
}

/// How far a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Instances end, dependents first, each in its own time. `kill_at`: the time of all is over.
    Instances { kill_at: Moment },
    /// Those that were left are killed.
    InstancesKilled { until: Moment },
    /// Services end.
    Services { until: Moment },
    /// All other processes were asked to end.
    OthersAsked { kill_at: Moment },
    /// They are killed.
    OthersKilled { until: Moment, again_at: Moment },
    /// A child unmounts the file systems and writes back what is not on the disks yet.
    Flushing { until: Moment },
    /// It is over. `again_at`: and if the machine still runs, that is said once more.
    Over { again_at: Moment },
}

/// What still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remaining {
    /// An instance that is not stopped.
    pub(crate) instances: bool,
    /// A service that has not ended.
    pub(crate) services: bool,
    /// Any process that is ours to end.
    pub(crate) processes: bool,
    /// The child that syncs and unmounts has not ended.
    pub(crate) flush: bool,
}

impl Remaining {
    /// Whether a stage still has something to wait for.
    pub(crate) fn is_of(self, stage: Stage) -> bool {
        match stage {
            Stage::Instances { .. } | Stage::InstancesKilled { .. } => self.instances,
            Stage::Services { .. } => self.services,
            Stage::OthersAsked { .. } | Stage::OthersKilled { .. } => self.processes,
            Stage::Flushing { .. } => self.flush,
            Stage::Over { .. } => true,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Kill all instances.
    KillInstances,
    /// Task all processes to end.
    AskOthers,
    /// Kill all processes.
    KillOthers,
    /// Unmount and write back, in a child.
    Flush,
    /// End the machine, or this process.
    End,
}

impl Stage {
    /// The first stage, for instances that may take so long one after the other.
    pub(crate) fn first(timeout: Duration, now: Moment) -> Stage {
        Stage::Instances { kill_at: now.saturating_add(timeout.min(MAX_TIMEOUT)) }
    }

    /// When something is to be done though nothing happens.
    pub(crate) fn deadline(self) -> Moment {
        match self {
            Stage::Instances { kill_at } | Stage::OthersAsked { kill_at } => kill_at,
            Stage::InstancesKilled { until } | Stage::Services { until } | Stage::Flushing { until } => until,
            Stage::OthersKilled { until, again_at } => until.min(again_at),
            Stage::Over { again_at } => again_at,
        }
    }

    /// Whether services have to end.
    pub(crate) fn is_after_instances(self) -> bool {
        match self {
            Stage::Instances { .. } | Stage::InstancesKilled { .. } => false,
            Stage::Services { .. }
            | Stage::OthersAsked { .. }
            | Stage::OthersKilled { .. }
            | Stage::Flushing { .. }
            | Stage::Over { .. } => true,
        }
    }
}

/// The table. After a change it is to be asked again: what is not there is not waited for.
pub(crate) fn step(stage: Stage, left: Remaining, mode: Mode, now: Moment) -> (Stage, Action) {
    let after = |limit| now.saturating_add(limit);
    match stage {
        Stage::Instances { .. } | Stage::InstancesKilled { .. } if !left.is_of(stage) => {
            (Stage::Services { until: after(SERVICES_LIMIT) }, Action::None)
        }
        Stage::Instances { kill_at } if kill_at <= now => {
            (Stage::InstancesKilled { until: after(KILLED_LIMIT) }, Action::KillInstances)
        }
        Stage::InstancesKilled { until } if until <= now => {
            (Stage::Services { until: after(SERVICES_LIMIT) }, Action::None)
        }
        Stage::Services { until } if !left.is_of(stage) || until <= now => {
            (Stage::OthersAsked { kill_at: after(ASKED_LIMIT) }, Action::AskOthers)
        }
        Stage::OthersAsked { .. } | Stage::OthersKilled { .. } if !left.is_of(stage) => flush(mode, now),
        Stage::OthersAsked { kill_at } if kill_at <= now => {
            (Stage::OthersKilled { until: after(KILLED_LIMIT), again_at: after(KILL_AGAIN) }, Action::KillOthers)
        }
        Stage::OthersKilled { until, .. } if until <= now => flush(mode, now),
        Stage::OthersKilled { until, again_at } if again_at <= now => {
            (Stage::OthersKilled { until, again_at: after(KILL_AGAIN) }, Action::KillOthers)
        }
        Stage::Flushing { until } if !left.is_of(stage) || until <= now => {
            (Stage::Over { again_at: after(END_AGAIN) }, Action::End)
        }
        Stage::Over { again_at } if again_at <= now => (Stage::Over { again_at: after(END_AGAIN) }, Action::End),
        Stage::Instances { .. }
        | Stage::InstancesKilled { .. }
        | Stage::Services { .. }
        | Stage::OthersAsked { .. }
        | Stage::OthersKilled { .. }
        | Stage::Flushing { .. }
        | Stage::Over { .. } => (stage, Action::None),
    }
}

/// On a host the file systems are not ours.
fn flush(mode: Mode, now: Moment) -> (Stage, Action) {
    match mode {
        Mode::System => (Stage::Flushing { until: now.saturating_add(FLUSH_LIMIT) }, Action::Flush),
        Mode::Hosted => (Stage::Over { again_at: now.saturating_add(END_AGAIN) }, Action::End),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Remaining = Remaining { instances: false, services: false, processes: false, flush: false };
    const ALL: Remaining = Remaining { instances: true, services: true, processes: true, flush: true };

    /// No shutdown takes longer.
    const MAX_DURATION: Duration = MAX_TIMEOUT
        .saturating_add(KILLED_LIMIT)
        .saturating_add(SERVICES_LIMIT)
        .saturating_add(ASKED_LIMIT)
        .saturating_add(KILLED_LIMIT)
        .saturating_add(FLUSH_LIMIT);

    /// Every action with the time at which it came, while nothing changes but the time.
    fn actions(left: Remaining, mode: Mode, timeout: Duration) -> Vec<(Moment, Action)> {
        let mut now = Moment::from_secs(1000);
        let mut stage = Stage::first(timeout, now);
        let mut actions = Vec::new();
        loop {
            let before = stage;
            let (next, action) = step(stage, left, mode, now);
            stage = next;
            if action != Action::None {
                actions.push((now - Moment::from_secs(1000), action));
            }
            if action == Action::End {
                return actions;
            }
            if stage == before {
                assert!(now < stage.deadline(), "{stage:?} spins");
                now = stage.deadline();
            }
        }
    }

    #[test]
    fn where_nothing_is_left_nothing_is_waited_for() {
        let none = Duration::ZERO;
        let at_once = |list: &[Action]| list.iter().map(|action| (none, *action)).collect::<Vec<_>>();
        assert_eq!(actions(NOTHING, Mode::Hosted, none), at_once(&[Action::AskOthers, Action::End]));
        let system = [Action::AskOthers, Action::Flush, Action::End];
        assert_eq!(actions(NOTHING, Mode::System, Duration::from_secs(900)), at_once(&system));
    }

    #[test]
    fn what_never_ends_is_asked_killed_and_left_and_the_machine_ends_in_time() {
        // Somebody gave an instance an hour.
        let seen = actions(ALL, Mode::System, Duration::from_secs(3600));
        let first = |wanted: Action| seen.iter().find(|(_, action)| *action == wanted).map(|(at, _)| at.as_secs());
        assert_eq!(first(Action::KillInstances), Some(120));
        assert_eq!(first(Action::AskOthers), Some(120 + 10 + 11));
        assert_eq!(first(Action::KillOthers), Some(120 + 10 + 11 + 3));
        assert_eq!(first(Action::Flush), Some(120 + 10 + 11 + 3 + 10));
        assert_eq!(first(Action::End), Some(MAX_DURATION.as_secs()));
        assert_eq!(MAX_DURATION, Duration::from_secs(214), "as the CHANGELOG says");
        let kills = seen.iter().filter(|(_, action)| *action == Action::KillOthers).count();
        assert_eq!(kills, 50, "every 200 ms for 10 s");
        let hosted = actions(ALL, Mode::Hosted, Duration::from_secs(5));
        assert_eq!(hosted.last().map(|(at, _)| at.as_secs()), Some(5 + 10 + 11 + 3 + 10));
    }

    #[test]
    fn each_stage_ends_as_soon_as_what_it_waits_for_is_gone() {
        let now = Moment::from_secs(7);
        let at = |seconds| now + Duration::from_secs(seconds);
        let rest = Remaining { instances: false, services: true, ..ALL };
        let table = [
            (Stage::Instances { kill_at: at(9) }, rest, Stage::Services { until: at(11) }, Action::None),
            (Stage::InstancesKilled { until: at(9) }, rest, Stage::Services { until: at(11) }, Action::None),
            (
                Stage::Services { until: at(9) },
                Remaining { services: false, ..rest },
                Stage::OthersAsked { kill_at: at(3) },
                Action::AskOthers,
            ),
            (
                Stage::OthersKilled { until: at(9), again_at: now },
                Remaining { processes: false, ..rest },
                Stage::Flushing { until: at(60) },
                Action::Flush,
            ),
            (
                Stage::Flushing { until: at(9) },
                Remaining { flush: false, ..ALL },
                Stage::Over { again_at: at(20) },
                Action::End,
            ),
            (Stage::Over { again_at: now }, ALL, Stage::Over { again_at: at(20) }, Action::End),
            (Stage::Over { again_at: at(1) }, ALL, Stage::Over { again_at: at(1) }, Action::None),
        ];
        for (stage, left, next, action) in table {
            assert_eq!(step(stage, left, Mode::System, now), (next, action), "{stage:?}");
        }
    }
}
