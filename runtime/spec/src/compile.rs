//! The compiler: what was said of instances, profiles and networks to what runs, the specs. Of one instance ([`compile_one`],
//! from layers that files or a request say) or of all files ([`compile`]). Pure but for one argument that reads images. One bad
//! instance is one error; the others come out.

mod expand;
mod files;
mod networks;
mod order;

use crate::instance::{InstanceSpec, StopMethod};
use crate::layer::Located;
use crate::network::NetworksSpec;
use crate::parsed_file::{ParsedFile, file_problem, missing_image, parse_file, whole};
use crate::parsed_layer::ParsedLayer;
use crate::problem::{Fault, Location, Problem};
use crate::sources::pins::Pins;
use crate::sources::{Source, Sources};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use yado_wire::InstanceName;

pub use crate::parsed_file::FileKind;

/// What the compiler needs to know of an image, from its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// What it is the root of.
    pub kind: ImageKind,
    /// Program and arguments of its init.
    pub init: Vec<String>,
    /// How its init is asked to power off.
    pub stop_method: StopMethod,
}

/// What an image is the root of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// A container.
    Instance,
    /// The device itself: no instance can be made of it.
    System,
}

/// Reads what the compiler needs of an image, by fingerprint and file. An error is the reason in words; it is shown with
/// the line that names the image.
pub type ReadFacts<'a> = dyn Fn(&[u8; 32], &Path) -> Result<ImageFacts, String> + 'a;

/// What came out of all files together: what is wrong with one leaves the others as they are.
#[derive(Debug)]
pub struct Compiled {
    /// Every instance, by name: its spec, or everything that is wrong with it.
    pub instances: Vec<(InstanceName, Result<InstanceSpec, Vec<Problem>>)>,
    /// The networks that are right; what netd needs is among them in any case.
    pub networks: NetworksSpec,
    /// What is wrong with the others.
    pub network_problems: Vec<Problem>,
    /// What is wrong with profiles, also with those that no instance uses.
    pub profile_problems: Vec<Problem>,
    /// Why instances that have a spec have not the image that an update gave them.
    pub passed_over: Vec<(InstanceName, Problem)>,
}

/// What instances are looked at against: the images and networks of the machine that is compiled for.
pub struct World<'a> {
    /// Fingerprint by alias.
    pub aliases: &'a BTreeMap<String, [u8; 32]>,
    /// The image file by fingerprint.
    pub images: &'a BTreeMap<[u8; 32], PathBuf>,
    /// What updates say of images.
    pub pins: &'a BTreeMap<InstanceName, Pins>,
    /// The networks that nics can be on.
    pub networks: &'a NetworksSpec,
    /// Reads an image.
    pub facts: &'a ReadFacts<'a>,
}

/// What is said of one instance outside of its layers.
#[derive(Debug, Clone, Copy)]
pub struct Heading<'a> {
    /// What it is called.
    pub name: &'a InstanceName,
    /// Where it is said: what concerns no single text is told of here.
    pub location: &'a Location,
    /// An alias, a fingerprint, or the beginning of one.
    pub image: Option<&'a Located>,
}

/// Compiles one instance from its layers, the lowest first: its profiles in their order, then its own. The one way to a spec,
/// from files and from requests.
///
/// `boot.after` stays empty: whether those instances exist and wait in a circle is a question to all instances together, which
/// [`compile`] asks.
pub fn compile_one(
    heading: Heading<'_>,
    layers: &[&ParsedLayer],
    world: &World<'_>,
) -> Result<InstanceSpec, Vec<Problem>> {
    expand::spec(heading, layers, world)
}

/// Compiles everything, and then looks whether each `after` names an instance and none waits for itself.
pub fn compile(sources: &Sources, facts: &ReadFacts) -> Compiled {
    let (networks, network_problems) = networks::compile(&sources.networks);
    let profiles: BTreeMap<&str, ParsedFile> =
        sources.profiles.iter().map(|(name, source)| (name.as_str(), read_file(FileKind::Profile, source))).collect();
    let Sources { aliases, images, pins, .. } = sources;
    let world = World { aliases, images, pins, networks: &networks, facts };
    let mut passed_over = Vec::new();
    let mut instances: BTreeMap<InstanceName, (ParsedFile, Result<InstanceSpec, Vec<Problem>>)> = BTreeMap::new();
    for (name, source) in &sources.instances {
        let parsed = read_file(FileKind::Instance, source);
        let spec = files::compile(name, &source.path.display().to_string(), &parsed, &profiles, &world);
        let problem = parsed.image.as_ref().and_then(|image| world.passed_over(name, image));
        passed_over.extend(problem.filter(|_| spec.is_ok()).map(|problem| (name.clone(), problem)));
        instances.insert(name.clone(), (parsed, spec));
    }
    order::check(&mut instances);
    let instances = instances.into_iter().map(|(name, (_, spec))| (name, spec)).collect();
    let profile_problems = profiles.into_values().flat_map(|profile| profile.all_problems()).collect();
    Compiled { instances, networks, network_problems, profile_problems, passed_over }
}

/// The image that an instance's own key means, whatever its pins say: what a pin is made for. The error says why there is none.
pub fn own_image(sources: &Sources, instance: &InstanceName) -> Result<[u8; 32], Problem> {
    let missing = |file: &str| file_problem(file, "", Fault::Unknown { what: "instance", nearest: None });
    let source = sources.instances.get(instance).ok_or_else(|| missing(instance.as_str()))?;
    let file = source.path.display().to_string();
    let parsed = read_file(FileKind::Instance, source);
    if let Some(problem) = parsed.own_problems().first() {
        return Err(problem.clone());
    }
    let image = parsed.image.as_ref().ok_or_else(|| missing_image(whole(&file)))?;
    expand::find_image(image, &sources.aliases, &sources.images)
}

/// What is wrong with one file by itself. The profiles, images, networks and instances that it names are not looked for.
pub fn check(kind: FileKind, file: &str, bytes: &[u8]) -> Vec<Problem> {
    match kind {
        FileKind::Instance | FileKind::Profile => parse_file(file, kind, bytes).all_problems(),
        FileKind::Network => {
            let name = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            networks::check(name, file, bytes)
        }
    }
}

fn read_file(kind: FileKind, source: &Source) -> ParsedFile {
    let file = source.path.display().to_string();
    match &source.content {
        Ok(bytes) => parse_file(&file, kind, bytes),
        Err(error) => {
            let fault = Fault::Unreadable { message: error.to_string() };
            ParsedFile::unreadable(file_problem(&file, "", fault))
        }
    }
}
