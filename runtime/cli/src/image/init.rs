//! Whether a root that is about to be packed could start, and how its init is to be asked to power off where nobody says so.

use std::error::Error;
use yado_image::container_facts::{Stop, init_of};
use yado_image::init_program::{InitKind, InitProgram};
use yado_image::manifest::Manifest;
use yado_image::pack::Root;
use yado_wire::signal_name;

/// Refuses a root that could not be mounted on or whose init could not be executed, and completes the manifest. A warning is returned
/// where the init is not known.
pub(super) fn check(root: &Root, manifest: &mut Manifest) -> Result<Option<String>, Box<dyn Error>> {
    if let Some(name) = root.spoilt_mount_point() {
        return Err(format!("/{name} of the root is no directory, and a start mounts on it").into());
    }
    let argv = init_of(manifest.init.clone());
    let InitProgram { file, kind } = root
        .init(&argv, manifest.architecture)
        .map_err(|error| format!("the init {} could not be started: {error}; --init names another one", argv[0]))?;
    if manifest.halt_signal.is_some() || !manifest.halt_command.is_empty() {
        return Ok(None);
    }
    let stop = kind.stop(&argv);
    let shown = stop.to_string();
    match stop {
        Stop::Unsaid => {}
        Stop::Signal(number) => manifest.halt_signal = Some(signal_name::show(number)),
        Stop::Command(argv) => manifest.halt_command = argv,
    }
    let warning = format!(
        "the init {file} is not known: it will be asked to power off by {shown}; --halt-signal or --halt-command says \
         how to do it better"
    );
    Ok((kind == InitKind::Unknown).then_some(warning))
}
