//! PID 1 of a Yadokari device, and the same supervisor as an ordinary daemon. Modules stand in reading order: how we are
//! started, the process and its loop, what the loop's decisions are made by, what is done about them, and what is parsed.
//!
//! It never parses TOML, JSON, HTTP or TLS, never starts a thread, never waits for another process, and has no panic of its
//! own.

// Whatever comes in, nothing here panics or wraps.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::expect_used, clippy::unwrap_used)
)]

mod arguments;
mod host;
mod initramfs;
mod kernel_mounts;
mod kernel_settings;
mod places;
mod profiles;
mod runtime_directories;
mod system;

mod control;
mod moment;
mod open_files;
mod poll_events;
mod setup;
mod supervisor;

mod boot;
mod boot_order;
pub mod instance;
mod instances;
mod service;
mod shutdown;

mod applying;
mod closing;
mod data_partition;
mod data_watch;
mod datagram_reader;
mod ending;
mod events;
mod fuse_connections;
mod hardware_watchdog;
mod heard_socket;
mod hotplug;
mod identities;
mod job;
mod late_launch;
mod launch;
mod memory_guard;
mod netd;
mod power_key;
mod process;
mod reader_link;
mod reader_reports;
mod reports;
mod service_list;
mod service_process;
mod slot;
mod specs;
mod starting;
mod stop_signal;
mod trusted_keys;
mod untrusted;
mod warm_images;
mod watching;

pub mod clock_floor;
pub mod log;
pub mod modules;
pub mod uevent;

pub use arguments::main;
pub use data_partition::superblock;

#[cfg(test)]
#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;
