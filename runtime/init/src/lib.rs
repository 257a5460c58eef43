//! PID 1 of a Yadokari device, and the same supervisor as an ordinary daemon. Modules stand in reading order: how the program is
//! started, the process and its loop, the tables that decide, the modules that act, and what is parsed.
//!
//! It never parses TOML, JSON, HTTP or TLS, never starts a thread, never waits for another process, and never panics.

// Whatever comes in, nothing here panics or wraps.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::expect_used, clippy::unwrap_used)
)]

mod apparmor_profiles;
mod arguments;
mod hosted;
mod initramfs;
mod kernel_mounts;
mod kernel_settings;
mod paths;
mod runtime_directories;
mod system;

mod boot_clock;
mod control;
mod open_file_limit;
mod poll_events;
mod setup;
mod supervisor;

mod boot;
mod boot_order;
pub mod instance;
mod instances;
mod service;
mod shutdown;
mod update_health;
mod updater;

mod apply;
mod booted_slot;
mod child_exit;
mod close_queue;
mod damaged_images;
mod data_partition;
mod datagram_reader;
mod deferred_close;
mod events;
mod free_space;
mod fuse_connections;
mod hardware_watchdog;
mod health_checks;
mod hotplug;
mod identities;
mod image_cache;
mod job;
mod last_reset;
mod launch;
mod launch_timeout;
mod memory_guard;
mod netd;
mod power_key;
mod process;
mod reader_link;
mod reader_reports;
mod reader_socket;
mod reports;
mod service_list;
mod service_process;
mod specs;
mod start_instance;
mod stop_signal;
mod trusted_keys;

pub mod clock_floor;
pub mod log;
pub mod modules;
pub mod uevent;

pub use arguments::main;
pub use data_partition::superblock;

#[cfg(test)]
#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;
