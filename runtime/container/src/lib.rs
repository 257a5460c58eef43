//! The launcher: builds one sandbox, executes the instance's init in it, and is gone. The same program runs a command in a
//! running instance, tries its probe, or brings its devices up to date. Only init starts it: with a request on one descriptor and
//! a report socket on another.
//!
//! Two processes work on a start. The launcher stays outside: it verifies the image, mounts what needs the system's root, and
//! talks to init and netd. The payload is forked early: it makes its namespaces meanwhile, then mounts what belongs inside, gives
//! up its privileges and executes the instance's init.

// A failure ends the launcher, so what it costs to move one does not matter.
#![allow(clippy::result_large_err, clippy::large_enum_variant)]

mod launch_request;
mod report;

mod run;

mod cached_image;
mod image;
mod verity_device;

mod clocks;
mod dev_directory;
mod disks;
mod instance_root;
mod layer;
mod machine_record;
mod mount_staging;
mod run_directory;

mod devices;

mod network;

mod confinement;
mod console;
mod payload;
mod payload_channel;
mod proc_and_sys;
mod program;
mod resource_limits;

mod account;
mod command_group;
mod exec;
mod probe;
mod sync_devices;

use report::Reporter;
use std::ffi::OsString;
use std::process::ExitCode;
use yado_spec::launch_request::LaunchTask;
use yado_wire::{Failure, Step};

/// The launcher's entry. The task is in the request; the arguments only show it in a process list.
pub fn main(_args: &[OsString]) -> ExitCode {
    let mut reporter = match Reporter::inherited() {
        Ok(reporter) => reporter,
        Err(error) => {
            eprintln!("yado-container: no report socket ({error}): this program is started by yado-init");
            return ExitCode::FAILURE;
        }
    };
    let outcome =
        become_untraceable().and_then(|()| launch_request::read()).and_then(|request| match &request.task {
            LaunchTask::Run => run::run(&request, &mut reporter),
            LaunchTask::Exec(command) => exec::exec(&request, command, &mut reporter),
            LaunchTask::Probe => probe::probe(&request, &mut reporter),
            LaunchTask::Devices => sync_devices::sync(&request, &mut reporter),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            reporter.failed(failure);
            ExitCode::FAILURE
        }
    }
}

/// Makes this process untraceable until it executes. Between joining an instance's namespaces and executing, root inside can see
/// us, and may trace processes in its user namespace: through us it would get the rights of the system's root.
fn become_untraceable() -> Result<(), Failure> {
    let never = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(never).map_err(report::at(Step::Launcher, "PR_SET_DUMPABLE"))
}

#[cfg(test)]
#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;
