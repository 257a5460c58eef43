//! One start, from outside: what the launcher does while the payload (see `payload`) waits for it.

use crate::clocks;
use crate::confinement::NextLabel;
use crate::console;
use crate::dev_directory;
use crate::devices;
use crate::disks;
use crate::image::MountedImage;
use crate::instance_root::InstanceRoot;
use crate::launch_request::cached_image;
use crate::layer;
use crate::machine_record;
use crate::mount_staging::{MountStaging, StagedTree};
use crate::network::Nics;
use crate::payload;
use crate::payload_channel::{
    FromLauncher, FromPayload, MESSAGE_TIMEOUT, PayloadChannel, PayloadSteps, Received, lost,
};
use crate::proc_and_sys::{self, Hidden, KernelMounts};
use crate::report::{Reporter, Stopwatch, at, at_new, show};
use crate::resource_limits;
use crate::run_directory::RunDirectory;
use crate::sync_devices;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use yado_spec::LaunchRequest;
use yado_spec::instance::Required;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::idmap::{self, IdRange};
use yado_sys::mount::{self, Attributes, FsOption};
use yado_sys::{children, device_filter, identity, inherited};
use yado_wire::{Failure, Step};

/// Builds the sandbox and starts the instance's init in it. On failure nothing of it is left.
pub(crate) fn run(request: &LaunchRequest, reporter: &mut Reporter) -> Result<(), Failure> {
    let mut stopwatch = Stopwatch::default();
    check_map(request)?;
    // Before the payload is born: it closes when that executes.
    let cached_image = cached_image(request)?;
    let cgroup = stopwatch.step(Step::Cgroup, || claim_cgroup(request))?;
    // Every mode that we name is meant exactly; the payload sets an ordinary umask for itself.
    rustix::process::umask(Mode::empty());
    let terminals = stopwatch.step(Step::Console, || console::new_terminals(request.idmap_base))?;
    let (runtime, born, stage) = stopwatch.step(Step::Namespaces, || {
        // All mounts below are made in a namespace of our own: with us, whatever happens, they are gone.
        clone::unshare(Namespaces::NEWNS).map_err(at(Step::Namespaces, "mount"))?;
        mount::make_all_private().map_err(at(Step::Namespaces, "mount propagation"))?;
        let runtime = open_runtime_directory(request)?;
        let workplace = enter_workplace(request)?;
        let stage = MountStaging::enter()?;
        let born = give_birth(request)?;
        rustix::process::fchdir(&workplace).map_err(at(Step::Mount, "workplace"))?;
        Ok((runtime, born, stage))
    })?;
    let outside = Outside { cgroup, runtime, stage, terminals, cached_image };
    let outcome = build(request, &outside, &born, reporter, &mut stopwatch);
    if outcome.is_err() {
        // Its end is init's to see.
        children::kill(born.pidfd.as_fd());
    }
    outcome
}

fn open_runtime_directory(request: &LaunchRequest) -> Result<OwnedFd, Failure> {
    let runtime = &request.paths.runtime;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(runtime.as_str(), flags, Mode::empty()).map_err(at(Step::Mount, runtime))
}

/// The working directory from now on, on top of the runtime directory: all mount points are in it, and go with our mount
/// namespace, so that init has no tree of them to remove.
fn enter_workplace(request: &LaunchRequest) -> Result<OwnedFd, Failure> {
    let runtime = &request.paths.runtime;
    let options = [FsOption::Value("source", "workplace"), FsOption::Value("mode", "0700")];
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC;
    let workplace =
        mount::new_file_system("tmpfs", &options, attributes).map_err(at_new(Step::Mount, "workplace"))?;
    mount::attach_at(&workplace, runtime.as_str()).map_err(at(Step::Mount, runtime))?;
    rustix::process::fchdir(&workplace).map_err(at(Step::Mount, runtime))?;
    Ok(workplace)
}

/// What the launcher made or was given for a start, outside of the instance.
struct Outside {
    cgroup: OwnedFd,
    /// The instance's runtime directory, now under our workplace (`O_PATH`).
    runtime: OwnedFd,
    stage: MountStaging,
    terminals: OwnedFd,
    /// The mount of the image from an earlier start.
    cached_image: Option<OwnedFd>,
}

/// The payload as the launcher sees it.
struct Born {
    pid: i32,
    pidfd: OwnedFd,
    channel: PayloadChannel,
}

/// Root inside must be somebody else outside.
fn check_map(request: &LaunchRequest) -> Result<(), Failure> {
    let is_mapped =
        0 < request.idmap_base && request.idmap_base.checked_add(request.spec.security.idmap_size).is_some();
    match request.spec.security.privileged || is_mapped {
        true => Ok(()),
        false => {
            Err(Failure::refused(Step::IdMap, request.spec.name.as_str(), "no range of ids for its user namespace"))
        }
    }
}

/// Forks the payload, a child of init. It makes its other namespaces itself while we mount.
///
/// The user namespace is made as the instance's root, who is its owner from then on: the kernel counts what is in it on the
/// owner too (inotify instances, namespaces, pending signals, message queues, locked memory), so each instance has counts
/// of its own and none uses up the system's or another's. The owner is almighty in the namespace from outside; but outside
/// no process has this id, and we have it only while nothing of the instance's runs yet.
fn give_birth(request: &LaunchRequest) -> Result<Born, Failure> {
    let label = NextLabel::of(&request.spec.security)?;
    let (channel, payloads_end) = PayloadChannel::pair(MESSAGE_TIMEOUT)?;
    if request.spec.security.time_namespace {
        clocks::begin_anew()?;
    }
    let namespaces = match request.spec.security.privileged {
        true => Namespaces::NEWPID,
        false => Namespaces::NEWPID | Namespaces::NEWUSER,
    };
    resource_limits::bound_namespace(request);
    set_effective_user(request.idmap_base)?;
    let forked = clone::fork(namespaces, Parent::CallersParent, None);
    if !matches!(forked, Ok(Forked::Child)) {
        set_effective_user(0)?;
    }
    match forked.map_err(at(Step::Namespaces, "clone3"))? {
        Forked::Caller { pid, pidfd } => Ok(Born { pid, pidfd, channel }),
        Forked::Child => {
            // Nothing of the launcher's: its end of the channel would hide its death from us, and through what else is open the init
            // of an instance could be a link to a program outside.
            let kept = [Some(payloads_end.as_raw_fd()), label.as_ref().map(AsRawFd::as_raw_fd)];
            inherited::live_with_only(kept.into_iter().flatten(), || payload::live(request, label, &payloads_end))
        }
    }
}

fn build(
    request: &LaunchRequest,
    outside: &Outside,
    born: &Born,
    reporter: &mut Reporter,
    stopwatch: &mut Stopwatch,
) -> Result<(), Failure> {
    let Outside { cgroup, runtime, stage, terminals, cached_image } = outside;
    let mut nics = Nics::of(request);
    let user_namespace = stopwatch.step(Step::IdMap, || map_ids(request, born.pid))?;
    born.channel.send_to_payload(&FromLauncher::BeRoot, &[])?;
    let image = MountedImage::open(request, cached_image.as_ref(), stopwatch)?;
    reporter.image(&image.keep)?;
    let root = layer::mount_root(request, &image, user_namespace.as_ref(), stopwatch)
        .map_err(|failure| image.explain(failure))?;
    let instance_root = InstanceRoot { root: &root, base: request.idmap_base };
    let found = stopwatch.step(Step::Device, || find_devices(request))?;
    stopwatch.step(Step::Mount, || disks::attach_all(request, &instance_root, user_namespace.as_ref()))?;
    // The payload's namespaces take it longest of all. Until they are there we do what needs none of them; and what the
    // configuration can have wrong was seen before netd is asked, which may take an interface from the system.
    nics.ask_early(&born.channel, born.pid, stopwatch)?;
    let (dev, run, boot_id) = stopwatch.step(Step::Mount, || {
        let dev = dev_directory::make(request.idmap_base, &found.nodes)?;
        let run = RunDirectory::make(request.idmap_base, runtime)?;
        Ok((dev, run, proc_and_sys::new_boot_id()?))
    })?;
    nics.ask_early(&born.channel, born.pid, stopwatch)?;
    let master = stopwatch.step(Step::Console, || console::open(terminals, request.idmap_base))?;
    let kernel_mounts = hear_of_namespaces(&mut nics, born, stopwatch)?;
    stopwatch.step(Step::Mount, || {
        stage.put(&root, StagedTree::Root)?;
        kernel_mounts.put_together(&dev.ours, &boot_id, Hidden::of(&request.spec.security))?;
        stage.put(&kernel_mounts.proc, StagedTree::Proc)?;
        stage.put(&kernel_mounts.sys, StagedTree::Sys)?;
        stage.put(&run.mount, StagedTree::Run)
    })?;
    if image.is_32_bit() {
        machine_record::record_32_bit(runtime)?;
    }
    let build = FromLauncher::Build { is_32_bit: image.is_32_bit(), has_notify_socket: run.has_notify_socket };
    born.channel.send_to_payload(&build, &[dev.theirs.as_fd(), terminals.as_fd()])?;

    // From here on both processes work. Nothing of the instance's runs before we say so, and it is then that the filter counts.
    stopwatch.step(Step::DeviceFilter, || {
        device_filter::install(cgroup, &dev_directory::rules(&found.nodes))
            .map_err(at(Step::DeviceFilter, &request.paths.cgroup))?;
        sync_devices::record(runtime, &found.nodes)
    })?;
    stopwatch.step(Step::Rlimits, || set_limits(request, born.pid))?;
    nics.wait(stopwatch)?;
    reporter.payload(born.pid, &born.pidfd, Some(&master))?;
    let executed = finish(born, stopwatch).map_err(|failure| image.explain(failure))?;
    stopwatch.add(&executed);
    reporter.started(stopwatch, &dev.ours, &root)
}

fn map_ids(request: &LaunchRequest, pid: i32) -> Result<Option<OwnedFd>, Failure> {
    let Some(count) = request.spec.security.id_count() else { return Ok(None) };
    let range = IdRange { inside: 0, outside: request.idmap_base, count };
    idmap::write_map(pid, &[range]).map_err(at(Step::IdMap, "uid_map"))?;
    Ok(Some(idmap::user_namespace_of(pid).map_err(at(Step::IdMap, "user namespace"))?))
}

fn find_devices(request: &LaunchRequest) -> Result<devices::Found<'_>, Failure> {
    let found = devices::find(&request.spec.devices)?;
    match found.absent.iter().find(|device| device.required != Required::No) {
        // Waiting for it is init's affair: it hears of devices as they come.
        Some(device) => {
            let reason = "no such device is here now";
            Err(Failure::refused(Step::DeviceAbsent, &device.name, reason).until_device_comes())
        }
        None => Ok(found),
    }
}

/// The payload has made its namespaces, and of them the kernel's file systems.
fn hear_of_namespaces(nics: &mut Nics<'_>, born: &Born, stopwatch: &mut Stopwatch) -> Result<KernelMounts, Failure> {
    nics.ask(&born.channel, born.pid, stopwatch)?;
    show(Step::Namespaces);
    let Some(Received { message: FromPayload::Namespaces, descriptors }) =
        born.channel.receive_from_payload(Step::Namespaces)?
    else {
        return Err(lost(Step::Namespaces));
    };
    match <[OwnedFd; 3]>::try_from(descriptors) {
        Ok([proc, sys, cgroup]) => Ok(KernelMounts { proc, sys, cgroup }),
        Err(_) => Err(lost(Step::Namespaces)),
    }
}

/// Takes what an earlier start may have left on the cgroup, and gives the instance's root the right to make cgroups below
/// its own: cgroups(7), "Cgroups v2 delegation".
///
/// To pass controllers on to them is only for who has `security.nesting`. A group with the memory controller that is removed
/// while a page is still charged to it stays, and takes tens of KiB that no limit counts, nor does `cgroup.max.descendants`:
/// with 32 MB of such pages a machine's memory is gone. Without controllers a removed group is gone. What systemd then does
/// without are the limits that units set for themselves.
fn claim_cgroup(request: &LaunchRequest) -> Result<OwnedFd, Failure> {
    let path = &request.paths.cgroup;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(path.as_str(), flags, Mode::empty()).map_err(at(Step::Cgroup, path))?;
    // We are in it ourselves, and an old filter would keep loop devices and the like from us.
    device_filter::remove(&cgroup).map_err(at(Step::DeviceFilter, path))?;
    if !request.spec.security.privileged {
        let owner = (Some(Uid::from_raw(request.idmap_base)), Some(Gid::from_raw(request.idmap_base)));
        let files: &[&str] = match request.spec.security.nesting {
            false => &["", "cgroup.procs", "cgroup.threads"],
            true => &["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"],
        };
        for file in files {
            rustix::fs::chownat(&cgroup, *file, owner.0, owner.1, AtFlags::EMPTY_PATH)
                .map_err(at(Step::Cgroup, path))?;
        }
    }
    Ok(cgroup)
}

/// As the namespace's owner: a system that is a container itself may lack the privilege to change other users' limits.
fn set_limits(request: &LaunchRequest, pid: i32) -> Result<(), Failure> {
    set_effective_user(request.idmap_base)?;
    let outcome = resource_limits::set(request, pid);
    set_effective_user(0)?;
    outcome
}

fn set_effective_user(uid: u32) -> Result<(), Failure> {
    identity::set_effective_user(uid).map_err(at(Step::IdMap, "effective user"))
}

/// The payload may have failed long ago: this is where we hear of it.
fn finish(born: &Born, stopwatch: &mut Stopwatch) -> Result<PayloadSteps, Failure> {
    born.channel.send_to_payload(&FromLauncher::Exec, &[])?;
    // The payload says itself how long that took.
    show(Step::Mount);
    born.channel.wait_until_built()?;
    stopwatch.step(Step::Exec, || wait_for_exec(&born.channel))
}

/// The payload's last word, then the silence that says that its program runs.
pub(crate) fn wait_for_exec(channel: &PayloadChannel) -> Result<PayloadSteps, Failure> {
    let Some(Received { message: FromPayload::Executing(times), .. }) = channel.receive_from_payload(Step::Exec)?
    else {
        return Err(lost(Step::Exec));
    };
    match channel.receive_from_payload(Step::Exec)? {
        None => Ok(times),
        Some(_) => Err(lost(Step::Exec)),
    }
}
