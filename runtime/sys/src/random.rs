//! Random bytes from the kernel.

use std::io;

/// `N` random bytes, at once. Until the kernel's generator is seeded, which a board without a hardware source may be for a
/// minute after its start, they are the kernel's best guess (getrandom(2), `GRND_INSECURE`): good for what must differ from
/// boot to boot, such as transaction ids, and not for keys.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    for flags in [libc::GRND_NONBLOCK, libc::GRND_INSECURE] {
        // SAFETY: `bytes` is live and writable for its whole length, which is what is passed.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, flags) };
        if 0 <= got {
            return Ok(bytes);
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN) {
            break;
        }
    }
    Err(io::Error::last_os_error())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::random_bytes::<16>().unwrap(), super::random_bytes::<16>().unwrap());
    }
}
