//! One start, seen from inside: the process that becomes the instance's init. It is root in its user namespace and nobody
//! outside, and everything that it mounts belongs to the instance. The launcher mounts what root inside must not undo.

use crate::confinement::{self, NextLabel};
use crate::console;
use crate::mount_staging::StagedTree;
use crate::payload_channel::{FromLauncher, FromPayload, MAX_PAYLOAD_STEPS, PayloadChannel, Received};
use crate::proc_and_sys::{KernelMounts, WholeMounts};
use crate::program::{self, Environment};
use crate::report::{Stopwatch, at, at_new};
use crate::run_directory::NOTIFY_SOCKET;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::convert::Infallible;
use yado_spec::LaunchRequest;
use yado_sys::clone::{self, Namespaces};
use yado_sys::mount::{self, Attributes, Depth, FsOption};
use yado_sys::personality;
use yado_wire::{Failure, Step};

/// What the payload does until it executes the instance's init.
pub(crate) fn live(request: &LaunchRequest, label: Option<NextLabel<'_>>, channel: &PayloadChannel) -> Infallible {
    if let Err(Gave::Up(failure)) = become_init(request, label, channel) {
        channel.fail(failure);
    }
    std::process::exit(1)
}

/// Why the payload does not become an init.
enum Gave {
    /// The launcher is told this failure.
    Up(Failure),
    /// The launcher is gone or has failed: nobody has to be told.
    In,
}

impl From<Failure> for Gave {
    fn from(failure: Failure) -> Gave {
        Gave::Up(failure)
    }
}

fn become_init(
    request: &LaunchRequest,
    label: Option<NextLabel<'_>>,
    channel: &PayloadChannel,
) -> Result<Infallible, Gave> {
    let mut stopwatch = Stopwatch::default();
    let (KernelMounts { proc, sys, cgroup }, whole) = stopwatch.step(Step::Namespaces, || {
        enter_namespaces(request, channel)?;
        let whole = request.spec.security.nesting.then(WholeMounts::new).transpose()?;
        Ok((KernelMounts::new()?, whole))
    })?;
    channel.send(&FromPayload::Namespaces, &[proc.as_fd(), sys.as_fd(), cgroup.as_fd()])?;
    drop((proc, sys, cgroup));
    // Confined now, while the launcher builds the mounts: what follows needs no call that the confinement denies.
    let Some(Received { message: FromLauncher::BeRoot, .. }) = channel.receive(Step::Launcher)? else {
        return Err(Gave::In);
    };
    stopwatch.step(Step::IdMap, become_root_inside)?;
    stopwatch.step(Step::Capabilities, || confinement::confine(&request.spec.security))?;
    let Some(Received { message: FromLauncher::Build { is_32_bit, has_notify_socket }, descriptors }) =
        channel.receive(Step::Launcher)?
    else {
        return Err(Gave::In);
    };
    stopwatch.step(Step::Seccomp, || confinement::deny_socketcall(&request.spec.security, is_32_bit))?;
    let Ok([dev, terminals]) = <[OwnedFd; 2]>::try_from(descriptors) else { return Err(Gave::In) };
    stopwatch.step(Step::Mount, || build(&dev, &terminals, whole.as_ref()))?;
    stopwatch.step(Step::Console, console::take)?;
    channel.send(&FromPayload::Built, &[])?;
    let Some(Received { message: FromLauncher::Exec, .. }) = channel.receive(Step::Launcher)? else {
        return Err(Gave::In);
    };
    if !request.spec.nics.is_empty() {
        stopwatch.step(Step::Network, || bring_up_nics(request))?;
    }
    let environment = Environment::of_init(&request.spec, has_notify_socket.then_some(NOTIFY_SOCKET));
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if is_32_bit {
        personality::become_32_bit().map_err(at(Step::Exec, "personality"))?;
    }
    // No controlling terminal: init's children take the console as theirs, which they could not if init had it.
    rustix::process::setsid().map_err(at(Step::Console, "session"))?;
    confinement::finish(&request.spec.security, label)?;
    channel
        .send(&FromPayload::Executing(stopwatch.times().iter().copied().take(MAX_PAYLOAD_STEPS).collect()), &[])?;
    Err(Gave::Up(program::execute(&request.spec.init, &environment)))
}

/// Makes the network namespace first: it takes the kernel as long as all others together, and netd can begin when it exists.
fn enter_namespaces(request: &LaunchRequest, channel: &PayloadChannel) -> Result<(), Failure> {
    clone::unshare(Namespaces::NEWNET).map_err(at(Step::Namespaces, "net"))?;
    if !request.spec.nics.is_empty() {
        channel.send(&FromPayload::Network, &[])?;
    }
    // The mount namespace too: our working directory is then our own copy of the launcher's stage.
    let others = Namespaces::NEWNS | Namespaces::NEWUTS | Namespaces::NEWIPC | Namespaces::NEWCGROUP;
    clone::unshare(others).map_err(at(Step::Namespaces, "mount, uts, ipc, cgroup"))?;
    let name = request.spec.name.name();
    yado_sys::machine::set_host_name(name).map_err(at(Step::Hostname, name))?;
    yado_sys::interface::bring_up("lo").map_err(at(Step::Network, "lo"))
}

fn build(dev: &OwnedFd, terminals: &OwnedFd, whole: Option<&WholeMounts>) -> Result<(), Failure> {
    // Of what lies on the stage the kernel locked all but the tops, and so it stays in these copies. The copies are
    // attached at places that root inside may rearrange, covers and all.
    let take = |staged: StagedTree| {
        mount::clone_tree(CWD, staged.name(), Depth::Tree).map_err(at(Step::Mount, staged.name()))
    };
    let (proc, sys, run) = (take(StagedTree::Proc)?, take(StagedTree::Sys)?, take(StagedTree::Run)?);
    rustix::process::chdir(StagedTree::Root.name()).map_err(at(Step::Mount, "root"))?;
    // A shared mount cannot become the root, and to whom this one is related is nobody's business inside.
    mount::make_all_private().map_err(at(Step::Mount, "mount propagation"))?;
    mount::pivot_to_working_directory().map_err(at(Step::Mount, "pivot_root"))?;

    attach_at_directory(&proc, "/proc")?;
    attach_at_directory(&sys, "/sys")?;
    attach_at_directory(dev, "/dev")?;
    mount::attach_at(terminals, "/dev/pts").map_err(at(Step::Mount, "/dev/pts"))?;
    attach_new("tmpfs", &[("mode", "1777")], "/dev/shm")?;
    match attach_new("mqueue", &[], "/dev/mqueue") {
        // A kernel without POSIX message queues.
        Err(failure) if failure.errno == Errno::NODEV.raw_os_error() => {}
        answer => answer?,
    }
    attach_at_directory(&run, "/run")?;
    whole.map_or(Ok(()), WholeMounts::attach)?;
    // The copies from the stage follow the launcher's for as long as that lives, which mounts nothing more. Nothing goes the other way.
    mount::make_all_shared().map_err(at(Step::Mount, "mount propagation"))
}

/// Sets the interfaces up. netd makes them down, and answers when its rules that isolate them are in force.
fn bring_up_nics(request: &LaunchRequest) -> Result<(), Failure> {
    for nic in &request.spec.nics {
        yado_sys::interface::bring_up(&nic.interface).map_err(at(Step::Network, &nic.interface))?;
    }
    Ok(())
}

/// Becomes root of the user namespace. Before, our ids were unmapped: the map was written after our start.
fn become_root_inside() -> Result<(), Failure> {
    let failed = |errno: Errno| at(Step::IdMap, "root inside")(errno);
    rustix::thread::set_thread_groups(&[]).map_err(failed)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed)
}

fn attach_new(kind: &str, options: &[(&str, &str)], place: &str) -> Result<(), Failure> {
    let mut all = vec![FsOption::Value("source", kind)];
    all.extend(options.iter().map(|(name, value)| FsOption::Value(name, value)));
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC | Attributes::MOUNT_ATTR_NODEV;
    let mount = mount::new_file_system(kind, &all, attributes).map_err(at_new(Step::Mount, place))?;
    mount::attach_at(&mount, place).map_err(at(Step::Mount, place))
}

/// Attaches a mount at a directory of the root, which is made if the image lacks it.
fn attach_at_directory(mount: &OwnedFd, place: &str) -> Result<(), Failure> {
    match mount::attach_at(mount, place) {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            rustix::fs::mkdir(place, Mode::from_raw_mode(0o755)).map_err(at(Step::Mount, place))?;
            mount::attach_at(mount, place).map_err(at(Step::Mount, place))
        }
        answer => answer.map_err(at(Step::Mount, place)),
    }
}
