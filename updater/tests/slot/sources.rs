//! Where images come from in the tests: the file of an image, given in pieces, by ranges or as a whole, with or without lies.

use super::images::Image;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use yado_updater::source::{FileName, Ranges, Source, SourceError};

/// A file of an image as a source; what it gave is counted.
pub(crate) struct FileSource {
    file: File,
    bytes: u64,
    ranges: Ranges,
    /// Bytes that it gives other than they are, by their offset.
    pub(crate) lies: BTreeMap<u64, u8>,
    /// After so many bytes the connection is cut.
    pub(crate) breaks_after: Option<u64>,
    pub(crate) requests: Vec<Range<u64>>,
}

impl FileSource {
    pub(crate) fn new(image: &Image, ranges: Ranges) -> FileSource {
        FileSource::open(&image.path, ranges)
    }

    pub(crate) fn open(path: &Path, ranges: Ranges) -> FileSource {
        let file = File::open(path).unwrap();
        let bytes = file.metadata().unwrap().len();
        FileSource { file, bytes, ranges, lies: BTreeMap::new(), breaks_after: None, requests: Vec::new() }
    }

    /// It ends here.
    pub(crate) fn shorten(&mut self, bytes: u64) {
        self.bytes = bytes;
    }
}

impl Source for FileSource {
    fn ranges(&self) -> Ranges {
        self.ranges
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        self.requests.push(range.clone());
        // As a network gives it: not in blocks.
        let mut piece = vec![0; 70_001];
        let mut offset = range.start;
        while offset < range.end {
            let count = (piece.len() as u64).min(range.end.min(self.bytes).saturating_sub(offset));
            if count == 0 {
                return Err(SourceError::Short { file, bytes: self.bytes });
            }
            let piece = &mut piece[..count as usize];
            self.file.read_exact_at(piece, offset).unwrap();
            for (at, byte) in self.lies.range(offset..offset + count) {
                piece[(at - offset) as usize] = *byte;
            }
            if let Some(left) = &mut self.breaks_after {
                *left = left
                    .checked_sub(count)
                    .ok_or_else(|| SourceError::Broken { file, reason: "connection reset".to_owned() })?;
            }
            take(piece).map_err(SourceError::Stopped)?;
            offset += count;
        }
        Ok(())
    }
}
