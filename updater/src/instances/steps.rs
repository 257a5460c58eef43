//! The four functions: stage, switch, undo, keep. They go through the instances of an update, and do what of each is not done yet.

use super::plan::{Begun, Going, Kept, Part, Plan};
use super::sides::{self, Sides};
use super::{Done, Failed, InstancesError, Kind, Places, Size, Tell, Wanted, images, init, layer, pins};
use yado_wire::{InstanceId, InstanceName};

/// Puts the images of an update beside the old ones, and remembers which instance gets which. `put` writes and verifies an image
/// that is not there, and can be asked for the same one again.
///
/// # Errors
/// Nothing of any instance was touched.
pub fn stage<E: From<InstancesError>>(
    places: &Places,
    update: u32,
    wanted: &[Wanted],
    put: &mut dyn FnMut(&[u8; 32]) -> Result<(), E>,
    tell: Tell<'_>,
) -> Result<(), E> {
    let mut plan = Plan::read(&places.data)?;
    let part = |wanted: &Wanted| Part { instance: wanted.instance.clone(), image: Some(wanted.image), begun: None };
    let going = Going { update, is_rollback: false, parts: wanted.iter().map(part).collect() };
    match &plan.going {
        Some(other) if other.update == update && other.is_begun() => return Ok(()),
        Some(other) if other.is_begun() => {
            return Err(InstancesError::Busy { update: other.update }.into());
        }
        Some(_) | None => plan.going = Some(going),
    }
    let missing: Vec<[u8; 32]> =
        wanted.iter().map(|wanted| wanted.image).filter(|image| !images::is_there(places, image)).collect();
    // Before they are written: what was cut is found again.
    plan.brought.extend(missing.iter().filter(|image| !plan.brought.contains(image)).copied().collect::<Vec<_>>());
    plan.write(places)?;
    for Wanted { instance, image } in wanted {
        if !images::is_there(places, image) {
            put(image)?;
        }
        tell(instance, Done::Staged)?;
    }
    Ok(images::remove_unused(places, &mut plan)?)
}

/// Gives each instance of the update its image and a copy of its layer; of a rollback, the image and the layer that it had before.
///
/// # Errors
/// Some have what they get, and others not: call it again, or [`undo`].
pub fn switch(places: &Places, update: u32, kind: Kind, tell: Tell<'_>) -> Result<(), Failed> {
    let mut plan = Plan::read(&places.data)?;
    if kind == Kind::Rollback {
        begin_rollback(places, &mut plan, update)?;
    }
    let instances: Vec<InstanceName> = match &plan.going {
        Some(going) if going.update == update => going.parts.iter().map(|part| part.instance.clone()).collect(),
        Some(_) | None => return Err(InstancesError::NotStaged { update }.into()),
    };
    for (at, instance) in instances.into_iter().enumerate() {
        switch_one(places, &mut plan, at, tell).map_err(|error| Failed { instance: Some(instance), error })?;
    }
    Ok(())
}

/// What every instance that something is kept of had is what it gets.
fn begin_rollback(places: &Places, plan: &mut Plan, update: u32) -> Result<(), InstancesError> {
    if plan.going.as_ref().is_some_and(|going| going.update == update) {
        return Ok(());
    }
    if let Some(going) = plan.going.iter().find(|going| going.is_begun()) {
        return Err(InstancesError::Busy { update: going.update });
    }
    let kept = plan.kept.as_ref().ok_or(InstancesError::NothingKept)?;
    let part =
        |(instance, _): &(InstanceName, InstanceId)| Part { instance: instance.clone(), image: None, begun: None };
    plan.going = Some(Going { update, is_rollback: true, parts: kept.instances.iter().map(part).collect() });
    plan.write(places)
}

fn switch_one(places: &Places, plan: &mut Plan, at: usize, tell: Tell<'_>) -> Result<(), InstancesError> {
    let Some(going) = plan.going.clone() else { return Ok(()) };
    let Some(Part { instance, image, begun }) = going.parts.get(at).cloned() else { return Ok(()) };
    let status = init::status(places, &instance)?;
    let status = status.ok_or_else(|| InstancesError::Unknown { instance: instance.clone() })?;
    let begun = match begun {
        Some(begun) => begun,
        None => {
            let begun = Begun { id: status.id, is_up: init::is_wanted(places, &status) };
            if let Some(part) = plan.going.as_mut().and_then(|going| going.parts.get_mut(at)) {
                part.begun = Some(begun);
            }
            plan.write(places)?;
            tell(&instance, Done::Begun)?;
            begun
        }
    };
    let kept = plan.kept.iter().flat_map(|kept| &kept.instances);
    let is_kept = kept.into_iter().any(|(name, id)| *name == instance && *id == begun.id);
    if status.id != begun.id || (going.is_rollback && !is_kept) {
        return Err(InstancesError::Replaced { instance });
    }
    let Both { layer, pins } = Both::of(places, &going, &instance, begun.id);
    let is_exchanged = layer.is_exchanged(going.update) && pins.is_exchanged(going.update);
    let has_image = image.is_some_and(|image| status.fingerprint == Some(image));
    if is_exchanged && has_image && init::is_up(&status) == begun.is_up {
        return Ok(());
    }
    init::stop(places, &instance)?;
    tell(&instance, Done::Stopped)?;
    if !layer.is_exchanged(going.update) {
        if !going.is_rollback {
            layer::copy_aside(&layer)?;
            tell(&instance, Done::Copied)?;
        }
        layer.exchange(going.update)?;
        tell(&instance, Done::LayerExchanged)?;
    }
    if !pins.is_exchanged(going.update) {
        if let Some(image) = image {
            pins::make_aside(places, &pins, &instance, image)?;
        }
        pins.exchange(going.update)?;
        tell(&instance, Done::PinsExchanged)?;
    }
    init::apply(places)?;
    tell(&instance, Done::Applied)?;
    if let Some(image) = image {
        refuse_other_image(places, &instance, image)?;
    }
    start(places, &instance, begun, tell)
}

/// What is configured may have changed since, or the image cannot be used.
fn refuse_other_image(places: &Places, instance: &InstanceName, image: [u8; 32]) -> Result<(), InstancesError> {
    let status = init::status(places, instance)?;
    let status = status.ok_or_else(|| InstancesError::Unknown { instance: instance.clone() })?;
    if status.fingerprint == Some(image) && status.refused.is_none() {
        return Ok(());
    }
    let failure = status.refused.or(status.last_failure);
    let reason = failure.map(|failure| failure.to_string());
    Err(InstancesError::OtherImage { instance: instance.clone(), image, reason })
}

fn start(places: &Places, instance: &InstanceName, begun: Begun, tell: Tell<'_>) -> Result<(), InstancesError> {
    if begun.is_up {
        init::start(places, instance)?;
    }
    tell(instance, Done::Started)
}

/// Gives each instance back what it had before the update, the last one first.
///
/// # Errors
/// Some have it, and others not: call it again.
pub fn undo(places: &Places, update: u32, tell: Tell<'_>) -> Result<(), Failed> {
    let mut plan = Plan::read(&places.data)?;
    if let Some(going) = plan.going.clone().filter(|going| going.update == update) {
        // One whose start fails is no reason to leave the others as they are.
        let mut first_error = None;
        for part in going.parts.iter().rev() {
            if let Err(error) = undo_one(places, &going, part, tell) {
                let is_stopped = matches!(error, InstancesError::Stopped);
                first_error.get_or_insert(Failed { instance: Some(part.instance.clone()), error });
                if is_stopped {
                    break;
                }
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        plan.going = None;
        plan.write(places)?;
    }
    Ok(images::remove_unused(places, &mut plan)?)
}

fn undo_one(places: &Places, going: &Going, part: &Part, tell: Tell<'_>) -> Result<(), InstancesError> {
    let Part { instance, image: _, begun: Some(begun) } = part else { return Ok(()) };
    let Both { layer, pins } = Both::of(places, going, instance, begun.id);
    let status = init::status(places, instance)?.filter(|status| status.id == begun.id);
    let is_changed = layer.is_exchanged(going.update) || pins.is_exchanged(going.update);
    if status.is_some() && is_changed {
        init::stop(places, instance)?;
        tell(instance, Done::Stopped)?;
    }
    pins.exchange_back(going.update)?;
    tell(instance, Done::PinsExchanged)?;
    layer.exchange_back(going.update)?;
    tell(instance, Done::LayerExchanged)?;
    if let Some(status) = &status {
        init::apply(places)?;
        tell(instance, Done::Applied)?;
        // What was never stopped, or came back by itself with the machine, runs as it should.
        if is_changed || !init::is_up(status) {
            match start(places, instance, *begun, tell) {
                // As it was before, perhaps: that is for init to go on with.
                Err(InstancesError::Refused(_)) => {}
                started => started?,
            }
        }
    }
    if !going.is_rollback {
        layer.remove_aside()?;
        pins.remove_aside()?;
    }
    tell(instance, Done::Tidied)
}

/// The update is good: what its instances had before is kept for one rollback, and what is older goes.
///
/// # Errors
/// Some is tidied up, and the rest not: call it again.
pub fn keep(places: &Places, update: u32, tell: Tell<'_>) -> Result<(), InstancesError> {
    let mut plan = Plan::read(&places.data)?;
    let going = plan.going.clone().filter(|going| going.update == update);
    if going.is_none() && plan.kept.as_ref().is_some_and(|kept| kept.update == update) {
        return images::remove_unused(places, &mut plan);
    }
    let parts = going.iter().flat_map(|going| &going.parts);
    let instances: Vec<(InstanceName, InstanceId)> =
        parts.filter_map(|part| Some((part.instance.clone(), part.begun?.id))).collect();
    for (instance, id) in plan.kept.iter().flat_map(|kept| &kept.instances) {
        if !instances.contains(&(instance.clone(), *id)) {
            Sides::of_layer(&places.data, *id, sides::BEFORE).remove_aside()?;
            // Its name may be another's by now, of which something is kept.
            if instances.iter().all(|(name, _)| name != instance) {
                Sides::of_pins(&places.data, instance, sides::BEFORE).remove_aside()?;
            }
            tell(instance, Done::Tidied)?;
        }
    }
    for (instance, id) in &instances {
        let before = Sides::of_layer(&places.data, *id, sides::BEFORE);
        Sides::of_layer(&places.data, *id, sides::TRIAL).keep_aside_as(&before)?;
        pins::keep(&places.data, instance)?;
        tell(instance, Done::Tidied)?;
    }
    plan.going = plan.going.filter(|going| going.update != update);
    plan.kept = going.map(|_| Kept { update, instances });
    plan.write(places)?;
    images::remove_unused(places, &mut plan)
}

/// What the layers of these instances take, of which an update makes a copy each. One that is not known takes nothing.
///
/// # Errors
/// When a layer cannot be gone through.
pub fn layers_size(places: &Places, instances: &[InstanceName]) -> Result<Size, InstancesError> {
    let mut all = Size::default();
    for instance in instances {
        let Some(status) = init::status(places, instance)? else { continue };
        let place = Sides::of_layer(&places.data, status.id, sides::TRIAL).place;
        let Size { bytes, files } = layer::size(&place)?;
        all = Size { bytes: all.bytes + bytes, files: all.files + files };
    }
    Ok(all)
}

/// What of an instance has two sides.
struct Both {
    layer: Sides,
    pins: Sides,
}

impl Both {
    fn of(places: &Places, going: &Going, instance: &InstanceName, id: InstanceId) -> Both {
        let aside = if going.is_rollback { sides::BEFORE } else { sides::TRIAL };
        Both { layer: Sides::of_layer(&places.data, id, aside), pins: Sides::of_pins(&places.data, instance, aside) }
    }
}
