//! Loading a kernel module from a file.

use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

/// How the module's file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// A plain ELF object.
    Plain,
    /// Compressed; the kernel decompresses it (`CONFIG_MODULE_DECOMPRESS`, since 5.17).
    Compressed,
}

/// `MODULE_INIT_COMPRESSED_FILE`.
const COMPRESSED_FILE: i32 = 4;

/// Loads the module in `file`. `false`: it is there already. `EOPNOTSUPP` or `EINVAL` for a compressed file: this kernel
/// does not decompress.
pub fn load(file: &impl AsFd, parameters: &CStr, stored: Stored) -> io::Result<bool> {
    let flags = match stored {
        Stored::Plain => 0,
        Stored::Compressed => COMPRESSED_FILE,
    };
    match rustix::system::finit_module(file, parameters, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
