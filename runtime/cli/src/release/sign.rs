//! `yado release sign`: one more signature on a release that is made already.

use super::place;
use crate::command_line::Outcome;
use crate::output;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use yado_image::release::add_signatures;
use yado_image::secret::SecretKey;
use yado_image::sign::Added;

/// Add signatures to a release; its fingerprint stays. What it says is shown by `yado release show`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The release: its folder, its file, or a bundle
    #[arg(value_name = "RELEASE")]
    release: PathBuf,
    /// A secret key (`*.key`); may be repeated
    #[arg(long = "key", short, value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { release, keys } = arguments;
    // All keys are read before the first signature is written: a typo in the second leaves the release as it was.
    let keys = keys.iter().map(|path| SecretKey::read_file(path)).collect::<Result<Vec<_>, _>>()?;
    let place = place::read(release)?;
    let outcome = add_signatures(&place.path, place.range, &keys)
        .map_err(|error| format!("{}: {error}", place.path.display()))?;
    for (key, added) in keys.iter().zip(outcome) {
        let id = key.public().id();
        match added {
            Added::New => output::print(&format!("signed by {id}\n"))?,
            Added::AlreadySigned => output::print(&format!("was signed by {id} already\n"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
