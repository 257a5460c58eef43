//! Writing the image of a release to where it will be used: a slot's partition, or a file beside the image that it replaces. Only
//! what differs is fetched and written, all of it is read back, and it becomes valid last. Whether it may be written at all, and
//! what is booted then, is asked and decided elsewhere.

mod aligned_buffer;
mod block_set;
mod blocks;
mod boot_files;
mod container_image;
mod error;
mod fetch;
mod hash_tree;
mod in_order;
mod old_image;
mod partitions;
mod read_back;
mod storage;
mod write_image;
mod writer;

pub(crate) use boot_files::process::BootFilesProcess;
pub use boot_files::{BootFilesError, BootFilesWritten, write_boot_files};
pub use container_image::{ContainerImageError, write_container_image};
pub use error::WriteImageError;
pub use partitions::{FindError, Partitions, find};
pub use storage::{Storage, Target};
pub use write_image::{Counts, ImageToWrite, Written, write_image};
