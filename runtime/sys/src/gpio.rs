//! What a GPIO chip calls itself.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `_IOR(0xB4, 0x01, struct gpiochip_info)` of <linux/gpio.h>.
const GPIO_GET_CHIPINFO_IOCTL: u32 = 0x8044_B401;

#[repr(C)]
struct ChipInfo {
    name: [u8; 32],
    label: [u8; 32],
    lines: u32,
}

/// The label of the chip with this character device: `pinctrl-bcm2835`, `gpio-sim.0-node0`.
pub fn chip_label(device: &Path) -> io::Result<String> {
    let file = File::open(device)?;
    let mut info = ChipInfo { name: [0; 32], label: [0; 32], lines: 0 };
    // SAFETY: `info` is live, laid out as `struct gpiochip_info`, and as long as the request says.
    if unsafe { libc::ioctl(file.as_raw_fd(), GPIO_GET_CHIPINFO_IOCTL as _, &raw mut info) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let label = info.label.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(label).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_request_carries_the_size_of_the_struct() {
        assert_eq!(size_of::<ChipInfo>(), (GPIO_GET_CHIPINFO_IOCTL >> 16 & 0x3fff) as usize);
    }

    #[test]
    fn what_is_no_gpio_chip_is_refused() {
        assert!(chip_label(Path::new("/dev/null")).is_err());
    }
}
