//! When a file was last changed, in 64 bits also where std's `time_t` has 32: std was built by others there, and 2038 is inside
//! a device's life.

use rustix::fs::{Timespec, Timestamps};
use std::io;
use std::os::fd::AsFd;

/// When the file was last changed, in seconds since 1970.
pub fn modified_s(file: impl AsFd) -> io::Result<i64> {
    Ok(rustix::fs::fstat(file)?.st_mtime)
}

/// Says when the file was last changed (and read).
pub fn set_modified_s(file: impl AsFd, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_time_beyond_32_bits_is_kept() {
        const IN_2040: i64 = 2_208_988_800;
        let path = std::env::temp_dir().join(format!("yado-file-time-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for seconds in [0, i64::from(i32::MAX), i64::from(i32::MAX) + 1, IN_2040] {
            set_modified_s(&file, seconds).unwrap();
            assert_eq!(modified_s(&file).unwrap(), seconds);
            assert_eq!(file.metadata().unwrap().mtime(), seconds);
        }
    }
}
