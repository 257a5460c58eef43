//! `yado check-kernel`: says which of the kernel's options the runtime needs are missing, what each is for, and the boot
//! parameter where that is the cause. For the running kernel, or for the configuration of one that is being built.

mod boot_parameters;
mod judgement;
mod kernel_config;
mod requirement;
mod requirements;
mod running_kernel;
mod view;

use crate::command_line::Outcome;
use crate::output::{self, Format};
use boot_parameters::BootParameters;
use clap::Args;
use judgement::{Finding, Kernel};
use kernel_config::{KernelConfig, ReadConfigError};
use requirements::REQUIREMENTS;
use running_kernel::RunningKernel;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Configuration of another kernel (`.config`, gzipped or not); by default the running kernel is asked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Command line of that kernel, in a file (Raspberry Pi: cmdline.txt)
    #[arg(long, value_name = "FILE")]
    cmdline: Option<PathBuf>,
    /// For instances on somebody else's Linux: what only a board needs may be missing
    #[arg(long)]
    hosted: bool,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The exit code is 1 when something that is needed is missing.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let kernel = read_kernel(arguments)?;
    let findings: Vec<Finding> = REQUIREMENTS.iter().map(|requirement| kernel.judge(requirement)).collect();
    match arguments.format {
        Format::Table => output::print(&view::render_table(&kernel, &findings, arguments.hosted))?,
        Format::Json => output::print_json(&view::render_json(&kernel, &findings, arguments.hosted))?,
    }
    let is_missing = view::fatal_count(&kernel, &findings, arguments.hosted) != 0;
    Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A configuration that was given is of another kernel, about which this machine shows nothing.
fn read_kernel(arguments: &Arguments) -> Result<Kernel, Box<dyn Error>> {
    let read_parameters = |path: &Path| {
        let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
        Ok::<_, Box<dyn Error>>(BootParameters::parse(&text))
    };
    let parameters = arguments.cmdline.as_deref().map(read_parameters).transpose()?;
    match &arguments.config {
        Some(path) => Ok(Kernel {
            config: Some(KernelConfig::read(path)?),
            parameters: parameters.unwrap_or_default(),
            running: None,
        }),
        None => {
            let running = RunningKernel::read(Path::new("/"));
            Ok(Kernel {
                config: find_config(running.release.as_deref())?,
                parameters: parameters.map_or_else(|| read_parameters(Path::new("/proc/cmdline")), Ok)?,
                running: Some(running),
            })
        }
    }
}

/// Where a running kernel's configuration may be; `None`: nowhere.
fn find_config(release: Option<&str>) -> Result<Option<KernelConfig>, ReadConfigError> {
    let mut places = vec![PathBuf::from("/proc/config.gz")];
    if let Some(release) = release {
        places.push(PathBuf::from(format!("/boot/config-{release}")));
        places.push(PathBuf::from(format!("/lib/modules/{release}/config")));
    }
    match places.iter().find(|path| path.exists()) {
        Some(path) => KernelConfig::read(path).map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
