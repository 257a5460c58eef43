//! The messages between our processes: what is said, and its bytes. Postcard over `SOCK_SEQPACKET`, one message a
//! packet, every size bounded. No I/O here: `sys` moves the packets and the descriptors that travel with them.

pub mod failure;
pub mod frame;
pub mod launch;
pub mod names;
pub mod network;
pub mod rescue;

pub use failure::{Failure, Step};
pub use frame::{DecodeError, MAX_FRAME_BYTES, decode, encode};
pub use names::{InstanceName, NameError, Text};
