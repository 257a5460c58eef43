//! Hosted: the same supervisor as an ordinary root daemon, with its state below one directory. It mounts nothing, loads
//! nothing, and never ends the machine.

use crate::instance::cgroup;
use crate::log::{Log, Priority};
use crate::open_file_limit;
use crate::paths::{Paths, read_verify, service_groups, updater_group};
use crate::runtime_directories;
use crate::supervisor::Supervisor;
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_spec::launch_request::Verify;
use yado_sys::{children, identity, idmap, signals};
use yado_wire::hash::fnv32;

/// Runs until a signal ends it.
pub(crate) fn run(directory: &Path) -> ExitCode {
    signals::stop_ignoring();
    let mut log = Log::of_host();
    if !identity::is_root() {
        log.say(Priority::Error, format_args!("a hosted init needs root: run it as root"));
        return ExitCode::FAILURE;
    }
    if !idmap::is_in_first_namespace() {
        let reason = "a hosted init needs the machine's first user namespace and is in a user namespace below it, where the kernel \
                      mounts no image and takes no device filter; in an instance: security.privileged, security.nesting, and \
                      security.syscalls.deny_default = false";
        log.say(Priority::Error, format_args!("{reason}"));
        return ExitCode::FAILURE;
    }
    open_file_limit::raise_limit(&mut log);
    let directory = match fs::canonicalize(directory) {
        Ok(directory) => directory,
        Err(error) => {
            log.say(Priority::Error, format_args!("{}: {error}", directory.display()));
            return ExitCode::FAILURE;
        }
    };
    let groups = match make_groups(&directory) {
        Ok(groups) => groups,
        Err((path, error)) => {
            log.say(Priority::Error, format_args!("control groups: {}: {error}", path.display()));
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = children::become_subreaper() {
        log.say(Priority::Error, format_args!("become a subreaper: {error}"));
        return ExitCode::FAILURE;
    }
    let verify_file = directory.join("system/verify");
    let verify = read_verify(&verify_file);
    let runtimes = runtime_directories::make(&directory, Path::new("/run"));
    let paths = Paths::of_host(&directory, groups, runtimes, *verify.as_ref().unwrap_or(&Verify::Block));
    // As on a board, where it is on tmpfs: what was compiled for the last run is not asked whether it still holds.
    let _ = fs::remove_dir_all(paths.specs());
    match Supervisor::new(paths, log) {
        Ok(supervisor) => {
            // What it holds is closed by the exit of this process, which waits for no socket that lingers (`inet_release()` asks for
            // PF_EXITING): to drop it would close here what no closer has taken yet.
            let mut supervisor = ManuallyDrop::new(supervisor);
            if let Err(error) = verify {
                let at = verify_file.display();
                supervisor.log.say(Priority::Error, format_args!("{at}: {error}; images are verified at each block"));
            }
            let crate::supervisor::Finished = supervisor.run();
            ExitCode::SUCCESS
        }
        Err(()) => ExitCode::FAILURE,
    }
}

/// The group for instances, below our own if we are alone in it (a service with `Delegate=`), else below the root: on a
/// host, root may. Its name comes from the directory, so what a predecessor left is found and cleared away.
fn make_groups(directory: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = find_cgroup2(&mounts) else {
        return Err((PathBuf::from("/proc/self/mountinfo"), io::Error::other("no cgroup2 file system is mounted")));
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("").to_owned();
    let name = format!("yado-{:08x}", fnv32(directory.as_os_str().as_encoded_bytes().iter().copied()));
    let own = mount.join(own);
    let is_alone = own != mount
        && fs::read_to_string(own.join("cgroup.procs"))
            .is_ok_and(|list| list.trim() == std::process::id().to_string());
    let parent = if is_alone { own } else { mount };
    let groups = parent.join(name);
    let at = |error| (groups.clone(), error);
    cgroup::clear_away(&groups);
    cgroup::clear_away(&service_groups(&groups));
    cgroup::clear_away(&updater_group(&groups));
    match fs::create_dir(&groups) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(error)),
        Ok(()) | Err(_) => {}
    }
    if is_alone {
        // A group with processes of its own gives no controllers to its children.
        let leaf = parent.join("init");
        let _ = fs::create_dir(&leaf);
        let _ = fs::write(leaf.join("cgroup.procs"), "0");
    }
    cgroup::enable_controllers(&parent);
    cgroup::enable_controllers(&groups);
    cgroup::bound_all(&groups);
    Ok(groups)
}

/// Where cgroup2 is mounted. A line of mountinfo ends in ` - TYPE SOURCE OPTIONS`, and its fifth field is the mount point.
fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| fields.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn a_mount_point_in_any_text_stands_in_a_line_of_cgroup2() {
        let seed = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        fuzz("mountinfo", &[seed.to_vec()], &[" - ", "cgroup2 ", " ", "\n"], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Some(point) = find_cgroup2(&text) {
                let point = point.to_string_lossy();
                assert!(text.lines().any(|line| line.contains(" - cgroup2 ") && line.contains(&*point)));
            }
        });
    }

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let unified = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_cgroup2(unified), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(find_cgroup2(""), None);
    }
}
