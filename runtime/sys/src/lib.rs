//! The kernel's edge: what rustix and nix lack, one small function per call, with owned descriptors and errors as values.
//! The only crate with `unsafe`; it knows nothing of our messages.

#![allow(unsafe_code)]
// PID 1 links this: whatever comes in, nothing here panics or wraps.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::expect_used, clippy::unwrap_used)
)]

pub mod boot_parameter;
pub mod calendar;
pub mod capabilities;
pub mod children;
pub mod clock;
pub mod clone;
pub mod code_pages;
#[cfg(yado_coverage)]
pub mod coverage;
pub mod datagram;
pub mod descriptor_table;
pub mod device_filter;
pub mod device_mapper;
pub mod directory_tree;
pub mod exec;
pub mod file_lease;
pub mod file_lock;
pub mod file_range;
pub mod file_reserve;
pub mod file_time;
pub mod gpio;
pub mod gpio_line;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
pub mod identity;
pub mod idmap;
pub mod inherited;
pub mod interface;
pub mod interruption;
pub mod keyring;
pub mod loop_device;
pub mod machine;
pub mod memfd;
pub mod module;
pub mod mount;
pub mod named_partition;
pub mod netlink;
pub mod packet;
pub mod personality;
pub mod pidfd;
pub mod poll;
pub mod pty;
pub mod random;
pub mod raw_socket;
pub mod reboot;
pub mod regular_file;
pub mod replace_file;
pub mod rlimit;
pub mod root;
pub mod scheduling;
pub mod seccomp;
pub mod security_label;
pub mod signals;
pub mod stack;
pub mod stream;
pub mod uevent;
pub mod volume;
pub mod watchdog;

// As the other crates name it that take this in.
#[cfg(all(test, yado_coverage))]
extern crate self as yado_sys;

#[cfg(test)]
#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;
