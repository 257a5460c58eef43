//! The board in QEMU: what it needs is fetched and built here, then it is booted, broken and watched. Nothing of
//! this is shipped.

mod command_line;
mod spread;

pub mod accept;
pub mod arch;
pub mod bench;
pub mod board;
pub mod broken;
pub mod cache;
pub mod command;
pub mod cross;
pub mod demo;
pub mod guests_on_board;
pub mod hostile;
pub mod length;
pub mod other_work;
pub mod progress;
pub mod provision;
pub mod report;
pub mod steps;
pub mod update;
pub mod update_peers;
