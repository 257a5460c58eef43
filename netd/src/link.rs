//! Links, addresses and routes: what is there, what is to be done, and the doing.

mod deletion;
mod dump;
pub mod hwaddr;
pub mod kernel;
pub mod monitor;
pub mod observed;
pub mod plan;
pub mod route;
