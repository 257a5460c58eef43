//! Compares a message with its frozen bytes. When they change on purpose, [`HOW_TO_CHANGE`] says what to do.

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use yado_wire::{decode, encode};

const HOW_TO_CHANGE: &str = "what our processes say to each other has other bytes now. Kinds are appended, and never reordered or \
     given other fields: add a kind, and freeze its bytes here. If an old peer must not guess, raise frame::VERSION";

/// The frame of `message` is its version, 1, and these bytes.
pub(crate) fn is_frozen<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M, parts: &[&[u8]]) {
    let frozen = [&[1], &parts.concat()[..]].concat();
    let found = encode(message).unwrap();
    assert_eq!(found.escape_ascii().to_string(), frozen.escape_ascii().to_string(), "{message:?}: {HOW_TO_CHANGE}");
    assert_eq!(decode::<M>(&frozen).as_ref(), Ok(message), "{HOW_TO_CHANGE}");
}
