//! What of a new spec holds for an instance that runs. Small and pure, because init needs it: which keys these are, and how
//! they are called, says the compiler's table ([`crate::setting::Setting::applies`], with the feature `compile`), and a test
//! of every key holds the two together.

use crate::instance::{Health, InstanceSpec, Limits, Security};

/// The spec that an instance can have now: everything that applies at once is the desired spec's, everything else is that
/// which it was started with. Applying twice is applying once.
pub fn split(started_with: &InstanceSpec, desired: &InstanceSpec) -> InstanceSpec {
    // Destructured without `..`: a new field has to be asked when it applies.
    let InstanceSpec {
        name: _,
        image: _,
        init: _,
        // It is for the image's init, and that one runs on.
        image_stop_method: _,
        environment: _,
        boot,
        health,
        restart,
        limits,
        security,
        nics: _,
        root: _,
        disks: _,
        devices,
    } = desired;
    let Health {
        ready,
        probe,
        // Its init was told the time when it started.
        watchdog: _,
        required,
    } = health;
    let Limits {
        memory,
        swap_bytes,
        cpu,
        cpus,
        cpu_priority,
        processes,
        // Its init has them, and every process inherited them.
        kernel: _,
    } = limits;
    let Security {
        privileged: _,
        nesting: _,
        idmap_size: _,
        no_new_privs: _,
        time_namespace: _,
        // What it locks is mounted when it starts.
        update_lock: _,
        label: _,
        syscalls_deny_default: _,
        protection_start,
        protection_delete,
    } = security;
    let mut now = started_with.clone();
    now.boot.clone_from(boot);
    now.health.ready.clone_from(ready);
    now.health.probe.clone_from(probe);
    now.health.required = *required;
    now.restart.clone_from(restart);
    now.limits = Limits {
        memory: *memory,
        swap_bytes: *swap_bytes,
        cpu: *cpu,
        cpus: cpus.clone(),
        cpu_priority: *cpu_priority,
        processes: *processes,
        kernel: now.limits.kernel,
    };
    now.security.protection_start = *protection_start;
    now.security.protection_delete = *protection_delete;
    let is_free =
        |name: &str| !now.nics.iter().any(|nic| nic.name == name) && !now.disks.iter().any(|disk| disk.name == name);
    // A disk or nic that became a device with nodes stays until the restart, and its name with it.
    now.devices = devices.iter().filter(|device| is_free(&device.name)).cloned().collect();
    now
}

/// Whether something of the desired spec does not apply before the instance is started the next time.
pub fn needs_restart(started_with: &InstanceSpec, desired: &InstanceSpec) -> bool {
    split(started_with, desired) != *desired
}
