//! What was fetched or built once and is kept outside the tree: `$YADO_CACHE`, else `$XDG_CACHE_HOME/yadokari`,
//! else `~/.cache/yadokari`.
//!
//! An entry is named by what it is and keyed by what it was made from, so a changed recipe is a new entry and an
//! old one is never wrong. It is made aside and renamed into place: the rename makes it real, and a killed run
//! leaves only a folder under `aside/` that the next run for the same entry removes. An entry that nobody has used for
//! some days goes when another one of its name is made. The whole cache may be deleted at any time.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

/// An entry that was not used for so long is in no run's hands.
const UNUSED: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// The folder of all entries.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    made: Arc<Mutex<Vec<String>>>,
}

impl Cache {
    /// Opens the user's cache, and makes the folders that it needs.
    pub fn open() -> Result<Cache, CacheError> {
        let root = root_from(|name| std::env::var_os(name)).ok_or(CacheError::NoHome)?;
        Cache::at(&root)
    }

    /// Opens a cache in a folder of the caller's choice.
    pub fn at(root: &Path) -> Result<Cache, CacheError> {
        for folder in ["aside", "locks"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| CacheError::Io { verb: "create", path, source })?;
        }
        let root = fs::canonicalize(root).map_err(|source| CacheError::Io {
            verb: "resolve",
            path: root.to_owned(),
            source,
        })?;
        Ok(Cache { root, made: Arc::default() })
    }

    /// Notes that something was not there yet and had to be made, fetched or installed.
    pub fn note_made(&self, what: impl Into<String>) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    /// All that was not there since this cache was opened: entries, and what else was noted.
    pub fn made(&self) -> Vec<String> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The folder itself, for what is not an entry (apt's lists).
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the entry is, if it is complete.
    pub fn find(&self, name: &str, key: &Key) -> Option<PathBuf> {
        let file_name = key.file_name(name);
        let path = self.root.join(&file_name);
        if !path.exists() {
            return None;
        }
        // Its lock's time says when it was used last: the entry's own may be part of what it is.
        let lock = File::options().create(true).truncate(false).write(true).open(self.lock_path(&file_name));
        // At worst it is made again one day.
        let _ = lock.and_then(|lock| lock.set_modified(SystemTime::now()));
        Some(path)
    }

    /// The entry, made by `make` if it is not there. `make` gets a path at which nothing is: it creates a file
    /// or a folder there. Two runs that want the same entry do not make it twice: the second waits.
    pub fn entry<E, F>(&self, name: &str, key: &Key, make: F) -> Result<PathBuf, E>
    where
        E: From<CacheError>,
        F: FnOnce(&Path) -> Result<(), E>,
    {
        if let Some(path) = self.find(name, key) {
            return Ok(path);
        }
        let file_name = key.file_name(name);
        let _lock = self.lock(&file_name)?;
        if let Some(path) = self.find(name, key) {
            return Ok(path);
        }
        let aside = self.root.join("aside").join(&file_name);
        remove(&aside)?;
        make(&aside)?;
        let path = self.root.join(&file_name);
        fs::rename(&aside, &path).map_err(|source| CacheError::Io { verb: "rename", path: aside, source })?;
        self.note_made(name);
        // At worst it stays for another time.
        let _ = self.remove_unused(name, &file_name);
        Ok(path)
    }

    /// Removes the entries of this name, but `kept`, that nobody has used lately.
    fn remove_unused(&self, name: &str, kept: &str) -> Result<(), CacheError> {
        let io = |source| CacheError::Io { verb: "read", path: self.root.clone(), source };
        for entry in fs::read_dir(&self.root).map_err(io)? {
            let file_name = entry.map_err(io)?.file_name();
            let Some(file_name) = file_name.to_str().filter(|file_name| *file_name != kept) else { continue };
            if is_entry_of(name, file_name) && self.is_unused(file_name) {
                // First out of its place, so that a removal that is cut off leaves no half of it there.
                let aside = self.root.join("aside").join(file_name);
                remove(&aside)?;
                let path = self.root.join(file_name);
                fs::rename(&path, &aside).map_err(|source| CacheError::Io { verb: "rename", path, source })?;
                remove(&aside)?;
                remove(&self.lock_path(file_name))?;
            }
        }
        Ok(())
    }

    fn is_unused(&self, file_name: &str) -> bool {
        let used = [self.lock_path(file_name), self.root.join(file_name)]
            .iter()
            .find_map(|path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok());
        used.and_then(|used| used.elapsed().ok()).is_some_and(|age| UNUSED < age)
    }

    fn lock_path(&self, file_name: &str) -> PathBuf {
        self.root.join("locks").join(file_name)
    }

    /// Keeps other runs away from what `name` stands for, until the lock is dropped.
    pub fn lock(&self, name: &str) -> Result<Lock, CacheError> {
        let path = self.lock_path(name);
        let file =
            File::create(&path).map_err(|source| CacheError::Io { verb: "create", path: path.clone(), source })?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|errno| CacheError::Io {
            verb: "lock",
            path,
            source: errno.into(),
        })?;
        Ok(Lock { _file: file })
    }
}

/// Held while an entry is being made; the kernel gives it back when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A digest of everything that an entry is made from.
#[derive(Debug, Clone)]
pub struct Key {
    digest: Sha256,
}

impl Key {
    /// Starts a key. Raise the number in `recipe` when the steps change.
    pub fn new(recipe: &str) -> Key {
        Key { digest: Sha256::new() }.with(recipe)
    }

    /// Adds one ingredient. Its length goes in front, so `ab`+`c` is not `a`+`bc`.
    #[must_use]
    pub fn with(mut self, ingredient: impl AsRef<[u8]>) -> Key {
        let bytes = ingredient.as_ref();
        self.digest.update((bytes.len() as u64).to_le_bytes());
        self.digest.update(bytes);
        self
    }

    /// The first 64 bits in hex: enough against accident, and nobody attacks a developer's own cache.
    pub fn short(&self) -> String {
        yado_image::hex::encode(&self.digest.clone().finalize()[..8])
    }

    fn file_name(&self, name: &str) -> String {
        format!("{name}-{}", self.short())
    }
}

/// Whether a file of the cache is an entry of this name, whatever its key.
fn is_entry_of(name: &str, file_name: &str) -> bool {
    let key = file_name.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    key.is_some_and(|key| key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn root_from(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("YADO_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("yadokari")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/yadokari")))
}

/// Removes a file or a whole folder; that nothing is there is no error.
fn remove(path: &Path) -> Result<(), CacheError> {
    let gone = match fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match gone {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::Io { verb: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Why the cache could not be used.
#[derive(Debug)]
pub enum CacheError {
    /// None of the three variables is set.
    NoHome,
    /// A folder, file or lock of the cache failed.
    Io {
        /// What we tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl fmt::Display for CacheError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheError::NoHome => out.write_str("no place for the cache: set YADO_CACHE or HOME"),
            CacheError::Io { verb, path, source } => write!(out, "{verb} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for CacheError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_cache() {
        type Row = (&'static [(&'static str, &'static str)], Option<&'static str>);
        let table: [Row; 5] = [
            (&[("YADO_CACHE", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/c")),
            (&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/yadokari")),
            (&[("HOME", "/h")], Some("/h/.cache/yadokari")),
            (&[("YADO_CACHE", ""), ("HOME", "/h")], Some("/h/.cache/yadokari")),
            (&[], None),
        ];
        for (set, wanted) in table {
            let found = root_from(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()));
            assert_eq!(found, wanted.map(PathBuf::from), "{set:?}");
        }
    }

    #[test]
    fn a_key_tells_ingredients_apart_where_their_join_is_the_same() {
        assert_ne!(Key::new("r").with("ab").with("c").short(), Key::new("r").with("a").with("bc").short());
        assert_eq!(Key::new("r").with("ab").short(), Key::new("r").with("ab").short());
        assert_eq!(Key::new("r").short().len(), 16);
    }

    #[test]
    fn an_entry_is_made_once_and_a_failed_one_leaves_nothing_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let key = Key::new("test");
        let failed: Result<PathBuf, CacheError> = cache.entry("thing", &key, |aside| {
            fs::create_dir(aside).unwrap();
            fs::write(aside.join("half"), "").unwrap();
            Err(CacheError::NoHome)
        });
        assert!(failed.is_err());
        assert_eq!(cache.find("thing", &key), None);
        assert_eq!(cache.made(), [""; 0]);

        let path = cache
            .entry::<CacheError, _>("thing", &key, |aside| {
                assert!(!aside.exists(), "what the killed run left is still there");
                fs::write(aside, "whole").unwrap();
                Ok(())
            })
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        let again = cache.entry::<CacheError, _>("thing", &key, |_| panic!("made twice")).unwrap();
        assert_eq!(again, path);
        assert_eq!(cache.made(), ["thing"]);
    }

    #[test]
    fn what_nobody_has_used_for_days_goes_when_another_of_its_name_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let make = |name: &str, recipe: &str| {
            cache.entry::<CacheError, _>(name, &Key::new(recipe), |aside| {
                fs::create_dir(aside).unwrap();
                Ok(())
            })
        };
        let (old, used, other) =
            (make("thing", "old").unwrap(), make("thing", "used").unwrap(), make("thing-two", "old").unwrap());
        let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(60);
        for path in [&old, &used, &other] {
            let lock = cache.lock_path(path.file_name().unwrap().to_str().unwrap());
            File::options().write(true).open(lock).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(make("thing", "used").unwrap(), used);
        let new = make("thing", "new").unwrap();
        assert_eq!([&old, &used, &other, &new].map(|path| path.exists()), [false, true, true, true]);
    }
}
