//! The signed image, the same format for a container's root and for the system:
//!
//! ```text
//! [ payload ][ dm-verity hash tree ][ manifest ][ signatures ][ header, the last 4 KiB ]
//! ```
//!
//! Without features this crate is what a device needs before it may trust an image: the header, the keys, and the
//! checks in their order. It parses no JSON. `manifest`, `sign` and `pack` add what builders and the API need.

// PID 1 links this: whatever comes in, nothing here panics or wraps.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::expect_used, clippy::unwrap_used)
)]

pub mod header;
pub mod image_target;
pub mod open;
pub mod signatures;
pub mod trust;
pub mod verity;

#[cfg(feature = "manifest")]
pub mod container_facts;
#[cfg(feature = "manifest")]
pub mod inspect;
#[cfg(feature = "manifest")]
pub mod manifest;
#[cfg(feature = "manifest")]
pub mod release;
#[cfg(feature = "sign")]
pub mod secret;
#[cfg(feature = "sign")]
pub mod sign;

#[cfg(feature = "store")]
pub mod store;

#[cfg(feature = "pack")]
pub mod archive;
#[cfg(feature = "pack")]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a builder's, and no device's: PID 1 never links it"
)]
pub mod erofs;
#[cfg(feature = "pack")]
pub mod init_program;
#[cfg(feature = "pack")]
pub mod pack;

pub use header::{Header, HeaderError, Layout};
pub use image_target::{Architecture, ImageKind, RuntimeVersion, Version};
pub use open::{OpenError, Runtime, TrustedImage, Wanted, open_trusted};
pub use trust::{KeyId, Keys};
pub use yado_wire::hex;
