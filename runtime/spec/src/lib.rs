//! What an instance is: LXD-style keys and devices in, one typed, complete [`InstanceSpec`] out. Pure: bytes and text in,
//! values out. PID 1 and the launcher use the types and the binary form only; the compiler from TOML is the feature
//! `compile`.

pub mod file;
pub mod instance;
pub mod network;
pub mod order;
pub mod sources;

pub use instance::InstanceSpec;
pub use network::NetworksSpec;
pub use order::LaunchOrder;
