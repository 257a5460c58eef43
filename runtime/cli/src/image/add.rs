//! `yado image add`: an image from a stick, by HTTP or from standard input becomes one of this device's. It is written aside on the
//! data partition, verified there to its last block by the keys that the device trusts, and then given its place: what is wrong, or
//! does not fit, leaves nothing. An image that is old or another's is signed as well: no name goes to it unless that is asked for.

mod http;

use super::{description_json, progress_line};
use crate::command_line::Outcome;
use crate::output::{self, Format, bytes, printable};
use crate::places::Places;
use crate::rescue;
use clap::Args;
use serde_json::json;
use std::error::Error;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_image::inspect::{self, Description, InspectError};
use yado_image::store::{Aside, Images};
use yado_image::{ImageKind, Keys, Layout, Runtime, Wanted, open_trusted};
use yado_spec::sources::{MAX_NAME_BYTES, is_fingerprint_prefix, read_sources};
use yado_sys::regular_file;
use yado_wire::hex;
use yado_wire::printable::is_obeyed;

/// Keep an image on this device, after it was verified by the device's keys
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image: a file, http://HOST/PATH, or `-` for standard input
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What instances call it (default: its own name)
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Only the image of this fingerprint, as `yado image build` printed it: by HTTP any signed image may come
    #[arg(long, value_name = "HEX", value_parser = parse_fingerprint)]
    fingerprint: Option<Fingerprint>,
    /// Let the name go from what it names now to an older image, or to one that has another name of its own
    #[arg(long)]
    replace: bool,
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, value_name = "PATH", default_value = rescue::SOCKET)]
    socket: PathBuf,
    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { source, alias, fingerprint, replace, socket, format } = arguments;
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
    let fingerprint = fingerprint.as_ref().map(|Fingerprint(digest)| *digest);
    let wrong = |error: String| format!("{source}: {error}");
    let (description, signers) = verify(&aside.path(), &keys, fingerprint).map_err(wrong)?;
    let alias = alias.as_ref().unwrap_or(&description.manifest.name);
    refuse_bad_alias(alias)?;
    if !replace {
        refuse_to_take_over(&places, alias, &description).map_err(wrong)?;
    }
    let is_there = images.find(&description.fingerprint).is_some_and(|image| {
        // One that has as many signatures keeps them. One that was damaged is mended.
        verify(&image, &keys, Some(description.fingerprint)).is_ok_and(|(_, already)| signers <= already)
    });
    if !is_there {
        aside.keep_as(&description.fingerprint)?;
    }
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

/// Of an image. An array would be many values to clap.
#[derive(Debug, Clone)]
struct Fingerprint([u8; 32]);

fn parse_fingerprint(text: &str) -> Result<Fingerprint, &'static str> {
    hex::parse_digest(text).map(Fingerprint).ok_or("a fingerprint has 64 hexadecimal digits")
}

/// An alias is a file's name that the compiler of specs reads, shows as it is, and is not like the beginning of a fingerprint.
fn refuse_bad_alias(alias: &str) -> Result<(), String> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&alias.len())
        && !alias.starts_with('.')
        && !alias.contains(|char: char| char == '/' || char.is_control() || is_obeyed(char))
        && !is_fingerprint_prefix(alias);
    match is_name {
        true => Ok(()),
        false => Err(format!("{}: is no name for an image: --alias NAME gives it another", printable(alias))),
    }
}

/// Whoever answers in the server's place may have kept an older image, or have another one that we trust: what instances run by this
/// name, an alias of the system's or one of the data partition's, does not become that by itself.
fn refuse_to_take_over(places: &Places, alias: &str, new: &Description) -> Result<(), String> {
    let sources = read_sources(&places.system, Some(&places.data));
    let Some(fingerprint) = sources.aliases.get(alias).filter(|fingerprint| **fingerprint != new.fingerprint) else {
        return Ok(());
    };
    let old = sources.images.get(fingerprint).and_then(|image| inspect::describe(image).ok());
    let old = match old {
        Some(old) if old.manifest.name == new.manifest.name && old.header.release <= new.header.release => {
            return Ok(());
        }
        Some(old) => release_of(&old),
        None => format!("{}, which cannot be read", hex::encode(fingerprint)),
    };
    let alias = printable(alias);
    Err(format!("{alias} is {old}, and this is {}: --replace gives it the name all the same", release_of(new)))
}

fn release_of(Description { header, manifest, .. }: &Description) -> String {
    format!("release {} of {}", header.release, printable(&manifest.name))
}

/// More than the longest payload, and its tree, which takes less than a hundredth.
const MAX_IMAGE_BYTES: u64 = Layout::MAX_PAYLOAD_BYTES + Layout::MAX_PAYLOAD_BYTES / 64;

/// After so much it is looked again whether there is room: others write too, and not every source says how long it is.
const STEP_BYTES: u64 = 1 << 20;

/// Where the bytes come from, and how many there will be, if that is known.
struct Source {
    content: Box<dyn Read>,
    size_bytes: Option<u64>,
}

fn open(source: &str) -> Result<Source, Box<dyn Error>> {
    if source == "-" {
        return Ok(Source { content: Box::new(io::stdin()), size_bytes: None });
    }
    if source.contains("://") {
        let http::Body { bytes, size_bytes } = http::get(source).map_err(|error| format!("{source}: {error}"))?;
        return Ok(Source { content: Box::new(bytes), size_bytes: Some(size_bytes) });
    }
    let file = regular_file::open_linked(Path::new(source)).map_err(|error| format!("{source}: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("{source}: {error}"))?;
    Ok(Source { content: Box::new(file.take(metadata.len())), size_bytes: Some(metadata.len()) })
}

/// Copies all of the source, while there is room for it.
fn receive(source: &str, aside: &Aside<'_>) -> Result<(), Box<dyn Error>> {
    let Source { mut content, size_bytes } = open(source)?;
    let of = size_bytes.map_or_else(String::new, |size_bytes| format!(" of {}", bytes(size_bytes)));
    let (mut buffer, mut received, mut looked_until) = (vec![0; 128 * 1024], 0, 0);
    loop {
        if looked_until <= received {
            if MAX_IMAGE_BYTES < size_bytes.unwrap_or(received) {
                return Err(format!("{source}: no image is so large").into());
            }
            aside.refuse_without_room(
                size_bytes.map_or(STEP_BYTES, |size_bytes| size_bytes.saturating_sub(received)),
            )?;
            looked_until = received + STEP_BYTES;
        }
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("read {source}: {error}").into()),
        };
        let read = buffer.get(..count).unwrap_or_default();
        aside.file().write_all(read).map_err(|error| aside.write_error(error))?;
        received += count as u64;
        progress_line::show(format_args!("received {}{of}", bytes(received)));
    }
    progress_line::show(format_args!("verifying {}", bytes(received)));
    aside.file().sync_all().map_err(|error| aside.write_error(error))?;
    match size_bytes {
        Some(size_bytes) if received != size_bytes => {
            Err(format!("{source}: it ended after {received} bytes of {size_bytes} bytes").into())
        }
        _ => Ok(()),
    }
}

/// All that a start checks, and every block besides. How many of the keys have signed it is told too.
fn verify(path: &Path, keys: &Keys, fingerprint: Option<[u8; 32]>) -> Result<(Description, usize), String> {
    let wanted = Wanted { kind: ImageKind::Container, fingerprint, threshold: 1, runtime: Runtime::this() };
    let verified =
        open_trusted(path, keys, &wanted).map_err(InspectError::Open).and_then(|_| inspect::verify(path, keys, 1));
    progress_line::clear();
    let (description, signers) = verified.map_err(|error| format!("{}: {error}", error.step().name()))?;
    Ok((description, signers.len()))
}
