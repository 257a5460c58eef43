//! The kernel's edge: what rustix and nix lack, one small function per call, with owned descriptors and errors as values.
//! The only crate with `unsafe`; it knows nothing of our messages.

#![allow(unsafe_code)]

pub mod clock;
pub mod packet;
pub mod random;
pub mod raw_socket;
