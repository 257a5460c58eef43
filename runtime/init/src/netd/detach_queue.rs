//! Ended runs of which netd has not been told yet, as one table: one request at a time, repeated until it is answered.

use crate::boot_clock::Moment;
use std::collections::VecDeque;
use std::time::Duration;
use yado_wire::{InstanceId, RunNumber};

/// A netd that is being started again is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A netd that has not answered after this long is asked again: taking a link away takes it milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// As many instances as there can be at a time. Those that come and go while netd hangs may be more.
const MAX_QUEUED: usize = yado_wire::MAX_INSTANCES;

/// A run that is over.
pub(crate) type EndedRun = (InstanceId, RunNumber);

/// What is to be told, and where the first of it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct DetachQueue {
    runs: VecDeque<EndedRun>,
    question: Question,
}

/// The question about the first of the queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// It was not asked.
    #[default]
    None,
    /// It was asked; the answer is waited for until then.
    Asked { until: Moment },
    /// There was no answer; it is asked again.
    Waiting { until: Moment },
}

/// Whether there is somebody to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// netd runs, or will again.
    Here,
    /// There is no netd, or it is told to end.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed.
    Wake,
    /// A run with interfaces is over: netd is to be told.
    Ended(EndedRun),
    /// netd answered, whatever it said.
    Answered,
    /// It could not be asked, or hung up.
    Lost,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    None,
    /// Ask about this run.
    Ask(EndedRun),
    /// Do not wait for the answer any more.
    HangUp,
    /// Say that this run's end is not told any more: too many wait.
    SayDropped(EndedRun),
}

impl DetachQueue {
    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.question {
            // At once.
            Question::None => (!self.runs.is_empty()).then_some(Moment::ZERO),
            Question::Asked { until } => Some(until),
            Question::Waiting { until } => (!self.runs.is_empty()).then_some(until),
        }
    }
}

/// Which queue follows, and what is to be done. Every pair of question and event stands here.
pub(super) fn step(queue: DetachQueue, peer: Peer, event: Event, now: Moment) -> (DetachQueue, Action) {
    let DetachQueue { mut runs, question } = queue;
    match (event, question, peer) {
        (Event::Ended(run), question, _) => {
            let dropped = add(&mut runs, run, question);
            (DetachQueue { runs, question }, dropped.map_or(Action::None, Action::SayDropped))
        }
        (Event::Wake, Question::Asked { .. }, Peer::Gone) => (DetachQueue::default(), Action::HangUp),
        (Event::Wake, Question::None | Question::Waiting { .. }, Peer::Gone) => {
            (DetachQueue::default(), Action::None)
        }
        (Event::Wake, Question::Asked { until }, Peer::Here) if until <= now => {
            (DetachQueue { runs, question: waiting(now) }, Action::HangUp)
        }
        (Event::Wake, Question::Waiting { until }, Peer::Here) if now < until => {
            (DetachQueue { runs, question }, Action::None)
        }
        (Event::Wake, Question::None | Question::Waiting { .. }, Peer::Here) => match runs.front().cloned() {
            Some(first) => {
                let until = now.saturating_add(ANSWER_LIMIT);
                (DetachQueue { runs, question: Question::Asked { until } }, Action::Ask(first))
            }
            None => (DetachQueue { runs, question: Question::None }, Action::None),
        },
        (Event::Answered, Question::Asked { .. }, _) => {
            runs.pop_front();
            (DetachQueue { runs, question: Question::None }, Action::HangUp)
        }
        (Event::Lost, Question::Asked { .. }, _) => (DetachQueue { runs, question: waiting(now) }, Action::HangUp),
        (Event::Wake, Question::Asked { .. }, Peer::Here)
        | (Event::Answered | Event::Lost, Question::None | Question::Waiting { .. }, _) => {
            (DetachQueue { runs, question }, Action::None)
        }
    }
}

fn waiting(now: Moment) -> Question {
    Question::Waiting { until: now.saturating_add(ASK_AGAIN) }
}

/// The first of the queue may be on its way already. Of the others, the later run's end means the earlier's too. When there are
/// too many, the oldest of the others goes, as its links have had the longest time to end with their namespace.
fn add(runs: &mut VecDeque<EndedRun>, (id, run): EndedRun, question: Question) -> Option<EndedRun> {
    let asked = match question {
        Question::Asked { .. } => 1,
        Question::None | Question::Waiting { .. } => 0,
    };
    if let Some((_, queued)) = runs.iter_mut().skip(asked).find(|(queued, _)| *queued == id) {
        *queued = run.max(*queued);
        return None;
    }
    let dropped = if runs.len() < MAX_QUEUED { None } else { runs.remove(asked) };
    runs.push_back((id, run));
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn run(instance: u32, number: u64) -> EndedRun {
        (InstanceId(instance), RunNumber(number))
    }

    /// After events at second 0, with netd there; the last one's action.
    fn after(events: &[Event]) -> (DetachQueue, Action) {
        events.iter().fold((DetachQueue::default(), Action::None), |(queue, _), event| {
            step(queue, Peer::Here, event.clone(), at(0))
        })
    }

    #[test]
    fn the_end_of_a_later_run_is_not_lost_behind_one_that_is_being_told() {
        let ended = [run(1, 10), run(2, 11), run(1, 12)].map(Event::Ended);
        let (queue, _) = after(&ended);
        assert_eq!(queue.runs, [run(1, 12), run(2, 11)], "one question is enough");
        let (queue, action) = step(queue, Peer::Here, Event::Wake, at(0));
        assert_eq!(action, Action::Ask(run(1, 12)));
        let (queue, _) = step(queue, Peer::Here, Event::Ended(run(1, 13)), at(0));
        assert_eq!(queue.runs, [run(1, 12), run(2, 11), run(1, 13)], "the first is on its way");
        let (queue, action) = step(queue, Peer::Here, Event::Answered, at(0));
        assert_eq!((queue.runs.len(), action), (2, Action::HangUp));
        assert_eq!(step(queue, Peer::Here, Event::Wake, at(0)).1, Action::Ask(run(2, 11)));
    }

    #[test]
    fn who_is_not_there_or_does_not_answer_is_asked_again() {
        let (asked, action) = after(&[Event::Ended(run(1, 1)), Event::Wake]);
        assert_eq!(action, Action::Ask(run(1, 1)));
        assert_eq!(step(asked.clone(), Peer::Here, Event::Wake, at(9)), (asked.clone(), Action::None));
        let (silent, action) = step(asked.clone(), Peer::Here, Event::Wake, at(10));
        assert_eq!((silent.deadline(), action), (Some(at(11)), Action::HangUp));
        let (lost, _) = step(asked, Peer::Here, Event::Lost, at(3));
        assert_eq!(step(lost.clone(), Peer::Here, Event::Wake, at(3)).1, Action::None);
        assert_eq!(step(lost, Peer::Here, Event::Wake, at(4)).1, Action::Ask(run(1, 1)));
    }

    #[test]
    fn where_nobody_is_to_be_asked_nothing_is_kept() {
        for events in [vec![Event::Ended(run(1, 1))], vec![Event::Ended(run(1, 1)), Event::Wake]] {
            let (queue, _) = after(&events);
            let (queue, action) = step(queue, Peer::Gone, Event::Wake, at(0));
            let hangs_up = if events.len() == 2 { Action::HangUp } else { Action::None };
            assert_eq!((queue.deadline(), &queue, action), (None, &DetachQueue::default(), hangs_up));
        }
        // A late answer is none to the next question.
        assert_eq!(after(&[Event::Answered, Event::Lost]), (DetachQueue::default(), Action::None));
    }

    #[test]
    fn the_queue_has_a_limit_and_the_oldest_that_is_not_being_told_goes() {
        let ended = |number: usize| Event::Ended(run(number as u32, 1));
        let mut many: Vec<Event> = (0..MAX_QUEUED).map(ended).collect();
        assert_eq!(after(&many).1, Action::None);
        many.push(ended(MAX_QUEUED));
        let (queue, action) = after(&many);
        assert_eq!((queue.runs.len(), action), (MAX_QUEUED, Action::SayDropped(run(0, 1))));
        assert_eq!(queue.runs.back(), Some(&run(MAX_QUEUED as u32, 1)), "the newest is kept");
        many.insert(1, Event::Wake);
        let (queue, action) = after(&many);
        assert_eq!((queue.runs.len(), action), (MAX_QUEUED, Action::SayDropped(run(1, 1))));
        assert_eq!(queue.runs.front(), Some(&run(0, 1)), "it is on its way");
    }
}
