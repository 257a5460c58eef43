//! Reads the compiled specs of all instances, and whether they are up to date with their sources.

use crate::log::{Log, Priority};
use crate::paths::Paths;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use yado_spec::InstanceSpec;
use yado_spec::file::{self, Digest};
use yado_spec::sources::{self, Sources};
use yado_wire::{Failure, InstanceName, MAX_INSTANCES, Step};

/// The networks' file, beside those of instances.
const NETWORKS: &str = "networks.bin";

/// A file of this length is refused as too long.
const ONE_TOO_MANY: u64 = file::MAX_FILE_BYTES as u64 + 1;

/// The longest text of the compiler's that is kept with an instance.
const MAX_REASON_BYTES: u64 = 4096;

/// An instance as it is configured.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) name: InstanceName,
    /// What it is to be; or why that is not known.
    pub(crate) spec: Result<Rc<InstanceSpec>, Box<Failure>>,
    /// Its image's file; `None`: no image of that fingerprint is on this machine.
    pub(crate) image: Option<PathBuf>,
}

/// What sources and specs say.
#[derive(Debug)]
pub(crate) struct ReadSpecs {
    /// All that are configured.
    pub(crate) instances: Vec<Configured>,
    /// There is an instance, or a network, that must be compiled first.
    pub(crate) is_stale: bool,
}

/// Reads all sources and specs.
pub(crate) fn read(paths: &Paths, log: &mut Log) -> ReadSpecs {
    let sources = sources::read_sources(&paths.system, Some(&paths.data));
    for left_out in &sources.left_out {
        log.say(Priority::Warning, format_args!("{left_out}"));
    }
    if MAX_INSTANCES < sources.instances.len() {
        log.say(Priority::Error, format_args!("more than {MAX_INSTANCES} instances: the rest is left out"));
    }
    let mut is_stale = !sources.networks.is_empty() && !networks_files(paths).iter().any(|file| file.exists());
    let mut instances = Vec::new();
    for name in sources.instances.keys().take(MAX_INSTANCES) {
        let spec = read_spec(paths, name, sources.digest(name));
        is_stale |= spec.is_none();
        let spec = spec.ok_or_else(|| compiler_failure(paths, name)).and_then(|spec| if_allowed(paths, spec));
        let spec = spec.map(Rc::new).map_err(Box::new);
        let image = spec.as_ref().ok().and_then(|spec| image_of(&sources, spec));
        instances.push(Configured { name: name.clone(), spec, image });
    }
    ReadSpecs { instances, is_stale }
}

/// Which instances the compiler has written. Whoever asks for this has had them compiled.
pub(crate) fn compiled_names(paths: &Paths) -> Result<Vec<InstanceName>, Failure> {
    let directory = paths.specs();
    let entries = fs::read_dir(&directory)
        .map_err(|error| Failure::from_io(Step::Spec, &directory.to_string_lossy(), &error))?;
    let mut names: Vec<InstanceName> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let name = file.to_str()?.strip_suffix(".bin").or(file.to_str()?.strip_suffix(".err"))?;
            InstanceName::parse(name).ok().filter(|_| file != NETWORKS)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Reads what the compiler has written of one, and nothing else: it lies in memory, so that no disk keeps us waiting.
pub(crate) fn read_compiled(paths: &Paths, name: InstanceName) -> Configured {
    let bytes = read_bounded(&paths.specs().join(format!("{name}.bin")), ONE_TOO_MANY);
    let spec = match bytes.as_deref().map(file::decode) {
        Some(Ok((spec, _))) if spec.name == name => if_allowed(paths, spec),
        Some(Ok(_)) => Err(Failure::refused(Step::Spec, name.as_str(), "the spec is another instance's").in_vain()),
        Some(Err(error)) => Err(Failure::refused(Step::Spec, name.as_str(), &error.to_string()).in_vain()),
        None => Err(compiler_failure(paths, &name)),
    };
    // Whoever uses it looks for its image.
    Configured { name, spec: spec.map(Rc::new).map_err(Box::new), image: None }
}

/// Where the networks are that netd is to keep: in the first of these files that is there. What is compiled later counts when
/// netd reads them again.
pub(crate) fn networks_files(paths: &Paths) -> Vec<PathBuf> {
    let mut files = vec![paths.specs().join(NETWORKS)];
    // The image's own is right only while nothing on the data partition adds to it.
    let has_more = fs::read_dir(paths.data.join("networks")).is_ok_and(|mut entries| entries.next().is_some());
    if !has_more {
        files.push(paths.system.join("specs/networks.bin"));
    }
    files
}

fn image_of(sources: &Sources, spec: &InstanceSpec) -> Option<PathBuf> {
    sources.images.get(&spec.image).cloned()
}

/// The spec, if it is whole and of today's sources.
fn read_spec(paths: &Paths, name: &InstanceName, digest: Option<Digest>) -> Option<InstanceSpec> {
    let digest = digest?;
    let file = format!("{name}.bin");
    let candidates = [paths.specs().join(&file), paths.system.join("specs").join(&file)];
    candidates.iter().find_map(|path| {
        let bytes = read_bounded(path, ONE_TOO_MANY)?;
        let (spec, found) = file::decode(&bytes).ok()?;
        (found == digest && spec.name == *name).then_some(spec)
    })
}

/// The spec, unless it asks for what this system does not allow.
fn if_allowed(paths: &Paths, spec: InstanceSpec) -> Result<InstanceSpec, Failure> {
    if !spec.security.privileged || paths.allows_privileged() {
        return Ok(spec);
    }
    let reason =
        format!("this system does not allow it: that needs the word allow in {}", paths.privileged().display());
    Err(Failure::refused(Step::Spec, "security.privileged", &reason).in_vain())
}

/// What the compiler said of it.
fn compiler_failure(paths: &Paths, name: &InstanceName) -> Failure {
    let path = paths.specs().join(format!("{name}.err"));
    // One problem a line.
    let text =
        read_bounded(&path, MAX_REASON_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).trim().replace('\n', "; "));
    let reason = text.unwrap_or_else(|| "it was not compiled".to_owned());
    Failure::refused(Step::Spec, name.as_str(), &reason).in_vain()
}

fn read_bounded(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
