//! Labels of security modules: the AppArmor profile or SELinux context that a process gets when it next executes a program.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

// In procfs:

/// AppArmor's own file, which it has beside other modules since Linux 5.8: apparmor(7), aa_change_onexec(2).
const APPARMOR: &str = "thread-self/attr/apparmor/exec";
/// The file of whichever module came first: SELinux's, where it is on. proc(5).
const FIRST: &str = "thread-self/attr/exec";
/// What the first module knows this thread by.
const CURRENT: &str = "thread-self/attr/current";

/// Where AppArmor takes profiles that apparmor_parser(8) has compiled.
const APPARMOR_LOAD: &str = "/sys/kernel/security/apparmor/.load";

/// Why a label cannot be had.
#[derive(Debug)]
pub enum LabelError {
    /// Neither AppArmor nor SELinux is on.
    NoModule,
    /// AppArmor is on and has no such profile.
    NoProfile,
    /// The module's own refusal.
    Refused(io::Error),
}

/// The kernel's procfs, by which a thread labels itself: opened where `/proc` is certainly it, and used where it may be
/// anything.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl AsRawFd for Procfs {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Procfs {
    /// That of this mount namespace. `EXDEV`: something else is mounted there.
    pub fn open() -> io::Result<Procfs> {
        const PROC_SUPER_MAGIC: u64 = 0x9fa0;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        match rustix::fs::fstatfs(&proc)?.f_type as u64 {
            PROC_SUPER_MAGIC => Ok(Procfs(proc)),
            _ => Err(Errno::XDEV.into()),
        }
    }

    /// The program that this thread executes next runs with `label`, and so does all that it starts.
    pub fn label_next_exec(&self, label: &str) -> Result<(), LabelError> {
        match self.write(APPARMOR, &format!("exec {label}")) {
            Ok(()) => return Ok(()),
            Err(Refusal::Module(Errno::NOENT)) => return Err(LabelError::NoProfile),
            // Built in and not on.
            Err(Refusal::Module(Errno::INVAL) | Refusal::NoFile) => {}
            Err(Refusal::Module(errno)) => return Err(LabelError::Refused(errno.into())),
        }
        match self.write(FIRST, label) {
            Ok(()) => Ok(()),
            Err(Refusal::NoFile) => Err(LabelError::NoModule),
            // SELinux says EINVAL of a context that its policy does not know. Where no module answers the kernel says it,
            // and then there is no label to read either.
            Err(Refusal::Module(Errno::INVAL)) if self.read(CURRENT).is_err() => Err(LabelError::NoModule),
            Err(Refusal::Module(errno)) => Err(LabelError::Refused(errno.into())),
        }
    }

    fn write(&self, path: &str, text: &str) -> Result<(), Refusal> {
        write(self.open_file(path, OFlags::WRONLY), text.as_bytes())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        const MAX_LABEL_BYTES: u64 = 4096;
        let mut label = Vec::new();
        File::from(self.open_file(path, OFlags::RDONLY)?).take(MAX_LABEL_BYTES).read_to_end(&mut label)?;
        Ok(label)
    }

    /// `thread-self` is a link, and leads to a name beside it.
    fn open_file(&self, path: &str, access: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.0, path, access | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

/// Gives AppArmor a compiled profile, in place of one of the same name. It takes a profile in one write.
pub fn load_profile(profile: &[u8]) -> io::Result<()> {
    match write(rustix::fs::openat(CWD, APPARMOR_LOAD, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()), profile) {
        Ok(()) => Ok(()),
        Err(Refusal::NoFile) => Err(io::Error::new(io::ErrorKind::Unsupported, "AppArmor is not on")),
        Err(Refusal::Module(errno)) => Err(errno.into()),
    }
}

/// Who refused.
enum Refusal {
    /// There is no such file.
    NoFile,
    /// The security module.
    Module(Errno),
}

fn write(file: Result<OwnedFd, Errno>, bytes: &[u8]) -> Result<(), Refusal> {
    let file = file.map_err(|errno| if errno == Errno::NOENT { Refusal::NoFile } else { Refusal::Module(errno) })?;
    match rustix::io::write(&file, bytes) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Refusal::Module(errno)),
    }
}

impl std::fmt::Display for LabelError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LabelError::NoModule => {
                out.write_str("neither AppArmor nor SELinux is on: boot the kernel with apparmor=1 security=apparmor")
            }
            LabelError::NoProfile => out.write_str("no profile of this name is loaded"),
            LabelError::Refused(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for LabelError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_nobody_knows_is_refused_and_the_next_program_runs_without() {
        // In a thread of its own: a label that were taken would be this thread's.
        let refused = std::thread::spawn(|| Procfs::open().unwrap().label_next_exec("no-such-label-anywhere")).join();
        assert!(matches!(refused, Ok(Err(LabelError::NoModule | LabelError::NoProfile | LabelError::Refused(_)))));
    }
}
