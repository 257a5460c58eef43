//! What went wrong, in a form that travels: the step, the object, the kernel's answer, and a sentence for people.

use crate::names::{Text, clipped};
use serde::{Deserialize, Serialize};

/// One failure of one instance or request. It is kept as the instance's last failure and shown by `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which step of the start (or of the request) failed.
    pub step: Step,
    /// What it was done to: a path, an interface, a key.
    pub object: Text<200>,
    /// The kernel's error number, 0 where the kernel was not the one who refused.
    pub errno: i32,
    /// The reason in words: lower case, without a full stop.
    pub reason: Text<400>,
    /// Whether the same may succeed later. Whoever makes the failure says so: nobody else knows.
    pub retry: Retry,
}

/// Whether what failed may succeed when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Retry {
    /// It may.
    MayHelp,
    /// Not until somebody changes the image, the configuration or the system.
    InVain,
    /// Once the device is there.
    WhenDeviceComes,
}

impl Failure {
    /// A refusal of ours; trying again may help. Over-long texts are clipped.
    pub fn refused(step: Step, object: &str, reason: &str) -> Failure {
        Failure { step, object: clipped(object), errno: 0, reason: clipped(reason), retry: Retry::MayHelp }
    }

    /// The same failure, when trying again is in vain until somebody changes something.
    #[must_use]
    pub fn in_vain(self) -> Failure {
        Failure { retry: Retry::InVain, ..self }
    }

    /// The same failure, when a device must come first.
    #[must_use]
    pub fn until_device_comes(self) -> Failure {
        Failure { retry: Retry::WhenDeviceComes, ..self }
    }

    /// A refusal by the kernel; trying again may help. The reason is the error's own text.
    pub fn from_io(step: Step, object: &str, error: &std::io::Error) -> Failure {
        Failure {
            step,
            object: clipped(object),
            errno: error.raw_os_error().unwrap_or(0),
            reason: clipped(&error.to_string()),
            retry: Retry::MayHelp,
        }
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{}: {}: {}", self.step.name(), self.object, self.reason)
    }
}

impl std::error::Error for Failure {}

/// The named steps of a start, in about the order in which they are taken, and of the other requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Compiling or reading the spec.
    Spec,
    /// Making or moving into the control group.
    Cgroup,
    /// Writing a limit.
    Limits,
    /// Starting the launcher process.
    Launcher,
    /// Opening the image file.
    ImageOpen,
    /// The header: magic, version, lengths, fingerprint.
    ImageHeader,
    /// No sufficient valid signature by a trusted key.
    ImageSignature,
    /// The manifest does not match its digest in the header.
    ImageManifest,
    /// The image asks for a newer runtime than this one, or another architecture.
    ImageRequires,
    /// The hash tree does not match the root hash in the header.
    ImageTree,
    /// A payload block does not match the hash tree.
    ImagePayload,
    /// The loop device.
    Loop,
    /// The dm-verity device.
    Verity,
    /// Mounting the image's file system.
    ImageMount,
    /// The instance's writable layer.
    Layer,
    /// The overlay of image and layer.
    Overlay,
    /// Making the namespaces.
    Namespaces,
    /// The user namespace's id map, or an id-mapped mount.
    IdMap,
    /// Mounts inside the sandbox: /proc, /sys, /dev, bind mounts, masked paths.
    Mount,
    /// A declared device cannot be given.
    Device,
    /// A declared device is not there (now).
    DeviceAbsent,
    /// Network interfaces.
    Network,
    /// Host name.
    Hostname,
    /// Console pty.
    Console,
    /// Capabilities and no-new-privs.
    Capabilities,
    /// System call filter.
    Seccomp,
    /// eBPF device filter.
    DeviceFilter,
    /// Resource limits of the process.
    Rlimits,
    /// LSM label.
    Label,
    /// Executing the instance's init.
    Exec,
    /// Waiting for the instance's health.
    Health,
    /// The data partition.
    Data,
    /// The system image's slot.
    Slot,
    /// A kernel module.
    Module,
    /// A request to a running instance or to init itself.
    Request,
}

impl Step {
    /// The step's name as shown to people and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Step::Spec => "spec",
            Step::Cgroup => "cgroup",
            Step::Limits => "limits",
            Step::Launcher => "launcher",
            Step::ImageOpen => "image-open",
            Step::ImageHeader => "image-header",
            Step::ImageSignature => "image-signature",
            Step::ImageManifest => "image-manifest",
            Step::ImageRequires => "image-requires",
            Step::ImageTree => "image-tree",
            Step::ImagePayload => "image-payload",
            Step::Loop => "loop",
            Step::Verity => "verity",
            Step::ImageMount => "image-mount",
            Step::Layer => "layer",
            Step::Overlay => "overlay",
            Step::Namespaces => "namespaces",
            Step::IdMap => "idmap",
            Step::Mount => "mount",
            Step::Device => "device",
            Step::DeviceAbsent => "device-absent",
            Step::Network => "network",
            Step::Hostname => "hostname",
            Step::Console => "console",
            Step::Capabilities => "capabilities",
            Step::Seccomp => "seccomp",
            Step::DeviceFilter => "device-filter",
            Step::Rlimits => "rlimits",
            Step::Label => "label",
            Step::Exec => "exec",
            Step::Health => "health",
            Step::Data => "data",
            Step::Slot => "slot",
            Step::Module => "module",
            Step::Request => "request",
        }
    }
}
