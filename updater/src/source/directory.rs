//! A source in a folder: that of a stick, or a file system of another machine.

use super::{FileName, Ranges, Source, SourceError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use yado_sys::regular_file;

/// A folder with `release`, `images` and `boot`.
#[derive(Debug)]
pub struct Directory {
    folder: Folder,
    /// The file that was read last: it is mostly the next one too.
    open: Option<(FileName, File)>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Folder {
    At(PathBuf),
    /// Of a file system that somebody else has made: nothing leads out of it.
    Below(OwnedFd),
}

/// Of one read; what is taken from a file at a time.
const PIECE_BYTES: usize = 128 << 10;

impl Directory {
    /// Nothing is read yet.
    pub fn new(folder: &Path) -> Directory {
        Directory::of(Folder::At(folder.to_owned()))
    }

    /// The folder that this is open on, where no link is followed.
    pub fn below(folder: OwnedFd) -> Directory {
        Directory::of(Folder::Below(folder))
    }

    fn of(folder: Folder) -> Directory {
        Directory { folder, open: None, buffer: vec![0; PIECE_BYTES] }
    }

    /// Whoever made the folder may have put a device or a pipe there, which would keep us for ever: only files are opened.
    fn open(&mut self, file: FileName) -> Result<File, SourceError> {
        if let Some((_, open)) = self.open.take().filter(|(name, _)| *name == file) {
            return Ok(open);
        }
        let name = file.to_string();
        let opened = match &self.folder {
            Folder::At(path) => regular_file::open_linked(&path.join(name)),
            Folder::Below(folder) => regular_file::open_below(folder, Path::new(&name)),
        };
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::Missing { file },
            _ => broken(file, &error),
        })
    }
}

impl Source for Directory {
    fn ranges(&self) -> Ranges {
        Ranges::Any
    }

    fn length(&mut self, file: FileName) -> Option<u64> {
        let open = self.open(file).ok()?;
        let bytes = open.metadata().ok()?.len();
        self.open = Some((file, open));
        Some(bytes)
    }

    fn read(
        &mut self,
        file: FileName,
        range: Range<u64>,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut open = self.open(file)?;
        open.seek(SeekFrom::Start(range.start)).map_err(|error| broken(file, &error))?;
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            match open.read(&mut self.buffer[..wanted]) {
                // It may have begun behind the end.
                Ok(0) => {
                    let bytes = open.metadata().map_err(|error| broken(file, &error))?.len();
                    return Err(SourceError::Short { file, bytes: bytes.min(at) });
                }
                Ok(count) => {
                    take(&self.buffer[..count]).map_err(SourceError::Stopped)?;
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(file, &error)),
            }
        }
        self.open = Some((file, open));
        Ok(())
    }
}

fn broken(file: FileName, error: &io::Error) -> SourceError {
    SourceError::Broken { file, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const FILE: FileName = FileName::Image([1; 32]);

    fn read(source: &mut dyn Source, file: FileName, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        source.read(file, range, &mut |piece| io::Write::write_all(&mut bytes, piece)).map(|()| bytes)
    }

    #[test]
    fn any_part_is_given_in_any_order_and_what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000_u32).map(|index| (index % 251) as u8).collect();
        fs::create_dir(folder.path().join("images")).unwrap();
        fs::write(folder.path().join(FILE.to_string()), &content).unwrap();
        let mut source = Directory::new(folder.path());
        assert_eq!((source.length(FILE), source.length(FileName::Release)), (Some(300_000), None));
        for range in [0..300_000, 5..6, 4096..200_000, 299_999..300_000, 7..7] {
            let expected = &content[range.start as usize..range.end as usize];
            assert!(read(&mut source, FILE, range.clone()).unwrap() == expected, "{range:?}");
        }
        assert_eq!((source.length(FILE), source.length(FileName::Release)), (Some(300_000), None));
        let error = read(&mut source, FILE, 299_999..300_001).unwrap_err();
        assert!(matches!(error, SourceError::Short { bytes: 300_000, .. }), "{error}");
        let error = read(&mut source, FILE, 500_000..500_001).unwrap_err();
        assert!(matches!(error, SourceError::Short { bytes: 300_000, .. }), "{error}");
        assert!(matches!(read(&mut source, FileName::Release, 0..1), Err(SourceError::Missing { .. })));
        let stopped = source.read(FILE, 0..9, &mut |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert!(matches!(stopped, SourceError::Stopped(_)));
    }

    #[test]
    fn what_is_no_file_does_not_keep_us() {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("release");
        symlink("/dev/zero", &release).unwrap();
        let mut source = Directory::new(folder.path());
        assert!(matches!(read(&mut source, FileName::Release, 0..1), Err(SourceError::Broken { .. })));
        fs::remove_file(&release).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &release, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(read(&mut source, FileName::Release, 0..1), Err(SourceError::Broken { .. })));
        fs::remove_file(&release).unwrap();
        fs::create_dir(&release).unwrap();
        assert!(matches!(read(&mut source, FileName::Release, 0..1), Err(SourceError::Broken { .. })));
    }
}
