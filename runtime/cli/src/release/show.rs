//! `yado release show`: what a release says of itself, and with keys whether it is to be believed.

use super::place;
use crate::command_line::Outcome;
use crate::image::render_lines;
use crate::image::verify::{name_of, read_keys};
use crate::output::{self, Format, bytes};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use yado_image::hex;
use yado_image::release::{self, Header, Manifest, Release, Requires};

/// Show what a release says of itself; with keys, also whether they have signed it
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The release: its folder, its file, or a bundle
    #[arg(value_name = "RELEASE")]
    release: PathBuf,
    /// A trusted key (`*.pub`), or a directory of them, by which it must be signed; may be repeated
    #[arg(long = "key", short, value_name = "PATH")]
    keys: Vec<PathBuf>,
    /// How many of the keys must have signed
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threshold: u8,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { release: source, keys, threshold, format } = arguments;
    let place = place::read(source)?;
    let wrong = |error: release::ReleaseError| format!("{}: {}: {error}", place.path.display(), error.rule());
    let (release, signers) = if keys.is_empty() {
        let release = release::describe(&place.bytes).map_err(wrong)?;
        let signers = release.signers.iter().map(|key| ("says it is signed by", key.to_string())).collect();
        (release, signers)
    } else {
        let keys = read_keys(keys)?;
        let release = release::verify(&place.bytes, &keys, usize::from(*threshold)).map_err(wrong)?;
        let signers = release.signers.iter().map(|key| ("signed by", name_of(&keys, *key))).collect();
        (release, signers)
    };
    match format {
        Format::Table => output::print(&table(&release, signers))?,
        Format::Json => {
            let mut value = release_json(&release);
            value["verified"] = json!(!keys.is_empty());
            output::print_json(&value)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All of the header, and the manifest as it is.
pub(super) fn release_json(release: &Release) -> Value {
    let Release { header, fingerprint, manifest, signers } = release;
    json!({
        "fingerprint": hex::encode(fingerprint),
        "oldest_before": header.oldest_before,
        "security_epoch": header.security_epoch,
        "bytes": manifest.parts().iter().map(|(_, bytes)| bytes).sum::<u64>(),
        "manifest": manifest,
        "signers": signers.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What it is, and then its files.
fn table(release: &Release, signers: Vec<(&'static str, String)>) -> String {
    let Release { header, fingerprint, manifest, signers: _ } = release;
    let Header { oldest_before, security_epoch, .. } = header;
    let Manifest { architecture, compatible, created: _, instances, name, needs_uplink, release, .. } = manifest;
    let Requires { kernel, memory_mib, runtime } = &manifest.requires;
    let mut lines = vec![
        ("name", name.clone()),
        ("version", manifest.version.clone()),
        ("release", release.to_string()),
        ("architecture", architecture.name().to_owned()),
        ("fingerprint", hex::encode(fingerprint)),
        ("security epoch", security_epoch.to_string()),
        ("needs runtime", runtime.to_string()),
    ];
    let mut line = |is_shown, label, text| {
        if is_shown {
            lines.push((label, text));
        }
    };
    line(0 < *oldest_before, "installed over", format!("release {oldest_before} or later"));
    line(!compatible.is_empty(), "made for", compatible.join(" "));
    line(!kernel.is_empty(), "needs kernel options", kernel.join(" "));
    line(0 < *memory_mib, "needs memory", format!("{memory_mib} MiB"));
    line(*needs_uplink, "needs uplink", "in its trial".to_owned());
    lines.extend(signers);
    let row = |what: String, length: u64, digest: &[u8; 32]| vec![what, bytes(length), hex::encode(digest)];
    let system = manifest.system.iter().map(|system| row("system".to_owned(), system.bytes, &system.fingerprint));
    let boot = manifest.system.iter().flat_map(|system| &system.boot);
    let rows = system
        .chain(
            instances
                .iter()
                .map(|(name, image)| row(format!("instance {}", name.as_str()), image.bytes, &image.fingerprint)),
        )
        .chain(boot.map(|(name, file)| row(format!("boot file {name}"), file.bytes, &file.sha256)));
    render_lines(&lines) + "\n" + &output::table(&["FOR", "SIZE", "FINGERPRINT"], rows)
}
