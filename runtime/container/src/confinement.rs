//! What is taken from the instance's root before its init is executed: capabilities, system calls, and more.

use crate::report::{at, at_in_vain};
use std::os::fd::{AsRawFd, RawFd};
use yado_spec::instance::Security;
use yado_sys::capabilities::{self, Capabilities};
use yado_sys::keyring;
use yado_sys::seccomp::{DEFAULT_DENIALS, Filter};
use yado_sys::security_label::{LabelError, Procfs};
use yado_wire::{Failure, Step};

/// Capabilities that LXD takes from every container. In a user namespace they could not affect the system anyway; in a privileged
/// instance they would make its root as powerful as ours.
const DROPPED: Capabilities = Capabilities::SYS_TIME
    .union(Capabilities::SYS_MODULE)
    .union(Capabilities::SYS_RAWIO)
    .union(Capabilities::MAC_ADMIN)
    .union(Capabilities::MAC_OVERRIDE);

/// The label for the next program, prepared where `/proc` is the system's own.
#[derive(Debug)]
pub(crate) struct NextLabel<'a> {
    label: &'a str,
    proc: Procfs,
}

impl AsRawFd for NextLabel<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.proc.as_raw_fd()
    }
}

impl NextLabel<'_> {
    /// The label of `security`. Call it before joining any namespace of the instance, which decides what its `/proc` is.
    pub(crate) fn of(security: &Security) -> Result<Option<NextLabel<'_>>, Failure> {
        let Some(label) = &security.label else { return Ok(None) };
        let proc = Procfs::open().map_err(at(Step::Label, "/proc"))?;
        Ok(Some(NextLabel { label, proc }))
    }
}

/// Confines this process and its descendants, except for the part that [`finish`] does. It needs the privileges of the instance's
/// root, and touches no file.
pub(crate) fn confine(security: &Security) -> Result<(), Failure> {
    // Only this can fail for a reason that passes, lack of memory; the kernel would refuse the other calls again.
    keyring::join_new_session().map_err(at(Step::Capabilities, "session keyring"))?;
    capabilities::drop_from_bounding_set(DROPPED).map_err(at_in_vain(Step::Capabilities, "bounding set"))?;
    if security.syscalls_deny_default {
        let filter = Filter::allow_all_but(&DEFAULT_DENIALS);
        filter.install().map_err(at_in_vain(Step::Seccomp, "system call filter"))?;
    }
    Ok(())
}

/// Denies socketcall(2), once it is known whether the instance's image is for a machine of 32 bits. Programs of i386 may know no other
/// way to a socket; in an image for x86_64 few are of i386.
pub(crate) fn deny_socketcall(security: &Security, is_32_bit: bool) -> Result<(), Failure> {
    match Filter::against_socketcall() {
        Some(filter) if security.syscalls_deny_default && !is_32_bit => {
            filter.install().map_err(at_in_vain(Step::Seccomp, "system call filter"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Does the rest, as the user who executes the next program. Afterwards no descriptor of the system's `/proc` is open.
pub(crate) fn finish(security: &Security, label: Option<NextLabel<'_>>) -> Result<(), Failure> {
    if let Some(NextLabel { label, proc }) = label {
        proc.label_next_exec(label).map_err(|error| label_failure(label, &error))?;
    }
    if security.no_new_privs {
        capabilities::set_no_new_privs().map_err(at_in_vain(Step::Capabilities, "no_new_privs"))?;
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
