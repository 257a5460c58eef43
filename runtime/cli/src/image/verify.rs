//! `yado image verify`: everything that a device checks, and every block besides.

use super::{description_json, description_lines, render_lines};
use crate::command_line::Outcome;
use crate::output::{self, Format};
use clap::Args;
use serde_json::json;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_image::{KeyId, Keys, inspect};

/// Check signatures, manifest and every block of an image
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image: a file or a slot's device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// A trusted key (`*.pub`), or a directory of them; may be repeated
    #[arg(long = "key", short, value_name = "PATH", required = true)]
    keys: Vec<PathBuf>,
    /// How many of the keys must have signed
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threshold: u8,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { image, keys, threshold, format } = arguments;
    let keys = read_keys(keys)?;
    match inspect::verify(image, &keys, usize::from(*threshold)) {
        Ok((description, signers)) => {
            match format {
                Format::Table => {
                    let mut lines = description_lines(&description);
                    lines.extend(signers.iter().map(|key| ("signed by", name_of(&keys, *key))));
                    output::print(&render_lines(&lines))?;
                    output::print("verified: signatures, manifest, and every block\n")?;
                }
                Format::Json => {
                    let mut value = description_json(&description);
                    value["verified"] = json!(true);
                    value["signers"] = json!(signers.iter().map(ToString::to_string).collect::<Vec<_>>());
                    output::print_json(&value)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if *format == Format::Json => {
            let value = json!({ "verified": false, "step": error.step().name(), "reason": error.to_string() });
            output::print_json(&value)?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(format!("{}: {}: {error}", image.display(), error.step().name()).into()),
    }
}

pub(crate) fn read_keys(paths: &[PathBuf]) -> Result<Keys, Box<dyn Error>> {
    let mut keys = Keys::default();
    for path in paths {
        read_key_or_directory(path, &mut keys)?;
    }
    if keys.is_empty() { Err("no key: the directories given with --key hold no *.pub".into()) } else { Ok(keys) }
}

fn read_key_or_directory(path: &Path, keys: &mut Keys) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        Keys::read_dir(path)?.iter().for_each(|key| keys.add(key.clone()));
    } else {
        keys.add(Keys::read_file(path)?);
    }
    Ok(())
}

pub(crate) fn name_of(keys: &Keys, id: KeyId) -> String {
    match keys.find(id).map(|key| key.comment()) {
        Some(comment) if !comment.is_empty() => format!("{id} ({comment})"),
        _ => id.to_string(),
    }
}
