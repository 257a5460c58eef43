//! The board in QEMU: what is on its disk, the emulator, and the lines to it. [`Board`] is what tests boot and ask.

pub mod agent;
pub mod boot_modules;
pub mod container_images;
pub mod cpio;
pub mod disk;
pub mod efi_flash;
mod failure;
pub mod gpio_chip;
pub mod host_yado;
pub mod ingredients;
pub mod initramfs;
pub mod kernel_modules;
pub mod keys;
pub mod left_behind;
pub mod outside;
pub mod qemu;
pub mod qmp;
mod running;
mod seen_by_kernel;
pub mod spoilt_slot;
pub mod system_image;
pub mod systemd_system;
pub mod tamper;
pub mod tree;
pub mod volatile_disk;
pub mod write_log;

pub use disk::Firmware;
pub use failure::{BoardError, BuildError};
pub use running::{
    Board, BoardOptions, Prepared, Slots, WriteCache, disk_path, flash_path, instance, remove_disk, serial_log,
    write_log_path,
};
pub use seen_by_kernel::{Seen, has_inside, own_addresses};
