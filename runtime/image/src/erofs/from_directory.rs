//! A tree from a directory of this machine. Symbolic links are not followed, and other file systems mounted below are
//! read like the rest. What belongs to this machine rather than to the tree (SELinux labels, IMA) is left out.

use super::tree::{Body, Content, Node, Owners, Place, Tree};
use core::fmt;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Reads names and attributes; the contents stay where they are until the tree is written.
pub fn read_directory(root: &Path, owners: Owners) -> Result<Tree, DirectoryError> {
    // The directory itself may be named by a symbolic link.
    let root = fs::canonicalize(root).map_err(|source| DirectoryError::Read { path: root.to_owned(), source })?;
    let mut tree = Tree::new();
    let mut linked: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut waiting = vec![root.clone()];
    while let Some(path) = waiting.pop() {
        let error = |source| DirectoryError::Read { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(error)?;
        let inside = path.strip_prefix(&root).unwrap_or(Path::new("")).as_os_str().as_bytes().to_vec();
        let identity = (metadata.dev(), metadata.ino());
        let tree_error = |source| DirectoryError::Tree { path: path.clone(), source };
        if let Some(first) = linked.get(&identity) {
            tree.insert_hard_link(&inside, first).map_err(tree_error)?;
            continue;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(error)? {
                waiting.push(entry.map_err(error)?.path());
            }
        } else if 1 < metadata.nlink() {
            linked.insert(identity, inside.clone());
        }
        let _: Place = tree.insert(&inside, node(&path, &metadata, owners)?).map_err(tree_error)?;
    }
    Ok(tree)
}

/// Why a directory could not be read.
#[derive(Debug)]
pub enum DirectoryError {
    /// The file system refused.
    Read {
        /// What.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something that has no place in an image.
    Tree {
        /// What.
        path: PathBuf,
        /// Why.
        source: super::tree::TreeError,
    },
    /// Of no type that we know.
    UnknownType {
        /// What.
        path: PathBuf,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            DirectoryError::Tree { path, source } => write!(out, "{}: {source}", path.display()),
            DirectoryError::UnknownType { path } => write!(out, "{}: unknown type of file", path.display()),
        }
    }
}

impl std::error::Error for DirectoryError {}

fn node(path: &Path, metadata: &Metadata, owners: Owners) -> Result<Node, DirectoryError> {
    let (uid, gid) = match owners {
        Owners::Kept => (metadata.uid(), metadata.gid()),
        Owners::All { uid, gid } => (uid, gid),
    };
    let error = |source| DirectoryError::Read { path: path.to_owned(), source };
    let kind = metadata.file_type();
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let body = if kind.is_dir() {
        Body::Directory(BTreeMap::new())
    } else if kind.is_file() {
        Body::File(Content::Path { path: path.to_owned(), bytes: metadata.len() })
    } else if kind.is_symlink() {
        Body::Symlink(fs::read_link(path).map_err(error)?.into_os_string().into_vec())
    } else if kind.is_char_device() {
        Body::CharDevice { major, minor }
    } else if kind.is_block_device() {
        Body::BlockDevice { major, minor }
    } else if kind.is_fifo() {
        Body::Fifo
    } else if kind.is_socket() {
        Body::Socket
    } else {
        return Err(DirectoryError::UnknownType { path: path.to_owned() });
    };
    let mode = (metadata.mode() & 0o7777) as u16;
    let modified = Some(u64::try_from(metadata.mtime()).unwrap_or(0));
    Ok(Node { mode, uid, gid, xattrs: read_xattrs(path).map_err(error)?, modified, body })
}

fn read_xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; MAX_XATTR_LIST_BYTES];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| belongs_to_tree(name)) {
        let mut value = vec![0; MAX_XATTR_BYTES];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}

/// The attributes that say something about the file itself, wherever it is.
fn belongs_to_tree(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || [b"security.capability".as_slice(), b"system.posix_acl_access", b"system.posix_acl_default"]
            .contains(&name)
}

/// The kernel's `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const MAX_XATTR_LIST_BYTES: usize = 65536;
const MAX_XATTR_BYTES: usize = 65536;
