//! A tree from a tar archive (ustar, GNU, pax), uncompressed and in a file: the contents are read from it when the
//! tree is written. Owners, modes, times, devices, links and `SCHILY.xattr` attributes come from the archive. POSIX ACLs in
//! their textual form do not.

use super::pax::parse_pax;
use super::tree::{Body, Content, Node, Owners, Tree, TreeError};
use core::fmt;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use tar::{Archive, Entry, EntryType};

/// Reads all headers of an archive, which must be positioned at its start. One that ends within a file's content is cut.
pub fn read_tar(mut file: impl Read + Seek, owners: Owners) -> Result<Tree, TarError> {
    let size_bytes = file.seek(SeekFrom::End(0)).map_err(|source| TarError::Read { source })?;
    file.rewind().map_err(|source| TarError::Read { source })?;
    let mut tree = Tree::new();
    let mut archive = Archive::new(BufReader::new(file));
    let mut extension = Extension::default();
    let mut last = String::new();
    for entry in archive.entries_with_seek().map_err(|source| TarError::read(source, ""))?.raw(true) {
        let mut entry = entry.map_err(|source| TarError::read(source, &last))?;
        let kind = entry.header().entry_type();
        let path = extension.path.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
        let problem = |problem| TarError::Entry { path: path.escape_ascii().to_string(), problem };
        if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
            extension.read(kind, &mut entry).map_err(problem)?;
        } else if !kind.is_pax_global_extensions() {
            last = path.escape_ascii().to_string();
            let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
            let end = entry.raw_file_position().checked_add(entry.size());
            // The reader goes on behind the content without a look at it.
            if is_file && end.is_none_or(|end| size_bytes < end) {
                return Err(TarError::Cut { last });
            }
            let extension = std::mem::take(&mut extension);
            add(&mut tree, &path, &entry, extension, owners).map_err(problem)?;
        }
    }
    Ok(tree)
}

/// Why an archive could not be read.
#[derive(Debug)]
pub enum TarError {
    /// The archive itself cannot be read.
    Read {
        /// The kernel's answer.
        source: io::Error,
    },
    /// It ends in the middle of an entry.
    Cut {
        /// The last entry before; empty: there was none.
        last: String,
    },
    /// What should be an entry's header is none.
    Damaged {
        /// The last entry before; empty: there was none, and so it may be no archive at all.
        last: String,
    },
    /// One of its entries.
    Entry {
        /// Its name.
        path: String,
        /// What is wrong.
        problem: EntryError,
    },
}

/// Why an entry cannot be packed.
#[derive(Debug)]
pub enum EntryError {
    /// Its name, or what it links to.
    Tree {
        /// Why.
        source: TreeError,
    },
    /// A field of its header.
    Field {
        /// The reader's answer.
        source: io::Error,
    },
    /// An extension of its header is damaged or more than 1 MiB.
    Extension,
    /// An owner of more than 32 bits.
    Owner {
        /// The number.
        found: u64,
    },
    /// Sparse files are not in the archive as they are on disk.
    Sparse,
    /// More than 8 GiB, announced in a way that we do not follow.
    Huge,
    /// A kind of entry that we do not know.
    UnknownType {
        /// Its type byte.
        found: u8,
    },
}

impl TarError {
    /// The words of the reader show the bytes that it did not understand.
    fn read(source: io::Error, last: &str) -> TarError {
        let last = last.to_owned();
        match source.kind() {
            _ if source.raw_os_error().is_some() => TarError::Read { source },
            io::ErrorKind::UnexpectedEof => TarError::Cut { last },
            _ if source.to_string().contains("read entire block") => TarError::Cut { last },
            _ => TarError::Damaged { last },
        }
    }
}

impl fmt::Display for TarError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TarError::Read { source } => write!(out, "read the archive: {source}"),
            TarError::Damaged { last } if last.is_empty() => {
                write!(out, "it is no tar archive, or damaged from its beginning")
            }
            TarError::Damaged { last } => write!(out, "the archive is damaged behind {last}"),
            TarError::Cut { last } if last.is_empty() => write!(out, "the archive is cut short at its beginning"),
            TarError::Cut { last } => write!(out, "the archive is cut short at or behind {last}"),
            TarError::Entry { path, problem } => write!(out, "{path}: {problem}"),
        }
    }
}

impl fmt::Display for EntryError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryError::Tree { source } => write!(out, "{source}"),
            EntryError::Field { source } => write!(out, "{source}"),
            EntryError::Extension => write!(out, "damaged extended header"),
            EntryError::Owner { found } => write!(out, "owner {found} is more than 32 bits"),
            EntryError::Sparse => write!(out, "sparse files are not supported: archive without --sparse"),
            EntryError::Huge => write!(out, "larger than 8 GiB"),
            EntryError::UnknownType { found } => write!(out, "unknown type {:?}", char::from(*found)),
        }
    }
}

impl std::error::Error for TarError {}

/// What the entries before a file say about it: GNU's long names, and pax records.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    bytes: Option<u64>,
    modified: Option<u64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Extension {
    fn read(&mut self, kind: EntryType, entry: &mut impl Read) -> Result<(), EntryError> {
        let mut text = Vec::new();
        entry.take(MAX_EXTENSION_BYTES + 1).read_to_end(&mut text).map_err(|source| EntryError::Field { source })?;
        if MAX_EXTENSION_BYTES < text.len() as u64 {
            return Err(EntryError::Extension);
        }
        if kind.is_pax_local_extensions() {
            return self.take_pax(&text);
        }
        let name = text.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.path = Some(name)
        } else {
            self.target = Some(name)
        }
        Ok(())
    }

    fn take_pax(&mut self, text: &[u8]) -> Result<(), EntryError> {
        for record in parse_pax(text).ok_or(EntryError::Extension)? {
            let number = || {
                let digits = std::str::from_utf8(record.value).map_err(|_| EntryError::Extension)?;
                digits.parse::<u64>().map(Some).map_err(|_| EntryError::Extension)
            };
            match record.key {
                b"path" => self.path = Some(record.value.to_vec()),
                b"linkpath" => self.target = Some(record.value.to_vec()),
                b"uid" => self.uid = number()?,
                b"gid" => self.gid = number()?,
                b"size" => self.bytes = number()?,
                b"mtime" => self.modified = Some(whole_seconds(record.value).ok_or(EntryError::Extension)?),
                key if key.starts_with(b"GNU.sparse.") => return Err(EntryError::Sparse),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.insert(name.to_vec(), record.value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }
}

fn add<R: Read>(
    tree: &mut Tree,
    path: &[u8],
    entry: &Entry<'_, R>,
    extension: Extension,
    owners: Owners,
) -> Result<(), EntryError> {
    let Extension { path: _, target, uid, gid, bytes, modified, xattrs } = extension;
    let field = |source| EntryError::Field { source };
    let header = entry.header();
    if bytes.is_some_and(|bytes| bytes != entry.size()) {
        return Err(EntryError::Huge);
    }
    let device = || -> Result<(u32, u32), EntryError> {
        let major = header.device_major().map_err(field)?.unwrap_or(0);
        Ok((major, header.device_minor().map_err(field)?.unwrap_or(0)))
    };
    let target = || target.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
    let body = match header.entry_type() {
        // Archives older than POSIX mark a directory only by its name.
        EntryType::Regular if path.ends_with(b"/") => Body::Directory(BTreeMap::new()),
        EntryType::Regular | EntryType::Continuous => {
            Body::File(Content::Archive { offset: entry.raw_file_position(), bytes: entry.size() })
        }
        EntryType::Directory => Body::Directory(BTreeMap::new()),
        EntryType::Symlink => Body::Symlink(target()),
        EntryType::Link => {
            return tree.insert_hard_link(path, &target()).map_err(|source| EntryError::Tree { source });
        }
        EntryType::Char => device().map(|(major, minor)| Body::CharDevice { major, minor })?,
        EntryType::Block => device().map(|(major, minor)| Body::BlockDevice { major, minor })?,
        EntryType::Fifo => Body::Fifo,
        EntryType::GNUSparse => return Err(EntryError::Sparse),
        other => return Err(EntryError::UnknownType { found: other.as_byte() }),
    };
    let (uid, gid) = match owners {
        Owners::Kept => (
            owner(uid.map_or_else(|| header.uid(), Ok).map_err(field)?)?,
            owner(gid.map_or_else(|| header.gid(), Ok).map_err(field)?)?,
        ),
        Owners::All { uid, gid } => (uid, gid),
    };
    let mode = (header.mode().map_err(field)? & 0o7777) as u16;
    // GNU writes what is before 1970 as a negative number, which is read as a large one.
    let of_header = || header.mtime().map(|seconds| if i64::try_from(seconds).is_ok() { seconds } else { 0 });
    let modified = Some(modified.map_or_else(of_header, Ok).map_err(field)?);
    tree.insert(path, Node { mode, uid, gid, xattrs, modified, body })
        .map_err(|source| EntryError::Tree { source })
        .map(drop)
}

/// Those of a time of pax, such as `1700000000.25`; 0 for one before 1970.
fn whole_seconds(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    match whole.strip_prefix('-') {
        Some(before) => before.parse::<u64>().ok().map(|_| 0),
        None => whole.parse().ok().filter(|seconds| i64::try_from(*seconds).is_ok()),
    }
}

fn owner(found: u64) -> Result<u32, EntryError> {
    u32::try_from(found).map_err(|_| EntryError::Owner { found })
}

/// Room for the 64 KiB that all attributes of a file can have in the kernel, many times over.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;
    use tar::{Builder, Header};

    fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        fill(&mut builder);
        builder.into_inner().unwrap()
    }

    fn header(kind: EntryType, bytes: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_uid(1);
        header.set_gid(2);
        header.set_size(bytes);
        header.set_mtime(7);
        header
    }

    fn append(builder: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, content: &[u8]) {
        let mut header = header(kind, content.len() as u64);
        // As it stands, since the safe way refuses the names that are to be refused here.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn read(bytes: &[u8]) -> Result<Tree, String> {
        read_tar(Cursor::new(bytes), Owners::Kept).map_err(|error| error.to_string())
    }

    #[test]
    fn long_names_and_pax_records_belong_to_the_next_entry_only() {
        let long = "l".repeat(150);
        let bytes = archive(|builder| {
            builder.append_data(&mut header(EntryType::Regular, 1), &long, &b"x"[..]).unwrap();
            builder
                .append_pax_extensions([
                    ("path", b"pax/name".as_slice()),
                    ("uid", b"4000000000"),
                    ("SCHILY.xattr.user.a", b"1\n2"),
                    ("mtime", b"1700000000.5"),
                ])
                .unwrap();
            append(builder, "short", EntryType::Regular, b"xyz");
            append(builder, "plain", EntryType::Regular, b"");
        });
        let tree = read(&bytes).unwrap();
        let node = |path: &str| tree.node(tree.find(path.as_bytes()).unwrap().unwrap());
        assert!(matches!(&node(&long).body, Body::File(content) if content.bytes() == 1));
        assert_eq!((node("pax/name").uid, node("pax/name").gid), (4_000_000_000, 2));
        assert_eq!((node("pax/name").modified, node("plain").modified), (Some(1_700_000_000), Some(7)));
        assert_eq!(node("pax").modified, None, "that directory is only in a name");
        assert_eq!(node("pax/name").xattrs[b"user.a".as_slice()], b"1\n2");
        assert_eq!((node("plain").uid, node("plain").mode, node("plain").xattrs.len()), (1, 0o640, 0));
        assert_eq!(tree.find(b"short"), Ok(None));
        let Body::File(Content::Archive { offset, bytes: 3 }) = node("pax/name").body else { panic!() };
        assert_eq!(&bytes[offset as usize..][..3], b"xyz");
    }

    #[test]
    fn what_is_older_than_1970_is_of_1970() {
        let bytes = archive(|builder| {
            let mut old = header(EntryType::Regular, 0);
            old.as_old_mut().mtime = [0xff; 12];
            old.as_old_mut().name[0] = b'a';
            old.set_cksum();
            builder.append(&old, &b""[..]).unwrap();
            builder.append_pax_extensions([("mtime", b"-1.5".as_slice())]).unwrap();
            append(builder, "b", EntryType::Regular, b"");
        });
        let tree = read(&bytes).unwrap();
        assert_eq!(
            ["a", "b"].map(|path| tree.node(tree.find(path.as_bytes()).unwrap().unwrap()).modified),
            [Some(0); 2]
        );
    }

    #[test]
    fn bad_archives_are_refused_with_the_name_of_the_entry() {
        let entry = |name: &str, kind: EntryType| archive(|builder| append(builder, name, kind, b""));
        let pax = |key: &str, value: &str| {
            archive(|builder| {
                builder.append_pax_extensions([(key, value.as_bytes())]).unwrap();
                append(builder, "file", EntryType::Regular, b"");
            })
        };
        for (bytes, reason) in [
            (entry("../up", EntryType::Regular), "../up: a path must not contain .."),
            (entry("sparse", EntryType::GNUSparse), "sparse: sparse files are not supported"),
            (entry("odd", EntryType::new(b'Q')), "odd: unknown type 'Q'"),
            (entry("link", EntryType::Link), "link: : hard link"),
            (pax("GNU.sparse.major", "1"), "sparse files are not supported"),
            (pax("size", "99"), "larger than 8 GiB"),
            (pax("uid", "4294967296"), "owner 4294967296 is more than 32 bits"),
            (pax("gid", "x"), "damaged extended header"),
            (pax("mtime", "soon"), "damaged extended header"),
            (pax("mtime", "18446744073709551615"), "damaged extended header"),
            (vec![b'x'; 2048], "it is no tar archive"),
            (entry("cut", EntryType::Regular)[..300].to_vec(), "the archive is cut short at its beginning"),
        ] {
            let error = read(&bytes).expect_err(reason);
            assert!(error.contains(reason), "{error} instead of {reason}");
        }
    }

    #[test]
    fn no_flipped_byte_makes_the_reader_panic() {
        let good = archive(|builder| {
            builder.append_pax_extensions([("SCHILY.xattr.user.a", b"1".as_slice())]).unwrap();
            append(builder, "dir/file", EntryType::Regular, b"content");
            append(builder, "device", EntryType::Char, b"");
        });
        for index in 0..good.len() {
            for bits in [0xff, 0x10, 0x01] {
                let mut bytes = good.clone();
                bytes[index] ^= bits;
                drop(read(&bytes));
            }
        }
    }
}
