//! The end of the machine: reboot(2), and the rule of what ctrl-alt-del does. Nothing is synced or unmounted here.

use rustix::system::RebootCommand;
use std::io;

/// Restarts at once. Returns only with an error.
pub fn restart() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::Restart)?)
}

/// Powers off at once. Returns only with an error.
pub fn power_off() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::PowerOff)?)
}

/// From now on ctrl-alt-del sends `SIGINT` to PID 1 and does not restart at once.
pub fn catch_ctrl_alt_del() -> io::Result<()> {
    Ok(rustix::system::reboot(RebootCommand::CadOff)?)
}
