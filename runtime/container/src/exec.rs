//! A command in a running instance. One fork makes a process in the instance's pid namespace and control group that is a child
//! of init. That process joins the other namespaces and is confined like the instance's init.

use crate::account::Account;
use crate::command_group::{self, CommandGroup};
use crate::confinement::{self, NextLabel};
use crate::launch_request;
use crate::machine_record;
use crate::payload_channel::{FromPayload, PayloadChannel, PayloadSteps, TOO_SLOW};
use crate::program::{self, Environment};
use crate::report::{Reporter, Stopwatch, at};
use crate::run::wait_for_exec;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;
use yado_spec::LaunchRequest;
use yado_spec::launch_request::Command;
use yado_sys::children;
use yado_sys::clone::{Forked, Parent};
use yado_sys::inherited;
use yado_sys::personality;
use yado_sys::pidfd::{self, NamespacesOf};
use yado_wire::{Failure, Step};

/// How long it may take until a command is executed: milliseconds, unless somebody inside hinders it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Starts the command.
pub(crate) fn exec(request: &LaunchRequest, command: &Command, reporter: &mut Reporter) -> Result<(), Failure> {
    let mut stopwatch = Stopwatch::default();
    let forked =
        stopwatch.step(Step::Namespaces, || fork_command(request, command, Parent::CallersParent, TIMEOUT))?;
    reporter.payload(forked.pid, &forked.pidfd, None)?;
    let times = stopwatch.step(Step::Exec, || forked.wait_for_exec())?;
    stopwatch.add(&times);
    reporter.command_started(&stopwatch)
}

/// Moves us into the namespaces of the running instance. The pid namespace is the exception: it counts for our children only.
pub(crate) fn enter(request: &LaunchRequest, payload: &OwnedFd) -> Result<(), Failure> {
    let all = NamespacesOf::MOUNT
        | NamespacesOf::NETWORK
        | NamespacesOf::HOST_NAME_AND_NIS_DOMAIN_NAME
        | NamespacesOf::INTER_PROCESS_COMMUNICATION
        | NamespacesOf::CONTROL_GROUP;
    // Entering the user namespace one is in already is an error.
    let mut wanted = if request.spec.security.privileged { all } else { all | NamespacesOf::USER };
    wanted.set(NamespacesOf::TIME, request.spec.security.time_namespace);
    pidfd::enter_namespaces(payload, wanted).map_err(at(Step::Namespaces, request.spec.name.as_str()))
}

/// A command that is not executed yet.
#[derive(Debug)]
pub(crate) struct ForkedCommand {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    group: CommandGroup,
    channel: PayloadChannel,
}

/// Forks a process that joins the instance and executes the command. The launcher stays outside.
pub(crate) fn fork_command(
    request: &LaunchRequest,
    command: &Command,
    parent: Parent,
    timeout: Duration,
) -> Result<ForkedCommand, Failure> {
    let payload = launch_request::running_payload()?;
    let label = NextLabel::of(&request.spec.security)?;
    let is_32_bit = machine_record::is_32_bit(&request.paths.runtime);
    if is_32_bit {
        personality::become_32_bit().map_err(at(Step::Exec, "personality"))?;
    }
    pidfd::enter_namespaces(&payload, NamespacesOf::PROCESS_ID).map_err(at(Step::Namespaces, "pid"))?;
    let (channel, commands_end) = PayloadChannel::pair(timeout)?;
    let (forked, group) = command_group::fork(&request.paths.cgroup, parent)?;
    match forked {
        Forked::Caller { pid, pidfd } => Ok(ForkedCommand { pid, pidfd, group, channel }),
        Forked::Child => {
            let kept =
                [Some(commands_end.as_raw_fd()), Some(payload.as_raw_fd()), label.as_ref().map(AsRawFd::as_raw_fd)];
            inherited::live_with_only(kept.into_iter().flatten(), || {
                let Err(failure) = enter(request, &payload)
                    .and_then(|()| become_command(request, command, label, parent, is_32_bit, &commands_end));
                // If the launcher is gone, nobody is left who wants to know.
                let _ = commands_end.send(&FromPayload::Failed(failure), &[]);
                std::process::exit(127)
            })
        }
    }
}

impl ForkedCommand {
    /// Waits until the command is executed, or kills it at the timeout.
    pub(crate) fn wait_for_exec(&self) -> Result<PayloadSteps, Failure> {
        wait_for_exec(&self.channel).map_err(|failure| {
            // Before the kill: what is killed does not count as frozen.
            let is_frozen = failure.reason == TOO_SLOW && self.group.is_frozen();
            children::kill(self.pidfd.as_fd());
            match is_frozen {
                true => Failure::refused(failure.step, "command", "its control group is frozen"),
                false => failure,
            }
        })
    }
}

/// Until it is a user of the instance, this process is the system's root in a place where the instance decides what a path leads
/// to: so it opens no file before.
fn become_command(
    request: &LaunchRequest,
    command: &Command,
    label: Option<NextLabel<'_>>,
    parent: Parent,
    is_32_bit: bool,
    channel: &PayloadChannel,
) -> Result<Infallible, Failure> {
    let Command { argv, environment, cwd, user } = command;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().map_err(at(Step::Console, "session"))?;
    // A terminal of another session stays there: then there is no job control, as after `ssh` without `-t`.
    let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
    confinement::confine(&request.spec.security)?;
    confinement::deny_socketcall(&request.spec.security, is_32_bit)?;
    let account = Account::of(user, argv.is_empty())?;
    account.become_it()?;
    confinement::finish(&request.spec.security, label)?;
    if parent == Parent::Caller {
        // Whoever waits for its end is the launcher: without it nobody would.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Exec, "parent"))?;
    }
    let environment = Environment::of_command(&request.spec, environment, account.login.as_ref());
    change_directory(cwd.as_deref(), environment.get("HOME"))?;
    channel.send(&FromPayload::Executing(heapless::Vec::new()), &[])?;
    Err(match argv.as_slice() {
        [] => program::execute_login_shell(account.shell(), &environment),
        argv => program::execute(argv, &environment),
    })
}

/// Changes to the working directory that was asked for; without one to `$HOME`, if that exists, as `lxc exec` does.
fn change_directory(asked: Option<&str>, home: Option<&str>) -> Result<(), Failure> {
    if let Some(directory) = asked {
        return enter_directory(directory).map_err(at(Step::Exec, directory));
    }
    match home.map(enter_directory) {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => enter_directory("/").map_err(at(Step::Exec, "/")),
    }
}

/// Changes to a directory of the instance. The path cannot lead outside: magic links of `/proc` are not followed.
fn enter_directory(path: &str) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    rustix::process::fchdir(directory)
}
