//! The updater: what decides which system boots. So far it knows the boot state and shows it; it fetches and installs
//! nothing yet.

pub mod admission;
pub mod boot_loader;
pub mod boot_state;
pub mod environment;
pub mod exit_codes;
pub mod machine;
pub mod progress;
pub mod record;
pub mod slot;
pub mod source;
pub mod state_partition;
mod status;

pub use status::main;

#[cfg(test)]
#[path = "../../runtime/spec/tests/fuzzing/mod.rs"]
mod fuzzing;
