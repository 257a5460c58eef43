//! `yado`, the command: for whoever sits beside a device, and for whoever builds one. One module per verb; what they
//! share comes last.

mod command_line;

mod check_kernel;
mod rescue;

mod output;

pub use command_line::main;
