//! A command in a running instance: into its namespaces, then one fork, so that the command is in its pid namespace and a
//! child of init; confined like the instance's init.

use crate::confinement;
use crate::order;
use crate::program::{self, Environment};
use crate::report::{Reporter, Stopwatch, at};
use crate::run::wait_for_exec;
use crate::talk::{Talk, Word};
use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use std::convert::Infallible;
use yado_spec::LaunchOrder;
use yado_spec::order::LaunchJob;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::pidfd::{self, NamespacesOf};
use yado_wire::{Failure, Step};

/// Starts the order's command.
pub(crate) fn exec(order: &LaunchOrder, reporter: &mut Reporter) -> Result<(), Failure> {
    let mut stopwatch = Stopwatch::default();
    let payload = order::running_payload()?;
    stopwatch.step(Step::Namespaces, || {
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
    })?;
    let (talk, commands_end) = Talk::pair()?;
    let forked = clone::fork(Namespaces::empty(), Parent::CallersParent).map_err(at(Step::Namespaces, "clone3"))?;
    let (pid, pidfd) = match forked {
        Forked::Caller { pid, pidfd } => (pid, pidfd),
        Forked::Child => {
            drop(talk);
            let Err(failure) = become_command(order, &commands_end);
            // If the launcher is gone, nobody is left who wants to know.
            let _ = commands_end.say(&Word::Failed(failure), &[]);
            std::process::exit(127)
        }
    };
    drop(commands_end);
    reporter.payload(pid, &pidfd, None)?;
    let times = stopwatch.step(Step::Exec, || wait_for_exec(&talk))?;
    stopwatch.add(&times);
    reporter.started(&stopwatch, None)
}

fn become_command(order: &LaunchOrder, talk: &Talk) -> Result<Infallible, Failure> {
    let LaunchJob::Exec { pid: _, argv, environment, cwd, uid, gid } = &order.job else {
        return Err(Failure::refused(Step::Launcher, "order", "not a command"));
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().map_err(at(Step::Console, "session"))?;
    // A terminal that is somebody else's stays theirs; then there is no job control, as after `ssh` without `-t`.
    let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
    confinement::confine(&order.spec.security)?;
    become_user(*uid, *gid)?;
    let directory = cwd.as_deref().unwrap_or("/");
    rustix::process::chdir(directory).map_err(at(Step::Exec, directory))?;
    talk.say(&Word::Executing(heapless::Vec::new()), &[])?;
    Err(program::execute(argv, &Environment::of_command(&order.spec, environment, *uid)))
}

fn become_user(uid: u32, gid: u32) -> Result<(), Failure> {
    // The largest id stands for "no change" in these calls.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Failure::refused(Step::Exec, "uid and gid", "no such id"));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).map_err(at(Step::Exec, "groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Step::Exec, "gid"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Step::Exec, "uid"))
}
