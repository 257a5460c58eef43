//! Builds a release of images that are there: looks into each, fills in what follows from them, and lays everything out as a source
//! has it, `release`, `images/FINGERPRINT` and `boot/SHA256`, in a folder or as one tar archive (a bundle). The same files give the
//! same bytes.

use super::{BootFile, EncodeError, ImageFile, Manifest, Part, Requires, System, encode};
use crate::header::fingerprint;
use crate::image_target::{Architecture, ImageKind, Version};
use crate::inspect::{self, Description, InspectError};
use crate::secret::SecretKey;
use core::fmt;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use yado_sys::replace_file;
use yado_wire::InstanceName;

/// What to build of what. What is `None` or empty follows from the system's image, if there is one.
#[derive(Debug, Default)]
pub struct BuildOptions {
    /// The system's image.
    pub system: Option<PathBuf>,
    /// The boot files that the system's image names; their names are those of the files.
    pub boot_files: Vec<PathBuf>,
    /// Images of instances.
    pub instances: Vec<(InstanceName, PathBuf)>,
    /// See [`Manifest::name`].
    pub name: Option<String>,
    /// See [`Manifest::version`].
    pub version: Option<String>,
    /// See [`Manifest::release`].
    pub release: Option<u64>,
    /// See [`Manifest::architecture`]; without a system that of the instances' images, if it is the same.
    pub architecture: Option<Architecture>,
    /// See [`Manifest::compatible`].
    pub compatible: Vec<String>,
    /// Seconds since 1970; `None` for the newest image's.
    pub created: Option<u64>,
    /// See [`Manifest::needs_uplink`].
    pub needs_uplink: bool,
    /// Beside those that the images need.
    pub requires_kernel: Vec<String>,
    /// See [`Requires::memory_mib`].
    pub requires_memory_mib: u32,
    /// It may be less than what the images need, which counts then.
    pub minimum_runtime: Version,
    /// See [`super::Header::oldest_before`].
    pub oldest_before: u64,
    /// `None` for the highest of the images.
    pub security_epoch: Option<u32>,
    /// Who signs. Signatures can be added later, too.
    pub keys: Vec<SecretKey>,
}

/// A release and where its files are.
#[derive(Debug)]
pub struct Built {
    /// Its identity.
    pub fingerprint: [u8; 32],
    /// What belongs to it.
    pub manifest: Manifest,
    /// Its own bytes.
    pub release: Vec<u8>,
    files: BTreeMap<Part, PathBuf>,
}

/// Looks into all images, from the first block to the last, and makes the release.
pub fn build(options: &BuildOptions) -> Result<Built, BuildError> {
    let mut files = BTreeMap::new();
    let system = options.system.as_ref().map(|path| read_image(path, ImageKind::System, &mut files)).transpose()?;
    let mut instances = BTreeMap::new();
    for (name, path) in &options.instances {
        let image = read_image(path, ImageKind::Container, &mut files)?;
        if instances.insert(name.clone(), image).is_some() {
            return Err(BuildError::Twice { name: name.clone() });
        }
    }
    let boot = match (&system, &options.system) {
        (Some(image), Some(path)) => read_boot_files(&options.boot_files, path, image, &mut files)?,
        _ if options.boot_files.is_empty() => BTreeMap::new(),
        _ => return Err(BuildError::NoSystem),
    };
    let images = || system.iter().chain(instances.values());
    let epoch = options.security_epoch.or(images().map(|image| image.header.security_epoch).max()).unwrap_or(0);
    let manifest = Manifest {
        architecture: architecture(options, system.as_ref(), &instances)?,
        compatible: match (&options.compatible[..], &system) {
            ([], Some(system)) => system.manifest.compatible.clone(),
            (given, _) => given.to_vec(),
        },
        created: options.created.or(images().map(|image| image.manifest.created).max()).unwrap_or(0),
        name: options
            .name
            .clone()
            .or(system.as_ref().map(|image| image.manifest.name.clone()))
            .ok_or(BuildError::Unnamed { option: "name" })?,
        needs_uplink: options.needs_uplink,
        release: options
            .release
            .or(system.as_ref().map(|image| image.header.release))
            .ok_or(BuildError::Unnamed { option: "release" })?,
        requires: Requires {
            kernel: kernel_options(options, images()),
            memory_mib: options.requires_memory_mib,
            runtime: images().map(|image| image.header.minimum_runtime).fold(options.minimum_runtime, Version::max),
        },
        version: options
            .version
            .clone()
            .or(system.as_ref().map(|image| image.manifest.version.clone()))
            .unwrap_or_else(|| "1".to_owned()),
        instances: instances.iter().map(|(name, image)| (name.clone(), image_file(image))).collect(),
        system: system.as_ref().map(image_file).map(|ImageFile { bytes, fingerprint }| System {
            boot,
            bytes,
            fingerprint,
        }),
    };
    let release = encode(&manifest, options.oldest_before, epoch, &options.keys)
        .map_err(|source| BuildError::Encode { source })?;
    let fingerprint = release.last_chunk().map(fingerprint).unwrap_or_default();
    Ok(Built { fingerprint, manifest, release, files })
}

impl Built {
    /// Lays the release out in a folder, which may hold others' files: images are linked where that can be, else copied. `release`
    /// is written last, so that a server never has one whose files are not there.
    pub fn write_folder(&self, folder: &Path) -> Result<(), BuildError> {
        for (part, _) in self.manifest.parts() {
            let target = folder.join(part.to_string());
            let write_error = |source| BuildError::Write { path: target.clone(), source };
            let source = self.path_of(&part)?;
            let subfolder = target.parent().unwrap_or(folder);
            fs::create_dir_all(subfolder).map_err(write_error)?;
            let aside = subfolder.join(format!(".{}.new", std::process::id()));
            // What a build that was cut off has left.
            drop(fs::remove_file(&aside));
            fs::hard_link(source, &aside)
                .or_else(|_| fs::copy(source, &aside).and_then(|_| File::open(&aside)?.sync_all()))
                .and_then(|()| replace_file::put_in_place(&aside, &target))
                .map_err(write_error)?;
            // It is there still where both are links of one file already (rename(2)).
            drop(fs::remove_file(&aside));
        }
        let path = folder.join("release");
        replace_file::replace(&path, 0o644, &self.release).map_err(|source| BuildError::Write { path, source })
    }

    /// Writes the release and its files as one tar archive, in the order in which they are installed.
    pub fn write_bundle(&self, output: &mut dyn Write) -> Result<(), BuildError> {
        let write_error = |source| BuildError::Write { path: "bundle".into(), source };
        let mut bundle = Bundle::new(output, self.manifest.created);
        bundle.add("release", self.release.len() as u64, &mut &self.release[..]).map_err(write_error)?;
        for (part, bytes) in self.manifest.parts() {
            let path = self.path_of(&part)?;
            let mut file = File::open(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })?;
            bundle.add(&part.to_string(), bytes, &mut file).map_err(write_error)?;
        }
        bundle.finish().map_err(write_error)
    }

    fn path_of(&self, part: &Part) -> Result<&Path, BuildError> {
        let missing = || BuildError::Read { path: part.to_string().into(), source: io::ErrorKind::NotFound.into() };
        self.files.get(part).map(PathBuf::as_path).ok_or_else(missing)
    }
}

/// Writes a plain tar archive (ustar), member by member.
struct Bundle<'output> {
    builder: tar::Builder<&'output mut dyn Write>,
    time: u64,
}

impl<'output> Bundle<'output> {
    fn new(output: &'output mut dyn Write, time: u64) -> Bundle<'output> {
        Bundle { builder: tar::Builder::new(output), time }
    }

    /// A member must have the length that was announced: it stands before it.
    fn add(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes);
        header.set_mtime(self.time);
        header.set_cksum();
        let mut counted = Counted { content: content.take(bytes), bytes: 0 };
        self.builder.append(&header, &mut counted)?;
        if counted.bytes == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }
}

struct Counted<R> {
    content: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.bytes = self.bytes.saturating_add(count as u64);
        Ok(count)
    }
}

fn read_image(path: &Path, kind: ImageKind, files: &mut BTreeMap<Part, PathBuf>) -> Result<Description, BuildError> {
    let image_error = |source| BuildError::Image { path: path.to_owned(), source };
    let image = inspect::describe(path).map_err(image_error)?;
    if image.header.kind != kind {
        return Err(BuildError::WrongKind { path: path.to_owned(), expected: kind, found: image.header.kind });
    }
    let file = File::open(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })?;
    inspect::check_parts(&file).map_err(image_error)?;
    files.insert(Part::Image(image.fingerprint), path.to_owned());
    Ok(image)
}

fn image_file(image: &Description) -> ImageFile {
    ImageFile { bytes: image.header.layout.image_bytes(), fingerprint: image.fingerprint }
}

/// All that the image names, and no other: the system would not start, or start something else.
fn read_boot_files(
    paths: &[PathBuf],
    image_path: &Path,
    image: &Description,
    files: &mut BTreeMap<Part, PathBuf>,
) -> Result<BTreeMap<String, BootFile>, BuildError> {
    let mut boot = BTreeMap::new();
    for path in paths {
        let (bytes, sha256) = digest_of(path).map_err(|source| BuildError::Read { path: path.clone(), source })?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_named = image.manifest.boot.get(&name).is_some_and(|digest| *digest == crate::hex::encode(&sha256));
        if !is_named {
            return Err(BuildError::OtherBootFile { path: path.clone(), image: image_path.to_owned() });
        }
        files.insert(Part::Boot(sha256), path.clone());
        boot.insert(name, BootFile { bytes, sha256 });
    }
    match image.manifest.boot.keys().find(|name| !boot.contains_key(*name)) {
        Some(name) => Err(BuildError::BootFileMissing { name: name.clone(), image: image_path.to_owned() }),
        None => Ok(boot),
    }
}

fn digest_of(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hasher.finalize().into())),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                bytes = bytes.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn architecture(
    options: &BuildOptions,
    system: Option<&Description>,
    instances: &BTreeMap<InstanceName, Description>,
) -> Result<Architecture, BuildError> {
    let of = |image: &Description| image.header.architecture;
    let (system, mut others) = (system.map(of), instances.values().map(of));
    match (options.architecture, system, others.next()) {
        (Some(given), Some(system), _) if given != system => Err(BuildError::OtherArchitecture { given, system }),
        (Some(given), _, _) => Ok(given),
        (None, Some(system), _) => Ok(system),
        (None, None, Some(first)) if others.all(|other| other == first) => Ok(first),
        (None, None, _) => Err(BuildError::Unnamed { option: "arch" }),
    }
}

/// In order and each once, so that the same images give the same bytes.
fn kernel_options<'image>(
    options: &'image BuildOptions,
    images: impl Iterator<Item = &'image Description>,
) -> Vec<String> {
    let given = options.requires_kernel.iter();
    let mut all: Vec<String> =
        images.flat_map(|image| &image.manifest.requires.kernel).chain(given).cloned().collect();
    all.sort();
    all.dedup();
    all
}

/// Why no release was built.
#[derive(Debug)]
pub enum BuildError {
    /// An image is damaged, or none.
    Image {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: InspectError,
    },
    /// A container's image as a system, or the other way round.
    WrongKind {
        /// Which.
        path: PathBuf,
        /// What was asked for.
        expected: ImageKind,
        /// The image's.
        found: ImageKind,
    },
    /// Two images for one instance.
    Twice {
        /// Which.
        name: InstanceName,
    },
    /// Boot files belong to a system, and there is none.
    NoSystem,
    /// The system's image does not name this boot file, or names other bytes.
    OtherBootFile {
        /// Which.
        path: PathBuf,
        /// The system's image.
        image: PathBuf,
    },
    /// The system's image names a boot file that was not given.
    BootFileMissing {
        /// Which.
        name: String,
        /// The system's image.
        image: PathBuf,
    },
    /// The system is for another processor than what was asked for.
    OtherArchitecture {
        /// What was asked for.
        given: Architecture,
        /// The system's.
        system: Architecture,
    },
    /// What follows from no image has to be given.
    Unnamed {
        /// By which option.
        option: &'static str,
    },
    /// The release would break a rule.
    Encode {
        /// Which.
        source: EncodeError,
    },
    /// A file cannot be read.
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file cannot be written.
    Write {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Image { path, source } => write!(out, "{}: {source}", path.display()),
            BuildError::WrongKind { path, expected, found } => {
                let (expected, found) = (expected.name(), found.name());
                write!(out, "{}: a {found} image where a {expected} image is needed", path.display())
            }
            BuildError::Twice { name } => write!(out, "instance {}: two images are given for it", name.as_str()),
            BuildError::NoSystem => write!(out, "boot files belong to a system's image, and none is given"),
            BuildError::OtherBootFile { path, image } => {
                write!(out, "{}: {} names no boot file of this name and content", path.display(), image.display())
            }
            BuildError::BootFileMissing { name, image } => {
                write!(out, "{} names the boot file {name}: give it with --boot-file", image.display())
            }
            BuildError::OtherArchitecture { given, system } => {
                write!(out, "the system is for {}, not for {}", system.name(), given.name())
            }
            BuildError::Unnamed { option } => write!(out, "give --{option}: it follows from no image here"),
            BuildError::Encode { source } => write!(out, "{source}"),
            BuildError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            BuildError::Write { path, source } => write!(out, "write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BuildError {}
