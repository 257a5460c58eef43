//! A value that a reader of an older release can skip: its length stands before it, so what it does not know ends where it
//! ends. Used as `#[serde(with = "skippable")]` on a field of type `Option<T>`. `None` is only ever read, never written.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};

/// Writes the value as bytes. `None` is an error: nobody sends what it does not know.
pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, out: S) -> Result<S::Ok, S::Error> {
    let value = value.as_ref().ok_or_else(|| S::Error::custom("a value of an unknown kind"))?;
    let bytes = postcard::to_extend(value, Vec::new()).map_err(S::Error::custom)?;
    out.serialize_bytes(&bytes)
}

/// Reads the bytes, and `None` from those that are not exactly one value of a kind that this release knows.
pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    let bytes = <&[u8]>::deserialize(input)?;
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(Some(value)),
        Ok((_, _)) | Err(_) => Ok(None),
    }
}
