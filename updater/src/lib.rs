//! The updater: what decides which system boots. What works and what only shows are verbs of one command line ([`main`]).

mod check_boot;
mod command;
mod confinement;
mod driver;
mod file_rules;
mod forked_process;
mod history;
mod init_client;
mod last_check;
mod messages;
mod places;
mod run_file;
mod slots;
mod status;
mod trial;

pub mod admission;
pub mod boot_loader;
pub mod boot_state;
pub mod environment;
pub mod exit_codes;
pub mod instances;
pub mod live_status;
pub mod machine;
pub mod progress;
pub mod record;
pub mod slot;
pub mod source;
pub mod state_partition;

pub use command::main;

#[cfg(test)]
#[path = "../../runtime/spec/tests/fuzzing/mod.rs"]
mod fuzzing;
