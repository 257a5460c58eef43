//! `spec.bin`: a compiled instance as a file. It is a cache; the TOML it came from is the truth. So whoever reads one
//! need only tell whether it may be used: whole, of this schema, and made from today's sources. Anything else is
//! compiled again. Pure: bytes in, values out.
//!
//! ```text
//! offset  bytes
//!      0      8  magic `YADOSPEC`
//!      8      4  schema, little endian: [`SCHEMA`]
//!     12      4  length of the body, little endian
//!     16     32  digest of the sources: [`crate::sources`] says of which, in which order
//!     48     32  SHA-256 of bytes 0 to 47 and of the body
//!     80         body: postcard of `InstanceSpec`
//! ```
//!
//! Magic and schema keep their places for ever; a reader looks at nothing else before it knows the schema.

use crate::instance::InstanceSpec;
use sha2::{Digest as _, Sha256};

/// Rises whenever `InstanceSpec` changes in a way that changes its bytes. There is no migration: an init of another
/// schema compiles again.
pub const SCHEMA: u32 = 7;

/// The longest file that is written or read. A spec with every key set is about 4 KiB; the rest is room for
/// `environment.*`.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// The name of the file, in the runtime directory of an instance that runs, with the spec by which it does.
pub const ACTUAL: &str = "spec.bin";

/// How the compiler exits when some sources are bad: what is wrong with one stands in its NAME.err, and all other files
/// are written.
pub const EXIT_SOME_ARE_BAD: u8 = 3;

const MAGIC: [u8; 8] = *b"YADOSPEC";
const SCHEMA_AT: usize = 8;
const LENGTH_AT: usize = 12;
const SOURCES_AT: usize = 16;
const CHECKSUM_AT: usize = 48;
const BODY_AT: usize = 80;

/// SHA-256 over the names and contents of a spec's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// Why bytes are no spec that this program can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecFileError {
    /// It ends before its header does, or before its body does.
    Truncated {
        /// How long it is.
        found_bytes: usize,
        /// How long it would have to be.
        needed_bytes: usize,
    },
    /// Over [`MAX_FILE_BYTES`].
    TooLong {
        /// How long it is.
        found_bytes: usize,
    },
    /// It does not begin with `YADOSPEC`.
    Magic,
    /// Another release's init wrote it or would read it.
    Schema {
        /// What it says.
        found: u32,
    },
    /// Torn or flipped: the checksum is not that of the bytes, or bytes follow the body.
    Damaged,
    /// The checksum is right and yet the body is no spec: a compiler of the same schema number that was another.
    Body,
}

impl core::fmt::Display for SpecFileError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SpecFileError::Truncated { found_bytes, needed_bytes } => {
                write!(out, "spec file: {found_bytes} bytes of at least {needed_bytes}")
            }
            SpecFileError::TooLong { found_bytes } => {
                write!(out, "spec file: {found_bytes} bytes, the limit is {MAX_FILE_BYTES}")
            }
            SpecFileError::Magic => out.write_str("spec file: does not begin with YADOSPEC"),
            SpecFileError::Schema { found } => {
                write!(out, "spec file: schema {found}, this program reads {SCHEMA}")
            }
            SpecFileError::Damaged => out.write_str("spec file: damaged, the checksum does not match"),
            SpecFileError::Body => out.write_str("spec file: the body is not a spec"),
        }
    }
}

impl std::error::Error for SpecFileError {}

/// Writes the file. The one error is [`SpecFileError::TooLong`].
pub fn encode(spec: &InstanceSpec, sources: Digest) -> Result<Vec<u8>, SpecFileError> {
    // postcard refuses only sequences that do not know their own length; the spec has none.
    let body = postcard::to_extend(spec, Vec::new()).map_err(|_| SpecFileError::Body)?;
    let found_bytes = body.len().saturating_add(BODY_AT);
    if MAX_FILE_BYTES < found_bytes {
        return Err(SpecFileError::TooLong { found_bytes });
    }
    let mut head = [0; BODY_AT];
    head[..SCHEMA_AT].copy_from_slice(&MAGIC);
    head[SCHEMA_AT..LENGTH_AT].copy_from_slice(&SCHEMA.to_le_bytes());
    head[LENGTH_AT..SOURCES_AT].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[SOURCES_AT..CHECKSUM_AT].copy_from_slice(&sources.0);
    let sum = checksum(&head, &body);
    head[CHECKSUM_AT..].copy_from_slice(&sum);
    Ok([&head[..], &body].concat())
}

/// Reads the file, with the digest of the sources it was made from. Compare that with today's before you use the spec.
pub fn decode(file: &[u8]) -> Result<(InstanceSpec, Digest), SpecFileError> {
    if MAX_FILE_BYTES < file.len() {
        return Err(SpecFileError::TooLong { found_bytes: file.len() });
    }
    if !file.starts_with(&MAGIC) && (file.len() >= MAGIC.len() || !MAGIC.starts_with(file)) {
        return Err(SpecFileError::Magic);
    }
    let truncated = |needed_bytes| SpecFileError::Truncated { found_bytes: file.len(), needed_bytes };
    let schema = u32_at(file, SCHEMA_AT).ok_or(truncated(BODY_AT))?;
    if schema != SCHEMA {
        return Err(SpecFileError::Schema { found: schema });
    }
    let body_bytes = u32_at(file, LENGTH_AT).ok_or(truncated(BODY_AT))? as usize;
    let needed_bytes = BODY_AT.saturating_add(body_bytes);
    let (head, body) = file.split_first_chunk::<BODY_AT>().ok_or(truncated(needed_bytes))?;
    if body.len() < body_bytes {
        return Err(truncated(needed_bytes));
    }
    if body_bytes < body.len() || head[CHECKSUM_AT..] != checksum(head, body) {
        return Err(SpecFileError::Damaged);
    }
    let mut sources = [0; 32];
    sources.copy_from_slice(&head[SOURCES_AT..CHECKSUM_AT]);
    match postcard::take_from_bytes(body) {
        Ok((spec, [])) => Ok((spec, Digest(sources))),
        Ok((_, _)) | Err(_) => Err(SpecFileError::Body),
    }
}

/// The digest of named sources in the order given. Names and contents are told apart by their lengths, so no two
/// different lists have the same input.
pub fn sources_digest<'a>(sources: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Digest {
    let mut hash = Sha256::new();
    for (name, content) in sources {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Digest(hash.finalize().into())
}

/// Over all but the sum itself.
fn checksum(head: &[u8; BODY_AT], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(&head[..CHECKSUM_AT]).chain_update(body).finalize().into()
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    file.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}
