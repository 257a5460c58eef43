//! A process that does for the updater what the updater itself may not do once it is confined: mount. It is forked before, has nothing
//! open but its link to the updater, and ends with it.

use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::{inherited, stream};

/// The process, as the updater has it.
#[derive(Debug)]
pub(crate) struct ForkedProcess {
    link: UnixStream,
    pidfd: OwnedFd,
}

impl ForkedProcess {
    /// Forks it. The first that it does is `confine`; then it serves until the updater hangs up. We have no other thread.
    pub(crate) fn start<E: fmt::Display>(
        name: &str,
        confine: impl FnOnce() -> Result<(), E>,
        serve: impl FnOnce(&UnixStream) -> io::Result<()>,
    ) -> io::Result<ForkedProcess> {
        let (ours, theirs) = stream::pair()?;
        match clone::fork(Namespaces::empty(), Parent::Caller, None)? {
            Forked::Child => {
                let link = UnixStream::from(theirs);
                inherited::live_with_only([link.as_raw_fd()], || live(name, &link, confine, serve))
            }
            Forked::Caller { pid: _, pidfd } => Ok(ForkedProcess { link: UnixStream::from(ours), pidfd }),
        }
    }

    /// Ends it in the middle of what it does.
    pub(crate) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// To it.
    pub(crate) fn link(&mut self) -> &mut UnixStream {
        &mut self.link
    }
}

/// With the updater it ends at once, as what the updater does itself.
fn live<E: fmt::Display>(
    name: &str,
    link: &UnixStream,
    confine: impl FnOnce() -> Result<(), E>,
    serve: impl FnOnce(&UnixStream) -> io::Result<()>,
) -> Infallible {
    let served = confine().map_err(|error| error.to_string()).and_then(|()| {
        let dies_with_us = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        dies_with_us.map_err(io::Error::from).and_then(|()| serve(link)).map_err(|error| error.to_string())
    });
    if let Err(error) = &served {
        eprintln!("{name}: {error}");
    }
    std::process::exit(served.is_err().into())
}

impl Drop for ForkedProcess {
    /// It ends when nobody can ask it any more, whoever else has the link. Whoever comes next finds what it had mounted free.
    fn drop(&mut self) {
        let _ = self.link.shutdown(Shutdown::Both);
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}
