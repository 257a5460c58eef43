//! Everything that must be on the machine before a board can boot: packages, compilers, kernels, root file
//! systems. Each is a function that returns where the thing is, and is quick when it is there already.

mod apparmor;
mod apt;
mod binfmt;
mod board_files;
mod command_line;
mod failure;
mod gpio_sim;
mod guests;
mod host_packages;
mod kernel;
mod packages_index;
mod peers;
mod rauc;
mod rootfs;

pub use apparmor::apparmor_parser;
pub(crate) use apt::{PrivateApt, Suite};
pub use board_files::{busybox, debian_tools, edk2, uboot};
pub use command_line::{board_parts, main};
pub use failure::ProvisionError;
pub use gpio_sim::gpio_sim;
pub use guests::{GUESTS, Guest, Wanted, guest_root};
pub use host_packages::{Purpose, ensure as ensure_packages};
pub use kernel::{Kernel, kernel, newer_kernel};
pub(crate) use packages_index::Stanza;
pub use peers::peers;
pub use rauc::{RaucBundler, rauc_bundler};
pub(crate) use rootfs::SOURCE_DATE_EPOCH;
pub use rootfs::{debian_root, lxc_host_root, updaters_root};
