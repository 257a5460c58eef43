//! `yado release build`: a signed release of images that are there, as a folder for a web server or a stick, or as one file.

use super::show::release_json;
use crate::command_line::Outcome;
use crate::image::build::{parse_architecture, parse_version, source_date_epoch};
use crate::output::{self, Format, bytes};
use clap::{ArgGroup, Args};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_image::release::{self, BuildOptions, Built};
use yado_image::secret::SecretKey;
use yado_image::{Architecture, Keys, Version, hex};
use yado_sys::replace_file;
use yado_wire::InstanceName;

/// Make a signed release of images: what boards update to, as a whole. The same images give the same bytes
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("outputs").required(true).multiple(true))]
pub(super) struct Arguments {
    /// The images of instances that get new ones; all others stay as they are
    #[arg(value_name = "NAME=IMAGE", value_parser = parse_instance)]
    instances: Vec<(InstanceName, PathBuf)>,
    /// The system's image
    #[arg(long, value_name = "IMAGE")]
    system: Option<PathBuf>,
    /// A boot file that the system's image names, under that name; may be repeated
    #[arg(long = "boot-file", value_name = "FILE", requires = "system")]
    boot_files: Vec<PathBuf>,
    /// The folder for it, `release`, `images` and `boot`: what a web server or a stick has
    #[arg(long, short, value_name = "FOLDER", group = "outputs")]
    output: Option<PathBuf>,
    /// All of it as one tar archive; `-` for standard output
    #[arg(long, value_name = "FILE", group = "outputs")]
    bundle: Option<PathBuf>,
    /// The product: the same for all its releases (default: the system image's name)
    #[arg(long)]
    name: Option<String>,
    /// Version for people (default: the system image's)
    #[arg(long)]
    version: Option<String>,
    /// Grows with every release (default: the system image's)
    #[arg(long, value_name = "NUMBER")]
    release: Option<u64>,
    /// The boards' processor (default: the system image's, or that of all images)
    #[arg(long = "arch", value_name = "ARCH", value_parser = parse_architecture)]
    architecture: Option<Architecture>,
    /// A board that it is made for; may be repeated (default: the system image's)
    #[arg(long, value_name = "NAME")]
    compatible: Vec<String>,
    /// The oldest release that it may be installed over: boards with older ones need one between first
    #[arg(long = "from", value_name = "NUMBER", default_value_t = 0)]
    oldest_before: u64,
    /// Boards that have confirmed it refuse what is of an older epoch (default: the highest of the images)
    #[arg(long, value_name = "NUMBER")]
    security_epoch: Option<u32>,
    /// The oldest runtime that it can be installed by; images may need a later one
    #[arg(long, value_name = "VERSION", default_value = "0.1.0", value_parser = parse_version)]
    minimum_runtime: Version,
    /// A kernel option that it needs, without CONFIG_, beside those of the images; may be repeated
    #[arg(long = "requires-kernel", value_name = "OPTION")]
    requires_kernel: Vec<String>,
    /// Memory that the board must have
    #[arg(long = "requires-memory", value_name = "MIB", default_value_t = 0)]
    requires_memory_mib: u32,
    /// It is good only where the uplink works in its trial
    #[arg(long)]
    needs_uplink: bool,
    /// Sign with this secret key (`*.key`); may be repeated, and signatures can be added later
    #[arg(long = "key", short, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Time of the release, in seconds since 1970 (default: SOURCE_DATE_EPOCH, or the newest image's)
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<u64>,
    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    let (format, folder, bundle) = (arguments.format, arguments.output.clone(), arguments.bundle.clone());
    let options = options(arguments)?;
    let built = release::build(&options)?;
    if let Some(folder) = &folder {
        built.write_folder(folder)?;
    }
    if let Some(path) = &bundle {
        write_bundle(&built, path)?;
    }
    if bundle.is_some_and(|path| path == Path::new("-")) {
        // Standard output has the bundle.
        return Ok(ExitCode::SUCCESS);
    }
    match format {
        Format::Json => output::print_json(&release_json(&release::describe(&built.release)?))?,
        Format::Table => {
            let all: u64 = built.manifest.parts().iter().map(|(_, bytes)| bytes).sum();
            let signed = match options.keys.len() {
                0 => "not signed yet".to_owned(),
                1 => "1 signature".to_owned(),
                more => format!("{more} signatures"),
            };
            let (fingerprint, number) = (hex::encode(&built.fingerprint), built.manifest.release);
            output::print(&format!(
                "{fingerprint} release {number} of {}, {}, {signed}\n",
                output::printable(&built.manifest.name),
                bytes(all)
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: Arguments) -> Result<BuildOptions, Box<dyn Error>> {
    let created = arguments.timestamp.map_or_else(source_date_epoch, |seconds| Ok(Some(seconds)))?;
    let keys = arguments.keys.iter().map(|path| SecretKey::read_file(path)).collect::<Result<Vec<_>, _>>()?;
    let distinct = Keys::new(keys.iter().map(SecretKey::public)).iter().count();
    if distinct < keys.len() {
        return Err("the same key is given twice: a board counts it once".into());
    }
    Ok(BuildOptions {
        system: arguments.system,
        boot_files: arguments.boot_files,
        instances: arguments.instances,
        name: arguments.name,
        version: arguments.version,
        release: arguments.release,
        architecture: arguments.architecture,
        compatible: arguments.compatible,
        created,
        needs_uplink: arguments.needs_uplink,
        requires_kernel: arguments.requires_kernel,
        requires_memory_mib: arguments.requires_memory_mib,
        minimum_runtime: arguments.minimum_runtime,
        oldest_before: arguments.oldest_before,
        security_epoch: arguments.security_epoch,
        keys,
    })
}

/// Written aside, as an image is: a bundle that is there is a whole one.
fn write_bundle(built: &Built, path: &Path) -> Result<(), Box<dyn Error>> {
    if path == Path::new("-") {
        let mut output = io::stdout().lock();
        if output.is_terminal() {
            return Err("a bundle is nothing for a terminal: give --bundle FILE, or redirect it".into());
        }
        return Ok(built.write_bundle(&mut output)?);
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let failed = |error: io::Error| format!("write {}: {error}", aside.display());
    let mut output = BufWriter::with_capacity(128 << 10, File::create(&aside).map_err(failed)?);
    let written = built.write_bundle(&mut output).map_err(Box::<dyn Error>::from).and_then(|()| {
        output.flush().and_then(|()| output.get_ref().sync_all()).map_err(failed)?;
        replace_file::put_in_place(&aside, path).map_err(|error| format!("write {}: {error}", path.display()))?;
        Ok(())
    });
    written.inspect_err(|_| drop(fs::remove_file(&aside)))
}

fn parse_instance(text: &str) -> Result<(InstanceName, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("must be NAME=IMAGE")?;
    let name = InstanceName::parse(name)
        .map_err(|_| format!("{name}: no name of an instance: letters, digits and dashes, a letter first"))?;
    Ok((name, PathBuf::from(path)))
}
