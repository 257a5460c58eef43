//! Asks an instance's init to power off, by its stop method: a signal, or a command that is run inside. The kernel drops a signal
//! to the first process of a pid namespace that has no handler for it. An init that still boots may have no handler yet, or
//! refuse the command: so it is asked again until it ends or its time is over.

use crate::boot_clock::Moment;
use crate::instance::Run;
use crate::instance::lifecycle::State;
use crate::launch::Task;
use crate::log::Priority;
use crate::supervisor::Supervisor;
use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;
use yado_spec::instance::StopMethod;
use yado_spec::launch_request::Command;
use yado_sys::children;
use yado_wire::{Failure, InstanceId, signal_name};

/// The pause while the init does not listen yet. An init installs its handlers within some hundred milliseconds, even on a slow
/// board, and takes commands soon after.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The pause while the init listens but does not end. It may have been busy with its boot: runit and finit ignore a stop before
/// their first services run.
const REMIND: Duration = Duration::from_secs(5);

/// Signals that are not sent again once the init listens, because many programs take the second one for "at once": SIGHUP,
/// SIGINT, SIGQUIT, SIGTERM.
const ONCE: [u8; 4] = [1, 2, 3, 15];

/// The default of LXC without `lxc.signal.halt`. systemd powers off by it, too: systemd(1).
const SIGPWR: u8 = 30;
const SIGRTMIN_3: u8 = 37;
const SIGTERM: u8 = 15;

impl Supervisor {
    /// Asks an instance's init to power off.
    pub(crate) fn ask_to_stop(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(method) = instance.actual().map(|spec| spec.stop_method().clone()) else { return };
        let name = instance.name.clone();
        let Some(run) = &mut instance.run else { return };
        let Some((pid, pidfd)) = &run.payload else { return };
        let said = match method {
            StopMethod::Command(argv) => return self.run_stop_command(id, argv, now),
            StopMethod::Signal(signal) => Some(signal),
            StopMethod::Detect => None,
        };
        let masks = read_masks(*pid);
        let signal = said.unwrap_or_else(|| masks.detected());
        let sent = children::send_signal(pidfd.as_fd(), signal);
        run.ask_at = masks.ask_again(signal).map(|pause| now.saturating_add(pause));
        let is_first = run.note_asked(now);
        let signal = signal_name::show(signal);
        match sent {
            Ok(()) if is_first => {
                self.log.say(Priority::Info, format_args!("{name}: is asked to power off by {signal}"));
            }
            Ok(()) => {}
            Err(error) => self.log.say(Priority::Warning, format_args!("{name}: send {signal}: {error}")),
        }
    }

    /// Asks again when it is due.
    pub(crate) fn ask_again(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(run) = &mut instance.run else { return };
        let Some(at) = run.ask_at else { return };
        if !matches!(instance.state, State::Stopping { kills: 0, .. }) {
            run.ask_at = None;
        } else if at <= now {
            self.ask_to_stop(id, now);
        }
    }

    /// Runs the stop command inside, like `yado rescue exec` but without a client. One at a time.
    fn run_stop_command(&mut self, id: InstanceId, argv: Vec<String>, now: Moment) {
        let shown = argv.join(" ");
        let command = Command { argv, cwd: Some("/".to_owned()), ..Command::default() };
        let started = self.start_launcher(id, Task::Stop { command });
        let Some(instance) = self.instances.get_mut(id) else { return };
        let name = instance.name.clone();
        let Some(run) = &mut instance.run else { return };
        let is_first = run.note_asked(now);
        // The end of the command sets the next time.
        run.ask_at = started.is_err().then(|| now.saturating_add(ASK_AGAIN));
        match started {
            Ok(_) if is_first => {
                self.log.say(Priority::Info, format_args!("{name}: is asked to power off by {shown}"));
            }
            Ok(_) => {}
            Err(failure) => self.log.say(Priority::Warning, format_args!("{name}: {shown}: {failure}")),
        }
    }

    /// The stop command of an instance has ended, or was not executed. `why_not`: why it did not work.
    pub(crate) fn note_stop_command(&mut self, id: InstanceId, why_not: Option<&Failure>, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let name = instance.name.clone();
        let Some(run) = &mut instance.run else { return };
        let pause = if why_not.is_some() { ASK_AGAIN } else { REMIND };
        run.ask_at = Some(now.saturating_add(pause));
        // Often the init ends first: then the command worked, whatever its exit code is.
        let is_news = !std::mem::replace(&mut run.is_refusal_told, why_not.is_some()) && run.payload.is_some();
        if let (Some(failure), true) = (why_not, is_news) {
            self.log.say(Priority::Warning, format_args!("{name}: its stop command: {failure}"));
        }
    }

    /// An instance that was asked to stop is killed: the log says so, the first time.
    pub(crate) fn note_kill(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (Some(method), name) = (instance.actual().map(|spec| spec.stop_method().clone()), instance.name.clone())
        else {
            return;
        };
        let Some(run) = &mut instance.run else { return };
        if run.payload.is_none() || run.killed_after.is_some() {
            return;
        }
        let after = run.asked_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        run.killed_after = Some(after);
        if run.asked_since.is_some() {
            let how = match method {
                StopMethod::Detect => "by LXC's default signal, for its image does not say how".to_owned(),
                StopMethod::Signal(_) | StopMethod::Command(_) => format!("by {method}"),
            };
            self.log.say(
                Priority::Warning,
                format_args!(
                    "{name}: was asked to stop {how}, did not end in {} s and is killed; boot.stop.method sets another way",
                    after.as_secs()
                ),
            );
        }
    }
}

impl Run {
    /// Notes when it was first asked to stop. Returns whether this is the first time.
    fn note_asked(&mut self, now: Moment) -> bool {
        let is_first = self.asked_since.is_none();
        self.asked_since.get_or_insert(now);
        is_first
    }
}

/// What a process does with signals, as proc_pid_status(5) shows it: signal N is bit N - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct SignalMasks {
    blocked: u64,
    caught: u64,
}

impl SignalMasks {
    /// The signal by LXC's rule: `lxc-stop` recognizes systemd by its blocked signals, which it reads from a descriptor. openrc-init
    /// blocks most signals, too, but not SIGTERM.
    fn detected(self) -> u8 {
        let is_systemd = has(self.blocked, SIGRTMIN_3) && has(self.blocked, SIGTERM);
        if is_systemd { SIGRTMIN_3 } else { SIGPWR }
    }

    /// After which pause the signal is sent again. An init that waits by sigtimedwait(2), as busybox does, shows its signals as
    /// neither caught nor blocked, like an init that does not listen yet: both are asked again soon.
    fn ask_again(self, signal: u8) -> Option<Duration> {
        match has(self.blocked | self.caught, signal) {
            false => Some(ASK_AGAIN),
            true if ONCE.contains(&signal) => None,
            true => Some(REMIND),
        }
    }
}

fn has(mask: u64, signal: u8) -> bool {
    let bit = signal.checked_sub(1).and_then(|shift| 1u64.checked_shl(shift.into())).unwrap_or(0);
    mask & bit != 0
}

/// Without an answer from the process file system the masks are empty, and the init is asked again.
fn read_masks(pid: i32) -> SignalMasks {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .map_or_else(|_| SignalMasks::default(), |text| parse_masks(&text))
}

fn parse_masks(status: &str) -> SignalMasks {
    let mask = |name: &str| {
        let digits = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(digits.trim(), 16).ok()
    };
    SignalMasks { blocked: mask("SigBlk:").unwrap_or(0), caught: mask("SigCgt:").unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ready_to_hear_is_told_by_its_masks() {
        // As Linux 6.1 shows systemd 252, openrc-init 0.45, busybox 1.35 in sigtimedwait, and a shell with a trap for SIGTERM.
        let systemd = parse_masks(
            "Name:\tsystemd\nSigBlk:\t7be3c0fe28014a03\nSigIgn:\t0000000000001000\nSigCgt:\t00000001000004ec\n",
        );
        let openrc = parse_masks("SigBlk:\tffffffffdffeb9fd\nSigCgt:\t0000000020014002\n");
        let busybox = parse_masks("SigBlk:\t0000000000000000\nSigCgt:\t0000000000000000\n");
        let shell = parse_masks("SigBlk:\t0000000000000000\nSigCgt:\t0000000000014002\n");
        assert_eq!([systemd, openrc, busybox, shell].map(SignalMasks::detected), [37, 30, 30, 30]);
        assert_eq!(systemd.ask_again(37), Some(REMIND));
        assert_eq!(openrc.ask_again(15), None, "it hears it, and is not asked twice");
        assert_eq!([busybox.ask_again(12), shell.ask_again(12)], [Some(ASK_AGAIN); 2]);
        assert_eq!(shell.ask_again(15), None);
        for garbage in ["", "SigBlk:\n", "SigBlk: x\nSigCgt:\t\n"] {
            assert_eq!(parse_masks(garbage), SignalMasks::default());
        }
        assert!(!has(u64::MAX, 0) && has(1 << 63, 64) && !has(u64::MAX, 65));
    }
}
