//! The messages between our processes: what is said, and its bytes. Postcard over `SOCK_SEQPACKET`, one message a
//! packet, every size bounded. No I/O here: `sys` moves the packets and the descriptors that travel with them.
//!
//! Beside them what all parts do the same way: write hexadecimal digits, hashes of names, names of signals, amounts and columns, and give
//! a source a budget.

// A message lives on the stack of whoever sends or reads it, one at a time: its bounds matter, not its largest variant.
#![allow(clippy::large_enum_variant)]
// PID 1 links this: whatever comes in, nothing here panics or wraps.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::expect_used, clippy::unwrap_used)
)]

pub mod amounts;
pub mod booted_slot;
pub mod budget;
pub mod columns;
pub mod datagrams;
pub mod failure;
pub mod formats;
pub mod frame;
pub mod hash;
pub mod hex;
pub mod last_reset;
pub mod launch;
pub mod names;
pub mod network;
pub mod printable;
pub mod rescue;
pub mod signal_name;
mod skippable;
pub mod update_status;

pub use budget::Budget;
pub use failure::{Failure, Retry, Step};
pub use frame::{DecodeError, MAX_FRAME_BYTES, decode, encode};
pub use names::{
    AboutInstance, DEFAULT_PROJECT, InstanceId, InstanceName, MAX_INSTANCES, NameError, RunNumber, Text,
};
