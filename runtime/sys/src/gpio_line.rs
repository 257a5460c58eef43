//! One requested line of a GPIO chip, by the second version of the kernel's interface (5.10): driven or read until it
//! is dropped. Edges, and several lines at once, are not asked for here.
//!
//! The crate that does the same writes a `timespec` literal, which has private padding where musl's time has 64 bits
//! on 32-bit ARM, and so does not compile there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// `_IOWR(0xB4, 0x07, struct gpio_v2_line_request)` of <linux/gpio.h>.
const GPIO_V2_GET_LINE_IOCTL: u32 = 0xC250_B407;
/// `_IOWR(0xB4, 0x0E, struct gpio_v2_line_values)`.
const GPIO_V2_LINE_GET_VALUES_IOCTL: u32 = 0xC010_B40E;

const FLAG_INPUT: u64 = 1 << 2;
const FLAG_OUTPUT: u64 = 1 << 3;
/// `GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES`.
const ATTRIBUTE_OUTPUT_VALUES: u32 = 2;
const MAX_LINES: usize = 64;
const MAX_NAME: usize = 32;
const MAX_ATTRIBUTES: usize = 10;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attribute {
    id: u32,
    padding: u32,
    value: u64,
    mask: u64,
}

#[repr(C)]
struct Request {
    offsets: [u32; MAX_LINES],
    consumer: [u8; MAX_NAME],
    flags: u64,
    attribute_count: u32,
    config_padding: [u32; 5],
    attributes: [Attribute; MAX_ATTRIBUTES],
    line_count: u32,
    event_buffer_size: u32,
    padding: [u32; 5],
    descriptor: i32,
}

#[repr(C)]
struct Values {
    bits: u64,
    mask: u64,
}

/// Which way a line is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Read.
    Input,
    /// Driven low at once.
    OutputLow,
    /// Driven high at once.
    OutputHigh,
}

/// A line that is ours; the kernel takes it back when this is dropped.
#[derive(Debug)]
pub struct GpioLine {
    descriptor: OwnedFd,
}

impl GpioLine {
    /// Requests the line with this number, in the name of `consumer` (cut to what the kernel keeps).
    pub fn request(chip: &Path, line: u32, direction: Direction, consumer: &str) -> io::Result<GpioLine> {
        let chip = File::open(chip)?;
        let mut request = prepare(line, direction, consumer);
        // SAFETY: `request` is live, laid out as `struct gpio_v2_line_request`, and as long as the request says.
        if unsafe { libc::ioctl(chip.as_raw_fd(), GPIO_V2_GET_LINE_IOCTL as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, close-on-exec, and nothing else owns it.
        Ok(GpioLine { descriptor: unsafe { OwnedFd::from_raw_fd(request.descriptor) } })
    }

    /// Whether the line is high now.
    pub fn is_high(&self) -> io::Result<bool> {
        let mut values = Values { bits: 0, mask: 1 };
        // SAFETY: `values` is live, laid out as `struct gpio_v2_line_values`, and as long as the request says.
        let answer =
            unsafe { libc::ioctl(self.descriptor.as_raw_fd(), GPIO_V2_LINE_GET_VALUES_IOCTL as _, &raw mut values) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(values.bits & 1 == 1) }
    }
}

fn prepare(line: u32, direction: Direction, consumer: &str) -> Request {
    let mut offsets = [0; MAX_LINES];
    offsets[0] = line;
    // The last byte stays zero: the kernel wants a terminated name.
    let mut name = [0; MAX_NAME];
    for (kept, byte) in name[..MAX_NAME - 1].iter_mut().zip(consumer.bytes()) {
        *kept = byte;
    }
    let mut attributes = [Attribute::default(); MAX_ATTRIBUTES];
    let (flags, attribute_count) = match direction {
        Direction::Input => (FLAG_INPUT, 0),
        Direction::OutputLow | Direction::OutputHigh => {
            let value = u64::from(direction == Direction::OutputHigh);
            attributes[0] = Attribute { id: ATTRIBUTE_OUTPUT_VALUES, padding: 0, value, mask: 1 };
            (FLAG_OUTPUT, 1)
        }
    };
    Request {
        offsets,
        consumer: name,
        flags,
        attribute_count,
        config_padding: [0; 5],
        attributes,
        line_count: 1,
        event_buffer_size: 0,
        padding: [0; 5],
        descriptor: -1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_carry_the_sizes_of_their_structs() {
        assert_eq!(size_of::<Request>(), (GPIO_V2_GET_LINE_IOCTL >> 16 & 0x3fff) as usize);
        assert_eq!(size_of::<Values>(), (GPIO_V2_LINE_GET_VALUES_IOCTL >> 16 & 0x3fff) as usize);
    }

    #[test]
    fn an_output_says_its_first_level_and_a_long_name_is_cut_before_its_end() {
        let request = prepare(5, Direction::OutputHigh, &"n".repeat(40));
        assert_eq!((request.offsets[0], request.line_count, request.flags), (5, 1, FLAG_OUTPUT));
        assert_eq!((request.attribute_count, request.attributes[0].value, request.attributes[0].mask), (1, 1, 1));
        assert_eq!((request.consumer[30], request.consumer[31]), (b'n', 0));
        assert_eq!(prepare(5, Direction::Input, "x").attribute_count, 0);
    }

    #[test]
    fn what_is_no_gpio_chip_is_refused() {
        assert!(GpioLine::request(Path::new("/dev/null"), 0, Direction::Input, "test").is_err());
    }
}
