//! Random bytes from the kernel.

use std::io;

/// `N` random bytes, fit for identifiers that nobody may guess. `EAGAIN` early in boot, before the kernel has gathered
/// enough: it never blocks. At most 256 bytes, which the kernel never cuts short.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    // SAFETY: `bytes` is live and writable for its whole length, which is what is passed.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, libc::GRND_NONBLOCK) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::random_bytes::<16>().unwrap(), super::random_bytes::<16>().unwrap());
    }
}
