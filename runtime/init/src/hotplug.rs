//! Devices that come and go: loads drivers for new devices, updates instances that may have them, and has the updater look at sticks.
//! The decisions are in `table`. On a host no drivers are loaded: its udev does that.

pub(crate) mod table;

use crate::boot_clock::Moment;
use crate::instance::lifecycle::{self, State};
use crate::job::{Job, Lane};
use crate::launch::{Task, TaskKind};
use crate::log::Priority;
use crate::supervisor::Supervisor;
use crate::uevent::{MAX_UEVENT_BYTES, Uevent, parse_uevent};
use crate::updater;
use std::time::Duration;
use table::{Action, DEBOUNCE, Event, MayLoad, step};
use yado_sys::uevent::{self, Received};
use yado_wire::rescue::Mode;
use yado_wire::{Failure, InstanceId};

/// The pause before a failed update of an instance's devices is repeated. It doubles each time, until the devices of the machine
/// change: what an instance puts in the way of a node usually stays there.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// See [`TRY_AGAIN`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How many events are read before other sources have their turn.
const MAX_AT_ONCE: usize = 128;

/// How long events wait when they are over the budget: then init is woken less often, and reads more at once.
const EVENTS_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Reads the kernel's events.
    pub(crate) fn read_uevents(&mut self, now: Moment) {
        let mut buffer = [0; MAX_UEVENT_BYTES];
        for _ in 0..MAX_AT_ONCE {
            let Some(socket) = &self.sockets.uevents else { return };
            if self.uevent_budget.paused(now).is_some() {
                return self.uevent_budget.pause_until(now.saturating_add(EVENTS_PAUSE));
            }
            match uevent::recv(socket, &mut buffer) {
                Ok(Some(Received::Event(len))) => {
                    self.uevent_budget.spend(1, now);
                    self.take_uevent(buffer.get(..len).unwrap_or(&[]), now);
                }
                Ok(Some(Received::Lost)) => self.step_hotplug(Event::Lost, now),
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
        if let Some(block) = event.damaged_block {
            return self.note_damaged_block(event.path, block, now);
        }
        // `bind` and `change` matter too: a GPIO chip's or USB device's attributes may only be complete then.
        let is_for_instances = event.node.is_some() || matches!(event.subsystem, "usb" | "gpio");
        let event = match event.modalias {
            Some(alias) if event.action == "add" => Event::Added { alias, is_for_instances },
            None if is_stick(&event) => Event::StickCame,
            Some(_) | None => Event::Changed { is_for_instances },
        };
        self.step_hotplug(event, now);
    }

    /// Does what is due.
    pub(crate) fn advance_hotplug(&mut self, now: Moment) {
        self.step_hotplug(Event::Wake, now);
        for &id in self.instances.ids().iter() {
            self.sync_devices(id, now);
        }
    }

    /// Tells the table that something happened, and does what it says.
    fn step_hotplug(&mut self, event: Event<'_>, now: Moment) {
        let mut event = event;
        // Each action removes one thing that was due, and there are at most three.
        loop {
            let may_load = self.may_load_drivers();
            let (state, action) = step(std::mem::take(&mut self.hotplug), may_load, event, now);
            self.hotplug = state;
            match action {
                Action::None => return,
                Action::Load(aliases) => self.start_job(Job::Drivers(aliases), now),
                Action::LoadAll => self.start_job(Job::AllDrivers, now),
                // Where none was started yet, the first looks at what is there; and without a slot there is nothing to update.
                Action::TellUpdater if self.slot.is_some() && self.updater.has_run() => {
                    self.step_updater(updater::Event::StickCame, now);
                }
                Action::TellUpdater => {}
                Action::TellInstances => {
                    for &id in self.instances.ids().iter() {
                        self.note_devices_changed(id, now);
                    }
                }
            }
            event = Event::Wake;
        }
    }

    fn may_load_drivers(&self) -> MayLoad {
        match self.paths.mode {
            Mode::Hosted => MayLoad::Never,
            Mode::System if self.jobs.is_idle(Lane::Drivers) && self.shutdown.is_none() => MayLoad::Now,
            Mode::System => MayLoad::Later,
        }
    }

    fn note_devices_changed(&mut self, id: InstanceId, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let is_started = instance.is_up() || matches!(instance.state, State::Starting { .. });
        if is_started && instance.has_hotplug() {
            if let Some(run) = &mut instance.run {
                run.devices_due = Some(now);
                run.devices_pause = Duration::ZERO;
            }
        }
        self.step_instance(id, lifecycle::Event::DevicesChanged, now);
    }

    /// Runs the launcher for an instance's devices: one at a time, and not before it has started.
    fn sync_devices(&mut self, id: InstanceId, now: Moment) {
        let busy = self
            .launches
            .iter()
            .find(|launch| launch.instance == id && matches!(launch.task, TaskKind::Run | TaskKind::Devices));
        // Asked again when the launcher has ended, which wakes us; and now and then if it hangs.
        let again = busy.map(|launch| if launch.is_given_up() { TRY_AGAIN } else { DEBOUNCE });
        let Some(instance) = self.instances.get_mut(id) else { return };
        let is_up = instance.is_up();
        let Some(run) = &mut instance.run else { return };
        let Some(due) = run.devices_due else { return };
        if let Some(again) = again {
            run.devices_due = Some(due.max(now.saturating_add(again)));
            return;
        }
        if run.payload.is_none() {
            run.devices_due = None;
            return;
        }
        if now < due {
            return;
        }
        run.devices_due = None;
        if !is_up {
            return;
        }
        if let Err(failure) = self.start_launcher(id, Task::Devices) {
            self.fail_devices(id, failure, now);
        }
    }

    /// The update of an instance's devices has failed.
    pub(crate) fn fail_devices(&mut self, id: InstanceId, failure: Failure, now: Moment) {
        self.record_failure(id, failure);
        if let Some(run) = self.instances.run_mut(id) {
            run.devices_pause = run.devices_pause.saturating_mul(2).clamp(TRY_AGAIN, LONGEST_PAUSE);
            run.devices_due.get_or_insert(now.saturating_add(run.devices_pause));
        }
    }
}

/// Whether a disk came, or a partition, that hangs on USB: below a root hub, which the kernel calls `usb1`, `usb2`, …. What may be
/// a source of updates is for the updater to say.
fn is_stick(event: &Uevent<'_>) -> bool {
    let is_root_hub = |part: &str| part.strip_prefix("usb").is_some_and(|number| number.parse::<u16>().is_ok());
    event.action == "add" && event.subsystem == "block" && event.path.split('/').any(is_root_hub)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stick_is_a_disk_or_partition_that_comes_on_usb_and_nothing_else_is() {
        // arm64, 6.1, QEMU: usb-storage on xhci.
        const STICK: &str = "/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/usb1/1-1/1-1:1.0/host0/target0:0:0/\
            0:0:0:0/block/sda";
        let cases = [
            ("add", "block", STICK.to_owned(), true),
            ("add", "block", format!("{STICK}/sda1"), true),
            ("remove", "block", format!("{STICK}/sda1"), false),
            ("change", "block", STICK.to_owned(), false),
            ("add", "bdi", STICK.replace("block", "bdi"), false),
            ("add", "usb", STICK.split("/host0").next().unwrap().to_owned(), false),
            (
                "add",
                "block",
                "/devices/platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0".to_owned(),
                false,
            ),
            ("add", "block", "/devices/virtual/block/dm-0".to_owned(), false),
            // A controller is no bus.
            ("add", "block", "/devices/platform/usb@fe800000/usbphy/usb/block/sda".to_owned(), false),
        ];
        for (action, subsystem, path, expected) in cases {
            let bytes = format!("{action}@{path}\0SUBSYSTEM={subsystem}\0DEVNAME=sda\0SEQNUM=1030\0");
            assert_eq!(is_stick(&parse_uevent(bytes.as_bytes()).unwrap()), expected, "{action} {subsystem} {path}");
        }
    }
}
