//! The updater: no daemon, but a program that works and ends. It is started at boot and whenever a time that it named is over, to go
//! on with what it began (`yado-updater resume`), and on request (`yado-updater run WORDS…`). One runs at a time. Its life is one
//! table here; [`process`] does what it says.

pub(crate) mod group;
mod next_start;
mod process;
mod trial;

use crate::boot_clock::Moment;
use crate::process::Output;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The updater's name: in the log, among the services of a status, and of its directory in the runtime directory.
pub(crate) const NAME: &str = "updater";

/// How long it may take to end when it is asked, as at a shutdown. Less than the services have there, so that all of it is over
/// when the data partition is to be unmounted. Whatever it does, a power cut may come at any time: to be killed is no harm.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// The pauses before one that crashed while it went on is started again. After as many it is left alone until the next boot or the
/// next request: what crashes so often would go on crashing, and use up the flash with it.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does not run. It is started at `resume_at`, after so many crashes in a row.
    Idle { resume_at: Option<Moment>, crashes: u8 },
    /// It goes on with what it began, after so many crashes in a row. It is resumed once more at `resume_at`, or earlier if it says so.
    Resuming { crashes: u8, resume_at: Option<Moment> },
    /// It does what somebody asked for. It is resumed at `resume_at`, or earlier if it says so.
    Running { resume_at: Option<Moment> },
    /// It was asked to end. It is resumed at `resume_at`, or earlier if it says so.
    Stopping { kill_at: Moment, resume_at: Option<Moment> },
}

/// Whether it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Allowed,
    /// The system shuts down.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed, or what is wanted changed.
    Wake,
    /// The system has come so far that it can go on with what it began.
    MayResume,
    /// A stick was plugged in, which may be a source.
    StickCame,
    /// Somebody wants it for something.
    RunAsked,
    /// It was started for somebody.
    RunStarted,
    /// Somebody asks it to end.
    StopAsked,
    /// It has ended, and wants to be started again after this time.
    Ended { how: End, next_start: Option<Duration> },
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With an exit code: it knew what it did.
    Exit,
    /// Killed by a signal, or it could not be started.
    Crash,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    /// Start it to go on with what it began.
    Resume,
    /// Send it `SIGTERM`.
    Terminate,
    /// Kill it and all that it started.
    Kill,
    /// Tell that it is not started again by itself.
    TellGivenUp,
}

/// Which state follows, and what is to be done.
pub(crate) fn step(state: State, wanted: Wanted, event: Event, now: Moment) -> (State, Action) {
    use {Event::*, State::*, Wanted::*};
    let after = |pause| Some(now.saturating_add(pause));
    match (state, wanted, event) {
        (Idle { resume_at: Some(at), crashes }, Allowed, Wake) if at <= now => {
            (Resuming { crashes, resume_at: None }, Action::Resume)
        }
        (Idle { .. }, _, MayResume) => (Idle { resume_at: Some(now), crashes: 0 }, Action::None),
        (Idle { crashes: 0, .. }, _, StickCame) => (Idle { resume_at: Some(now), crashes: 0 }, Action::None),
        // Somebody was faster: it goes on when that is done.
        (Running { .. }, _, MayResume | StickCame) => (Running { resume_at: Some(now) }, Action::None),
        // It may have looked already.
        (Resuming { crashes, .. }, _, StickCame) => (Resuming { crashes, resume_at: Some(now) }, Action::None),
        (Stopping { kill_at, .. }, Allowed, StickCame) => (Stopping { kill_at, resume_at: Some(now) }, Action::None),
        (Idle { resume_at, .. }, _, RunStarted) => (Running { resume_at }, Action::None),
        (Resuming { .. } | Running { .. }, Stopped, Wake) | (Resuming { .. } | Running { .. }, _, StopAsked) => {
            (Stopping { kill_at: now.saturating_add(STOP_GRACE), resume_at: None }, Action::Terminate)
        }
        // What it goes on with by itself can wait: whoever asks does not have to ask again, and it is resumed afterwards.
        (Resuming { .. }, _, RunAsked) => {
            (Stopping { kill_at: now.saturating_add(STOP_GRACE), resume_at: Some(now) }, Action::Terminate)
        }
        (Resuming { crashes, .. }, _, Ended { how: End::Crash, .. }) => match PAUSES.get(usize::from(crashes)) {
            Some(pause) => (Idle { resume_at: after(*pause), crashes: crashes.saturating_add(1) }, Action::None),
            // Kept, so that no stick that comes starts it.
            None => (Idle { resume_at: None, crashes: crashes.saturating_add(1) }, Action::TellGivenUp),
        },
        (Running { resume_at } | Stopping { resume_at, .. }, _, Ended { next_start, .. })
        | (Resuming { resume_at, .. }, _, Ended { how: End::Exit, next_start }) => {
            // What was due comes no later because it has named another time besides.
            let named = next_start.and_then(after);
            (Idle { resume_at: named.into_iter().chain(resume_at).min(), crashes: 0 }, Action::None)
        }
        (Stopping { kill_at, resume_at }, _, Wake) if kill_at <= now => {
            (Stopping { kill_at: now.saturating_add(STOP_GRACE), resume_at }, Action::Kill)
        }
        // After a crash its pause is kept, whatever comes: it looks then.
        (Idle { .. }, _, StickCame | Wake | StopAsked | RunAsked | Ended { .. })
        | (Resuming { .. } | Running { .. }, Allowed, Wake)
        | (Resuming { .. } | Running { .. }, _, RunStarted)
        | (Running { .. }, _, RunAsked)
        | (Resuming { .. }, _, MayResume)
        | (Stopping { .. }, _, Wake | MayResume | StickCame | RunAsked | RunStarted | StopAsked) => {
            (state, Action::None)
        }
    }
}

/// The updater, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Updater {
    pub(crate) state: State,
    /// Process id and pidfd.
    pub(crate) process: Option<(i32, OwnedFd)>,
    /// What it prints, which becomes lines of the log.
    pub(crate) output: Option<Output>,
    /// When the trial of the system that runs must be over.
    trial_ends: Option<Moment>,
    /// How often it was started since init was.
    starts: u32,
    /// Its words, for who asks while it runs.
    words: String,
}

impl Updater {
    /// It does not run, and nobody asked for it.
    pub(crate) fn new() -> Updater {
        Updater {
            state: State::Idle { resume_at: None, crashes: 0 },
            process: None,
            output: None,
            trial_ends: None,
            starts: 0,
            words: String::new(),
        }
    }

    /// It is this process.
    pub(crate) fn is(&self, pid: i32) -> bool {
        self.process.as_ref().is_some_and(|(own, _)| *own == pid)
    }

    /// When it wants to be woken.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let of_process = match self.state {
            State::Idle { resume_at, .. } => resume_at,
            State::Resuming { .. } | State::Running { .. } => None,
            State::Stopping { kill_at, .. } => Some(kill_at),
        };
        of_process.into_iter().chain(self.trial_ends).min()
    }

    /// It was asked to end, and has not.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. })
    }

    /// It was started since init was.
    pub(crate) fn has_run(&self) -> bool {
        self.starts != 0
    }

    /// It has not ended.
    pub(crate) fn is_active(&self) -> bool {
        match self.state {
            State::Idle { .. } => false,
            State::Resuming { .. } | State::Running { .. } | State::Stopping { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn ended(how: End, next_s: Option<u64>) -> Event {
        Event::Ended { how, next_start: next_s.map(Duration::from_secs) }
    }

    const IDLE: State = State::Idle { resume_at: None, crashes: 0 };

    const fn due(at: Moment) -> State {
        State::Idle { resume_at: Some(at), crashes: 0 }
    }

    #[test]
    fn it_is_started_when_its_time_has_come_and_not_before() {
        let due = State::Idle { resume_at: Some(s(10)), crashes: 0 };
        assert_eq!(step(due, Wanted::Allowed, Event::Wake, s(9)), (due, Action::None));
        let (running, action) = step(due, Wanted::Allowed, Event::Wake, s(10));
        assert_eq!(action, Action::Resume);
        // It says when again, or that is all.
        assert_eq!(step(running, Wanted::Allowed, ended(End::Exit, None), s(11)), (IDLE, Action::None));
        let again = State::Idle { resume_at: Some(s(71)), crashes: 0 };
        assert_eq!(step(running, Wanted::Allowed, ended(End::Exit, Some(60)), s(11)), (again, Action::None));
        assert_eq!(step(due, Wanted::Stopped, Event::Wake, s(99)), (due, Action::None));
        assert_eq!(step(IDLE, Wanted::Allowed, Event::Wake, s(99)), (IDLE, Action::None), "nobody polls");
    }

    #[test]
    fn what_is_asked_for_begins_at_once_and_does_not_lose_what_was_due() {
        let due = State::Idle { resume_at: Some(s(3600)), crashes: 2 };
        let (running, action) = step(due, Wanted::Allowed, Event::RunStarted, s(10));
        assert_eq!(action, Action::None);
        assert_eq!(step(running, Wanted::Allowed, Event::Wake, s(3600)), (running, Action::None), "one at a time");
        let (idle, _) = step(running, Wanted::Allowed, ended(End::Exit, None), s(12));
        assert_eq!(idle, State::Idle { resume_at: Some(s(3600)), crashes: 0 });
        let (idle, _) = step(running, Wanted::Allowed, ended(End::Crash, Some(5)), s(12));
        assert_eq!(idle, State::Idle { resume_at: Some(s(17)), crashes: 0 });
        let (idle, _) = step(running, Wanted::Allowed, ended(End::Exit, Some(9000)), s(12));
        assert_eq!(idle, State::Idle { resume_at: Some(s(3600)), crashes: 0 });
    }

    #[test]
    fn at_boot_it_goes_on_at_once_or_after_what_somebody_asked_for_before() {
        let due = State::Idle { resume_at: Some(s(5)), crashes: 0 };
        assert_eq!(step(IDLE, Wanted::Allowed, Event::MayResume, s(5)), (due, Action::None));
        let (asked, _) = step(IDLE, Wanted::Allowed, Event::RunStarted, s(4));
        let (asked, action) = step(asked, Wanted::Allowed, Event::MayResume, s(5));
        assert_eq!(action, Action::None);
        assert_eq!(step(asked, Wanted::Allowed, Event::Wake, s(6)), (asked, Action::None), "one at a time");
        let (idle, _) = step(asked, Wanted::Allowed, ended(End::Exit, None), s(7));
        assert_eq!(step(idle, Wanted::Allowed, Event::Wake, s(7)).1, Action::Resume);
    }

    #[test]
    fn what_goes_on_by_itself_makes_way_for_what_somebody_asks_and_is_resumed_afterwards() {
        let (stopping, action) =
            step(State::Resuming { crashes: 1, resume_at: None }, Wanted::Allowed, Event::RunAsked, s(5));
        assert_eq!(action, Action::Terminate);
        assert_eq!(step(stopping, Wanted::Allowed, Event::Wake, s(13)).1, Action::Kill);
        let (idle, _) = step(stopping, Wanted::Allowed, ended(End::Crash, None), s(6));
        let (asked, _) = step(idle, Wanted::Allowed, Event::RunStarted, s(6));
        let (again, _) = step(asked, Wanted::Allowed, ended(End::Exit, None), s(7));
        // Also where whoever asked has gone away meanwhile, and where it has named a time for something else.
        let (later, _) = step(stopping, Wanted::Allowed, ended(End::Crash, Some(3600)), s(6));
        for idle in [idle, again, later] {
            assert_eq!(step(idle, Wanted::Allowed, Event::Wake, s(7)).1, Action::Resume);
        }
        // What somebody else asked for does not.
        let running = State::Running { resume_at: None };
        assert_eq!(step(running, Wanted::Allowed, Event::RunAsked, s(5)), (running, Action::None));
    }

    #[test]
    fn a_stick_is_looked_at_at_once_or_after_what_goes_on_and_shortens_no_pause_of_one_that_crashed() {
        let due = State::Idle { resume_at: Some(s(5)), crashes: 0 };
        let later = State::Idle { resume_at: Some(s(3600)), crashes: 0 };
        for idle in [IDLE, later] {
            assert_eq!(step(idle, Wanted::Allowed, Event::StickCame, s(5)), (due, Action::None));
        }
        let going_on = [State::Resuming { crashes: 0, resume_at: None }, State::Running { resume_at: None }];
        let stopping = step(going_on[0], Wanted::Allowed, Event::StopAsked, s(4)).0;
        for at_work in [going_on[0], going_on[1], stopping] {
            let (at_work, action) = step(at_work, Wanted::Allowed, Event::StickCame, s(5));
            assert_eq!(action, Action::None);
            let (idle, _) = step(at_work, Wanted::Allowed, ended(End::Exit, Some(3600)), s(6));
            assert_eq!(idle, due, "{at_work:?}");
        }
        // What somebody asks for comes first all the same.
        let (resuming, _) = step(going_on[0], Wanted::Allowed, Event::StickCame, s(5));
        let (stopping, action) = step(resuming, Wanted::Allowed, Event::RunAsked, s(5));
        assert_eq!(action, Action::Terminate);
        let (idle, _) = step(stopping, Wanted::Allowed, ended(End::Exit, None), s(6));
        let (asked, _) = step(idle, Wanted::Allowed, Event::RunStarted, s(6));
        assert_eq!(asked, State::Running { resume_at: Some(s(5)) });
        let crashed = State::Idle { resume_at: Some(s(600)), crashes: 3 };
        assert_eq!(step(crashed, Wanted::Allowed, Event::StickCame, s(5)), (crashed, Action::None));
        let (idle, _) = step(resuming, Wanted::Allowed, ended(End::Crash, None), s(6));
        assert_eq!(idle, State::Idle { resume_at: Some(s(7)), crashes: 1 });
    }

    #[test]
    fn one_that_crashes_as_it_goes_on_comes_back_later_each_time_and_not_for_ever() {
        let mut state = State::Idle { resume_at: Some(s(0)), crashes: 0 };
        let (mut now, mut pauses) = (s(0), Vec::new());
        loop {
            let (running, action) = step(state, Wanted::Allowed, Event::Wake, now);
            assert_eq!(action, Action::Resume);
            // What it left for its next start does not make it come sooner, or at all.
            let (idle, action) = step(running, Wanted::Allowed, ended(End::Crash, Some(0)), now);
            let State::Idle { resume_at: Some(at), .. } = idle else {
                assert_eq!(action, Action::TellGivenUp);
                // A stick does not start it, and a request does.
                assert_eq!(step(idle, Wanted::Allowed, Event::StickCame, now), (idle, Action::None));
                let (asked, _) = step(idle, Wanted::Allowed, Event::RunStarted, now);
                assert_eq!(step(asked, Wanted::Allowed, ended(End::Exit, None), now).0, IDLE);
                assert_eq!(step(IDLE, Wanted::Allowed, Event::StickCame, now).0, due(now));
                break;
            };
            pauses.push((at - now).as_secs());
            (state, now) = (idle, at);
        }
        assert_eq!(pauses, [1, 10, 60, 600]);
        // What somebody asked for is not started again.
        let run = State::Running { resume_at: None };
        assert_eq!(step(run, Wanted::Allowed, ended(End::Crash, None), s(1)), (IDLE, Action::None));
    }

    #[test]
    fn it_is_asked_to_end_then_killed_and_that_is_over_before_the_services_are() {
        for running in [State::Running { resume_at: Some(s(500)) }, State::Resuming { crashes: 0, resume_at: None }] {
            assert_eq!(step(running, Wanted::Stopped, Event::StopAsked, s(1)).1, Action::Terminate);
            let (stopping, action) = step(running, Wanted::Stopped, Event::Wake, s(1));
            assert_eq!((stopping, action), (State::Stopping { kill_at: s(9), resume_at: None }, Action::Terminate));
            assert_eq!(step(stopping, Wanted::Stopped, Event::Wake, s(8)), (stopping, Action::None));
            assert_eq!(step(stopping, Wanted::Stopped, Event::StopAsked, s(8)), (stopping, Action::None));
            assert_eq!(step(stopping, Wanted::Stopped, Event::Wake, s(9)).1, Action::Kill);
            assert_eq!(step(stopping, Wanted::Stopped, ended(End::Crash, None), s(9)), (IDLE, Action::None));
        }
    }
}
