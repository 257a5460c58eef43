//! The end of the machine: reboot(2), and the rule of what ctrl-alt-del does. Nothing is synced or unmounted here.

use rustix::system::RebootCommand;
use std::ffi::CString;
use std::io;

/// Restarts at once. Returns only with an error.
pub fn restart() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::Restart)?)
}

/// Restarts at once, with an argument that the kernel passes on to the board's boot loader: `LINUX_REBOOT_CMD_RESTART2`. Of a longer
/// one than 255 bytes the kernel takes the beginning. Returns only with an error.
pub fn restart_with(argument: &str) -> io::Result<()> {
    let argument = CString::new(argument)?;
    // SAFETY: the kernel reads the argument up to its NUL, which `CString` ends it with, and `argument` lives until the call is over.
    let result = unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            argument.as_ptr(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Powers off at once. Returns only with an error.
pub fn power_off() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::PowerOff)?)
}

/// From now on ctrl-alt-del sends `SIGINT` to PID 1 and does not restart at once.
pub fn catch_ctrl_alt_del() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::CadOff)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::{env, fs};

    /// Set for the process that may restart its own PID namespace.
    const RESTARTS: &str = "YADO_TEST_RESTARTS";

    /// In a PID namespace of its own a restart ends that namespace by SIGHUP, and the machine goes on (reboot(2), "Behavior inside PID
    /// namespaces"). What the kernel was asked is told by strace.
    #[test]
    fn a_restart_with_an_argument_asks_the_kernel_for_it() {
        if env::var_os(RESTARTS).is_some() {
            // Never on the machine's own PID 1, nor beside it.
            assert_eq!(std::process::id(), 1);
            restart_with("0 tryboot").unwrap();
            return;
        }
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root for a PID namespace");
            return;
        }
        if Command::new("strace").arg("-V").output().is_err() {
            println!("SKIPPED: no strace (cargo accept packages installs it)");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let name = "reboot::tests::a_restart_with_an_argument_asks_the_kernel_for_it";
        let output = Command::new("strace")
            .args(["-f", "-e", "trace=reboot", "-o"])
            .arg(&trace)
            .args(["unshare", "--pid", "--fork"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(RESTARTS, "")
            .output()
            .unwrap();
        let seen = fs::read_to_string(&trace).unwrap();
        let call = "reboot(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART2, \"0 tryboot\"";
        assert!(seen.contains(call), "{seen}\n{output:?}");
        // As unshare(1) ends its child ended, and strace(1) as unshare did.
        assert_eq!(output.status.signal(), Some(libc::SIGHUP), "{seen}\n{output:?}");
    }

    #[test]
    fn an_argument_that_no_kernel_takes_is_an_error_and_no_restart() {
        assert_eq!(restart_with("0 try\0boot").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
