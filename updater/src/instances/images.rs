//! Images that updates brought, and that nobody needs any more.

use super::plan::Plan;
use super::sides::remove_tree;
use super::{InstancesError, Places, init, pins};
use std::collections::BTreeSet;
use std::path::PathBuf;
use yado_spec::compile::own_image;
use yado_spec::sources::read_sources;
use yado_sys::file_lock;
use yado_wire::hex;

/// Where an image is on the data partition: a directory.
fn directory(places: &Places, image: &[u8; 32]) -> PathBuf {
    places.data.join("images").join(hex::encode(image))
}

/// Whether the device has it.
pub(super) fn is_there(places: &Places, image: &[u8; 32]) -> bool {
    let of_system = places.system.join("images").join(hex::encode(image));
    [of_system, directory(places, image)].iter().any(|directory| directory.join("image").is_file())
}

/// Removes images that an update brought and that nobody names: no alias, no pin, no key of an instance, nothing that runs, and
/// not the update that goes on. What is not known for sure is kept.
pub(super) fn remove_unused(places: &Places, plan: &mut Plan) -> Result<(), InstancesError> {
    if plan.brought.is_empty() {
        return Ok(());
    }
    let Ok(_lock) =
        file_lock::open(&places.data.join("images/.lock")).and_then(|file| file_lock::try_lock(&file).map(|()| file))
    else {
        // Somebody adds an image: the next update will see.
        return Ok(());
    };
    let Some(needed) = needed(places, plan)? else { return Ok(()) };
    let before = plan.brought.len();
    let mut kept = Vec::new();
    for image in std::mem::take(&mut plan.brought) {
        match needed.contains(&image) {
            true => kept.push(image),
            false => remove_tree(&directory(places, &image))?,
        }
    }
    plan.brought = kept;
    if plan.brought.len() != before { plan.write(places) } else { Ok(()) }
}

/// `None`: something could not be read, and may name any.
fn needed(places: &Places, plan: &Plan) -> Result<Option<BTreeSet<[u8; 32]>>, InstancesError> {
    let sources = read_sources(&places.system, Some(&places.data));
    if !sources.left_out.is_empty() {
        return Ok(None);
    }
    let mut needed: BTreeSet<[u8; 32]> = sources.aliases.values().copied().collect();
    needed.extend(pins::images(&places.data)?);
    needed.extend(init::images(places)?);
    needed.extend(plan.going.iter().flat_map(|going| &going.parts).filter_map(|part| part.image));
    for instance in sources.instances.keys() {
        match own_image(&sources, instance) {
            Ok(own) => needed.extend([own]),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(needed))
}
