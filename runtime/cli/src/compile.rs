//! `yado compile`: TOML to specs. Run by init when a spec is missing, stale or of another schema, and by who builds a
//! system image. One bad instance keeps no other from its spec.

use crate::command_line::Outcome;
use crate::image_facts;
use crate::instance_files;
use crate::write_aside::{ReplaceError, remove, replace};
use clap::Args;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use yado_spec::compile::{Compiled, compile};
use yado_spec::file;
use yado_spec::instance::InstanceSpec;
use yado_spec::problem::Problem;
use yado_spec::sources::{Sources, read_sources};
use yado_sys::file_lock;
use yado_wire::InstanceName;

/// The one name that an instance cannot have here, because its spec would replace the networks'.
const NETWORKS: &str = "networks";

/// To compile all that there can be takes a slow board seconds. Whoever holds the lock waits for nobody meanwhile.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What a system image has in /usr/lib/yado: appliance/ and images/
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/yado")]
    system: PathBuf,
    /// The data partition, whose instances win
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the specs go; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { system, data, out } = arguments;
    fs::create_dir_all(out).map_err(|error| format!("make {}: {error}", out.display()))?;
    if let Some(data) = data {
        instance_files::remove_cut_off(data);
    }
    // From what is read to what is written: who compiles later has read later, and has the last word.
    let lock = lock(out)?;
    let sources = read_sources(system, data.as_deref());
    let compiled = compile(&sources, &image_facts::read);
    for line in warnings(&compiled) {
        eprintln!("yado: {line}");
    }
    let problems = write(&sources, compiled, out, &lock)?;
    for line in sources.left_out.iter().map(ToString::to_string).chain(problems.iter().cloned()) {
        eprintln!("yado: {line}");
    }
    let is_good = sources.left_out.is_empty() && problems.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(file::EXIT_SOME_ARE_BAD) })
}

/// The file beside the specs that is locked.
const LOCK: &str = ".lock";

/// That nobody else writes specs there: init's compiler while the system starts, and an apply at the same moment.
#[derive(Debug)]
pub(crate) struct SpecsLock {
    /// Unlocks when it is closed.
    _file: File,
}

/// Waits for its turn.
pub(crate) fn lock(out: &Path) -> Result<SpecsLock, String> {
    let locked = file_lock::open(&out.join(LOCK)).and_then(|file| {
        file_lock::lock_within(&file, TIMEOUT)?;
        Ok(SpecsLock { _file: file })
    });
    locked.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            format!("{}: another yado has been writing specs for {} s", out.display(), TIMEOUT.as_secs())
        }
        _ => format!("lock {}: {error}", out.display()),
    })
}

/// What is compiled as it was said, and does not do all that was said; a line each.
pub(crate) fn warnings(compiled: &Compiled) -> Vec<String> {
    let good = compiled.instances.iter().filter_map(|(name, spec)| Some((name, spec.as_ref().ok()?.not_enforced()?)));
    let not_enforced = good.map(|(name, (key, reason))| format!("warning: instance {name}: {key}: {reason}"));
    let passed_over = compiled.passed_over.iter();
    not_enforced.chain(passed_over.map(|(name, problem)| format!("warning: instance {name}: {problem}"))).collect()
}

/// Writes everything, and removes what is of instances that there are no more; answers with what is wrong, a line each.
pub(crate) fn write(
    sources: &Sources,
    compiled: Compiled,
    out: &Path,
    _lock: &SpecsLock,
) -> Result<Vec<String>, ReplaceError> {
    let Compiled { instances, networks, network_problems, profile_problems, passed_over: _ } = compiled;
    let mut lines: Vec<String> =
        network_problems.iter().chain(&profile_problems).map(|problem| problem.to_string()).collect();
    replace(out, &format!("{NETWORKS}.bin"), &networks.encode())?;
    for (name, spec) in &instances {
        lines.extend(write_instance(sources, name, spec, out)?);
    }
    for gone in written_names(out).filter(|gone| instances.iter().all(|(name, _)| name != gone)) {
        remove(out, &format!("{gone}.err"))?;
        remove(out, &format!("{gone}.bin"))?;
    }
    Ok(lines)
}

/// The instances of which something lies in `out`.
fn written_names(out: &Path) -> impl Iterator<Item = InstanceName> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let file = entry.file_name();
        let file = file.to_str()?;
        InstanceName::parse(file.strip_suffix(".bin").or(file.strip_suffix(".err"))?).ok()
    });
    names.filter(|name| name.as_str() != NETWORKS)
}

/// The `.err` stands before the `.bin` goes: whoever looks in between finds an old spec and not nothing.
fn write_instance(
    sources: &Sources,
    name: &InstanceName,
    spec: &Result<InstanceSpec, Vec<Problem>>,
    out: &Path,
) -> Result<Vec<String>, ReplaceError> {
    let (bin, err) = (format!("{name}.bin"), format!("{name}.err"));
    match encode(sources, name, spec) {
        Ok(bytes) => {
            replace(out, &bin, &bytes)?;
            remove(out, &err)?;
            Ok(Vec::new())
        }
        Err(lines) => {
            replace(out, &err, format!("{}\n", lines.join("\n")).as_bytes())?;
            if name.as_str() != NETWORKS {
                remove(out, &bin)?;
            }
            Ok(lines)
        }
    }
}

fn encode(
    sources: &Sources,
    name: &InstanceName,
    spec: &Result<InstanceSpec, Vec<Problem>>,
) -> Result<Vec<u8>, Vec<String>> {
    if name.as_str() == NETWORKS {
        return Err(vec![format!("instance {name}: the name is taken by the networks' own file; choose another")]);
    }
    let spec =
        spec.as_ref().map_err(|problems| problems.iter().map(|problem| problem.to_string()).collect::<Vec<_>>())?;
    // A spec is only made when every source could be read, and then there is a digest.
    let digest = sources.digest(name).ok_or_else(|| vec![format!("instance {name}: a source cannot be read")])?;
    file::encode(spec, digest).map_err(|error| vec![format!("instance {name}: {error}")])
}
