//! Labels of security modules: the AppArmor profile or SELinux context that a process gets when it next executes a program.

use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::Path;

/// AppArmor's own file, which it has beside other modules since Linux 5.8: apparmor(7), aa_change_onexec(2).
const APPARMOR: &str = "/proc/thread-self/attr/apparmor/exec";
/// The file of whichever module came first: SELinux's, where it is on. proc(5).
const FIRST: &str = "/proc/thread-self/attr/exec";
/// What the first module knows this thread by.
const CURRENT: &str = "/proc/thread-self/attr/current";
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

/// The program that this thread executes next runs with `label`, and so does all that it starts.
pub fn label_next_exec(label: &str) -> Result<(), LabelError> {
    match write(Path::new(APPARMOR), format!("exec {label}")) {
        Ok(()) => return Ok(()),
        Err(Refusal::Module(Errno::NOENT)) => return Err(LabelError::NoProfile),
        // Built in and not on.
        Err(Refusal::Module(Errno::INVAL) | Refusal::NoFile) => {}
        Err(Refusal::Module(errno)) => return Err(LabelError::Refused(errno.into())),
    }
    match write(Path::new(FIRST), label) {
        Ok(()) => Ok(()),
        Err(Refusal::NoFile) => Err(LabelError::NoModule),
        // SELinux says EINVAL of a context that its policy does not know. Where no module answers the kernel says it, and
        // then there is no label to read either.
        Err(Refusal::Module(Errno::INVAL)) if fs::read(CURRENT).is_err() => Err(LabelError::NoModule),
        Err(Refusal::Module(errno)) => Err(LabelError::Refused(errno.into())),
    }
}

/// Gives AppArmor a compiled profile, in place of one of the same name. It takes a profile in one write.
pub fn load_profile(profile: &[u8]) -> io::Result<()> {
    match write(Path::new(APPARMOR_LOAD), profile) {
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

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Refusal> {
    let file = fs::OpenOptions::new().write(true).open(path).map_err(|error| match error.raw_os_error() {
        Some(errno) if errno != Errno::NOENT.raw_os_error() => Refusal::Module(Errno::from_raw_os_error(errno)),
        Some(_) | None => Refusal::NoFile,
    })?;
    match rustix::io::write(&file, bytes.as_ref()) {
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
mod tests {
    use super::*;

    #[test]
    fn a_label_that_nobody_knows_is_refused_and_the_next_program_runs_without() {
        // In a thread of its own: a label that were taken would be this thread's.
        let refused = std::thread::spawn(|| label_next_exec("no-such-label-anywhere")).join();
        assert!(matches!(refused, Ok(Err(LabelError::NoModule | LabelError::NoProfile | LabelError::Refused(_)))));
    }
}
