//! Resource limits (setrlimit(2)) of an instance's processes: `limits.kernel.*`, and the defaults.

use crate::report::at;
use yado_spec::LaunchRequest;
use yado_spec::instance::KernelLimit;
use yado_spec::kernel_table_share;
use yado_sys::machine;
use yado_sys::rlimit::KernelResource;
use yado_wire::{Failure, Step};

/// Limits that the kernel also applies to a whole user namespace, by the limits of its creator: user_namespaces(7).
const OF_THE_NAMESPACE: [&str; 3] = ["sigpending", "msgqueue", "memlock"];

/// Soft limit of open files: what select(2) can take. Programs that know more raise it themselves.
const OPEN_FILES: u64 = 1024;

/// Sets limits of ourselves before the user namespace is made: they become the limits of the namespace.
pub(crate) fn bound_namespace(request: &LaunchRequest) {
    for limit in request.spec.limits.kernel.iter().filter(|limit| OF_THE_NAMESPACE.contains(&limit.resource.as_str()))
    {
        if let Some(resource) = KernelResource::parse(&limit.resource) {
            // Where this may not be raised, setting it on the payload fails too, and says so.
            let _ = resource.set_own(limit.hard, limit.hard);
        }
    }
}

/// Sets limits of the payload from outside: nobody inside a user namespace may raise a hard limit.
pub(crate) fn set(request: &LaunchRequest, pid: i32) -> Result<(), Failure> {
    let limits = &request.spec.limits.kernel;
    if !limits.iter().any(|limit| limit.resource == "nofile") {
        // The kernel's own 4096 is too few for databases; systemd sets as many as it can. Hosted, we may lack the privilege
        // to raise it: then it stays.
        let most = kernel_table_share::open_files(machine::memory_bytes());
        let _ = KernelResource::OPEN_FILES.set(pid, Some(OPEN_FILES), Some(most));
    }
    limits.iter().try_for_each(|KernelLimit { resource: name, soft, hard }| {
        let resource = KernelResource::parse(name)
            .ok_or_else(|| Failure::refused(Step::Rlimits, name, "the kernel has no such limit"))?;
        resource.set(pid, *soft, *hard).map_err(at(Step::Rlimits, name))
    })
}
