//! A command in a running instance: into its namespaces, then one fork, so that the command is in its pid namespace and a
//! child of init; confined like the instance's init.

use crate::confinement;
use crate::order;
use crate::program::{self, Environment};
use crate::report::{Reporter, Stopwatch, at};
use crate::run::wait_for_exec;
use crate::talk::{Talk, Word};
use rustix::fs::Mode;
use rustix::process::{Gid, Signal, Uid};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use yado_spec::LaunchOrder;
use yado_spec::order::Command;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::pidfd::{self, NamespacesOf};
use yado_wire::{Failure, Step};

/// Starts the command.
pub(crate) fn exec(order: &LaunchOrder, command: &Command, reporter: &mut Reporter) -> Result<(), Failure> {
    let mut stopwatch = Stopwatch::default();
    stopwatch.step(Step::Namespaces, || enter(order))?;
    let (pid, pidfd, talk) = fork_command(order, command, Parent::CallersParent)?;
    reporter.payload(pid, &pidfd, None)?;
    let times = stopwatch.step(Step::Exec, || wait_for_exec(&talk))?;
    stopwatch.add(&times);
    reporter.command_started(&stopwatch)
}

/// Moves us into the namespaces of the running instance. Its pid namespace is our children's, not ours.
pub(crate) fn enter(order: &LaunchOrder) -> Result<(), Failure> {
    let payload = order::running_payload()?;
    let all = NamespacesOf::MOUNT
        | NamespacesOf::PROCESS_ID
        | NamespacesOf::NETWORK
        | NamespacesOf::HOST_NAME_AND_NIS_DOMAIN_NAME
        | NamespacesOf::INTER_PROCESS_COMMUNICATION
        | NamespacesOf::CONTROL_GROUP;
    // Entering the user namespace one is in already is an error.
    let mut wanted = if order.spec.security.privileged { all } else { all | NamespacesOf::USER };
    wanted.set(NamespacesOf::TIME, order.spec.security.time_namespace);
    pidfd::enter_namespaces(&payload, wanted).map_err(at(Step::Namespaces, order.spec.name.as_str()))
}

/// Forks the command, and what it says until it executes.
pub(crate) fn fork_command(
    order: &LaunchOrder,
    command: &Command,
    parent: Parent,
) -> Result<(i32, OwnedFd, Talk), Failure> {
    let (talk, commands_end) = Talk::pair()?;
    match clone::fork(Namespaces::empty(), parent).map_err(at(Step::Namespaces, "clone3"))? {
        Forked::Caller { pid, pidfd } => Ok((pid, pidfd, talk)),
        Forked::Child => {
            drop(talk);
            let Err(failure) = become_command(order, command, parent, &commands_end);
            // If the launcher is gone, nobody is left who wants to know.
            let _ = commands_end.say(&Word::Failed(failure), &[]);
            std::process::exit(127)
        }
    }
}

fn become_command(
    order: &LaunchOrder,
    command: &Command,
    parent: Parent,
    talk: &Talk,
) -> Result<Infallible, Failure> {
    let Command { argv, environment, cwd, uid, gid } = command;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().map_err(at(Step::Console, "session"))?;
    // A terminal that is somebody else's stays theirs; then there is no job control, as after `ssh` without `-t`.
    let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
    confinement::confine(&order.spec.security)?;
    become_user(*uid, *gid)?;
    if parent == Parent::Caller {
        // Whoever waits for its end is the launcher: without it nobody would.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Exec, "parent"))?;
    }
    let directory = cwd.as_deref().unwrap_or("/");
    rustix::process::chdir(directory).map_err(at(Step::Exec, directory))?;
    talk.say(&Word::Executing(heapless::Vec::new()), &[])?;
    Err(program::execute(argv, &Environment::of_command(&order.spec, environment, *uid)))
}

pub(crate) fn become_user(uid: u32, gid: u32) -> Result<(), Failure> {
    // The largest id stands for "no change" in these calls.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Failure::refused(Step::Exec, "uid and gid", "no such id"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).map_err(at(Step::Exec, "groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Step::Exec, "gid"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Step::Exec, "uid"))
}
