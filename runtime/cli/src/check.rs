//! `yado check`: what is wrong with configuration files, before a device sees them. By itself a file is checked for its
//! keys and values; a whole directory also for what the files say of each other and of images.

use crate::command_line::Outcome;
use crate::image_facts;
use crate::output::{self, Format};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_spec::compile::{Compiled, FileKind, check, compile};
use yado_spec::problem::{Location, Problem};
use yado_spec::sources::{MAX_SOURCE_BYTES, read_sources};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// TOML files, each checked by itself; those in a directory `profiles` or `networks` as such
    #[arg(value_name = "FILE", required_unless_present = "dir", conflicts_with = "dir")]
    files: Vec<PathBuf>,
    /// Check all files of a system directory (appliance/ and images/) together
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// With --dir: a data directory too, whose instances win
    #[arg(long, value_name = "DIR", requires = "dir")]
    data: Option<PathBuf>,
    /// What the files are, whatever their directory's name
    #[arg(long = "as", value_enum, value_name = "KIND", conflicts_with = "dir")]
    kind: Option<Kind>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What a file configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// An instance
    Instance,
    /// A profile
    Profile,
    /// A network
    Network,
}

/// The exit code is 1 when there is a problem.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let Arguments { files, dir, data, kind, format } = arguments;
    let (problems, left_out) = match dir {
        Some(dir) => check_directory(dir, data.as_deref()),
        None => (check_files(files, *kind)?, Vec::new()),
    };
    match format {
        Format::Table => {
            let lines = left_out.iter().cloned().chain(problems.iter().map(|problem| problem.to_string()));
            for line in lines {
                output::print(&format!("{}\n", output::printable(&line)))?;
            }
        }
        Format::Json => {
            let problems: Vec<Value> = problems.iter().map(problem_json).collect();
            output::print_json(&json!({ "problems": problems, "left_out": left_out }))?;
        }
    }
    let is_good = problems.is_empty() && left_out.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_files(files: &[PathBuf], kind: Option<Kind>) -> Result<Vec<Problem>, Box<dyn Error>> {
    let mut problems = Vec::new();
    for path in files {
        let kind = match kind.unwrap_or_else(|| kind_of(path)) {
            Kind::Instance => FileKind::Instance,
            Kind::Profile => FileKind::Profile,
            Kind::Network => FileKind::Network,
        };
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_SOURCE_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| format!("read {}: {error}", path.display()))?;
        if MAX_SOURCE_BYTES < bytes.len() as u64 {
            return Err(format!("read {}: longer than {MAX_SOURCE_BYTES} bytes", path.display()).into());
        }
        problems.extend(check(kind, &path.display().to_string(), &bytes));
    }
    Ok(problems)
}

/// By the name of its directory, as in `appliance/`.
fn kind_of(path: &Path) -> Kind {
    let directory = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match directory {
        Some("profiles") => Kind::Profile,
        Some("networks") => Kind::Network,
        _ => Kind::Instance,
    }
}

fn check_directory(system: &Path, data: Option<&Path>) -> (Vec<Problem>, Vec<String>) {
    let sources = read_sources(system, data);
    let Compiled { instances, networks: _, network_problems, profile_problems, passed_over } =
        compile(&sources, &image_facts::read);
    let of_instances = instances.into_iter().filter_map(|(_, spec)| spec.err()).flatten();
    let of_instances = of_instances.chain(passed_over.into_iter().map(|(_, problem)| problem));
    let problems = network_problems.into_iter().chain(profile_problems).chain(of_instances).collect();
    (problems, sources.left_out.iter().map(ToString::to_string).collect())
}

fn problem_json(problem: &Problem) -> Value {
    let Problem { location, key, value, fault } = problem;
    let (file, line) = match location {
        Location::File { file, line } => (Some(file), *line),
        Location::Request => (None, 0),
    };
    json!({ "file": file, "line": line, "key": key, "value": value, "reason": fault.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_says_what_a_file_is() {
        assert_eq!(kind_of(Path::new("appliance/debian.toml")), Kind::Instance);
        assert_eq!(kind_of(Path::new("appliance/profiles/default.toml")), Kind::Profile);
        assert_eq!(kind_of(Path::new("networks/yado0.toml")), Kind::Network);
        assert_eq!(kind_of(Path::new("debian.toml")), Kind::Instance);
    }
}
