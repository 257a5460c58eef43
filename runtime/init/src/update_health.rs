//! What a release on trial is judged by, for the updater: how each instance does, and who delays the reboot of an update.
//!
//! The lock is flock(2) on an empty file of ours, which the instance has read-only by a mount. So nothing else can be put in its
//! place, nothing can be written to it, and it is released with the last process that holds it; to ask for it never waits.

use crate::boot_clock::{Moment, whole_ms};
use crate::instance::Instance;
use crate::instance::lifecycle::Wanted;
use crate::paths::Paths;
use crate::supervisor::Supervisor;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use yado_spec::launch_request::UPDATE_LOCK_NAME;
use yado_sys::{file_lock, regular_file};
use yado_wire::rescue::{InstanceHealth, Reply};

impl Supervisor {
    /// Tells a client how each instance does.
    pub(crate) fn answer_health(&mut self, client_id: u32, now: Moment) {
        let all: Vec<InstanceHealth> =
            self.instances.in_order().map(|instance| health_of(instance, &self.paths, now)).collect();
        for health in all {
            self.reply(client_id, &Reply::Health(health));
        }
        self.reply(client_id, &Reply::Done);
    }
}

fn health_of(instance: &Instance, paths: &Paths, now: Moment) -> InstanceHealth {
    let spec = instance.actual();
    let may_lock = spec.is_some_and(|spec| spec.security.update_lock);
    let is_locked = || {
        let path = paths.runtime(&instance.directory_name()).join(UPDATE_LOCK_NAME);
        regular_file::open(&path).and_then(|file| file_lock::is_locked(&file)).unwrap_or(false)
    };
    InstanceHealth {
        instance: instance.about(),
        is_required: instance.is_to_start_by_itself() && spec.is_none_or(|spec| spec.health.required),
        is_wanted: matches!(instance.wanted, Wanted::Up { .. }),
        state: instance.told,
        ready_ms: instance.ready_since.map(|since| whole_ms(now.saturating_sub(since))),
        restarts: instance.restarts,
        unhealthy: instance.unhealthy,
        holds_update: may_lock && instance.is_active() && is_locked(),
        fingerprint: spec.map(|spec| spec.image),
        last_failure: instance.last_failure.as_deref().cloned(),
    }
}

/// Makes the file for the lock in an instance's runtime directory. Everybody inside may lock it: all that they can do with it is to
/// delay a reboot for a while.
pub(crate) fn make_lock(runtime: &Path) -> io::Result<()> {
    let path = runtime.join(UPDATE_LOCK_NAME);
    File::create(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444))
}
