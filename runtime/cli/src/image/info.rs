//! `yado image info`: what an image says of itself.

use super::{description_json, description_lines, render_lines};
use crate::command_line::Outcome;
use crate::output::{self, Format};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use yado_image::inspect;

/// Show what an image says of itself; proves nothing
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image: a file or a slot's device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { image, format } = arguments;
    let description = inspect::describe(image).map_err(|error| format!("{}: {error}", image.display()))?;
    match format {
        Format::Json => output::print_json(&description_json(&description))?,
        Format::Table => {
            let mut lines = description_lines(&description);
            let signers = description.claimed_signers.iter().map(|key| ("says it is signed by", key.to_string()));
            lines.extend(signers);
            output::print(&render_lines(&lines))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
