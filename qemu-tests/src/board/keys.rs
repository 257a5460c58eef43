//! The keys of the tests: one that the board trusts, and one of a stranger. Made once on this machine, readable by its user
//! only, and never part of the repository.

use crate::board::failure::BuildError;
use crate::board::host_yado::HostYado;
use crate::cache::{Cache, Key};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Two key pairs in one directory.
#[derive(Debug, Clone)]
pub struct Keys {
    directory: PathBuf,
}

impl Keys {
    /// Makes them, or finds them.
    pub fn open(cache: &Cache, yado: &HostYado) -> Result<Keys, BuildError> {
        let directory = cache.entry("test-keys", &Key::new("keys 1"), |aside| {
            fs::create_dir_all(aside).map_err(BuildError::io(aside))?;
            fs::set_permissions(aside, fs::Permissions::from_mode(0o700)).map_err(BuildError::io(aside))?;
            yado.new_key(&aside.join("release"))?;
            yado.new_key(&aside.join("stranger"))?;
            Ok::<(), BuildError>(())
        })?;
        Ok(Keys { directory })
    }

    /// The trusted key's public half.
    pub fn release_public(&self) -> PathBuf {
        self.directory.join("release.pub")
    }

    /// Its identity, as it is shown to people.
    pub fn release_id(&self) -> Result<String, BuildError> {
        let path = self.release_public();
        let key = yado_image::Keys::read_file(&path)
            .map_err(|error| BuildError::io(&path)(io::Error::other(error.to_string())))?;
        Ok(key.id().to_string())
    }

    /// The trusted key.
    pub fn release_secret(&self) -> PathBuf {
        self.directory.join("release.key")
    }

    /// A key that nobody trusts.
    pub fn stranger_secret(&self) -> PathBuf {
        self.directory.join("stranger.key")
    }

    /// What tells these keys from others.
    pub fn identity(&self) -> Result<Vec<u8>, BuildError> {
        let path: &Path = &self.release_public();
        fs::read(path).map_err(BuildError::io(path))
    }
}
