//! `yado key`: the keys that sign images.

use crate::command_line::Outcome;
use crate::output;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use yado_image::secret::SecretKey;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new key pair: NAME.key, the secret, and NAME.pub for devices; never replaces one
    New {
        /// Path of both files without their endings
        #[arg(value_name = "NAME")]
        stem: PathBuf,
        /// Whose it is or what for; stands in both files (default: the name)
        #[arg(long)]
        comment: Option<String>,
    },
}

pub(crate) fn run(arguments: Arguments) -> Outcome {
    let Verb::New { stem, comment } = arguments.verb;
    let name = stem.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let key = SecretKey::generate(comment.as_deref().unwrap_or(name))?;
    let (secret, public) = key.write_new_files(&stem)?;
    let id = key.public().id();
    output::print(&format!("{id}\nsecret: {}\npublic: {}\n", secret.display(), public.display()))?;
    Ok(ExitCode::SUCCESS)
}
