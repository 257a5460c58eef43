//! One instance from its file: the profiles that it names, and what is wrong with the files themselves.

use super::{Heading, World, compile_one};
use crate::instance::InstanceSpec;
use crate::nearest::nearest;
use crate::parsed_file::{ParsedFile, missing_image, whole};
use crate::problem::{Fault, Location, Problem};
use std::collections::BTreeMap;
use yado_wire::InstanceName;

/// The instance's spec, or all that is wrong, its own file first. `after` is filled in when all instances are known.
pub(super) fn compile(
    name: &InstanceName,
    file: &str,
    own: &ParsedFile,
    profiles: &BTreeMap<&str, ParsedFile>,
    world: &World<'_>,
) -> Result<InstanceSpec, Vec<Problem>> {
    let mut problems = own.own_problems().to_vec();
    let files = layers(own, profiles, &mut problems);
    problems.extend(files.iter().flat_map(|profile| profile.own_problems()).cloned());
    let layers: Vec<_> = files.iter().chain([&own]).map(|parsed| &parsed.layer).collect();
    let location = whole(file);
    let heading = Heading { name, location: &location, image: own.image.as_ref() };
    match compile_one(heading, &layers, world) {
        Ok(spec) if problems.is_empty() => Ok(spec),
        outcome => {
            // Why a file has no image, it tells itself: a syntax error may be all of it.
            let missing = own.image.is_none().then(|| missing_image(location));
            let told = outcome.err().unwrap_or_default();
            problems.extend(told.into_iter().filter(|problem| Some(problem) != missing.as_ref()));
            problems.sort_by_cached_key(|problem| (!is_in(&problem.location, file), problem.location.clone()));
            problems.dedup();
            Err(problems)
        }
    }
}

/// The profiles in their order: those that are named, or else `default` if there is one.
fn layers<'a>(
    own: &ParsedFile,
    profiles: &'a BTreeMap<&str, ParsedFile>,
    problems: &mut Vec<Problem>,
) -> Vec<&'a ParsedFile> {
    let Some(named) = &own.profiles else { return profiles.get("default").into_iter().collect() };
    let mut found = Vec::new();
    for located in named {
        match profiles.get(located.text.as_str()) {
            Some(profile) => found.push(profile),
            None => {
                let nearest = nearest(&located.text, profiles.keys().copied()).map(str::to_owned);
                problems.push(located.problem("profiles", Fault::Unknown { what: "profile", nearest }));
            }
        }
    }
    found
}

fn is_in(location: &Location, file: &str) -> bool {
    matches!(location, Location::File { file: found, line: _ } if found == file)
}
