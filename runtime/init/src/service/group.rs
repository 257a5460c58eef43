//! The control group of a service, beside those of instances: it holds the service and all that it starts, so that nothing
//! outlives it. Under memory pressure the kernel reclaims from others first.

use crate::instance::cgroup;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// So much of a service stays in memory while there is any elsewhere: all of netd, and of a larger one what it works with.
const PROTECTED_BYTES: u32 = 8 << 20;

/// Makes the group of a service that is about to be started. What is left of an earlier run is killed.
pub(crate) fn make(parent: &Path, name: &str) -> io::Result<File> {
    if create(parent)? {
        cgroup::enable_controllers(parent);
        // Protection is given by the groups below. Without the controller there is none, and no file.
        let _ = fs::write(parent.join("memory.low"), "max");
    }
    let group = parent.join(name);
    remove(parent, name);
    create(&group)?;
    let _ = fs::write(group.join("memory.low"), PROTECTED_BYTES.to_string());
    File::open(&group)
}

/// Kills what is in the group, and takes it away if that is gone already; if not, the next start does.
pub(crate) fn remove(parent: &Path, name: &str) {
    let group = parent.join(name);
    cgroup::kill(&group);
    let _ = cgroup::remove(&group);
}

/// Whoever is killed when memory is short, it is not this process: by it the device is reached, or instances are heard.
pub(crate) fn spare(pid: i32) {
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "-900");
}

/// Whether it was not there.
fn create(group: &Path) -> io::Result<bool> {
    match fs::create_dir(group) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
