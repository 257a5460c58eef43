//! `yado image add`: an image from a stick, by HTTP or from standard input becomes one of this device's. It is written aside on the
//! data partition, verified there to its last block by the keys that the device trusts, and then given its place: what is wrong, or
//! does not fit, leaves nothing.

mod http;
mod place;

use super::description_json;
use crate::command_line::Outcome;
use crate::output::{self, Format, bytes, printable};
use crate::places::Places;
use crate::rescue;
use clap::Args;
use place::{Aside, Images};
use serde_json::json;
use std::error::Error;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_image::inspect::{self, Description};
use yado_image::{Keys, Wanted, open_trusted};
use yado_wire::hex;

/// Keep an image on this device, after it was verified by the device's keys
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image: a file, http://HOST/PATH, or `-` for standard input
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What instances call it (default: its own name)
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, value_name = "PATH", default_value = rescue::SOCKET)]
    socket: PathBuf,
    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { source, alias, socket, format } = arguments;
    if let Some(alias) = alias {
        refuse_bad_alias(alias)?;
    }
    let places = Places::of(socket, rescue::instances(socket)?.0)?;
    let images = Images::open(&places.data)?;
    let keys = Keys::read_dir(&places.trust())?;
    if keys.is_empty() {
        return Err(format!("{} holds no key (*.pub): no image can be verified", places.trust().display()).into());
    }
    let aside = images.begin()?;
    receive(source, &aside)?;
    let description = verify(&aside.path(), &keys).map_err(|error| format!("{source}: {error}"))?;
    let alias = alias.as_ref().unwrap_or(&description.manifest.name);
    refuse_bad_alias(alias)?;
    aside.keep_as(&description.fingerprint)?;
    images.name(alias, &description.fingerprint)?;
    match format {
        Format::Json => {
            let mut value = description_json(&description);
            value["alias"] = json!(alias);
            output::print_json(&value)?;
        }
        Format::Table => {
            let size = bytes(description.header.layout.image_bytes());
            let fingerprint = hex::encode(&description.fingerprint);
            output::print(&format!("{fingerprint} {size}, verified; instances call it {}\n", printable(alias)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An alias is a file's name, and no fingerprint.
fn refuse_bad_alias(alias: &str) -> Result<(), String> {
    let is_name = !alias.is_empty() && alias.len() <= 255 && !alias.starts_with('.') && !alias.contains(['/', '\0']);
    match is_name && hex::parse_digest(alias).is_none() {
        true => Ok(()),
        false => Err(format!("{}: is no name for an image: --alias NAME gives it another", printable(alias))),
    }
}

/// Where the bytes come from, and how many there will be, if that is known.
struct Source {
    bytes: Box<dyn Read>,
    size_bytes: Option<u64>,
}

fn open(source: &str) -> Result<Source, Box<dyn Error>> {
    if source == "-" {
        return Ok(Source { bytes: Box::new(io::stdin()), size_bytes: None });
    }
    if source.contains("://") {
        let http::Body { bytes, size_bytes } = http::get(source).map_err(|error| format!("{source}: {error}"))?;
        return Ok(Source { bytes: Box::new(bytes), size_bytes });
    }
    let file = File::open(source).map_err(|error| format!("{source}: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("{source}: {error}"))?;
    Ok(Source { bytes: Box::new(file), size_bytes: metadata.is_file().then_some(metadata.len()) })
}

/// Copies all of the source, if there is room for it.
fn receive(source: &str, aside: &Aside<'_>) -> Result<(), Box<dyn Error>> {
    let Source { mut bytes, size_bytes } = open(source)?;
    if let Some(size_bytes) = size_bytes {
        aside.refuse_too_large(size_bytes)?;
    }
    let mut file = aside.create()?;
    let (mut buffer, mut received) = (vec![0; 128 * 1024], 0);
    loop {
        let count = match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("read {source}: {error}").into()),
        };
        file.write_all(buffer.get(..count).unwrap_or_default()).map_err(|error| aside.write_error(error))?;
        received += count as u64;
        show_progress("received", received, size_bytes);
    }
    show_progress("verifying", received, None);
    file.sync_all().map_err(|error| aside.write_error(error))?;
    match size_bytes {
        Some(size_bytes) if received != size_bytes => {
            Err(format!("{source}: it ended after {} of {}", bytes_text(received), bytes_text(size_bytes)).into())
        }
        _ => Ok(()),
    }
}

fn bytes_text(count: u64) -> String {
    format!("{count} bytes")
}

/// All that a start checks, and every block besides.
fn verify(path: &Path, keys: &Keys) -> Result<Description, String> {
    let verified = inspect::verify(path, keys, 1);
    clear_progress();
    let (description, _) = verified.map_err(|error| format!("{}: {error}", error.step().name()))?;
    open_trusted(path, keys, &Wanted::container(description.fingerprint))
        .map_err(|error| format!("{}: {error}", error.step().name()))?;
    Ok(description)
}

/// A large image takes a while: on a terminal it is said how far it is, on a line which the result then takes.
fn show_progress(what: &str, count: u64, of: Option<u64>) {
    if io::stderr().is_terminal() {
        let of = of.map_or_else(String::new, |of| format!(" of {}", bytes(of)));
        // A terminal that has gone away does not matter here.
        let _ = write!(io::stderr(), "\r{what} {}{of}\x1b[K", bytes(count));
    }
}

/// Clears that line.
fn clear_progress() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
