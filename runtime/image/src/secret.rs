//! Secret keys: made from the kernel's randomness, kept in files that only their owner can read, cleared from memory
//! when they are dropped, and never printed.
//!
//! A secret key is a text file `*.key` with the one line `ed25519-secret <base64 of the 32 bytes of the seed> <comment>`.

use crate::header::HeaderBlock;
use crate::signatures::Signature;
use crate::trust::PublicKey;
use base64ct::{Base64, Encoding};
use core::fmt;
use ed25519_dalek::{Signer, SigningKey};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A key that can sign.
pub struct SecretKey {
    key: SigningKey,
    comment: String,
}

impl SecretKey {
    /// A new key. Waits until the kernel has enough randomness, which matters only in the first seconds of a device.
    pub fn generate(comment: &str) -> io::Result<SecretKey> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = seed.get_mut(filled..) {
            filled = rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?.saturating_add(filled);
        }
        Ok(SecretKey::from_seed(&seed, comment))
    }

    /// The key with this seed.
    pub fn from_seed(seed: &[u8; SEED_BYTES], comment: &str) -> SecretKey {
        SecretKey { key: SigningKey::from_bytes(seed), comment: one_line(comment) }
    }

    /// Reads the text of a `*.key` file.
    pub fn parse(text: &str) -> Option<SecretKey> {
        let mut words = text.trim_end().splitn(3, ' ');
        let (kind, base64) = (words.next()?, words.next()?);
        let comment = words.next().unwrap_or_default();
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        let decoded = Base64::decode(base64, &mut *seed).ok()?;
        let sound = kind == KIND && decoded.len() == SEED_BYTES && !comment.contains('\n');
        sound.then(|| SecretKey::from_seed(&seed, comment))
    }

    /// Reads a `*.key` file. One that others than its owner can read is no longer a secret, and refused.
    pub fn read_file(path: &Path) -> Result<SecretKey, SecretKeyError> {
        let io_error = |source| SecretKeyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if metadata.is_file() && metadata.mode() & 0o077 != 0 {
            return Err(SecretKeyError::Exposed { path: path.to_owned() });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(io_error)?;
        SecretKey::parse(&text).ok_or_else(|| SecretKeyError::NotAKey { path: path.to_owned() })
    }

    /// Writes `STEM.key` and `STEM.pub`. What is already there is never replaced: a lost secret key cannot be had back.
    pub fn write_new_files(&self, stem: &Path) -> Result<(PathBuf, PathBuf), SecretKeyError> {
        let (secret, public) = (with_ending(stem, ".key"), with_ending(stem, ".pub"));
        let mut base64 = Zeroizing::new([0; 44]);
        let seed = Zeroizing::new(self.key.to_bytes());
        let base64 = Base64::encode(&*seed, &mut *base64).unwrap_or_default();
        let text = Zeroizing::new(format!("{KIND} {base64} {}\n", self.comment));
        write_new(&secret, text.as_bytes(), 0o600)?;
        if let Err(error) = write_new(&public, self.public().to_text().as_bytes(), 0o644) {
            // Half a pair helps nobody; and the secret key was made this moment.
            drop(fs::remove_file(&secret));
            return Err(error);
        }
        Ok((secret, public))
    }

    /// The key to judge its signatures by.
    pub fn public(&self) -> PublicKey {
        PublicKey::of_secret(&self.key, &self.comment)
    }

    /// Its signature over a header as the block stands on disk, and so over all that the header's hashes cover.
    pub fn sign(&self, block: &HeaderBlock) -> Signature {
        Signature { key: self.public().id(), bytes: self.key.sign(block).to_bytes() }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretKey({})", self.public().id())
    }
}

/// Why a secret key could not be read or kept.
#[derive(Debug)]
pub enum SecretKeyError {
    /// The file cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file cannot be written.
    Write {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Others can read the file.
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// The file holds something else.
    NotAKey {
        /// Which.
        path: PathBuf,
    },
}

impl fmt::Display for SecretKeyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretKeyError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            SecretKeyError::Write { path, source } => write!(out, "write {}: {source}", path.display()),
            SecretKeyError::Exposed { path } => {
                write!(out, "{}: others can read this secret key: chmod 600, or make a new one", path.display())
            }
            SecretKeyError::NotAKey { path } => {
                write!(out, "{}: no secret key: ed25519-secret <base64>", path.display())
            }
        }
    }
}

impl std::error::Error for SecretKeyError {}

const KIND: &str = "ed25519-secret";
const SEED_BYTES: usize = 32;
/// A key file is one line.
const MAX_FILE_BYTES: u64 = 4096;

fn one_line(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `with_extension` would replace what stands behind a dot in the name.
fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn write_new(path: &Path, text: &[u8], mode: u32) -> Result<(), SecretKeyError> {
    let io_error = |source| SecretKeyError::Write { path: path.to_owned(), source };
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path).map_err(io_error)?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(io_error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_survives_its_files_and_signs_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::generate("the  desk\n drawer").unwrap();
        let (secret, public) = key.write_new_files(&directory.path().join("release.2")).unwrap();
        assert_eq!(secret.file_name().unwrap(), "release.2.key");
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
        let again = SecretKey::read_file(&secret).unwrap();
        let public = PublicKey::parse(&fs::read_to_string(public).unwrap()).unwrap();
        assert_eq!((public.comment(), &public), ("the desk drawer", &again.public()));
        assert_eq!(again.sign(&[7; 4096]), key.sign(&[7; 4096]));
        assert!(public.has_signed(&[7; 4096], &key.sign(&[7; 4096]).bytes));
    }

    #[test]
    fn a_key_is_never_overwritten_shown_or_read_from_an_open_file() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed(&[9; 32], "");
        assert!(!format!("{key:?}").contains("CQkJ"));
        let (secret, public) = key.write_new_files(&directory.path().join("k")).unwrap();
        assert!(matches!(key.write_new_files(&directory.path().join("k")), Err(SecretKeyError::Write { .. })));
        assert!(secret.exists() && public.exists());
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(SecretKey::read_file(&secret), Err(SecretKeyError::Exposed { .. })));
    }

    #[test]
    fn texts_that_are_no_secret_key_are_refused() {
        let seed = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
        assert!(SecretKey::parse(&format!("ed25519-secret {seed} a comment\n")).is_some());
        for bad in [
            String::new(),
            seed.to_owned(),
            format!("ed25519 {seed}"),
            format!("ed25519-secret {}", &seed[1..]),
            format!("ed25519-secret {seed}x"),
            format!("ed25519-secret {seed} a\nb"),
        ] {
            assert!(SecretKey::parse(&bad).is_none(), "{bad}");
        }
    }
}
