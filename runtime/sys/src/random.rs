//! Random bytes from the kernel.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// `N` random bytes, at once. Until the kernel's generator is seeded, which a board without a hardware source may be for a
/// minute after its start, they are the kernel's best guess (getrandom(2), `GRND_INSECURE`): good for what must differ from
/// boot to boot, such as transaction ids, and not for keys.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    // getrandom(2): so many come whole, and no signal interrupts.
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    match getrandom(&mut bytes[..], GetRandomFlags::NONBLOCK) {
        Err(Errno::AGAIN) => getrandom(&mut bytes[..], GetRandomFlags::INSECURE)?,
        result => result?,
    };
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
