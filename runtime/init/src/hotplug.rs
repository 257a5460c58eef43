//! Devices that come and go: drivers are loaded for new ones, and instances that may have them are looked at again.

use crate::instance::lifecycle::{self, Moment, State};
use crate::job::Job;
use crate::launch::{Ask, Purpose};
use crate::log::Priority;
use crate::supervisor::Supervisor;
use crate::uevent::{MAX_UEVENT_BYTES, parse_uevent};
use std::os::fd::AsFd;
use std::time::Duration;
use yado_sys::children;
use yado_sys::uevent::{self, Received};
use yado_wire::Failure;

/// A stick that is plugged in makes a dozen events in a tenth of a second; they are answered once.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Making and removing nodes takes milliseconds. They are in the instance's hands, and one can be made to hang.
pub(crate) const DEVICES_PATIENCE: Duration = Duration::from_secs(10);

/// When it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Drivers that wait to be loaded; whatever comes after that many is found by the next look at all devices.
const MOST_ALIASES: usize = 64;

/// Events that are taken before the others have their turn.
const MOST_AT_ONCE: usize = 128;

/// What is to be done about devices.
#[derive(Debug, Default)]
pub(crate) struct Hotplug {
    /// Module aliases of new devices.
    aliases: Vec<String>,
    /// There were too many, or the kernel lost some: look at all devices.
    look_at_all: bool,
    /// When instances are looked at again.
    due: Option<Moment>,
}

impl Hotplug {
    /// When something is to be done.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.due
    }
}

impl Supervisor {
    /// Reads the kernel's events.
    pub(crate) fn read_uevents(&mut self, now: Moment) {
        let mut buffer = [0; MAX_UEVENT_BYTES];
        for _ in 0..MOST_AT_ONCE {
            let Some(socket) = &self.sockets.uevents else { return };
            match uevent::recv(socket, &mut buffer) {
                Ok(Some(Received::Event(len))) => self.take_uevent(buffer.get(..len).unwrap_or(&[]), now),
                Ok(Some(Received::Lost)) => {
                    self.hotplug.look_at_all = true;
                    self.hotplug.due = Some(now.saturating_add(DEBOUNCE));
                }
                Ok(None) => return,
                Err(error) => {
                    self.log.say(Priority::Error, format_args!("read device events: {error}"));
                    return;
                }
            }
        }
    }

    fn take_uevent(&mut self, bytes: &[u8], now: Moment) {
        let Some(event) = parse_uevent(bytes) else { return };
        if event.action == "add" {
            if let Some(alias) = event.modalias {
                self.hotplug.want_module(alias);
            }
        }
        // `bind` and `change` matter too: a GPIO chip's or USB device's attributes may only be complete then.
        let concerns_instances = event.node.is_some() || matches!(event.subsystem, "usb" | "gpio");
        if concerns_instances && self.hotplug.due.is_none() {
            self.hotplug.due = Some(now.saturating_add(DEBOUNCE));
        }
    }

    /// Does what is due.
    pub(crate) fn advance_hotplug(&mut self, now: Moment) {
        if self.jobs.is_idle() && self.boot.may_load_modules() && self.shutdown.is_none() {
            if self.hotplug.look_at_all {
                self.hotplug.look_at_all = false;
                self.hotplug.aliases.clear();
                self.start_job(Job::AllDrivers, now);
            } else if !self.hotplug.aliases.is_empty() {
                let aliases = std::mem::take(&mut self.hotplug.aliases);
                self.start_job(Job::Drivers(aliases), now);
            }
        }
        if self.hotplug.due.is_some_and(|due| due <= now) {
            self.hotplug.due = None;
            for number in 0..self.instances.len() {
                self.note_devices_changed(number, now);
            }
        }
        for number in 0..self.instances.len() {
            self.sync_devices(number, now);
        }
        for launch in &mut self.launches {
            if launch.kill_at.is_some_and(|at| at <= now) {
                launch.kill_at = None;
                if let Some((_, pidfd)) = &launch.launcher {
                    children::kill(pidfd.as_fd());
                }
            }
        }
    }

    fn note_devices_changed(&mut self, number: usize, now: Moment) {
        let Some(instance) = self.instances.get_mut(number) else { return };
        let is_started =
            matches!(instance.state, State::Starting { .. } | State::Running { .. } | State::Ready { .. });
        if is_started && instance.has_hotplug() {
            instance.run.devices_due = Some(now);
        }
        self.step_instance(number, lifecycle::Event::DevicesChanged, now);
    }

    /// Runs the launcher for an instance's devices: one at a time, and not before it has started.
    fn sync_devices(&mut self, number: usize, now: Moment) {
        let is_busy = self
            .launches
            .iter()
            .any(|launch| launch.instance == number && matches!(launch.purpose, Purpose::Run | Purpose::Devices));
        let Some(instance) = self.instances.get_mut(number) else { return };
        let Some(due) = instance.run.devices_due else { return };
        if is_busy {
            // Asked again when the launcher has ended, which wakes us.
            instance.run.devices_due = Some(now.saturating_add(DEBOUNCE));
            return;
        }
        if instance.run.payload.is_none() {
            instance.run.devices_due = None;
            return;
        }
        if now < due {
            return;
        }
        instance.run.devices_due = None;
        if !instance.is_up() {
            return;
        }
        if let Err(failure) = self.start_launcher(number, Ask::Devices) {
            self.fail_devices(number, failure, now);
        }
    }

    /// The devices of an instance are not what they should be.
    pub(crate) fn fail_devices(&mut self, number: usize, failure: Failure, now: Moment) {
        self.record_failure(number, failure);
        if let Some(instance) = self.instances.get_mut(number) {
            instance.run.devices_due.get_or_insert(now.saturating_add(TRY_AGAIN));
        }
    }
}

impl Hotplug {
    fn want_module(&mut self, alias: &str) {
        if self.aliases.len() < MOST_ALIASES {
            if !self.aliases.iter().any(|known| known == alias) {
                self.aliases.push(alias.to_owned());
            }
        } else {
            self.look_at_all = true;
        }
    }
}
