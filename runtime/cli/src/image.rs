//! `yado image`: makes signed images, looks into them, and keeps them on a device. Only the last needs root.

mod add;
#[cfg(feature = "builder")]
pub(crate) mod build;
mod extract;
mod info;
#[cfg(feature = "builder")]
mod init;
pub(crate) mod progress_line;
mod sign;
pub(crate) mod verify;

use crate::command_line::Outcome;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use yado_image::inspect::Description;
use yado_image::manifest::Manifest;
use yado_image::{Header, hex};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[cfg(feature = "builder")]
    Build(Box<build::Arguments>),
    Add(add::Arguments),
    Verify(verify::Arguments),
    Info(info::Arguments),
    Extract(extract::Arguments),
    Sign(sign::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    match arguments.verb {
        #[cfg(feature = "builder")]
        Verb::Build(arguments) => build::run(*arguments),
        Verb::Add(arguments) => add::run(&arguments),
        Verb::Verify(arguments) => verify::run(&arguments),
        Verb::Info(arguments) => info::run(&arguments),
        Verb::Extract(arguments) => extract::run(&arguments),
        Verb::Sign(arguments) => sign::run(&arguments),
    }
}

/// What people see of an image: label and text.
fn description_lines(description: &Description) -> Vec<(&'static str, String)> {
    let Description { header, fingerprint, manifest, claimed_signers: _ } = description;
    let Header { kind, architecture: _, layout, root_hash, manifest_sha256: _, release: _, security_epoch, .. } =
        header;
    let Manifest {
        architecture,
        boot,
        compatible,
        created: _,
        halt_command,
        halt_signal,
        init,
        name,
        profiles,
        properties,
        release,
        requires,
        sbom,
        version,
    } = manifest;
    let mut lines = vec![
        ("name", name.clone()),
        ("version", version.clone()),
        ("release", release.to_string()),
        ("kind", kind.name().to_owned()),
        ("architecture", architecture.name().to_owned()),
        ("fingerprint", hex::encode(fingerprint)),
        ("root hash", hex::encode(root_hash)),
        ("payload", crate::output::bytes(layout.payload_bytes())),
        ("whole image", crate::output::bytes(layout.image_bytes())),
        ("security epoch", security_epoch.to_string()),
        ("needs runtime", requires.runtime.to_string()),
    ];
    let lists = [
        ("needs kernel options", &requires.kernel),
        ("made for", compatible),
        ("init", init),
        ("halt command", halt_command),
        ("profiles", profiles),
    ];
    lines.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(label, list)| (label, list.join(" "))));
    lines.extend(halt_signal.iter().map(|signal| ("halt signal", signal.clone())));
    lines.extend(properties.iter().map(|(key, value)| ("property", format!("{key} = {value}"))));
    lines.extend(boot.iter().map(|(file, digest)| ("boot file", format!("{file} {digest}"))));
    lines.extend(sbom.iter().map(|digest| ("list of parts", digest.clone())));
    lines
}

pub(crate) fn render_lines(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    lines.iter().map(|(label, text)| format!("{label:<width$}  {}\n", crate::output::printable(text))).collect()
}

/// All of the header, and the manifest as it is.
fn description_json(description: &Description) -> Value {
    let Description { header, fingerprint, manifest, claimed_signers } = description;
    json!({
        "fingerprint": hex::encode(fingerprint),
        "kind": header.kind.name(),
        "architecture": header.architecture.name(),
        "root_hash": hex::encode(&header.root_hash),
        "payload_bytes": header.layout.payload_bytes(),
        "image_bytes": header.layout.image_bytes(),
        "release": header.release,
        "security_epoch": header.security_epoch,
        "minimum_runtime": header.minimum_runtime.to_string(),
        "manifest": manifest,
        "claimed_signers": claimed_signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
