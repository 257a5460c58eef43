//! The last thing before `execve`: what the instance's root may not do, although it is root.

use crate::report::{at, at_in_vain};
use yado_spec::instance::Security;
use yado_sys::capabilities::{self, Capabilities};
use yado_sys::keyring;
use yado_sys::seccomp::{DEFAULT_DENIALS, Filter};
use yado_sys::security_label::{self, LabelError};
use yado_wire::{Failure, Step};

/// What LXD takes from every container. In a user namespace they are without effect on the system anyway; in a privileged
/// instance they are what stands between its root and ours.
const DROPPED: Capabilities = Capabilities::SYS_TIME
    .union(Capabilities::SYS_MODULE)
    .union(Capabilities::SYS_RAWIO)
    .union(Capabilities::MAC_ADMIN)
    .union(Capabilities::MAC_OVERRIDE);

/// Confines this process and all it will ever start, before it executes something of the instance's.
pub(crate) fn confine(security: &Security) -> Result<(), Failure> {
    if let Some(label) = &security.label {
        security_label::label_next_exec(label).map_err(|error| label_failure(label, &error))?;
    }
    confine_unlabelled(security)
}

/// The same for a process that executes nothing, so that no label would ever come into force.
pub(crate) fn confine_unlabelled(security: &Security) -> Result<(), Failure> {
    // A key ring takes memory of a bounded kind; what else is refused here, this kernel always refuses.
    keyring::join_new_session().map_err(at(Step::Capabilities, "session keyring"))?;
    capabilities::drop_from_bounding_set(DROPPED).map_err(at_in_vain(Step::Capabilities, "bounding set"))?;
    if security.no_new_privs {
        capabilities::set_no_new_privs().map_err(at_in_vain(Step::Capabilities, "no_new_privs"))?;
    }
    if security.syscalls_deny_default {
        let filter = Filter::allow_all_but(&DEFAULT_DENIALS);
        filter.install().map_err(at_in_vain(Step::Seccomp, "system call filter"))?;
    }
    Ok(())
}

fn label_failure(label: &str, error: &LabelError) -> Failure {
    match error {
        LabelError::Refused(error) => Failure::from_io(Step::Label, label, error),
        LabelError::NoModule | LabelError::NoProfile => {
            Failure::refused(Step::Label, label, &error.to_string()).in_vain()
        }
    }
}
