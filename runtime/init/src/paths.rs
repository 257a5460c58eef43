//! Paths of this machine: as PID 1, and below one directory when hosted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_spec::launch_request::Verify;
use yado_wire::InstanceId;
use yado_wire::rescue::Mode;

/// The longest time that a system can allow a start, in seconds: what hangs is noticed in the end.
const MAX_START_S: u64 = 3600;

/// Directories and programs. All that is below them has a function here.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// What comes with the system image: appliance, images, specs, trust.
    pub(crate) system: PathBuf,
    /// Where the data partition is mounted.
    pub(crate) data: PathBuf,
    /// What is gone with the next start.
    pub(crate) run: PathBuf,
    /// Where instances have their runtime directories.
    pub(crate) runtimes: PathBuf,
    /// The control group that holds one group per instance.
    pub(crate) groups: PathBuf,
    /// The control group that holds one group per service.
    pub(crate) service_groups: PathBuf,
    /// The control group of the updater.
    pub(crate) updater_group: PathBuf,
    /// The binary `yado`: launcher, compiler and command.
    pub(crate) yado: PathBuf,
    /// Whether we are PID 1.
    pub(crate) mode: Mode,
    verify: Verify,
}

impl Paths {
    /// PID 1's.
    pub(crate) fn of_system() -> Paths {
        Paths {
            system: PathBuf::from("/usr/lib/yado"),
            data: PathBuf::from("/data"),
            run: PathBuf::from("/run/yado"),
            runtimes: PathBuf::from("/run/yado/instances"),
            groups: PathBuf::from("/sys/fs/cgroup/instances"),
            service_groups: PathBuf::from("/sys/fs/cgroup/services"),
            updater_group: PathBuf::from("/sys/fs/cgroup/updater"),
            yado: yado_binary(),
            mode: Mode::System,
            verify: Verify::Block,
        }
    }

    /// Below `directory`, with groups below `groups` and runtime directories below `runtimes`.
    pub(crate) fn of_host(directory: &Path, groups: PathBuf, runtimes: PathBuf, verify: Verify) -> Paths {
        Paths {
            system: directory.join("system"),
            data: directory.join("data"),
            run: directory.join("run"),
            runtimes,
            service_groups: service_groups(&groups),
            updater_group: updater_group(&groups),
            groups,
            yado: yado_binary(),
            mode: Mode::Hosted,
            verify,
        }
    }

    /// When images are verified. Only a host may ask for less than each block.
    pub(crate) fn verify(&self) -> Verify {
        self.verify
    }

    /// Where the system's builder says whether instances may be privileged. It comes with the system image, which is
    /// verified, and not with the data partition, where instances can be added.
    pub(crate) fn privileged(&self) -> PathBuf {
        self.system.join("privileged")
    }

    /// Whether instances may be privileged.
    pub(crate) fn allows_privileged(&self) -> bool {
        fs::read_to_string(self.privileged()).is_ok_and(|word| word.trim() == "allow")
    }

    /// How long a start may take, where the system's builder says that in seconds.
    pub(crate) fn start_timeout(&self) -> Option<Duration> {
        let seconds = fs::read_to_string(self.system.join("start-timeout")).ok()?.trim().parse().ok()?;
        (1..=MAX_START_S).contains(&seconds).then(|| Duration::from_secs(seconds))
    }

    /// Our socket for requests.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join("init.sock")
    }

    /// netd's socket.
    pub(crate) fn netd_socket(&self) -> PathBuf {
        self.run.join("netd.sock")
    }

    /// The trusted keys of system and data together.
    pub(crate) fn trust(&self) -> PathBuf {
        self.run.join("trust")
    }

    /// The directory of the specs that the compiler wrote since the boot.
    pub(crate) fn specs(&self) -> PathBuf {
        self.run.join("specs")
    }

    /// The image of this fingerprint, if it is here. One of the system image's, which is verified, goes before one on the data
    /// partition.
    pub(crate) fn image(&self, fingerprint: &[u8; 32]) -> Option<PathBuf> {
        let relative = Path::new("images").join(yado_wire::hex::encode(fingerprint)).join("image");
        [&self.system, &self.data].map(|place| place.join(&relative)).into_iter().find(|path| path.exists())
    }

    /// An instance's own runtime directory. `directory_name`: [`Instance::directory_name`](crate::instance::Instance::directory_name).
    pub(crate) fn runtime(&self, directory_name: &str) -> PathBuf {
        self.runtimes.join(directory_name)
    }

    pub(crate) fn group(&self, directory_name: &str) -> PathBuf {
        self.groups.join(directory_name)
    }

    /// Where the writable layers of instances are.
    pub(crate) fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    pub(crate) fn layer(&self, id: InstanceId) -> PathBuf {
        self.layers().join(id.to_string())
    }

    /// The ids of instances, and which ids of the host each has.
    pub(crate) fn identities(&self) -> PathBuf {
        self.state().join("ids")
    }

    /// What is remembered for the next start.
    pub(crate) fn state(&self) -> PathBuf {
        self.data.join("state")
    }
}

/// On a host: beside the group for instances.
pub(crate) fn service_groups(groups: &Path) -> PathBuf {
    groups.with_extension("services")
}

/// The same for the updater's.
pub(crate) fn updater_group(groups: &Path) -> PathBuf {
    groups.with_extension("updater")
}

/// What a host says by one word in this file of when images are verified; without the file, each block.
pub(crate) fn read_verify(path: &Path) -> io::Result<Verify> {
    match fs::read_to_string(path) {
        Ok(text) => match text.trim() {
            "start" => Ok(Verify::Start),
            "block" => Ok(Verify::Block),
            _ => Err(io::Error::other("expected start or block")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Verify::Block),
        Err(error) => Err(error),
    }
}

/// The other binary: beside ours if it is there, as in a build directory, else where the image has it.
fn yado_binary() -> PathBuf {
    let beside = fs::read_link("/proc/self/exe").ok().map(|own| own.with_file_name("yado"));
    match beside {
        Some(path) if path.exists() => path,
        Some(_) | None => PathBuf::from("/usr/bin/yado"),
    }
}
