//! What `image info`, `verify` and `extract` do: look at an image without starting it.

use crate::header::Header;
use crate::manifest::{Manifest, ManifestError};
use crate::open::{OpenError, read_header, read_manifest, read_signatures};
use crate::trust::{KeyId, Keys};
use crate::verity::{self, Mismatch};
use core::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use yado_wire::Step;

/// What an image says of itself. Nothing of it has been proved.
#[derive(Debug, Clone)]
pub struct Description {
    /// The header.
    pub header: Header,
    /// SHA-256 of the header.
    pub fingerprint: [u8; 32],
    /// The manifest, which matches its digest in the header.
    pub manifest: Manifest,
    /// Whose signatures it carries, without a look at whether they are right.
    pub claimed_signers: Vec<KeyId>,
}

/// Reads header, manifest and the signatures' key ids.
pub fn describe(path: &Path) -> Result<Description, InspectError> {
    let file = File::open(path).map_err(|source| OpenError::Open { source }).map_err(InspectError::Open)?;
    describe_file(&file)
}

/// Checks all there is: the signatures by these keys, the manifest, and every block against the hash tree. Answers
/// with the description and the keys that signed it.
pub fn verify(path: &Path, keys: &Keys, threshold: usize) -> Result<(Description, Vec<KeyId>), InspectError> {
    let file = File::open(path).map_err(|source| OpenError::Open { source }).map_err(InspectError::Open)?;
    let (header, block) = read_header(&file).map_err(InspectError::Open)?;
    let signatures = read_signatures(&file, &header).map_err(InspectError::Open)?;
    let signers = keys
        .verify(&block, &signatures.known, threshold)
        .map_err(|source| InspectError::Open(OpenError::Signature { source }))?;
    let description = describe_file(&file)?;
    verity::diagnose(&file, &header).map_err(InspectError::Block)?;
    Ok((description, signers))
}

/// Checks all but signatures: that the manifest is the header's and says the same, and every block of tree and payload.
#[cfg(feature = "sign")]
pub(crate) fn check_parts(file: &File) -> Result<(), InspectError> {
    let description = describe_file(file)?;
    verity::diagnose(file, &description.header).map_err(InspectError::Block)
}

/// Writes the payload, an erofs file system, to a new file; answers with its length. The blocks are checked against
/// the hash tree before, the signatures are not.
pub fn extract(path: &Path, output: &Path) -> Result<u64, InspectError> {
    let file = File::open(path).map_err(|source| OpenError::Open { source }).map_err(InspectError::Open)?;
    let (header, _) = read_header(&file).map_err(InspectError::Open)?;
    verity::diagnose(&file, &header).map_err(InspectError::Block)?;
    let write_error = |source| InspectError::Write { path: output.to_owned(), source };
    let mut target = File::options().write(true).create_new(true).open(output).map_err(write_error)?;
    let bytes = header.layout.payload_bytes();
    // Reading the header has moved the file's position to the end.
    let copied = (&file)
        .rewind()
        .and_then(|()| io::copy(&mut (&file).take(bytes), &mut target))
        .and_then(|copied| target.sync_all().map(|()| copied));
    match copied {
        Ok(copied) if copied == bytes => Ok(bytes),
        Ok(_) => Err(write_error(io::ErrorKind::UnexpectedEof.into())),
        Err(source) => Err(write_error(source)),
    }
    .inspect_err(|_| drop(fs::remove_file(output)))
}

/// Why an image is not what it should be.
#[derive(Debug)]
pub enum InspectError {
    /// Header, signatures or manifest.
    Open(OpenError),
    /// The manifest's content.
    Manifest(ManifestError),
    /// The manifest says something else than the header.
    Disagreement {
        /// About what.
        field: &'static str,
    },
    /// A block of tree or payload.
    Block(Mismatch),
    /// The output cannot be written.
    Write {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl InspectError {
    /// The step of a start that this would fail.
    pub fn step(&self) -> Step {
        match self {
            InspectError::Open(error) => error.step(),
            InspectError::Manifest(_) | InspectError::Disagreement { .. } => Step::ImageManifest,
            InspectError::Block(mismatch) => mismatch.step(),
            InspectError::Write { .. } => Step::Request,
        }
    }
}

impl fmt::Display for InspectError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::Open(source) => write!(out, "{source}"),
            InspectError::Manifest(source) => write!(out, "{source}"),
            InspectError::Disagreement { field } => write!(out, "manifest and header disagree about {field}"),
            InspectError::Block(source) => write!(out, "{source}"),
            InspectError::Write { path, source } => write!(out, "write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for InspectError {}

fn describe_file(file: &File) -> Result<Description, InspectError> {
    let (header, block) = read_header(file).map_err(InspectError::Open)?;
    let text = read_manifest(file, &header).map_err(InspectError::Open)?;
    let manifest = Manifest::parse(&text).map_err(InspectError::Manifest)?;
    let disagreement = [
        ("architecture", manifest.architecture == header.architecture),
        ("release", manifest.release == header.release),
        ("requires.runtime", manifest.requires.runtime == header.minimum_runtime),
    ];
    if let Some((field, _)) = disagreement.into_iter().find(|(_, same)| !same) {
        return Err(InspectError::Disagreement { field });
    }
    let signatures = read_signatures(file, &header).map_err(InspectError::Open)?;
    let claimed_signers = signatures.known.iter().map(|signature| signature.key).collect();
    Ok(Description { fingerprint: crate::header::fingerprint(&block), header, manifest, claimed_signers })
}
