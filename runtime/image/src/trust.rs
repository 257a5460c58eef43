//! Whom this device believes: ed25519 public keys, and the judgement whether enough of them have signed a header.
//!
//! A key is a text file `*.pub` with the one line `ed25519 <base64 of 32 bytes> <comment>`. Its id is the SHA-256 of
//! the 32 bytes; people see the first 16 hexadecimal digits of it.

use crate::header::HeaderBlock;
use crate::hex;
use crate::signatures::Signature;
use base64ct::{Base64, Encoding};
use core::fmt;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// SHA-256 of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// The id of the key with these 32 bytes.
    pub fn of(public: &[u8; 32]) -> KeyId {
        KeyId(Sha256::digest(public).into())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(&self.0[..8]))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyId({self})")
    }
}

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: KeyId,
    comment: String,
}

impl PublicKey {
    /// A key from its 32 bytes. Points of small order, for which anybody can make signatures, are refused.
    pub fn from_bytes(bytes: &[u8; 32], comment: &str) -> Result<PublicKey, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(PublicKey { key, id: KeyId::of(bytes), comment: comment.to_owned() })
    }

    /// The public half of a secret key.
    #[cfg(feature = "sign")]
    pub(crate) fn of_secret(secret: &ed25519_dalek::SigningKey, comment: &str) -> PublicKey {
        let key = secret.verifying_key();
        PublicKey { id: KeyId::of(key.as_bytes()), key, comment: comment.to_owned() }
    }

    /// Reads the text of a `*.pub` file.
    pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let line = lines.next().ok_or(KeyError::NotOneLine)?;
        if lines.next().is_some() {
            return Err(KeyError::NotOneLine);
        }
        let mut words = line.trim().splitn(3, ' ');
        if words.next() != Some("ed25519") {
            return Err(KeyError::UnknownAlgorithm);
        }
        let mut bytes = [0; 32];
        match Base64::decode(words.next().unwrap_or_default(), &mut bytes) {
            Ok(decoded) if decoded.len() == 32 => {}
            Ok(_) | Err(_) => return Err(KeyError::NotBase64),
        }
        PublicKey::from_bytes(&bytes, words.next().unwrap_or_default().trim())
    }

    /// The text of its `*.pub` file.
    pub fn to_text(&self) -> String {
        let mut buffer = [0; 44];
        let base64 = Base64::encode(self.key.as_bytes(), &mut buffer).unwrap_or_default();
        format!("ed25519 {base64} {}", self.comment).trim_end().to_owned() + "\n"
    }

    /// SHA-256 of its 32 bytes: what a signature names it by.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What stands behind the key in its file: for people, and signed by nobody.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// Whether this key made the signature over these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

/// The keys a device trusts, each once.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    keys: Vec<PublicKey>,
}

impl Keys {
    /// No more key files than this are read.
    pub const MAX_KEYS: usize = 64;

    /// These keys; one that comes twice counts once.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Keys {
        let mut distinct = Keys::default();
        for key in keys {
            distinct.add(key);
        }
        distinct
    }

    /// All `*.pub` files of a directory. One unreadable key refuses them all: a device that lost a key should say so
    /// rather than fall back to the others.
    pub fn read_dir(directory: &Path) -> Result<Keys, ReadKeysError> {
        let open_error = |source| ReadKeysError::Open { path: directory.to_owned(), source };
        let mut keys = Keys::default();
        for entry in fs::read_dir(directory).map_err(open_error)? {
            let path = entry.map_err(open_error)?.path();
            if path.extension().is_some_and(|extension| extension == "pub") {
                keys.add(Self::read_file(&path)?);
                if Self::MAX_KEYS < keys.keys.len() {
                    return Err(ReadKeysError::TooMany { directory: directory.to_owned() });
                }
            }
        }
        Ok(keys)
    }

    /// One `*.pub` file.
    pub fn read_file(path: &Path) -> Result<PublicKey, ReadKeysError> {
        let open_error = |source| ReadKeysError::Open { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(open_error)?;
        file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map_err(open_error)?;
        PublicKey::parse(&text).map_err(|source| ReadKeysError::Key { path: path.to_owned(), source })
    }

    /// Takes one more key.
    pub fn add(&mut self, key: PublicKey) {
        if self.find(key.id).is_none() {
            self.keys.push(key);
        }
    }

    /// The key with this id.
    pub fn find(&self, id: KeyId) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter()
    }

    /// Whether there is none, so that nothing can be trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether at least `threshold` different keys of ours have signed this block; the answer is their ids.
    /// Signatures by others neither help nor hurt. A threshold of 0 is taken as 1.
    pub fn verify(
        &self,
        block: &HeaderBlock,
        signatures: &[Signature],
        threshold: usize,
    ) -> Result<Vec<KeyId>, SignatureError> {
        if self.is_empty() {
            return Err(SignatureError::NoTrustedKeys);
        }
        if signatures.is_empty() {
            return Err(SignatureError::Unsigned);
        }
        let mut signers = Vec::new();
        let mut strangers = Vec::new();
        let mut bad = None;
        for signature in signatures {
            match self.find(signature.key) {
                None => strangers.push(signature.key),
                Some(key) if !key.has_signed(block, &signature.bytes) => bad = bad.or(Some(signature.key)),
                Some(key) if signers.contains(&key.id) => {}
                Some(key) => signers.push(key.id),
            }
        }
        let needed = threshold.max(1);
        if needed <= signers.len() {
            return Ok(signers);
        }
        match bad {
            Some(key) => Err(SignatureError::Bad { key }),
            None if signers.is_empty() => Err(SignatureError::UnknownKeys { keys: strangers }),
            None => Err(SignatureError::TooFew { valid: signers.len(), needed }),
        }
    }
}

/// Why a header is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureError {
    /// There is no key here to judge by.
    NoTrustedKeys,
    /// The image carries no signature of an algorithm that this version knows.
    Unsigned,
    /// Only keys that are not trusted here have signed it.
    UnknownKeys {
        /// Those keys.
        keys: Vec<KeyId>,
    },
    /// The signature by a trusted key does not fit the header: one of the two was changed.
    Bad {
        /// That key.
        key: KeyId,
    },
    /// Some trusted keys have signed, but not enough.
    TooFew {
        /// How many.
        valid: usize,
        /// How many it takes.
        needed: usize,
    },
}

impl fmt::Display for SignatureError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureError::NoTrustedKeys => write!(out, "no trusted keys are installed"),
            SignatureError::Unsigned => write!(out, "the image is not signed with ed25519"),
            SignatureError::UnknownKeys { keys } => {
                write!(out, "signed only by keys that are not trusted here:")?;
                keys.iter().take(MAX_KEYS_NAMED).try_for_each(|key| write!(out, " {key}"))?;
                if MAX_KEYS_NAMED < keys.len() {
                    write!(out, " and {} more", keys.len().saturating_sub(MAX_KEYS_NAMED))
                } else {
                    Ok(())
                }
            }
            SignatureError::Bad { key } => {
                write!(out, "the signature by trusted key {key} does not fit the header: one of them was changed")
            }
            SignatureError::TooFew { valid, needed } => {
                write!(out, "signed by {valid} trusted keys where {needed} are needed")
            }
        }
    }
}

impl std::error::Error for SignatureError {}

/// Why a text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// Exactly one line is expected.
    NotOneLine,
    /// The first word is not `ed25519`.
    UnknownAlgorithm,
    /// The second word is not the base64 of 32 bytes.
    NotBase64,
    /// The bytes are not a public key.
    NotAPoint,
    /// A key for which anybody could sign.
    Weak,
}

impl fmt::Display for KeyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            KeyError::NotOneLine => "a key file has exactly one line: ed25519 <base64> <comment>",
            KeyError::UnknownAlgorithm => "the first word of a key file must be ed25519",
            KeyError::NotBase64 => "the second word of a key file must be 32 bytes in base64",
            KeyError::NotAPoint => "the bytes are no ed25519 public key",
            KeyError::Weak => "a weak key: anybody could sign for it",
        })
    }
}

impl std::error::Error for KeyError {}

/// Why the trusted keys could not be read.
#[derive(Debug)]
pub enum ReadKeysError {
    /// The file or directory itself.
    Open {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Its content.
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// More than [`Keys::MAX_KEYS`].
    TooMany {
        /// Where.
        directory: PathBuf,
    },
}

impl fmt::Display for ReadKeysError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadKeysError::Open { path, source } => write!(out, "read {}: {source}", path.display()),
            ReadKeysError::Key { path, source } => write!(out, "{}: {source}", path.display()),
            ReadKeysError::TooMany { directory } => {
                write!(out, "{}: more than {} keys", directory.display(), Keys::MAX_KEYS)
            }
        }
    }
}

impl std::error::Error for ReadKeysError {}

/// A key file is one line; a longer one is something else.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// So that the message stays a line.
const MAX_KEYS_NAMED: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    fn secret(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> PublicKey {
        PublicKey::from_bytes(secret(seed).verifying_key().as_bytes(), "").unwrap()
    }

    fn signature(seed: u8, block: &HeaderBlock) -> Signature {
        Signature { key: public(seed).id(), bytes: secret(seed).sign(block).to_bytes() }
    }

    #[test]
    fn a_key_file_is_one_line_of_algorithm_key_and_comment() {
        // The first public key of RFC 8032's test vectors.
        let text = "ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= the release key\n";
        let key = PublicKey::parse(text).unwrap();
        assert_eq!(key.comment(), "the release key");
        assert_eq!(key.to_text(), text);
        assert_eq!(hex::encode(&key.id().0), "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9");
        assert_eq!(key.id().to_string(), "21fe31dfa154a261");
        let bare = text.replace(" the release key\n", "");
        assert_eq!(PublicKey::parse(&bare).unwrap().to_text(), format!("{bare}\n"));
    }

    /// Made by RFC 8032's own steps, but with the neutral element as R: a signature that verifies by the equation alone, and is
    /// not what any signer makes. Two verifiers that differ here would believe different images.
    #[test]
    fn a_signature_whose_point_is_of_small_order_is_refused() {
        let key = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
        let scalar = "449ddc713cd6b0abe66103bfd90f0386c51c588124d8e6c53429c3a91e05c60f";
        assert_eq!(hex::encode(&SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()), key);
        let mut signature = [0; 64];
        signature[0] = 1;
        signature[32..].copy_from_slice(&hex::parse_digest(scalar).unwrap());
        assert!(!public(7).has_signed(b"header", &signature));
        assert!(public(7).has_signed(b"header", &secret(7).sign(b"header").to_bytes()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = public(1).to_text();
        let weak = format!("ed25519 {}=", "A".repeat(43));
        let off_curve = format!("ed25519 Ag{}=", "A".repeat(41));
        let refusals = [
            ("", KeyError::NotOneLine),
            ("\n \n", KeyError::NotOneLine),
            (&good.repeat(2), KeyError::NotOneLine),
            (&good.replace("ed25519", "rsa"), KeyError::UnknownAlgorithm),
            ("ed25519", KeyError::NotBase64),
            (&good.replace('=', ""), KeyError::NotBase64),
            ("ed25519 AAAA", KeyError::NotBase64),
            (&good.replace("ed25519 ", "ed25519 AAAA"), KeyError::NotBase64),
            (&off_curve, KeyError::NotAPoint),
            (&weak, KeyError::Weak),
        ];
        for (text, refusal) in refusals {
            assert_eq!(PublicKey::parse(text), Err(refusal), "{text:?}");
        }
    }

    #[test]
    fn a_bad_signature_neither_counts_nor_hurts_where_enough_others_are_good() {
        let block = [5; 4096];
        let keys = Keys::new([public(1), public(2), public(2)]);
        assert_eq!(keys.iter().count(), 2);
        let mut bad = signature(1, &block);
        bad.bytes[40] ^= 1;
        let (good, stranger) = (signature(2, &block), signature(3, &block));
        let (one, two) = (public(1).id(), public(2).id());
        let verify = |signatures: &[Signature], threshold| keys.verify(&block, signatures, threshold);
        assert_eq!(verify(&[bad.clone(), good.clone()], 1), Ok(vec![two]));
        assert_eq!(verify(&[bad.clone(), good.clone()], 0), Ok(vec![two]));
        assert_eq!(verify(&[bad.clone(), good.clone()], 2), Err(SignatureError::Bad { key: one }));
        assert_eq!(verify(&[bad.clone(), signature(1, &block)], 1), Ok(vec![one]));
        assert_eq!(
            verify(&[good.clone(), good.clone(), stranger.clone()], 2),
            Err(SignatureError::TooFew { valid: 1, needed: 2 })
        );
        assert_eq!(verify(&[stranger], 1), Err(SignatureError::UnknownKeys { keys: vec![public(3).id()] }));
        assert_eq!(verify(&[], 1), Err(SignatureError::Unsigned));
        let renamed = Signature { key: one, ..good };
        assert_eq!(verify(&[renamed], 1), Err(SignatureError::Bad { key: one }));
    }

    #[test]
    fn one_bad_key_file_refuses_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Keys::read_dir(directory.path()).unwrap().is_empty());
        fs::write(directory.path().join("one.pub"), public(1).to_text()).unwrap();
        fs::write(directory.path().join("again.pub"), public(1).to_text()).unwrap();
        fs::write(directory.path().join("README"), "not a key").unwrap();
        assert_eq!(Keys::read_dir(directory.path()).unwrap().iter().count(), 1);
        fs::write(directory.path().join("torn.pub"), &public(2).to_text()[..20]).unwrap();
        let error = Keys::read_dir(directory.path()).unwrap_err();
        assert!(error.to_string().contains("torn.pub"), "{error}");
        assert!(matches!(Keys::read_dir(&directory.path().join("none")), Err(ReadKeysError::Open { .. })));
    }
}
