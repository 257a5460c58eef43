//! A directory tree being laid out for an image or an archive: files with their permission bits, links, copies of other
//! trees. Owners do not matter here: the image builder makes everything root's.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A tree below a root directory that belongs to it.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

/// What could not be laid out.
#[derive(Debug)]
pub struct TreeError {
    path: PathBuf,
    source: io::Error,
}

impl Tree {
    /// An empty tree; what was there is removed.
    pub fn create(root: &Path) -> Result<Tree, TreeError> {
        match fs::remove_dir_all(root) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(TreeError { path: root.to_owned(), source }),
        }
        fs::create_dir_all(root).map_err(at(root))?;
        Ok(Tree { root: root.to_owned() })
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a directory and those above it.
    pub fn directory(&self, path: &str) -> Result<(), TreeError> {
        let path = self.place(path);
        fs::create_dir_all(&path).map_err(at(&path))
    }

    /// Writes a file.
    pub fn file(&self, path: &str, permissions: u32, content: impl AsRef<[u8]>) -> Result<(), TreeError> {
        let path = self.place_with_parent(path)?;
        let write = || {
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(permissions))
        };
        write().map_err(at(&path))
    }

    /// Copies a file.
    pub fn copy(&self, path: &str, permissions: u32, from: &Path) -> Result<(), TreeError> {
        let path = self.place_with_parent(path)?;
        fs::copy(from, &path).map_err(at(from))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(permissions)).map_err(at(&path))
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, path: &str, target: impl AsRef<Path>) -> Result<(), TreeError> {
        let path = self.place_with_parent(path)?;
        symlink(target, &path).map_err(at(&path))
    }

    /// Copies what is below a directory: directories, files and symbolic links.
    pub fn copy_tree(&self, path: &str, from: &Path) -> Result<(), TreeError> {
        let to = self.place(path);
        fs::create_dir_all(&to).map_err(at(&to))?;
        copy_below(from, &to)
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn place_with_parent(&self, path: &str) -> Result<PathBuf, TreeError> {
        let path = self.place(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        Ok(path)
    }
}

fn copy_below(from: &Path, to: &Path) -> Result<(), TreeError> {
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(at(&source))?;
        if kind.is_dir() {
            fs::create_dir_all(&target).map_err(at(&target))?;
            copy_below(&source, &target)?;
        } else if kind.is_symlink() {
            let points_to = fs::read_link(&source).map_err(at(&source))?;
            symlink(points_to, &target).map_err(at(&target))?;
        } else {
            fs::copy(&source, &target).map_err(at(&source))?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError { path, source }
}

impl fmt::Display for TreeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "lay out {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for TreeError {}
