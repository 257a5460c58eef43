//! Resource limits of a process, by the names that setrlimit(2) has for them.

use rustix::process::{Pid, Resource, Rlimit};
use std::io;

/// One resource, as `limits.kernel.NAME` and ulimit(1) call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelResource(Resource);

impl KernelResource {
    /// `nofile`: open files, each process's own.
    pub const OPEN_FILES: KernelResource = KernelResource(Resource::Nofile);

    /// `RLIMIT_NOFILE` is `nofile`, and so on. `None`: the kernel has no such limit.
    pub fn parse(name: &str) -> Option<KernelResource> {
        let resource = match name {
            "as" => Resource::As,
            "core" => Resource::Core,
            "cpu" => Resource::Cpu,
            "data" => Resource::Data,
            "fsize" => Resource::Fsize,
            "locks" => Resource::Locks,
            "memlock" => Resource::Memlock,
            "msgqueue" => Resource::Msgqueue,
            "nice" => Resource::Nice,
            "nofile" => Resource::Nofile,
            "nproc" => Resource::Nproc,
            "rss" => Resource::Rss,
            "rtprio" => Resource::Rtprio,
            "rttime" => Resource::Rttime,
            "sigpending" => Resource::Sigpending,
            "stack" => Resource::Stack,
            _ => return None,
        };
        Some(KernelResource(resource))
    }

    /// Our own limits, soft and hard; `None` is unlimited.
    pub fn own(self) -> (Option<u64>, Option<u64>) {
        let limits = rustix::process::getrlimit(self.0);
        (limits.current, limits.maximum)
    }

    /// Sets the limits of a process; `None` is unlimited.
    pub fn set(self, pid: i32, soft: Option<u64>, hard: Option<u64>) -> io::Result<()> {
        let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        rustix::process::prlimit(Some(pid), self.0, Rlimit { current: soft, maximum: hard })?;
        Ok(())
    }

    /// Sets our own limits; `None` is unlimited.
    pub fn set_own(self, soft: Option<u64>, hard: Option<u64>) -> io::Result<()> {
        Ok(rustix::process::setrlimit(self.0, Rlimit { current: soft, maximum: hard })?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_set_by_name_is_the_one_the_kernel_has() {
        let resource = KernelResource::parse("core").unwrap();
        resource.set(std::process::id() as i32, Some(4096), Some(8192)).unwrap();
        assert_eq!(resource.own(), (Some(4096), Some(8192)));
        resource.set_own(Some(0), Some(4096)).unwrap();
        assert_eq!(resource.own(), (Some(0), Some(4096)));
        assert_eq!(KernelResource::parse("nofile"), Some(KernelResource::OPEN_FILES));
        assert_eq!(KernelResource::parse("NOFILE"), None);
        assert_eq!(KernelResource::parse(""), None);
    }
}
