//! From a path to an image that may be used: each check in its order, each refusal with its own name.
//!
//! A file is the image and nothing else. In a slot the image lies at the partition's start, and the header stands
//! once more in the partition's last 4 KiB. So both are read the same way: the header from the end, all else from the
//! beginning. What is checked here takes a few reads; the payload's blocks are checked by dm-verity as they are read.

use crate::header::{self, BLOCK_BYTES, Header, HeaderBlock, HeaderError};
use crate::hex;
use crate::image_target::{Architecture, ImageKind, RuntimeVersion, Version};
use crate::signatures::{self, Signatures, SignaturesError};
use crate::trust::{KeyId, Keys, SignatureError};
use core::fmt;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use yado_wire::{Retry, Step};

/// An image whose header is signed by keys we trust, for this machine, and whose parts are where the header says.
#[derive(Debug)]
pub struct TrustedImage {
    /// Open for reading.
    pub file: File,
    /// What was signed.
    pub header: Header,
    /// SHA-256 of the header.
    pub fingerprint: [u8; 32],
    /// The trusted keys whose signatures are valid; as many as policy wants, or more.
    pub signers: Vec<KeyId>,
}

/// What the caller asks of an image.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is to be used as.
    pub kind: ImageKind,
    /// The image that was chosen; `None` if any trusted one will do, as in a slot.
    pub fingerprint: Option<[u8; 32]>,
    /// How many different trusted keys must have signed it.
    pub threshold: usize,
    /// What is to run it.
    pub runtime: Runtime,
}

impl Wanted {
    /// The container image with this fingerprint, signed by one trusted key, for this runtime.
    pub fn container(fingerprint: [u8; 32]) -> Wanted {
        Wanted { kind: ImageKind::Container, fingerprint: Some(fingerprint), threshold: 1, runtime: Runtime::this() }
    }

    /// Any system image signed by one trusted key, for this runtime.
    pub fn system() -> Wanted {
        Wanted { kind: ImageKind::System, fingerprint: None, threshold: 1, runtime: Runtime::this() }
    }
}

/// What an image would run on.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Its version.
    pub version: RuntimeVersion,
    /// The architectures it can run.
    pub architectures: &'static [Architecture],
}

impl Runtime {
    /// The runtime this code belongs to. A machine of 64 bits is taken to run programs of 32 too; a processor or kernel that
    /// cannot says so at exec.
    pub fn this() -> Runtime {
        let architectures: &[Architecture] = match std::env::consts::ARCH {
            "aarch64" => &[Architecture::Arm64, Architecture::Armhf],
            "arm" => &[Architecture::Armhf],
            "x86_64" => &[Architecture::X86_64, Architecture::I386],
            _ => &[],
        };
        Runtime { version: RuntimeVersion::this(), architectures }
    }
}

/// Opens an image and checks all that can be checked in a few reads.
pub fn open_trusted(path: &Path, keys: &Keys, wanted: &Wanted) -> Result<TrustedImage, OpenError> {
    let file = File::open(path).map_err(|source| OpenError::Open { source })?;
    let (header, block) = read_header(&file)?;
    let fingerprint = header::fingerprint(&block);
    if let Some(expected) = wanted.fingerprint {
        if expected != fingerprint {
            return Err(OpenError::OtherImage { expected, found: fingerprint });
        }
    }
    let signers = keys
        .verify(&block, &read_signatures(&file, &header)?.known, wanted.threshold)
        .map_err(|source| OpenError::Signature { source })?;
    check_requirements(&header, wanted)?;
    read_manifest(&file, &header)?;
    check_tree_top(&file, &header)?;
    Ok(TrustedImage { file, header, fingerprint, signers })
}

/// The header of an image of which nothing is here yet but these bytes, all of it that has to be checked before the rest of the
/// image is looked at: that it is the one that was asked for, and what it says of itself. `image_bytes` is how long the image is
/// said to be. Whether it is signed is [`check_signed`]'s question.
pub fn check_header(block: &HeaderBlock, image_bytes: u64, wanted: &Wanted) -> Result<Header, OpenError> {
    let fingerprint = header::fingerprint(block);
    match wanted.fingerprint {
        Some(expected) if expected != fingerprint => {
            return Err(OpenError::OtherImage { expected, found: fingerprint });
        }
        Some(_) | None => {}
    }
    let header = Header::parse(block).map_err(|source| OpenError::Header { source })?;
    check_size(header.layout.image_bytes(), image_bytes, true)?;
    check_requirements(&header, wanted)?;
    Ok(header)
}

/// Checks signatures and manifest of this header: the bytes between the tree's end and the header. Answers with who signed, and with
/// the manifest's text.
pub fn check_signed(
    block: &HeaderBlock,
    header: &Header,
    mut between: Vec<u8>,
    keys: &Keys,
    wanted: &Wanted,
) -> Result<(Vec<KeyId>, Vec<u8>), OpenError> {
    let short = || OpenError::TooShort { size_bytes: header.layout.image_bytes() };
    let manifest_area_bytes = usize::try_from(header.layout.manifest_area_bytes()).map_err(|_| short())?;
    if between.len() < manifest_area_bytes {
        return Err(short());
    }
    let area = between.split_off(manifest_area_bytes);
    let signatures = signatures::parse(area.as_slice().try_into().map_err(|_| short())?)
        .map_err(|source| OpenError::Signatures { source })?;
    let signers =
        keys.verify(block, &signatures.known, wanted.threshold).map_err(|source| OpenError::Signature { source })?;
    Ok((signers, check_manifest(between, header)?))
}

/// The header of an image in a file or on a block device, before anybody has said that it can be trusted. The parts
/// it names lie inside the file.
pub fn read_header(mut file: &File) -> Result<(Header, HeaderBlock), OpenError> {
    let size_bytes = file.seek(SeekFrom::End(0)).map_err(|source| OpenError::Read { part: "size", source })?;
    let is_file = file.metadata().map_err(|source| OpenError::Read { part: "size", source })?.is_file();
    let header_offset = size_bytes.checked_sub(BLOCK_BYTES).ok_or(OpenError::TooShort { size_bytes })?;
    let mut block = [0; BLOCK_BYTES as usize];
    file.read_exact_at(&mut block, header_offset).map_err(|source| OpenError::Read { part: "header", source })?;
    let header = Header::parse(&block).map_err(|source| OpenError::Header { source })?;
    check_size(header.layout.image_bytes(), size_bytes, is_file)?;
    Ok((header, block))
}

/// The signatures as they stand, not yet verified.
pub fn read_signatures(file: &File, header: &Header) -> Result<Signatures, OpenError> {
    let mut area = Box::new([0; signatures::AREA_BYTES as usize]);
    file.read_exact_at(area.as_mut_slice(), header.layout.signatures_offset())
        .map_err(|source| OpenError::Read { part: "signatures", source })?;
    signatures::parse(&area).map_err(|source| OpenError::Signatures { source })
}

/// The manifest's text, which has the digest that the header names.
pub fn read_manifest(file: &File, header: &Header) -> Result<Vec<u8>, OpenError> {
    let mut area = vec![0; header.layout.manifest_area_bytes() as usize];
    file.read_exact_at(&mut area, header.layout.manifest_offset())
        .map_err(|source| OpenError::Read { part: "manifest", source })?;
    check_manifest(area, header)
}

fn check_manifest(mut area: Vec<u8>, header: &Header) -> Result<Vec<u8>, OpenError> {
    let padding = area.split_off(header.layout.manifest_bytes() as usize);
    let digest: [u8; 32] = Sha256::digest(&area).into();
    if digest != header.manifest_sha256 || padding.iter().any(|&byte| byte != 0) {
        return Err(OpenError::Manifest);
    }
    Ok(area)
}

/// Why an image is not used.
#[derive(Debug)]
pub enum OpenError {
    /// It cannot be opened.
    Open {
        /// The kernel's answer.
        source: io::Error,
    },
    /// It cannot be read.
    Read {
        /// Which part.
        part: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not even a header fits in.
    TooShort {
        /// Length of the file or device.
        size_bytes: u64,
    },
    /// The last 4 KiB are no header of ours.
    Header {
        /// What is wrong with it.
        source: HeaderError,
    },
    /// The header names more (or, in a file, less) than there is.
    Size {
        /// What the header names.
        image_bytes: u64,
        /// Length of the file or device.
        size_bytes: u64,
    },
    /// A sound header, but not of the image that was asked for.
    OtherImage {
        /// The fingerprint that was asked for.
        expected: [u8; 32],
        /// The image's.
        found: [u8; 32],
    },
    /// The signature area cannot be read.
    Signatures {
        /// What is wrong with it.
        source: SignaturesError,
    },
    /// The signatures do not suffice.
    Signature {
        /// Why.
        source: SignatureError,
    },
    /// A container where a system is needed, or the other way round.
    WrongKind {
        /// What was asked for.
        expected: ImageKind,
        /// The image's.
        found: ImageKind,
    },
    /// Made for another processor.
    WrongArchitecture {
        /// The image's.
        found: Architecture,
    },
    /// Made for a later runtime.
    NeedsRuntime {
        /// The oldest that would do.
        needed: Version,
        /// This one.
        have: RuntimeVersion,
    },
    /// The manifest is not the one that the header names.
    Manifest,
    /// The top of the hash tree is not the one that the header names.
    TreeTop,
}

impl OpenError {
    /// The step of a start that this fails.
    pub fn step(&self) -> Step {
        match self {
            OpenError::Open { .. } | OpenError::Read { .. } => Step::ImageOpen,
            OpenError::TooShort { .. }
            | OpenError::Header { .. }
            | OpenError::Size { .. }
            | OpenError::OtherImage { .. } => Step::ImageHeader,
            OpenError::Signatures { .. } | OpenError::Signature { .. } => Step::ImageSignature,
            OpenError::WrongKind { .. } | OpenError::WrongArchitecture { .. } | OpenError::NeedsRuntime { .. } => {
                Step::ImageRequires
            }
            OpenError::Manifest => Step::ImageManifest,
            OpenError::TreeTop => Step::ImageTree,
        }
    }

    /// Whether opening it may succeed later: what was read was read whole, and is what it is.
    pub fn retry(&self) -> Retry {
        let was_read = self.step() != Step::ImageOpen;
        if was_read { Retry::InVain } else { Retry::MayHelp }
    }

    /// The kernel's error number, 0 where the kernel was not the one who refused.
    pub fn errno(&self) -> i32 {
        match self {
            OpenError::Open { source } | OpenError::Read { part: _, source } => source.raw_os_error().unwrap_or(0),
            OpenError::TooShort { .. }
            | OpenError::Header { .. }
            | OpenError::Size { .. }
            | OpenError::OtherImage { .. }
            | OpenError::Signatures { .. }
            | OpenError::Signature { .. }
            | OpenError::WrongKind { .. }
            | OpenError::WrongArchitecture { .. }
            | OpenError::NeedsRuntime { .. }
            | OpenError::Manifest
            | OpenError::TreeTop => 0,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Open { source } => write!(out, "open the image: {source}"),
            OpenError::Read { part, source } => write!(out, "read the image's {part}: {source}"),
            OpenError::TooShort { size_bytes } => {
                write!(out, "{size_bytes} bytes are too short for an image: truncated or empty")
            }
            OpenError::Header { source } => write!(out, "{source}"),
            OpenError::Size { image_bytes, size_bytes } if size_bytes < image_bytes => {
                write!(out, "truncated: the header names {image_bytes} bytes, there are {size_bytes}")
            }
            OpenError::Size { image_bytes, size_bytes } => {
                write!(out, "the header names {image_bytes} bytes, but the file has {size_bytes}")
            }
            OpenError::OtherImage { expected, found } => {
                write!(out, "the fingerprint is {}, not {}", hex::encode(found), hex::encode(expected))
            }
            OpenError::Signatures { source } => write!(out, "{source}"),
            OpenError::Signature { source } => write!(out, "{source}"),
            OpenError::WrongKind { expected, found } => {
                write!(out, "a {} image where a {} image is needed", found.name(), expected.name())
            }
            OpenError::WrongArchitecture { found } => {
                write!(out, "made for {}, which does not run here", found.name())
            }
            OpenError::NeedsRuntime { needed, have } => {
                write!(out, "needs runtime {needed} or later; this is {have}")
            }
            OpenError::Manifest => write!(out, "the manifest was changed: it does not match the header's digest"),
            OpenError::TreeTop => write!(out, "the hash tree was changed: its top does not match the root hash"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A file is exactly the image; a partition is at least as long.
fn check_size(image_bytes: u64, size_bytes: u64, is_file: bool) -> Result<(), OpenError> {
    let fits = if is_file { image_bytes == size_bytes } else { image_bytes <= size_bytes };
    if fits { Ok(()) } else { Err(OpenError::Size { image_bytes, size_bytes }) }
}

fn check_requirements(header: &Header, wanted: &Wanted) -> Result<(), OpenError> {
    if header.kind != wanted.kind {
        return Err(OpenError::WrongKind { expected: wanted.kind, found: header.kind });
    }
    if !wanted.runtime.architectures.contains(&header.architecture) {
        return Err(OpenError::WrongArchitecture { found: header.architecture });
    }
    if !wanted.runtime.version.is_at_least(header.minimum_runtime) {
        return Err(OpenError::NeedsRuntime { needed: header.minimum_runtime, have: wanted.runtime.version });
    }
    Ok(())
}

fn check_tree_top(file: &File, header: &Header) -> Result<(), OpenError> {
    let mut top = [0; BLOCK_BYTES as usize];
    file.read_exact_at(&mut top, header.layout.tree_offset())
        .map_err(|source| OpenError::Read { part: "hash tree", source })?;
    let digest: [u8; 32] = Sha256::digest(top).into();
    if digest == header.root_hash { Ok(()) } else { Err(OpenError::TreeTop) }
}
