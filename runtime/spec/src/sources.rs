//! The sources of specs: which TOML files and image aliases count on this machine, and their digest. The one module of
//! this crate that reads files, because init (is the cache stale?) and the compiler (what is to be compiled?) must agree
//! on every file. It does not look into them: no TOML here. Every read has a bound.
//!
//! | what | system directory (`/usr/lib/yado`) | data directory (`/data`), which wins |
//! |---|---|---|
//! | instances | `appliance/NAME.toml` | `instances/NAME/instance.toml` |
//! | profiles | `appliance/profiles/NAME.toml` | `profiles/NAME.toml` |
//! | networks | `appliance/networks/NAME.toml` | `networks/NAME.toml` |
//! | images | `images/FINGERPRINT/image`, which wins here: a system image is verified | the same |
//! | aliases | `images/aliases/ALIAS` → `../FINGERPRINT` | the same |
//! | pins ([`pins`]) | | `images/instances/NAME/OWN` → `../../FINGERPRINT` |
//!
//! NAME of an instance is its full name: `PROJECT_NAME` for one of another project than the default. Profiles, networks and images
//! are shared by all projects.
//!
//! The digest of an instance covers, in this order: each profile as `profiles/NAME.toml`, by name; each alias as
//! `aliases/ALIAS` with its fingerprint in hex, by name; each of its own pins as `pins/OWN`; its own file as `instance.toml`. All
//! profiles and all aliases, because init cannot know which of them a file names.

pub mod pins;

use crate::file::{Digest, sources_digest};
use pins::{Pins, fingerprint_of};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use yado_wire::{InstanceName, hex};

/// The longest source file. A configuration with every key is a few KiB.
pub const MAX_SOURCE_BYTES: u64 = 64 * 1024;

/// The most entries of one directory that are looked at; a device runs tens of instances, not thousands.
pub const MAX_ENTRIES: usize = 1024;

/// The longest name of a profile, a network or an alias.
pub const MAX_NAME_BYTES: usize = 128;

/// Everything that specs are made from, as it is on disk now.
#[derive(Debug, Default)]
pub struct Sources {
    /// By file stem.
    pub profiles: BTreeMap<String, Source>,
    /// By name.
    pub instances: BTreeMap<InstanceName, Source>,
    /// By file stem.
    pub networks: BTreeMap<String, Source>,
    /// Fingerprint by alias.
    pub aliases: BTreeMap<String, [u8; 32]>,
    /// What updates say of the images of instances.
    pub pins: BTreeMap<InstanceName, Pins>,
    /// The image file by fingerprint. Nothing in it was looked at.
    pub images: BTreeMap<[u8; 32], PathBuf>,
    /// Entries that were left out, and directories that could not be read. A directory that does not exist is empty.
    pub left_out: Vec<SourceError>,
}

/// One TOML file.
#[derive(Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What it says. An error concerns this file alone.
    pub content: Result<Vec<u8>, SourceError>,
}

/// Why a file or directory is not among the sources.
#[derive(Debug)]
pub enum SourceError {
    /// The kernel refused.
    Read {
        /// What was read.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Over [`MAX_SOURCE_BYTES`].
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Over [`MAX_ENTRIES`]: the rest of the directory is left out.
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// Its name is no name of what it would define.
    Name {
        /// The entry.
        path: PathBuf,
        /// What is wrong with the name.
        reason: String,
    },
    /// An alias that does not point to a directory named by a fingerprint.
    Alias {
        /// The link.
        path: PathBuf,
    },
    /// A pin that is not named by a fingerprint, or does not point to a directory named by one.
    Pin {
        /// The link.
        path: PathBuf,
    },
}

impl core::fmt::Display for SourceError {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SourceError::Read { path, source } => write!(out, "read {}: {source}", path.display()),
            SourceError::TooLong { path } => {
                write!(out, "read {}: longer than {MAX_SOURCE_BYTES} bytes: move a part to profiles", path.display())
            }
            SourceError::TooMany { path } => {
                write!(out, "read {}: more than {MAX_ENTRIES} entries, the rest is left out", path.display())
            }
            SourceError::Name { path, reason } => write!(out, "{}: {reason}", path.display()),
            SourceError::Alias { path } => {
                write!(out, "{}: an alias is a link to ../FINGERPRINT of 64 hex digits", path.display())
            }
            SourceError::Pin { path } => {
                write!(out, "{}: a pin is a link from a fingerprint to ../../FINGERPRINT", path.display())
            }
        }
    }
}

impl std::error::Error for SourceError {}

/// Whether an instance that names its image so means the one whose fingerprint begins like this, if no alias is called so.
pub fn is_fingerprint_prefix(text: &str) -> bool {
    MIN_PREFIX_DIGITS <= text.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// LXD's clients show so many digits.
const MIN_PREFIX_DIGITS: usize = 12;

/// Reads what is there. `data` is `None` while there is no data partition.
pub fn read_sources(system: &Path, data: Option<&Path>) -> Sources {
    let mut sources = Sources::default();
    sources.read_appliance(&system.join("appliance"));
    sources.read_images(&system.join("images"));
    if let Some(data) = data {
        sources.read_instances(data);
        let left_out = &mut sources.left_out;
        read_stems(&data.join("profiles"), Some(data), &mut sources.profiles, left_out);
        read_stems(&data.join("networks"), Some(data), &mut sources.networks, left_out);
        sources.read_images(&data.join("images"));
        sources.read_pins(data);
    }
    sources
}

impl Sources {
    /// The digest of one instance's sources; `None` when there is no such instance or one of the files was not readable,
    /// so that no cache is taken for fresh.
    pub fn digest(&self, instance: &InstanceName) -> Option<Digest> {
        let own = self.instances.get(instance)?;
        let mut list: Vec<(String, &[u8])> = Vec::new();
        for (name, profile) in &self.profiles {
            list.push((format!("profiles/{name}.toml"), profile.content.as_deref().ok()?));
        }
        let aliases: Vec<(String, String)> = self
            .aliases
            .iter()
            .map(|(alias, fingerprint)| (format!("aliases/{alias}"), hex::encode(fingerprint)))
            .collect();
        let pins = self.pin_sources(instance);
        let own = [("instance.toml", own.content.as_deref().ok()?)];
        let profiles = list.iter().map(|(name, content)| (name.as_str(), *content));
        let links = aliases.iter().chain(&pins).map(|(name, content)| (name.as_str(), content.as_bytes()));
        Some(sources_digest(profiles.chain(links).chain(own)))
    }

    fn read_appliance(&mut self, directory: &Path) {
        let mut files = BTreeMap::new();
        read_stems(directory, None, &mut files, &mut self.left_out);
        for (stem, source) in files {
            self.add_instance(&stem, source);
        }
        read_stems(&directory.join("profiles"), None, &mut self.profiles, &mut self.left_out);
        read_stems(&directory.join("networks"), None, &mut self.networks, &mut self.left_out);
    }

    fn read_instances(&mut self, data: &Path) {
        let directory = data.join("instances");
        for name in entries(&directory, &mut self.left_out) {
            let path = directory.join(&name).join("instance.toml");
            // What cannot even be looked for is not taken for absent, nor is a link to nothing.
            if !matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
                let source = read_source_below(Some(data), path);
                self.add_instance(&name, source);
            }
        }
    }

    fn add_instance(&mut self, name: &str, source: Source) {
        match InstanceName::parse(name) {
            Ok(name) => {
                self.instances.insert(name, source);
            }
            Err(error) => {
                self.left_out.push(SourceError::Name { path: source.path, reason: error.to_string() });
            }
        }
    }

    fn read_images(&mut self, directory: &Path) {
        for name in entries(directory, &mut self.left_out) {
            let Some(fingerprint) = hex::parse_digest(&name) else { continue };
            let path = directory.join(&name).join("image");
            self.images.entry(fingerprint).or_insert(path);
        }
        self.read_aliases(&directory.join("aliases"));
    }

    fn read_aliases(&mut self, directory: &Path) {
        for alias in entries(directory, &mut self.left_out) {
            let path = directory.join(&alias);
            match fingerprint_of(&path) {
                Ok(Some(fingerprint)) => {
                    self.aliases.insert(alias, fingerprint);
                }
                Ok(None) => self.left_out.push(SourceError::Alias { path }),
                Err(source) => self.left_out.push(SourceError::Read { path, source }),
            }
        }
    }
}

/// Reads each `STEM.toml` of a directory; one that is already there by that stem is replaced.
fn read_stems(
    directory: &Path,
    top: Option<&Path>,
    into: &mut BTreeMap<String, Source>,
    left_out: &mut Vec<SourceError>,
) {
    for name in entries(directory, left_out) {
        let Some(stem) = name.strip_suffix(".toml") else { continue };
        into.insert(stem.to_owned(), read_source_below(top, directory.join(&name)));
    }
}

/// The names in a directory, those that begin with a dot not among them (editors leave such).
fn entries(directory: &Path, left_out: &mut Vec<SourceError>) -> Vec<String> {
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(source) => {
            left_out.push(SourceError::Read { path: directory.to_owned(), source });
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in listing {
        let name = match entry {
            Ok(entry) => entry.file_name(),
            Err(source) => {
                left_out.push(SourceError::Read { path: directory.to_owned(), source });
                break;
            }
        };
        if names.len() == MAX_ENTRIES {
            left_out.push(SourceError::TooMany { path: directory.to_owned() });
            break;
        }
        match name.into_string() {
            Ok(name) if name.starts_with('.') => {}
            Ok(name) if name.strip_suffix(".toml").unwrap_or(&name).len() <= MAX_NAME_BYTES => names.push(name),
            Ok(name) => left_out.push(SourceError::Name {
                path: directory.join(name),
                reason: format!("a name has at most {MAX_NAME_BYTES} bytes"),
            }),
            Err(name) => left_out
                .push(SourceError::Name { path: directory.join(name), reason: "the name is not UTF-8".to_owned() }),
        }
    }
    names.sort_unstable();
    names
}

/// Reads one file; `content` says if it cannot be one.
pub fn read_source(path: PathBuf) -> Source {
    read_source_below(None, path)
}

/// The same; with a `top`, no link may lead out of that directory.
fn read_source_below(top: Option<&Path>, path: PathBuf) -> Source {
    let mut content = Vec::new();
    let read = open_regular(top, &path)
        // One byte more than allowed tells too long from just long enough.
        .and_then(|file| file.take(MAX_SOURCE_BYTES + 1).read_to_end(&mut content));
    let content = match read {
        Ok(length) if MAX_SOURCE_BYTES < length as u64 => Err(SourceError::TooLong { path: path.clone() }),
        Ok(_) => Ok(content),
        Err(source) => Err(SourceError::Read { path: path.clone(), source }),
    };
    Source { path, content }
}

/// Opening a FIFO would block init for ever, and so would reading some files of `/proc`, to which a link may lead from a data
/// partition that was elsewhere; opening a watchdog would arm it.
fn open_regular(top: Option<&Path>, path: &Path) -> io::Result<File> {
    let refused = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    // What is judged is what is then read, whatever lies there meanwhile; and to judge it does not open it.
    // Not by std, which takes O_PATH for a way of access where the C library is musl, and drops it.
    let found = File::from(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let found_at = format!("/proc/self/fd/{}", found.as_raw_fd());
    if let Some(top) = top {
        if !fs::read_link(&found_at)?.starts_with(top.canonicalize()?) {
            return refused(format!("a link that leads out of {}: put the file itself there", top.display()));
        }
    }
    if !found.metadata()?.is_file() {
        return refused("not a regular file: put one there".to_owned());
    }
    File::open(found_at)
}
