//! The cross build: our programs, static, for each architecture; and the check that the oldest compiler we promise
//! still takes the whole workspace.

mod artifact;
mod build;
mod command_line;
mod failure;
mod floor;
mod linker;
mod toolchain;

pub use artifact::Artifact;
pub(crate) use artifact::parse_messages;
pub(crate) use build::target_folder;
pub use build::{Program, SHIPPED, build, build_later, build_together};
pub use command_line::main;
pub use failure::BuildError;
pub use floor::floor_check;
pub use toolchain::{Toolchain, floor_compiler, newest_compiler};
