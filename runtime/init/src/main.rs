//! The program `yado-init`; everything is in the library.

use std::process::ExitCode;

/// musl's allocator maps a page for the first object of a size and unmaps it with the last one, again and again. On a slow
/// processor that was most of what a busy PID 1 did.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    yado_init::main(&arguments)
}
