//! Links, addresses and routes: reading them from the kernel, planning changes, and applying them.

mod deletion;
mod dump;
pub mod hwaddr;
pub mod kernel;
pub mod monitor;
pub mod observed;
pub mod plan;
pub mod route;
