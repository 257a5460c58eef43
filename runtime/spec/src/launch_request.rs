//! What init hands the launcher on a descriptor: the spec, and where things are on this machine now.

use crate::file::SCHEMA;
use crate::file_identity::FileIdentity;
use crate::instance::InstanceSpec;
use serde::{Deserialize, Serialize};
use yado_wire::{InstanceId, RunNumber};

/// What the launcher is to do, and with what. In a memfd: [`VERSION`] and the spec's [`SCHEMA`](crate::file::SCHEMA), four bytes
/// each, little endian, then postcard. On a board init and the launcher are of one image. Hosted, an init that still runs may start the
/// launcher of a newer release, which refuses a request that is not of its own form instead of misreading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Which instance: its layer, group and directory bear this number.
    pub id: InstanceId,
    /// What it is: complete, so that the launcher reads no configuration.
    pub spec: InstanceSpec,
    /// Where things are on this machine, which the spec does not know.
    pub paths: LaunchPaths,
    /// First host id of the instance's user namespace; id 0 inside is this one outside. 0 when privileged.
    pub idmap_base: u32,
    /// Which run of the instance this is; netd is told.
    pub run: RunNumber,
    /// When the image is verified.
    pub verify: Verify,
    /// `Run`: a mount of the image from an earlier start lies on [`IMAGE_FD`], good for this file only.
    pub cached_image: Option<FileIdentity>,
    /// What to do.
    pub task: LaunchTask,
}

/// The longest request. The spec is bounded by its file, and the rest is paths and one command.
pub const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// Rises whenever the bytes of a request change, except for those of the spec.
pub const VERSION: u32 = 2;

impl LaunchRequest {
    /// The request as the bytes of a memfd. `None`: over [`MAX_REQUEST_BYTES`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let bytes = postcard::to_extend(self, header().to_vec()).ok()?;
        (bytes.len() <= MAX_REQUEST_BYTES).then_some(bytes)
    }

    /// Reads a request. `None`: it is of another form, or these are not the bytes of exactly one request.
    pub fn decode(bytes: &[u8]) -> Option<LaunchRequest> {
        match postcard::take_from_bytes(bytes.strip_prefix(&header())?) {
            Ok((request, [])) if bytes.len() <= MAX_REQUEST_BYTES => Some(request),
            Ok((_, _)) | Err(_) => None,
        }
    }
}

fn header() -> [u8; 8] {
    let [a, b, c, d] = VERSION.to_le_bytes();
    let [e, f, g, h] = SCHEMA.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Where things are on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPaths {
    /// The image file or block device.
    pub image: String,
    /// Directory of trusted public keys (`*.pub`).
    pub trust: String,
    /// The instance's writable layer on the data partition: `upper/` and `work/` are made in it.
    pub layer: String,
    /// A directory on tmpfs of this instance's own: mount points, and init's socket [`NOTIFY_SOCKET_NAME`].
    pub runtime: String,
    /// The instance's group as an absolute path; init has made it and written its limits.
    pub cgroup: String,
    /// netd's socket; `None`: there is no netd, and an instance with nics cannot start.
    pub netd: Option<String>,
}

/// When an image's bytes are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verify {
    /// dm-verity: each block when it is read. The only value on an appliance.
    Block,
    /// The whole image before it is mounted, and again when its file was changed: hosted, where the kernel has no
    /// device-mapper and policy says so.
    Start,
}

/// What the launcher is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchTask {
    /// Build the sandbox and exec the instance's init.
    Run,
    /// Run a command in the running instance. The command's stdin, stdout and stderr are the launcher's own.
    Exec(Command),
    /// Try the running instance's probe once.
    Probe,
    /// Make the running instance's device nodes and device filter what spec and sysfs say now.
    Devices,
}

/// A command in a running instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; none: the user's own shell.
    pub argv: Vec<String>,
    /// `NAME=value`, added to the instance's environment.
    pub environment: Vec<String>,
    /// Working directory inside; `None`: `$HOME` if it is there.
    pub cwd: Option<String>,
    /// Who runs it.
    pub user: CommandUser,
}

/// Who a command inside runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandUser {
    /// These ids, in no other groups.
    Ids {
        /// User id inside.
        uid: u32,
        /// Group id inside.
        gid: u32,
    },
    /// One of the instance's own `/etc/passwd`, in all its groups.
    Name {
        /// As there.
        name: String,
        /// Another first group than there.
        gid: Option<u32>,
    },
}

impl Default for CommandUser {
    fn default() -> CommandUser {
        CommandUser::Ids { uid: 0, gid: 0 }
    }
}

/// In [`LaunchPaths::runtime`], the socket on which init hears what the instance notifies it of (sd_notify(3)).
pub const NOTIFY_SOCKET_NAME: &str = "notify";
/// In [`LaunchPaths::runtime`], the file that an instance with `security.update_lock` locks to delay the reboot of an update.
pub const UPDATE_LOCK_NAME: &str = "update-lock";
/// The descriptor on which the launcher finds its request (a sealed memfd).
pub const REQUEST_FD: i32 = 3;
/// The descriptor on which the launcher reports (`SOCK_SEQPACKET`).
pub const REPORT_FD: i32 = 4;
/// The descriptor of the pidfd of the running instance's first process (`Exec`, `Probe`).
pub const PAYLOAD_FD: i32 = 5;
/// The descriptor of the mount of the running instance's `/dev` that came with the report of its start (`Devices`).
pub const DEV_FD: i32 = 6;
/// The descriptor of the image's mount from an earlier start (`Run`, where the request says so).
pub const IMAGE_FD: i32 = 7;
