//! `yado image sign`: one more signature on an image that is made already.

use crate::command_line::Outcome;
use crate::output;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use yado_image::secret::SecretKey;
use yado_image::sign::{Added, add_signatures};

/// Add signatures to an image; its fingerprint stays. It is checked whole before
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// A secret key (`*.key`); may be repeated
    #[arg(long = "key", short, value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { image, keys } = arguments;
    // All keys are read before the first signature is written: a typo in the second leaves the image as it was.
    let keys = keys.iter().map(|path| SecretKey::read_file(path)).collect::<Result<Vec<_>, _>>()?;
    let outcome = add_signatures(image, &keys).map_err(|error| format!("{}: {error}", image.display()))?;
    for (key, added) in keys.iter().zip(outcome) {
        let id = key.public().id();
        match added {
            Added::New => output::print(&format!("signed by {id}\n"))?,
            Added::AlreadySigned => output::print(&format!("was signed by {id} already\n"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
