//! The signed image, the same format for a container's root and for the system:
//!
//! ```text
//! [ payload ][ dm-verity hash tree ][ manifest ][ signatures ][ header, the last 4 KiB ]
//! ```
//!
//! Without features this crate is what a device needs before it may trust an image: the header, the keys, and the
//! checks in their order. It parses no JSON. `manifest`, `sign` and `pack` add what builders and the API need.

pub mod hex;

pub mod header;
pub mod open;
pub mod signatures;
pub mod trust;
pub mod verity;

pub use header::{Architecture, Header, HeaderError, Kind, Layout, Version};
pub use open::{OpenError, Runtime, TrustedImage, Wanted, open_trusted};
pub use trust::{KeyId, Keys};
