//! The kernel's edge: what rustix and nix lack, one small function per call, with owned descriptors and errors as values.
//! The only crate with `unsafe`; it knows nothing of our messages.

#![allow(unsafe_code)]

pub mod calendar;
pub mod children;
pub mod clock;
pub mod datagram;
pub mod module;
pub mod packet;
pub mod poll;
pub mod random;
pub mod raw_socket;
pub mod reboot;
pub mod signals;
pub mod uevent;
pub mod volume;
pub mod watchdog;
