//! `yado`, the command: for whoever sits beside a device, and for whoever builds one. One module per verb; what they
//! share comes last.

mod command_line;

mod rescue;
mod system;
mod update;

mod image;
mod key;
mod release;

mod apply;
mod check;
mod compile;
mod image_facts;
mod instance_files;

mod check_kernel;
mod help;

mod lazy;
mod output;
mod part;
mod places;
mod write_aside;

pub use command_line::main;

#[cfg(test)]
#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;
