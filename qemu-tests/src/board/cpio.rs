//! A cpio archive in the kernel's `newc` format (Documentation/driver-api/early-userspace/buffer-format.rst): what the
//! kernel unpacks as its initramfs. Bytes only; owner and times are always 0, so equal trees give equal bytes.

use std::collections::BTreeSet;

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

impl Archive {
    /// An archive of nothing.
    pub fn new() -> Archive {
        Archive::default()
    }

    /// Adds a directory and those above it. Adding one twice adds it once.
    pub fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        self.parents_of(path);
        self.entry(path, DIRECTORY | 0o755, &[]);
        self.directories.insert(path.to_owned());
    }

    /// Adds a file with these permission bits, and the directories above it.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        self.parents_of(path);
        self.entry(path, FILE | permissions, content);
    }

    /// Adds a symbolic link, and the directories above it.
    pub fn symlink(&mut self, path: &str, target: &str) {
        let path = path.trim_matches('/');
        self.parents_of(path);
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    /// The whole archive, with its trailer.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn parents_of(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    /// One entry: thirteen fields of eight hex digits, the name with its NUL, and the content, each padded to four bytes.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let content_bytes = u32::try_from(content.len()).expect("no file of an initramfs has 4 GiB");
        let name_bytes = u32::try_from(name.len() + 1).expect("a path is short");
        let fields = [self.entries, mode, 0, 0, links, 0, content_bytes, 0, 0, 0, 0, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        while self.bytes.len() % 4 != 0 {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads names, modes and contents back, the way the kernel walks them.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let (header, _) = bytes.split_at(110);
            assert_eq!(&header[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&header[6 + 8 * index..14 + 8 * index]).expect("hex");
                usize::from_str_radix(text, 16).expect("hex")
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).expect("a name");
            let content_at = (110 + name_size).next_multiple_of(4);
            let content = bytes[content_at..content_at + size].to_vec();
            bytes = &bytes[(content_at + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return found;
            }
            found.push((name, u32::try_from(mode).expect("a mode"), content));
        }
    }

    #[test]
    fn what_goes_in_comes_out_with_its_directories_before_it() {
        let mut archive = Archive::new();
        archive.file("/etc/yado/a", 0o600, b"abc");
        archive.directory("etc");
        archive.symlink("etc/b", "yado/a");
        let wanted = [
            ("etc", 0o040_755, ""),
            ("etc/yado", 0o040_755, ""),
            ("etc/yado/a", 0o100_600, "abc"),
            ("etc/b", 0o120_777, "yado/a"),
        ];
        let wanted = wanted.map(|(name, mode, content)| (name.to_owned(), mode, content.as_bytes().to_vec()));
        assert_eq!(entries(&archive.finish()), wanted);
    }
}
