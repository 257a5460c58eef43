//! Builds a whole image: payload, tree, manifest, signatures, header. It is written aside and takes its name when it
//! is complete and on disk; the rename is what makes it real. Nothing needs root, and the same input gives the same bytes.

use crate::archive::{self, ArchiveError};
use crate::erofs::{self, Body, Compression, DirectoryError, Owners, TarError, Times, Tree, WriteError};
use crate::header::{BLOCK_BYTES, Header, HeaderError, Layout};
use crate::image_target::{Architecture, ImageKind};
use crate::init_program::{self, InitError, InitProgram};
use crate::manifest::{Manifest, ManifestError};
use crate::secret::SecretKey;
use crate::{signatures, verity};
use core::fmt;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use yado_sys::replace_file;

/// What to build from what.
#[derive(Debug)]
pub struct BuildOptions {
    /// The files that the image's root will have.
    pub source: Source,
    /// The image; one of that name is replaced.
    pub output: PathBuf,
    /// What it is for.
    pub kind: ImageKind,
    /// What it says of itself; architecture, release and required runtime go into the header too. [`Manifest::created`] becomes
    /// the image's time.
    pub manifest: Manifest,
    /// See [`Header::security_epoch`].
    pub security_epoch: u32,
    /// How files are stored: smaller takes longer to build, and to read.
    pub compression: Compression,
    /// How many threads compress them; the image is the same for any number.
    pub threads: NonZeroUsize,
    /// Whose the files are.
    pub owners: Owners,
    /// The time of the image, in seconds since 1970; no file has a later one (`SOURCE_DATE_EPOCH`). `None`: files have the time
    /// that they have, and the image that of its newest.
    pub timestamp: Option<u64>,
    /// Who signs. Signatures can be added later, too.
    pub keys: Vec<SecretKey>,
    /// Told again and again how far it is.
    pub on_progress: fn(Progress),
}

/// How far the building of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files that are stored already, as they were before compression.
    pub stored_bytes: u64,
    /// Bytes of all files, before compression; known from the beginning.
    pub all_bytes: u64,
}

/// Where the files come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory.
    Directory(PathBuf),
    /// A tar archive, also one that is compressed with gzip, xz or zstd.
    Tar(PathBuf),
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its identity: SHA-256 of the header, by which aliases and specs name it.
    pub fingerprint: [u8; 32],
    /// Its header.
    pub header: Header,
}

/// The files of a source: all about them but their contents, which are read when they are packed.
#[derive(Debug)]
pub struct Root {
    tree: Tree,
    archive: Option<File>,
}

impl Root {
    /// Reads the source of an image, if its manifest is good: reading may take a while.
    pub fn read(options: &BuildOptions) -> Result<Root, BuildError> {
        encode(&options.manifest)?;
        let (tree, archive) = read_source(options)?;
        Ok(Root { tree, archive })
    }

    /// Its init, if it could start on this processor with this program and arguments.
    pub fn init(&self, argv: &[String], architecture: Architecture) -> Result<InitProgram, InitError> {
        init_program::find(&self.tree, self.archive.as_ref(), argv, architecture)
    }

    /// The first of the directories that a start mounts on which is something else here, such as a link. One that is not there
    /// is made.
    pub fn spoilt_mount_point(&self) -> Option<&'static str> {
        const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "run", "sys"];
        let Body::Directory(entries) = &self.tree.node(Tree::ROOT).body else { return None };
        let is_spoilt = |name: &&str| {
            let place = entries.get(name.as_bytes());
            place.is_some_and(|place| !matches!(self.tree.node(*place).body, Body::Directory(_)))
        };
        MOUNT_POINTS.into_iter().find(is_spoilt)
    }
}

/// Builds an image from its source, aside: a name that was there before is replaced by a whole image, or not at all.
pub fn build(options: &BuildOptions) -> Result<Built, BuildError> {
    build_from(&Root::read(options)?, options)
}

/// Builds an image from what was read of its source.
pub fn build_from(root: &Root, options: &BuildOptions) -> Result<Built, BuildError> {
    let Root { tree, archive } = root;
    let made = options.timestamp.or_else(|| tree.newest()).unwrap_or(0);
    let times = Times { made, latest: options.timestamp };
    let manifest = encode(&Manifest { created: made, ..options.manifest.clone() })?;
    let aside = aside_of(&options.output);
    let built = write_image(options, times, &manifest, tree, archive.as_ref(), &aside);
    if built.is_err() {
        drop(fs::remove_file(&aside));
    }
    built
}

fn encode(manifest: &Manifest) -> Result<Vec<u8>, BuildError> {
    manifest.encode().map_err(|source| BuildError::Manifest { source })
}

/// Why nothing was built.
#[derive(Debug)]
pub enum BuildError {
    /// The manifest.
    Manifest {
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The archive cannot be opened.
    Archive {
        /// Which and why.
        source: ArchiveError,
    },
    /// The archive cannot be read.
    Tar {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: TarError,
    },
    /// The directory cannot be read.
    Directory {
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// The payload cannot be written.
    Payload {
        /// Why.
        source: WriteError,
    },
    /// The image would break a limit of the format.
    Header {
        /// Which.
        source: HeaderError,
    },
    /// More keys than an image has places for.
    TooManyKeys {
        /// How many.
        keys: usize,
    },
    /// The image cannot be written.
    Write {
        /// The file that was written aside, or the image.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Manifest { source } => write!(out, "{source}"),
            BuildError::Archive { source } => write!(out, "{source}"),
            BuildError::Tar { path, source } => write!(out, "{}: {source}", path.display()),
            BuildError::Directory { source } => write!(out, "{source}"),
            BuildError::Payload { source } => write!(out, "{source}"),
            BuildError::Header { source } => write!(out, "{source}"),
            BuildError::TooManyKeys { keys } => {
                write!(out, "{keys} keys, but an image has places for {} signatures", signatures::MAX_SIGNATURES)
            }
            BuildError::Write { path, source } => write!(out, "write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}

fn read_source(options: &BuildOptions) -> Result<(Tree, Option<File>), BuildError> {
    let owners = options.owners;
    match &options.source {
        Source::Directory(path) => {
            let tree = erofs::read_directory(path, owners).map_err(|source| BuildError::Directory { source })?;
            Ok((tree, None))
        }
        Source::Tar(path) => {
            let beside = options.output.parent().filter(|folder| !folder.as_os_str().is_empty());
            let beside = beside.unwrap_or(Path::new("."));
            let file = archive::open(path, beside).map_err(|source| BuildError::Archive { source })?;
            let tree =
                erofs::read_tar(&file, owners).map_err(|source| BuildError::Tar { path: path.clone(), source })?;
            Ok((tree, Some(file)))
        }
    }
}

fn write_image(
    options: &BuildOptions,
    times: Times,
    manifest: &[u8],
    tree: &Tree,
    archive: Option<&File>,
    aside: &Path,
) -> Result<Built, BuildError> {
    let aside_error = |source| BuildError::Write { path: aside.to_owned(), source };
    let file = File::options().read(true).write(true).create(true).truncate(true).open(aside).map_err(aside_error)?;
    let payload = erofs::Options { compression: options.compression, threads: options.threads, times };
    let all_bytes = tree.content_bytes();
    let on_stored = |stored_bytes| (options.on_progress)(Progress { stored_bytes, all_bytes });
    let payload_blocks =
        erofs::write(tree, archive, &payload, &file, &on_stored).map_err(|source| BuildError::Payload { source })?;
    let layout = Layout::new(payload_blocks.saturating_mul(BLOCK_BYTES), manifest.len() as u32)
        .map_err(|source| BuildError::Header { source })?;
    let header = Header {
        kind: options.kind,
        architecture: options.manifest.architecture,
        layout,
        root_hash: verity::write_tree(&file, &layout).map_err(aside_error)?,
        manifest_sha256: Sha256::digest(manifest).into(),
        release: options.manifest.release,
        security_epoch: options.security_epoch,
        minimum_runtime: options.manifest.requires.runtime,
    };
    let block = header.encode();
    let signatures: Vec<_> = options.keys.iter().map(|key| key.sign(&block)).collect();
    let area = signatures::encode(&signatures).ok_or(BuildError::TooManyKeys { keys: signatures.len() })?;
    // What is not written here, behind the manifest, reads as zeros.
    file.write_all_at(manifest, layout.manifest_offset())
        .and_then(|()| file.write_all_at(&area[..], layout.signatures_offset()))
        .and_then(|()| file.write_all_at(&block, layout.header_offset()))
        .and_then(|()| file.sync_all())
        .map_err(aside_error)?;
    replace_file::put_in_place(aside, &options.output)
        .map_err(|source| BuildError::Write { path: options.output.clone(), source })?;
    Ok(Built { fingerprint: header.fingerprint(), header })
}

/// Beside the output, so that the rename stays within one file system.
fn aside_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    PathBuf::from(name)
}
