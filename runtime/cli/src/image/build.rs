//! `yado image build`: a signed image from a directory or a tar archive, the same bytes from the same files.

use super::{description_json, init, progress_line};
use crate::command_line::Outcome;
use crate::output::{self, Format, bytes};
use clap::Args;
use clap::builder::TypedValueParser;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use yado_image::erofs::{Compression, Level, Owners};
use yado_image::manifest::{Manifest, Requires};
use yado_image::pack::{self, BuildOptions, Built, Progress, Root, Source};
use yado_image::secret::SecretKey;
use yado_image::{Architecture, ImageKind, Version, hex, inspect};
use yado_wire::signal_name;

/// Build a signed image from a directory or a tar archive; reproducible, needs no root
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A directory, or a tar archive: .tar, .tar.gz, .tar.xz or .tar.zst
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The image; one of that name is replaced
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
    /// What it is: the same for all its versions
    #[arg(long)]
    name: String,
    /// `armhf`, `arm64` or `x86_64`
    #[arg(long = "arch", value_name = "ARCH", value_parser = parse_architecture)]
    architecture: Architecture,
    /// `container` or `system`
    #[arg(long, default_value = "container", value_parser = parse_kind)]
    kind: ImageKind,
    /// Version for people
    #[arg(long, default_value = "1")]
    version: String,
    /// Grows with every version
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    release: u64,
    /// For devices that are to refuse images of an older epoch than they have confirmed; none does so yet
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    security_epoch: u32,
    /// Sign with this secret key (`*.key`); may be repeated, and signatures can be added later
    #[arg(long = "key", short, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// `lz4`, or `none` where the smallest change between two versions matters most
    #[arg(long, default_value = "lz4", value_parser = ["lz4", "none"])]
    compression: String,
    /// Blocks of 4 KiB that are compressed together: 1 reads quickest in small pieces, 16 is smallest
    #[arg(long, value_name = "BLOCKS", default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=16))]
    cluster: u8,
    /// 1 packs quickest, 12 smallest
    #[arg(long, value_name = "LEVEL", default_value_t = Level::DEFAULT, value_parser = level())]
    level: Level,
    /// `kept`: as the source says; or UID:GID for all files
    #[arg(long, default_value = "kept", value_parser = parse_owners)]
    owner: Owners,
    /// What a container starts with; repeat for arguments (default: /sbin/init)
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    init: Vec<String>,
    /// The signal that asks a container's init to power off, such as SIGRTMIN+3
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal)]
    halt_signal: Option<String>,
    /// The command that is run in a container to power it off, such as "/sbin/init 0"
    #[arg(long, value_name = "COMMAND", conflicts_with = "halt_signal", value_parser = parse_halt_command)]
    halt_command: Option<HaltCommand>,
    /// LXD's image property, such as os=Debian; may be repeated
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = parse_property)]
    properties: Vec<(String, String)>,
    /// A profile that suits it; may be repeated
    #[arg(long = "profile", value_name = "NAME")]
    profiles: Vec<String>,
    /// A board or runtime that it is made for; may be repeated
    #[arg(long, value_name = "NAME")]
    compatible: Vec<String>,
    /// A kernel option that it needs, without CONFIG_; may be repeated
    #[arg(long = "requires-kernel", value_name = "OPTION")]
    requires_kernel: Vec<String>,
    /// The oldest runtime that can start it
    #[arg(long, value_name = "VERSION", default_value = "0.1.0", value_parser = parse_version)]
    minimum_runtime: Version,
    /// A file for the boot partition of its slot, whose digest goes into the manifest; may be repeated
    #[arg(long = "boot-file", value_name = "FILE")]
    boot_files: Vec<PathBuf>,
    /// Its list of parts (SBOM), whose digest goes into the manifest
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
    /// Time of the image, in seconds since 1970; newer files get it too (default: SOURCE_DATE_EPOCH, or the newest file's)
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<u64>,
    /// How to show the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: Arguments) -> Outcome {
    let format = arguments.format;
    let mut options = options(arguments)?;
    let root = Root::read(&options)?;
    let warning = match options.kind {
        ImageKind::Container => init::check(&root, &mut options.manifest)?,
        ImageKind::System => None,
    };
    let built = pack::build_from(&root, &options);
    progress_line::clear();
    let Built { fingerprint, header } = built?;
    if let Some(warning) = warning {
        eprintln!("yado: warning: {warning}");
    }
    match format {
        Format::Json => output::print_json(&description_json(&inspect::describe(&options.output)?))?,
        Format::Table => {
            let size = bytes(header.layout.image_bytes());
            let signed = match options.keys.len() {
                0 => "not signed yet".to_owned(),
                1 => "1 signature".to_owned(),
                more => format!("{more} signatures"),
            };
            output::print(&format!(
                "{} {}, {size}, {signed}\n",
                hex::encode(&fingerprint),
                options.output.display()
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For clap: a level, or which there are.
fn level() -> impl TypedValueParser<Value = Level> {
    let numbers = clap::value_parser!(u8).range(i64::from(Level::MIN)..=i64::from(Level::MAX));
    numbers.try_map(|number| Level::new(number).ok_or("there is no such level"))
}

fn options(arguments: Arguments) -> Result<BuildOptions, Box<dyn Error>> {
    let metadata =
        fs::metadata(&arguments.source).map_err(|error| format!("{}: {error}", arguments.source.display()))?;
    let timestamp = arguments.timestamp.map_or_else(source_date_epoch, |seconds| Ok(Some(seconds)))?;
    let manifest = Manifest {
        architecture: arguments.architecture,
        boot: arguments.boot_files.iter().map(|path| boot_entry(path)).collect::<Result<BTreeMap<_, _>, _>>()?,
        compatible: arguments.compatible,
        created: 0,
        halt_command: arguments.halt_command.map_or_else(Vec::new, |HaltCommand(words)| words),
        halt_signal: arguments.halt_signal,
        init: arguments.init,
        name: arguments.name,
        profiles: arguments.profiles,
        properties: arguments.properties.into_iter().collect(),
        release: arguments.release,
        requires: Requires { kernel: arguments.requires_kernel, runtime: arguments.minimum_runtime },
        sbom: arguments.sbom.as_deref().map(digest_of).transpose()?,
        version: arguments.version,
    };
    let is_directory = metadata.is_dir();
    Ok(BuildOptions {
        source: if is_directory { Source::Directory(arguments.source) } else { Source::Tar(arguments.source) },
        output: arguments.output,
        kind: arguments.kind,
        manifest,
        security_epoch: arguments.security_epoch,
        compression: match arguments.compression.as_str() {
            "none" => Compression::None,
            _ => Compression::Lz4 { cluster_blocks: arguments.cluster, level: arguments.level },
        },
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        owners: arguments.owner,
        timestamp,
        keys: arguments.keys.iter().map(|path| SecretKey::read_file(path)).collect::<Result<_, _>>()?,
        on_progress: show_progress,
    })
}

/// The convention of reproducible builds.
pub(crate) fn source_date_epoch() -> Result<Option<u64>, String> {
    let Ok(text) = env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = text.parse().map_err(|_| format!("SOURCE_DATE_EPOCH is \"{text}\", not a number of seconds"))?;
    Ok(Some(seconds))
}

fn boot_entry(path: &Path) -> Result<(String, String), String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| format!("{}: its name is not text", path.display()))?;
    Ok((name.to_owned(), digest_of(path)?))
}

fn digest_of(path: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(hex::encode(&hasher.finalize()))
}

/// Each percent once.
fn show_progress(progress: Progress) {
    static SHOWN: AtomicU64 = AtomicU64::new(u64::MAX);
    let Progress { stored_bytes, all_bytes } = progress;
    let percent = stored_bytes.saturating_mul(100).checked_div(all_bytes).unwrap_or(100);
    if SHOWN.swap(percent, Ordering::Relaxed) != percent {
        progress_line::show(format_args!("packing: {percent} % of {}", bytes(all_bytes)));
    }
}

pub(crate) fn parse_architecture(text: &str) -> Result<Architecture, String> {
    Architecture::parse(text).ok_or_else(|| "must be armhf, arm64, i386 or x86_64".to_owned())
}

fn parse_kind(text: &str) -> Result<ImageKind, String> {
    ImageKind::parse(text).ok_or_else(|| "must be container or system".to_owned())
}

pub(crate) fn parse_version(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| "must be three numbers, as in 1.2.3".to_owned())
}

fn parse_owners(text: &str) -> Result<Owners, String> {
    if text == "kept" {
        return Ok(Owners::Kept);
    }
    let ids = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    ids.map(|(uid, gid)| Owners::All { uid, gid }).ok_or_else(|| "must be `kept` or UID:GID, as in 0:0".to_owned())
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Its words.
#[derive(Debug, Clone)]
struct HaltCommand(Vec<String>);

fn parse_halt_command(text: &str) -> Result<HaltCommand, String> {
    match text.starts_with('/') {
        true => Ok(HaltCommand(text.split_ascii_whitespace().map(str::to_owned).collect())),
        false => Err("must begin with the path of a program, as in \"/sbin/init 0\"".to_owned()),
    }
}

fn parse_signal(text: &str) -> Result<String, String> {
    match signal_name::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("no such signal; examples: SIGTERM, SIGPWR, SIGRTMIN+3".to_owned()),
    }
}
