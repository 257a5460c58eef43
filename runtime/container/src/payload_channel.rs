//! Messages between the launcher and the payload, over a socket that closes on exec: by that the launcher learns that the
//! payload has executed the instance's init.

use crate::report::at;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;
use yado_sys::packet::{self, Packet};
use yado_wire::launch::StepTime;
use yado_wire::{Failure, MAX_FRAME_BYTES, Step};

/// Messages from the launcher to the payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromLauncher {
    /// The id maps are written: the payload can be root inside.
    BeRoot,
    /// All trees are on the stage. With the message come `/dev` and `/dev/pts`.
    Build {
        /// The image is for a machine of 32 bits.
        is_32_bit: bool,
        /// There is a notify socket in `/run`.
        has_notify_socket: bool,
    },
    /// Devices, interfaces and limits are set up, and init knows the payload. It may come before the payload has finished building,
    /// or after that has failed.
    Exec,
}

/// The most steps of the payload that are reported; it has fewer.
pub(crate) const MAX_PAYLOAD_STEPS: usize = 20;

/// How long the payload's steps took.
pub(crate) type PayloadSteps = heapless::Vec<StepTime, MAX_PAYLOAD_STEPS>;

/// Messages from the payload to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromPayload {
    /// The network namespace exists. Sent only if netd is to be asked for interfaces.
    Network,
    /// All namespaces exist. With the message come `/proc`, `/sys` and the cgroup tree as seen from them.
    Namespaces,
    /// The root is built. There is no answer: it only restarts the launcher's timeout.
    Built,
    /// The next call is `execve`. How long the payload's steps took.
    Executing(PayloadSteps),
    /// The payload gives up. It stays until the launcher is gone or kills it: see [`PayloadChannel::fail`].
    Failed(Failure),
}

/// How long the launcher waits for the payload's next message. Between two messages the payload makes mounts, at worst with a read
/// from a slow card, and its instance may be allowed little of the processor. The payload waits for as long as the launcher
/// lives, which may verify a whole image meanwhile.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct PayloadChannel(OwnedFd);

/// A message, with the descriptors that came in its packet.
#[derive(Debug)]
pub(crate) struct Received<M> {
    pub(crate) message: M,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl AsRawFd for PayloadChannel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl PayloadChannel {
    /// The launcher's end, which waits for each message no longer than `timeout`, and the payload's.
    pub(crate) fn pair(timeout: Duration) -> Result<(PayloadChannel, PayloadChannel), Failure> {
        let (launchers, payloads) = packet::socketpair().map_err(at(Step::Launcher, "socketpair"))?;
        packet::set_timeout(&launchers, timeout).map_err(at(Step::Launcher, "socketpair"))?;
        Ok((PayloadChannel(launchers), PayloadChannel(payloads)))
    }

    pub(crate) fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let too_long = || Failure::refused(Step::Launcher, "payload", "a message longer than a packet");
        let bytes = yado_wire::encode(message).ok_or_else(too_long)?;
        let sent = packet::send(&self.0.as_fd(), &bytes, descriptors).map_err(at(Step::Launcher, "payload"))?;
        sent.ok_or_else(|| Failure::refused(Step::Launcher, "payload", "it takes no message"))
    }

    /// [`PayloadChannel::send`] for the launcher. If the payload is gone, the failure is the one that it sent last, if it sent one.
    pub(crate) fn send_to_payload(
        &self,
        message: &FromLauncher,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Failure> {
        self.send(message, descriptors).map_err(|failure| match failure.errno == Errno::PIPE.raw_os_error() {
            true => self.receive_from_payload(Step::Launcher).err().unwrap_or(failure),
            false => failure,
        })
    }

    /// Sends the payload's failure, and waits until the other end is closed. If it ended with unread messages, the kernel would
    /// first tell the launcher `ECONNRESET`, which looks like an end without a message.
    pub(crate) fn fail(&self, failure: Failure) {
        // If the launcher is gone, nobody is left who wants to know.
        let _ = self.send(&FromPayload::Failed(failure), &[]);
        while let Ok(Some(_)) = self.receive::<FromLauncher>(Step::Launcher) {}
    }

    /// Waits until the payload has built its root.
    pub(crate) fn wait_until_built(&self) -> Result<(), Failure> {
        match self.receive_from_payload(Step::Mount)? {
            Some(Received { message: FromPayload::Built, .. }) => Ok(()),
            _ => Err(lost(Step::Mount)),
        }
    }

    /// Whether there is a message, or the other end is closed.
    pub(crate) fn has_message(&self) -> Result<bool, Failure> {
        let next = packet::next_has_room(&self.0.as_fd()).map_err(at(Step::Launcher, "payload"))?;
        Ok(next.is_some())
    }

    /// Waits for the next message, which belongs to `step`. `None`: the other end is closed.
    pub(crate) fn receive<M: DeserializeOwned>(&self, step: Step) -> Result<Option<Received<M>>, Failure> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let packet = packet::recv(&self.0.as_fd(), &mut buffer).map_err(at(Step::Launcher, "payload"))?;
        let Some(packet) = packet else { return Err(Failure::refused(step, "payload", TOO_SLOW)) };
        if packet.is_end() {
            return Ok(None);
        }
        let Packet { len, descriptors } = packet;
        let message = yado_wire::decode(&buffer[..len])
            .map_err(|error| Failure::refused(Step::Launcher, "payload", &error.to_string()))?;
        Ok(Some(Received { message, descriptors }))
    }

    /// Waits for the payload's next message. A failure in it is returned as the error.
    pub(crate) fn receive_from_payload(&self, step: Step) -> Result<Option<Received<FromPayload>>, Failure> {
        match self.receive(step)? {
            Some(Received { message: FromPayload::Failed(failure), .. }) => Err(failure),
            word => Ok(word),
        }
    }
}

/// The reason of a failure when the payload's message does not come in time.
pub(crate) const TOO_SLOW: &str = "it did not go on in time";

/// The failure when the payload has ended, or sent another message than expected.
pub(crate) fn lost(step: Step) -> Failure {
    Failure::refused(step, "payload", "it ended without a word")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_payload_is_not_taken_for_one_that_executes() {
        let (launchers, payloads) = PayloadChannel::pair(Duration::from_millis(10)).unwrap();
        let failure = launchers.receive_from_payload(Step::Exec).unwrap_err();
        assert_eq!((failure.step, failure.reason.as_str()), (Step::Exec, TOO_SLOW));
        drop(payloads);
        assert!(launchers.receive_from_payload(Step::Exec).unwrap().is_none());
    }

    #[test]
    fn building_and_executing_are_waited_for_one_after_the_other() {
        let (launchers, payloads) = PayloadChannel::pair(Duration::from_millis(10)).unwrap();
        let failure = launchers.wait_until_built().unwrap_err();
        assert_eq!((failure.step, failure.reason.as_str()), (Step::Mount, TOO_SLOW));
        payloads.send(&FromPayload::Built, &[]).unwrap();
        launchers.wait_until_built().unwrap();
        let failure = launchers.receive_from_payload(Step::Exec).unwrap_err();
        assert_eq!((failure.step, failure.reason.as_str()), (Step::Exec, TOO_SLOW));
    }

    #[test]
    fn the_last_word_of_a_payload_that_is_gone_is_what_failed() {
        // Gone with a message unread, and with none.
        for unread in [1, 0] {
            let (launchers, payloads) = PayloadChannel::pair(MESSAGE_TIMEOUT).unwrap();
            (0..unread).for_each(|_| launchers.send_to_payload(&FromLauncher::BeRoot, &[]).unwrap());
            let reason = Failure::refused(Step::Seccomp, "filter", "not in this kernel").in_vain();
            payloads.send(&FromPayload::Failed(reason.clone()), &[]).unwrap();
            drop(payloads);
            assert_eq!(launchers.send_to_payload(&FromLauncher::Exec, &[]).unwrap_err(), reason);
            let nothing_more = launchers.send_to_payload(&FromLauncher::Exec, &[]).unwrap_err();
            assert_eq!(nothing_more.errno, Errno::PIPE.raw_os_error());
        }
    }

    #[test]
    fn a_payload_that_fails_stays_until_the_launcher_has_heard_it() {
        let (launchers, payloads) = PayloadChannel::pair(MESSAGE_TIMEOUT).unwrap();
        let reason = Failure::refused(Step::Mount, "/sys", "not a directory");
        std::thread::scope(|scope| {
            let launchers = launchers;
            let payload = scope.spawn(|| {
                payloads.fail(reason.clone());
                drop(payloads);
            });
            launchers.send_to_payload(&FromLauncher::BeRoot, &[]).unwrap();
            launchers.send_to_payload(&FromLauncher::Exec, &[]).unwrap();
            assert_eq!(launchers.receive_from_payload(Step::Exec).unwrap_err(), reason);
            assert!(!payload.is_finished());
        });
    }
}
