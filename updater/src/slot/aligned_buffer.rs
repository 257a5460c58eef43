//! Memory that the kernel takes for reading past its cache: O_DIRECT wants it to begin at a multiple of the device's block.

use std::ops::{Deref, DerefMut};

/// Enough for every disk that there is, and a page.
const ALIGNMENT: usize = 4096;

/// Zeros at first.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl AlignedBuffer {
    pub(crate) fn new(bytes: usize) -> AlignedBuffer {
        let memory = vec![0; bytes + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        AlignedBuffer { memory, start, bytes }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_and_is_as_long_as_was_asked_for() {
        for bytes in [1, 4095, 4096, 524_288] {
            let mut buffer = AlignedBuffer::new(bytes);
            assert_eq!((buffer.as_ptr() as usize % ALIGNMENT, buffer.len()), (0, bytes));
            buffer.fill(7);
        }
    }
}
