//! What root inside may still do: the capability bounding set, and no-new-privs.

use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;

pub use rustix::thread::CapabilitySet as Capabilities;

/// Takes `capabilities` out of the bounding set of this thread: whatever it executes can never have them again.
pub fn drop_from_bounding_set(capabilities: Capabilities) -> io::Result<()> {
    for capability in CapabilitySet::iter(&capabilities) {
        rustix::thread::remove_capability_from_bounding_set(capability)?;
    }
    Ok(())
}

/// From now on no `execve` gains privileges: set-user-id bits and file capabilities are without effect.
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Gives up every capability of this thread but `capabilities`, for good: what it executes as root gets no others back.
pub fn keep_only(capabilities: Capabilities) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?;
    drop_from_bounding_set(held.permitted.difference(capabilities))?;
    let kept = held.permitted.intersection(capabilities);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
