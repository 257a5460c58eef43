//! One signed busybox image, a key, and a place for instances; removed at the end.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use yado_image::manifest::Manifest;
use yado_image::pack::{self, BuildOptions, Source};
use yado_image::secret::SecretKey;
use yado_image::{Architecture, ImageKind, erofs};
use yado_spec::instance::{
    Boot, Health, InstanceSpec, Limits, Readiness, Restart, RestartPolicy, RootSpec, Security, StopMethod,
};
use yado_spec::launch_request::{LaunchPaths, LaunchRequest, LaunchTask, Verify};
use yado_wire::{InstanceId, InstanceName, RunNumber};

/// Host id of root inside.
pub(crate) const BASE: u32 = 1_000_000;
const BUSYBOX: &str = "/bin/busybox";

/// Why these tests cannot run here.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if cgroup2().is_none() {
        return Some("needs a cgroup2 mount".to_owned());
    }
    // The file system of the image has no libraries.
    if !fs::read(BUSYBOX).is_ok_and(|program| program.windows(6).all(|part| part != b"/ld-li" && part != b"/ld-mu")) {
        return Some("needs a static busybox in /bin (package busybox-static)".to_owned());
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
    let absent = ["erofs", "overlay"].into_iter().find(|name| !filesystems.contains(*name));
    absent.map(|name| format!("this kernel has no {name} (or its module is not loaded)"))
}

/// Block by block where the kernel has device-mapper. That its node exists says nothing: tools of device-mapper make it where it is
/// missing. Opening it also loads the module.
pub(crate) fn verify() -> Verify {
    if File::open("/dev/mapper/control").is_ok() { Verify::Block } else { Verify::Start }
}

/// Where cgroup2 is mounted.
fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .and_then(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
}

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    cgroup: PathBuf,
    /// The same, whatever is mounted over the path meanwhile.
    cgroup_itself: File,
    fingerprint: [u8; 32],
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let directory = TempDir::new().unwrap();
        let cgroup = cgroup2().unwrap().join(format!("yado-launcher-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let cgroup_itself = File::open(&cgroup).unwrap();
        let key = key(7);
        let trust = directory.path().join("trust");
        fs::create_dir(&trust).unwrap();
        fs::write(trust.join("test.pub"), key.public().to_text()).unwrap();
        make_root(&directory.path().join("root"));
        let fingerprint = build_image(directory.path(), "image", 7);
        Fixture { directory, cgroup, cgroup_itself, fingerprint }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The root from which the image was made, for others to run.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// A request to run `command` in a new instance of this name. Its cgroup and directories exist.
    pub(crate) fn request(&self, name: &str, command: &[&str]) -> LaunchRequest {
        let (runtime, layer) = (self.path(&format!("run-{name}")), self.path(&format!("layer-{name}")));
        let cgroup = self.cgroup.join(name);
        for directory in [&runtime, &cgroup] {
            fs::create_dir_all(directory).unwrap();
        }
        // As init makes it: nobody but the system's root has a way through it.
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        LaunchRequest {
            id: InstanceId(1),
            spec: spec(name, self.fingerprint, command),
            paths: LaunchPaths {
                image: text(&self.path("image")),
                trust: text(&self.path("trust")),
                layer: text(&layer),
                runtime: text(&runtime),
                cgroup: text(&cgroup),
                netd: None,
            },
            idmap_base: BASE,
            run: RunNumber(7_000_000),
            verify: verify(),
            cached_image: None,
            task: LaunchTask::Run,
        }
    }

    /// Block devices that stand for files of ours.
    pub(crate) fn devices(&self) -> Vec<String> {
        let below = |entry: &Path, file: &str| fs::read_to_string(entry.join(file)).unwrap_or_default();
        // The launcher opened it in a mount namespace that is gone, so the kernel shows only the end of the path.
        let directory = self.directory.path().file_name().unwrap().to_str().unwrap();
        let is_ours = |entry: &PathBuf| {
            below(entry, "loop/backing_file").contains(directory) || below(entry, "dm/name").starts_with("yado-")
        };
        let entries = fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
        entries.filter(is_ours).map(|entry| entry.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    /// The kernel removes devices soon after their last user is gone. Gives those that stay.
    pub(crate) fn devices_that_stay(&self) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(5);
        while !self.devices().is_empty() && Instant::now() < until {
            std::thread::yield_now();
        }
        self.devices()
    }

    pub(crate) fn cgroup_of(request: &LaunchRequest) -> File {
        File::open(&request.paths.cgroup).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let itself = PathBuf::from(format!("/proc/self/fd/{}", self.cgroup_itself.as_raw_fd()));
        for child in fs::read_dir(&itself).into_iter().flatten().flatten() {
            remove_cgroup(&child.path());
        }
        let parent = itself.join("..").join(self.cgroup.file_name().unwrap());
        drop(fs::remove_dir(parent));
    }
}

/// Kills what is in it and removes it as soon as the kernel lets us; gives up rather than to hang.
fn remove_cgroup(path: &Path) {
    drop(fs::write(path.join("cgroup.kill"), "1"));
    // What systemd made in it stays when systemd is gone.
    for child in fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&child.path());
    }
    let until = Instant::now() + Duration::from_secs(5);
    while path.is_dir() && fs::remove_dir(path).is_err() && Instant::now() < until {
        std::thread::yield_now();
    }
}

fn make_root(root: &Path) {
    for directory in ["bin", "dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let applets = [
        "sh", "true", "cat", "ls", "ln", "id", "mount", "umount", "sleep", "stat", "hostname", "grep", "touch", "ip",
        "cp",
    ];
    for applet in applets {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
}

/// A signing key made from one number.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32], "test")
}

/// Builds an image of the fixture's root under this name, signed by the key made from this number; 7 is trusted.
pub(crate) fn build_image(directory: &Path, name: &str, seed: u8) -> [u8; 32] {
    let source = Source::Directory(directory.join("root"));
    image_of(source, erofs::Owners::All { uid: 0, gid: 0 }, &directory.join(name), seed)
}

/// Builds an image of a root of the test's own, signed by a key that is trusted.
pub(crate) fn build_image_of(root: &Path, output: &Path) -> [u8; 32] {
    image_of(Source::Directory(root.to_owned()), erofs::Owners::All { uid: 0, gid: 0 }, output, 7)
}

/// Builds any image.
pub(crate) fn image_of(source: Source, owners: erofs::Owners, output: &Path, seed: u8) -> [u8; 32] {
    let architecture = Architecture::parse(std::env::consts::ARCH).unwrap();
    let options = BuildOptions {
        source,
        output: output.to_owned(),
        kind: ImageKind::Container,
        manifest: Manifest::new("test", architecture),
        security_epoch: 0,
        compression: erofs::Compression::None,
        threads: std::num::NonZeroUsize::MIN,
        owners,
        timestamp: Some(0),
        on_progress: |_| (),
        keys: vec![key(seed)],
    };
    pack::build(&options).unwrap().fingerprint
}

/// A spec with LXD's defaults.
fn spec(name: &str, image: [u8; 32], command: &[&str]) -> InstanceSpec {
    InstanceSpec {
        name: InstanceName::parse(name).unwrap(),
        image,
        init: command.iter().map(|part| (*part).to_owned()).collect(),
        image_stop_method: StopMethod::Signal(15),
        environment: vec![("FROM_SPEC".to_owned(), "yes".to_owned())],
        boot: Boot {
            autostart: true,
            delay: Duration::ZERO,
            priority: 0,
            after: vec![],
            shutdown_timeout: Duration::from_secs(30),
            stop_priority: 0,
            stop_method: None,
        },
        health: Health {
            ready: Readiness::Alive { window: Duration::from_secs(10) },
            probe: None,
            watchdog: None,
            required: true,
        },
        restart: Restart {
            policy: RestartPolicy::Never,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            attempts: 5,
        },
        limits: Limits::default(),
        security: Security::default(),
        nics: vec![],
        root: RootSpec::default(),
        disks: vec![],
        devices: vec![],
    }
}
