//! What the launcher and the payload say to each other over a socket that closes on exec: that close is how the launcher
//! learns that the payload's program runs.

use crate::report::at;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use yado_sys::packet::{self, Packet};
use yado_wire::launch::StepTime;
use yado_wire::{Failure, MAX_FRAME_BYTES, Step};

/// From the launcher to the payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Go {
    /// The id maps are written, everything outside is mounted and lies on the stage. With it travel `/dev`, `/run`, and the
    /// notify socket if there is one.
    Build,
    /// Devices, interfaces and limits are in place too.
    Exec,
}

/// How many steps the payload tells of; it takes fewer.
pub(crate) const MAX_PAYLOAD_STEPS: usize = 20;

/// How long the payload's steps took.
pub(crate) type PayloadSteps = heapless::Vec<StepTime, MAX_PAYLOAD_STEPS>;

/// From the payload to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The namespaces exist. With it travel `/proc`, `/sys` and the cgroup tree as seen from them.
    Namespaces,
    /// The inside is built. With it travels the master side of the console.
    Built,
    /// The next thing is `execve`. How long the payload's steps took.
    Executing(PayloadSteps),
    /// The payload gives up.
    Failed(Failure),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Talk(OwnedFd);

/// What arrived.
#[derive(Debug)]
pub(crate) struct Heard<M> {
    pub(crate) message: M,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Talk {
    /// Both ends.
    pub(crate) fn pair() -> Result<(Talk, Talk), Failure> {
        let (one, other) = packet::socketpair().map_err(at(Step::Launcher, "socketpair"))?;
        Ok((Talk(one), Talk(other)))
    }

    pub(crate) fn say<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let too_long = || Failure::refused(Step::Launcher, "payload", "a message longer than a packet");
        let bytes = yado_wire::encode(message).ok_or_else(too_long)?;
        packet::send(&self.0.as_fd(), &bytes, descriptors).map_err(at(Step::Launcher, "payload"))?;
        Ok(())
    }

    /// Waits for the next message. `None`: the other end is closed.
    pub(crate) fn hear<M: DeserializeOwned>(&self) -> Result<Option<Heard<M>>, Failure> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let packet = packet::recv(&self.0.as_fd(), &mut buffer).map_err(at(Step::Launcher, "payload"))?;
        let Some(Packet { len, descriptors }) = packet.filter(|packet| !packet.is_end()) else { return Ok(None) };
        let message = yado_wire::decode(&buffer[..len])
            .map_err(|error| Failure::refused(Step::Launcher, "payload", &error.to_string()))?;
        Ok(Some(Heard { message, descriptors }))
    }

    /// Waits for the payload's next word; its failure becomes ours.
    pub(crate) fn hear_word(&self) -> Result<Option<Heard<Word>>, Failure> {
        match self.hear()? {
            Some(Heard { message: Word::Failed(failure), .. }) => Err(failure),
            word => Ok(word),
        }
    }
}

/// The payload ended, or said something else, when we waited for a word.
pub(crate) fn lost(step: Step) -> Failure {
    Failure::refused(step, "payload", "it ended without a word")
}
