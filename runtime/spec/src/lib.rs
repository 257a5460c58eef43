//! What an instance is: LXD-style keys and devices in, one typed, complete [`InstanceSpec`] out. Pure: bytes and text in,
//! values out. PID 1 and the launcher use the types and the binary form only; the compiler from TOML is the feature
//! `compile`.

// PID 1 links this: whatever comes in, nothing here panics or wraps.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::expect_used, clippy::unwrap_used)
)]

pub mod apply;
pub mod directory_name;
pub mod file;
pub mod file_identity;
pub mod instance;
pub mod kernel_table_share;
pub mod launch_request;
pub mod network;
pub mod sources;
pub mod usb_device;

#[cfg(feature = "compile")]
pub mod changes;
#[cfg(feature = "compile")]
pub mod compile;
#[cfg(feature = "compile")]
pub mod device_types;
#[cfg(feature = "compile")]
mod devices;
#[cfg(feature = "compile")]
mod document;
#[cfg(feature = "compile")]
pub mod draft;
#[cfg(feature = "compile")]
mod draft_of_spec;
#[cfg(feature = "compile")]
pub mod keys;
#[cfg(feature = "compile")]
pub mod layer;
#[cfg(feature = "compile")]
mod nearest;
#[cfg(feature = "compile")]
pub mod network_changes;
#[cfg(feature = "compile")]
pub mod network_keys;
#[cfg(feature = "compile")]
mod parsed_file;
#[cfg(feature = "compile")]
pub mod parsed_layer;
#[cfg(feature = "compile")]
mod probe;
#[cfg(feature = "compile")]
pub mod problem;
#[cfg(feature = "compile")]
pub mod reference;
#[cfg(feature = "compile")]
pub mod row;
#[cfg(feature = "compile")]
pub mod setting;
#[cfg(feature = "compile")]
pub mod update_policy;
#[cfg(feature = "compile")]
pub mod values;

pub use instance::InstanceSpec;
pub use launch_request::LaunchRequest;
pub use network::NetworksSpec;
