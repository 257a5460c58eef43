//! `yado image extract`: the file system out of an image.

use crate::command_line::Outcome;
use crate::output;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use yado_image::inspect;

/// Write an image's payload, an erofs file system, to a new file; every block is checked
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image: a file or a slot's device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The new file
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { image, output } = arguments;
    let bytes = inspect::extract(image, output).map_err(|error| format!("{}: {error}", image.display()))?;
    output::print(&format!("{bytes} bytes of erofs in {}\n", output.display()))?;
    Ok(ExitCode::SUCCESS)
}
