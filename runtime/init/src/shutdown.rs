//! The end, in order: instances (dependents first, each with its time), then services, then the file systems.

use crate::boot_order::may_stop;
use crate::clock_floor;
use crate::data_partition;
use crate::instance::cgroup;
use crate::instance::lifecycle::{Moment, Wanted};
use crate::log::Priority;
use crate::service;
use crate::supervisor::Supervisor;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use yado_sys::signals::Signal;
use yado_sys::{reboot, root, volume};
use yado_wire::rescue::Mode;

/// What the kernel cannot kill is not waited for after all patience is over and this much more.
const SPARE: Duration = Duration::from_secs(20);

/// Loop and mapper devices let go of the data partition a moment after the last mount is gone.
const UNMOUNT_AGAIN: Duration = Duration::from_millis(50);

/// So often.
const MOST_UNMOUNTS: u32 = 60;

/// Bytes of one input event: two words of time (of the kernel's width), type, code, value.
const INPUT_EVENT_BYTES: usize = 2 * size_of::<usize>() + 8;

/// What is wanted in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The machine starts again.
    Reboot,
    /// The machine is off.
    PowerOff,
    /// The process ends (hosted).
    Exit,
}

/// A shutdown on its way.
#[derive(Debug)]
pub(crate) struct Shutdown {
    goal: Goal,
    /// When the wait for instances and services is given up.
    give_up_at: Moment,
    unmount: Option<(Moment, u32)>,
}

impl Shutdown {
    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        Some(self.unmount.map_or(self.give_up_at, |(at, _)| at))
    }
}

impl Supervisor {
    /// Begins the end. A second wish changes only what is wanted.
    pub(crate) fn begin_shutdown(&mut self, goal: Goal, now: Moment) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.goal = goal;
            return;
        }
        let patience: Duration =
            self.instances.iter().filter_map(|instance| instance.rules()).map(|rules| rules.patience).sum();
        let give_up_at = now.saturating_add(patience).saturating_add(SPARE);
        self.shutdown = Some(Shutdown { goal, give_up_at, unmount: None });
        // Their files lie on the data partition.
        self.warm_images.clear();
        self.reach_stage("shutdown");
    }

    /// A signal that asks us to end.
    pub(crate) fn take_signal(&mut self, signal: Signal, now: Moment) {
        let goal = match (signal, self.places.mode) {
            (Signal::Terminate | Signal::Interrupt | Signal::Power, Mode::Hosted) => Goal::Exit,
            // Ctrl-alt-del.
            (Signal::Interrupt, Mode::System) => Goal::Reboot,
            (Signal::Power, Mode::System) => Goal::PowerOff,
            // Anybody may send PID 1 a SIGTERM by mistake; what is meant is asked for over the socket.
            (Signal::Terminate, Mode::System) | (Signal::HangUp | Signal::Child, _) => return,
        };
        self.log.say(Priority::Notice, format_args!("{signal:?}: {goal:?}"));
        self.begin_shutdown(goal, now);
    }

    /// Asks those whose turn it is to stop.
    pub(crate) fn advance_shutdown(&mut self, now: Moment) {
        if self.shutdown.is_none() {
            return;
        }
        for number in 0..self.instances.len() {
            let Some(instance) = self.instances.get(number) else { continue };
            let Some(rules) = instance.rules() else { continue };
            if matches!(instance.wanted, Wanted::Down { .. }) {
                continue;
            }
            let Ok(spec) = &instance.spec else { continue };
            let others = self
                .instances
                .iter()
                .enumerate()
                .filter(|(other, instance)| *other != number && instance.is_active());
            let others = others.filter_map(|(_, other)| Some((&other.name, &other.spec.as_ref().ok()?.boot)));
            if !instance.is_active() || may_stop((&instance.name, &spec.boot), others) {
                self.want(number, Wanted::Down { patience: rules.patience }, now);
            }
        }
    }

    /// What we want of services: they outlive the instances.
    pub(crate) fn wanted_services(&self) -> service::Wanted {
        match &self.shutdown {
            Some(_) if !self.instances.iter().any(|instance| instance.is_active()) => service::Wanted::Down,
            Some(_) | None => service::Wanted::Up,
        }
    }

    /// Ends what is left when instances and services are gone. `true`: the process is to end.
    pub(crate) fn finish_shutdown(&mut self, now: Moment) -> bool {
        let Some(shutdown) = &self.shutdown else { return false };
        let (goal, give_up_at, unmount) = (shutdown.goal, shutdown.give_up_at, shutdown.unmount);
        let is_empty = !self.instances.iter().any(|instance| instance.is_active())
            && self.services.iter().all(|service| service.state == service::State::Stopped);
        if !is_empty && now < give_up_at {
            return false;
        }
        if !is_empty {
            self.say_who_is_left();
        }
        match (goal, self.places.mode) {
            (Goal::Exit, _) | (Goal::Reboot | Goal::PowerOff, Mode::Hosted) => {
                self.leave_host();
                true
            }
            (Goal::Reboot | Goal::PowerOff, Mode::System) => self.end_machine_at(goal, unmount, now),
        }
    }

    fn say_who_is_left(&mut self) {
        let left: Vec<&str> = self
            .instances
            .iter()
            .filter(|instance| instance.is_active())
            .map(|instance| instance.name.as_str())
            .chain(
                self.services
                    .iter()
                    .filter(|service| service.state != service::State::Stopped)
                    .map(|service| service.name.as_str()),
            )
            .collect();
        let left = left.join(", ");
        self.log.say(Priority::Error, format_args!("does not end, and is not waited for any more: {left}"));
    }

    fn leave_host(&mut self) {
        let _ = cgroup::remove(&self.places.groups);
        for socket in [self.places.socket(), self.places.run.join("notify")] {
            let _ = fs::remove_file(socket);
        }
        self.log.say(Priority::Notice, format_args!("ended"));
    }

    /// Saves the time, takes the data partition away, and ends the machine. `false`: it is tried again a little later.
    fn end_machine_at(&mut self, goal: Goal, unmount: Option<(Moment, u32)>, now: Moment) -> bool {
        let tries = match unmount {
            Some((at, _)) if now < at => return false,
            Some((_, tries)) => tries,
            None => {
                if let Err(error) = clock_floor::save(&self.clock_file()) {
                    self.log.say(Priority::Warning, format_args!("save the time: {error}"));
                }
                0
            }
        };
        let data = Path::new(data_partition::MOUNT_POINT);
        match root::unmount(data) {
            Ok(()) => {}
            // EINVAL: nothing is mounted there.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
            Err(_) if tries < MOST_UNMOUNTS => {
                if let Some(shutdown) = &mut self.shutdown {
                    shutdown.unmount = Some((now.saturating_add(UNMOUNT_AGAIN), tries + 1));
                }
                return false;
            }
            Err(error) => {
                self.log.say(Priority::Error, format_args!("unmount {}: {error}", data.display()));
                if let Err(error) = root::remount_read_only(data) {
                    self.log.say(Priority::Error, format_args!("remount {} read-only: {error}", data.display()));
                }
            }
        }
        volume::sync_all();
        if let Some(watchdog) = &self.watchdog {
            // It stays armed: a machine that hangs on its way down is reset.
            let _ = watchdog.feed();
        }
        let (word, ended) = match goal {
            Goal::Reboot => ("reboot", reboot::restart as fn() -> std::io::Result<()>),
            Goal::PowerOff | Goal::Exit => ("power off", reboot::power_off as fn() -> std::io::Result<()>),
        };
        self.log.say(Priority::Notice, format_args!("{word}"));
        if let Err(error) = ended() {
            self.log.say(Priority::Error, format_args!("{word}: {error}"));
            if let Some(shutdown) = &mut self.shutdown {
                shutdown.unmount = Some((now.saturating_add(SPARE), MOST_UNMOUNTS));
            }
        }
        false
    }

    /// Opens the input devices with a power key.
    pub(crate) fn open_power_keys(&mut self) {
        self.sockets.power_keys = find_power_keys();
    }

    /// Reads a power key.
    pub(crate) fn read_power_key(&mut self, number: usize, now: Moment) {
        let mut buffer = [0; 64 * INPUT_EVENT_BYTES];
        let Some(mut key) = self.sockets.power_keys.get(number) else { return };
        match key.read(&mut buffer) {
            Ok(len) if 0 < len => {
                if is_power_key_pressed(buffer.get(..len).unwrap_or(&[])) {
                    self.take_signal(Signal::Power, now);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                self.sockets.power_keys.remove(number);
            }
        }
    }
}

/// Whether among these input events is a power key that was pressed. Pure.
fn is_power_key_pressed(events: &[u8]) -> bool {
    // EV_KEY, KEY_POWER, value 1 (pressed).
    const PRESSED: [u8; 8] = {
        let [low, high] = 1u16.to_ne_bytes();
        let [code_low, code_high] = 116u16.to_ne_bytes();
        let [a, b, c, d] = 1i32.to_ne_bytes();
        [low, high, code_low, code_high, a, b, c, d]
    };
    events.chunks_exact(INPUT_EVENT_BYTES).any(|event| event.ends_with(&PRESSED))
}

/// `/sys/class/input/eventN/device/capabilities/key` is a bitmap in words, the highest first; bit 116 is the power key.
fn find_power_keys() -> Vec<fs::File> {
    const MOST_KEYS: usize = 4;
    let Ok(entries) = fs::read_dir("/sys/class/input") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("event"))
        .filter(|name| {
            let path = format!("/sys/class/input/{name}/device/capabilities/key");
            fs::read_to_string(path).is_ok_and(|bitmap| has_power_key(&bitmap, usize::BITS))
        })
        .filter_map(|name| {
            let file = fs::File::open(format!("/dev/input/{name}")).ok()?;
            yado_sys::packet::set_nonblocking(&file).ok()?;
            Some(file)
        })
        .take(MOST_KEYS)
        .collect()
}

fn has_power_key(bitmap: &str, word_bits: u32) -> bool {
    const KEY_POWER: u32 = 116;
    let word = bitmap.split_whitespace().rev().nth((KEY_POWER / word_bits) as usize);
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (KEY_POWER % word_bits) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressed_power_key_is_told_from_all_else() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![0; 2 * size_of::<usize>()];
            event.extend_from_slice(&kind.to_ne_bytes());
            event.extend_from_slice(&code.to_ne_bytes());
            event.extend_from_slice(&value.to_ne_bytes());
            event
        };
        assert!(is_power_key_pressed(&[event(4, 4, 1), event(1, 116, 1), event(0, 0, 0)].concat()));
        assert!(!is_power_key_pressed(&event(1, 116, 0)));
        assert!(!is_power_key_pressed(&event(1, 115, 1)));
        assert!(!is_power_key_pressed(&event(1, 116, 1)[1..]));
        // gpio-keys of QEMU's virt board on 64 and on 32 bits: only KEY_POWER.
        assert!(has_power_key("10000000000000 0", 64));
        assert!(has_power_key("100000 0 0 0", 32));
        assert!(!has_power_key("10000000000000", 64));
        assert!(!has_power_key("", 64));
    }
}
