//! `yado apply`: what is configured is compiled, shown beside what runs, and made so by init and netd.

mod layers;
mod plan;

use crate::command_line::Outcome;
use crate::compile;
use crate::image_facts;
use crate::instance_files;
use crate::output::{self, Format, printable};
use crate::places::Places;
use crate::rescue::{self, NetworkFailure};
use clap::Args;
use plan::Plan;
use serde_json::{Value, json};
use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_spec::changes::{Change, changes};
use yado_spec::compile::{Compiled, compile};
use yado_spec::file::EXIT_SOME_ARE_BAD;
use yado_spec::sources::{MAX_SOURCE_BYTES, Source, SourceError, Sources, read_source, read_sources};
use yado_sys::file_lock;
use yado_wire::InstanceName;
use yado_wire::rescue::{Applied, ApplyOutcome, InstanceStatus, Mode};

/// Standard input among the files.
const STANDARD_INPUT: &str = "-";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Files of instances, NAME.toml each, that go to the data partition first; `-` is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose configuration standard input is
    #[arg(long, value_name = "NAME", value_parser = rescue::parse_instance)]
    name: Option<InstanceName>,
    /// init's socket; hosted: DIR/run/init.sock
    #[arg(long, value_name = "PATH", default_value = rescue::SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    options: ApplyOptions,
}

/// How it is done, whatever is applied.
#[derive(Debug, Args)]
pub(crate) struct ApplyOptions {
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Delete the writable layers of instances that are no longer configured
    #[arg(long)]
    delete_data: bool,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { files, name, socket, options } = arguments;
    let files = files.iter().map(|file| instance_of(file, name.as_ref())).collect::<Result<Vec<_>, _>>()?;
    if name.is_some() && files.iter().all(|file| file.0 != Path::new(STANDARD_INPUT)) {
        return Err("--name says whose configuration standard input is: give - as a file".into());
    }
    apply(socket, &files, options)
}

/// `yado rescue apply`: the same without files.
pub(crate) fn run_rescue(socket: &Path, options: &ApplyOptions) -> Outcome {
    apply(socket, &[], options)
}

/// A file, and the instance that it configures.
fn instance_of(file: &Path, name: Option<&InstanceName>) -> Result<(PathBuf, InstanceName), String> {
    if file == Path::new(STANDARD_INPUT) {
        let name = name.ok_or("standard input has no name: --name NAME says which instance it configures")?;
        return Ok((file.to_owned(), name.clone()));
    }
    let stem = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
    let stem = stem.ok_or_else(|| format!("{}: is not called NAME.toml", file.display()))?;
    let name = InstanceName::parse(stem).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok((file.to_owned(), name))
}

fn apply(socket: &Path, files: &[(PathBuf, InstanceName)], options: &ApplyOptions) -> Outcome {
    // Where the lock is, init must say; what it has counts once we have the lock.
    let places = &Places::of(socket, rescue::instances(socket)?.0)?;
    places.refuse_strange()?;
    let lock = lock(&places.run)?;
    let (_, running) = rescue::instances(&places.socket)?;
    let mut sources = read_sources(&places.system, Some(&places.data));
    for (file, name) in files {
        let source =
            if file == Path::new(STANDARD_INPUT) { read_standard_input() } else { read_source(file.clone()) };
        if let Err(error) = &source.content {
            return Err(error.to_string().into());
        }
        sources.instances.insert(name.clone(), source);
    }
    refuse_unread(places, &sources)?;
    let compiled = compile(&sources, &image_facts::read);
    refuse_bad_files(&compiled, files)?;
    let plan = Plan::new(&places.system, &places.run, &running, &compiled);
    let warnings = compile::warnings(&compiled);
    if options.dry_run {
        return show(options.format, &plan, &warnings, &problems(&sources, &compiled));
    }
    if options.format == Format::Table {
        output::print(&plan.table())?;
        tell(&warnings);
    }
    instance_files::remove_cut_off(&places.data);
    for (_, name) in files {
        if let Some(Ok(content)) = sources.instances.get(name).map(|source| &source.content) {
            instance_files::write(&places.data, name, content)?;
        }
    }
    let configured: Vec<InstanceName> = compiled.instances.iter().map(|(name, _)| name.clone()).collect();
    let mut problems = problems(&sources, &compiled);
    // What was said stands on the data partition by now, so that a compiler that has read before it has written before it, too.
    let specs = places.specs();
    let _ = compile::write(&sources, compiled, &specs, &compile::lock(&specs)?)?;
    // A new instance may be on a new network, and one that goes may hold an old one.
    let before = rescue::reload(&places.run);
    let outcomes = rescue::apply(&places.socket, options.delete_data, |applied| {
        if options.format == Format::Table {
            // Each as it happens: one that stops takes its time.
            let _ = output::print(&outcome_line(applied));
        }
    })?;
    let network_failures = if before.is_empty() { before } else { rescue::reload(&places.run) };
    if options.delete_data {
        problems.extend(delete_data(places, &configured, lock, options.format));
    }
    match options.format {
        Format::Table => {
            let failures = network_failures.iter().map(network_line);
            tell(&problems.iter().cloned().chain(failures).collect::<Vec<_>>());
        }
        Format::Json => {
            let mut value = json(&plan, &outcomes, &warnings, &problems);
            value["network_failures"] = network_failures.iter().map(network_json).collect();
            output::print_json(&value)?;
        }
    }
    let is_good =
        |applied: &Applied| !matches!(applied.outcome, ApplyOutcome::Refused(_) | ApplyOutcome::NotLimited(_));
    let are_good = problems.is_empty() && network_failures.is_empty() && outcomes.iter().all(is_good);
    Ok(if are_good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_SOME_ARE_BAD) })
}

/// Deletes the layers of those that are no more, and says what went wrong. Once they are nobody's, others may apply: to delete
/// one may take long.
fn delete_data(places: &Places, configured: &[InstanceName], lock: File, format: Format) -> Vec<String> {
    let known: Vec<_> = match rescue::instances(&places.socket) {
        Ok((_, instances)) => instances.iter().map(|status| status.id).collect(),
        Err(error) => return vec![error.to_string()],
    };
    let mut disowned = layers::disown(&places.data, configured, &known);
    drop(lock);
    let mut problems = std::mem::take(&mut disowned.problems);
    for deleted in disowned.delete() {
        match deleted {
            Ok(line) if format == Format::Table => {
                // That nobody reads it any more is no reason to leave the others.
                let _ = output::print(&format!("{line}\n"));
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    problems
}

/// An instance's configuration beside what runs.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Which keys it runs with are not those that are configured.
    pub(crate) differences: Vec<Change>,
    /// The key that is configured and does not do what it says, and why.
    pub(crate) not_enforced: Option<(&'static str, &'static str)>,
}

/// Compares what runs with what is configured.
pub(crate) fn compare(socket: &Path, mode: Mode, instance: &InstanceStatus) -> Result<Compared, String> {
    let places = Places::of(socket, mode)?;
    let Some(configured) = plan::configured(&places.system, &places.run, &instance.name) else {
        return Ok(Compared::default());
    };
    let actual = plan::actual(&places.run, instance);
    Ok(Compared {
        differences: actual.map(|actual| changes(&actual, &configured)).unwrap_or_default(),
        not_enforced: configured.not_enforced(),
    })
}

/// One at a time; the lock goes with the process that holds it.
fn lock(run: &Path) -> Result<File, String> {
    let path = run.join("apply.lock");
    let file = file_lock::open(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
    match file_lock::try_lock(&file) {
        Ok(()) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err("another yado apply is at work: try again when it is over".to_owned())
        }
        Err(error) => Err(format!("lock {}: {error}", path.display())),
    }
}

fn read_standard_input() -> Source {
    let path = PathBuf::from("standard input");
    let mut content = Vec::new();
    let content = match std::io::stdin().lock().take(MAX_SOURCE_BYTES + 1).read_to_end(&mut content) {
        Ok(length) if MAX_SOURCE_BYTES < length as u64 => Err(SourceError::TooLong { path: path.clone() }),
        Ok(_) => Ok(content),
        Err(source) => Err(SourceError::Read { path: path.clone(), source }),
    };
    Source { path, content }
}

/// An instance whose directory could not be read may be there: nobody is taken for deleted because of it. What else could not be
/// read is told.
fn refuse_unread(places: &Places, sources: &Sources) -> Result<(), Box<dyn Error>> {
    let of_instances = [places.system.join("appliance"), places.data.join("instances")];
    let is_unread = |error: &&SourceError| match error {
        SourceError::Read { path, source: _ } | SourceError::TooMany { path } => of_instances.contains(path),
        SourceError::TooLong { .. }
        | SourceError::Name { .. }
        | SourceError::Alias { .. }
        | SourceError::Pin { .. } => false,
    };
    match sources.left_out.iter().find(is_unread) {
        Some(error) => Err(format!("{error}: nothing was changed").into()),
        None => Ok(()),
    }
}

/// A file that is given must be right; nothing was written yet.
fn refuse_bad_files(compiled: &Compiled, files: &[(PathBuf, InstanceName)]) -> Result<(), Box<dyn Error>> {
    let bad = compiled.instances.iter().filter(|(name, _)| files.iter().any(|(_, of)| of == name));
    let problems: Vec<String> =
        bad.filter_map(|(_, spec)| spec.as_ref().err()).flatten().map(ToString::to_string).collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nnothing was changed", problems.join("\n")).into())
}

/// Everything that is wrong, a line each.
fn problems(sources: &Sources, compiled: &Compiled) -> Vec<String> {
    let of_instances = compiled.instances.iter().filter_map(|(_, spec)| spec.as_ref().err()).flatten();
    let problems = compiled.network_problems.iter().chain(&compiled.profile_problems).chain(of_instances);
    sources.left_out.iter().map(ToString::to_string).chain(problems.map(ToString::to_string)).collect()
}

/// On standard error, a line each.
fn tell(lines: &[String]) {
    for line in lines {
        eprintln!("yado: {}", printable(line));
    }
}

fn outcome_line(applied: &Applied) -> String {
    let name = &applied.instance.name;
    let what = match &applied.outcome {
        ApplyOutcome::Added => "is new".to_owned(),
        ApplyOutcome::Removed => "is gone".to_owned(),
        ApplyOutcome::Changed => "is changed".to_owned(),
        ApplyOutcome::WaitsForRestart => {
            format!("is changed; some of it waits for the next start: yado rescue restart {name}")
        }
        ApplyOutcome::Refused(failure) => format!("is as it was: {}", printable(&failure.to_string())),
        ApplyOutcome::NotLimited(failure) => {
            format!("is changed, but its limits are not: {}", printable(&failure.to_string()))
        }
    };
    format!("{name}: {what}\n")
}

fn network_line(failed: &NetworkFailure) -> String {
    match &failed.network {
        Some(network) => format!("network {network}: {}", failed.failure),
        None => format!("networks: {}", failed.failure),
    }
}

fn network_json(failed: &NetworkFailure) -> Value {
    json!({ "network": failed.network, "failure": rescue::failure_json(&failed.failure) })
}

/// What would change.
fn show(format: Format, plan: &Plan, warnings: &[String], problems: &[String]) -> Outcome {
    match format {
        Format::Table => {
            output::print(&plan.table())?;
            tell(warnings);
            tell(problems);
        }
        Format::Json => output::print_json(&json(plan, &[], warnings, problems))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn json(plan: &Plan, outcomes: &[Applied], warnings: &[String], problems: &[String]) -> Value {
    let outcomes: Vec<Value> = outcomes.iter().map(outcome_json).collect();
    json!({ "changes": plan.json(), "outcomes": outcomes, "warnings": warnings, "problems": problems })
}

fn outcome_json(applied: &Applied) -> Value {
    let (outcome, failure) = match &applied.outcome {
        ApplyOutcome::Added => ("added", None),
        ApplyOutcome::Removed => ("removed", None),
        ApplyOutcome::Changed => ("changed", None),
        ApplyOutcome::WaitsForRestart => ("waits-for-restart", None),
        ApplyOutcome::Refused(failure) => ("refused", Some(rescue::failure_json(failure))),
        ApplyOutcome::NotLimited(failure) => ("not-limited", Some(rescue::failure_json(failure))),
    };
    let instance = &applied.instance;
    json!({ "id": instance.id.0, "instance": instance.name.as_str(), "outcome": outcome, "failure": failure })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_could_not_be_read_is_not_taken_for_deleted() {
        let places = Places::of(Path::new("/run/yado/init.sock"), Mode::System).unwrap();
        let unread = |directory: PathBuf| {
            let source = std::io::ErrorKind::NotADirectory.into();
            let left_out = vec![SourceError::Read { path: directory, source }];
            refuse_unread(&places, &Sources { left_out, ..Sources::default() }).is_err()
        };
        assert!(unread(places.data.join("instances")) && unread(places.system.join("appliance")));
        for other in ["images", "images/aliases", "profiles", "networks"] {
            assert!(!unread(places.data.join(other)), "{other}");
        }
    }
}
