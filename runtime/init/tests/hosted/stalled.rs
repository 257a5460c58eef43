//! A file system of which nothing is ever answered, as of a server that hangs: FUSE, with this process as the server. Who has
//! asked it for something cannot even be killed, until the connection is closed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use yado_sys::mount::{self, Attributes, FsOption};
use yado_sys::packet;
use yado_sys::poll::{Interest, PollSet};

/// `FUSE_INIT`, the one request that is answered.
const INIT: u32 = 26;

/// The file system, until it is dropped.
pub(crate) struct Stalled {
    directory: PathBuf,
    is_over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Stalled {
    /// Mounts it on a new directory in the mount namespace of this process, which a process started from now on has a copy
    /// of. `None`: this kernel has no FUSE, which was printed.
    pub(crate) fn at(directory: &Path) -> Option<Stalled> {
        let Ok(connection) = File::options().read(true).write(true).open("/dev/fuse") else {
            println!("SKIPPED: no /dev/fuse");
            return None;
        };
        fs::create_dir(directory).unwrap();
        let fd = connection.as_raw_fd().to_string();
        let options = [
            FsOption::Value("source", "stalled"),
            FsOption::Value("fd", &fd),
            FsOption::Value("rootmode", "40000"),
            FsOption::Value("user_id", "0"),
            FsOption::Value("group_id", "0"),
            FsOption::Flag("allow_other"),
        ];
        let mounted = mount::new_file_system("fuse", &options, Attributes::empty()).unwrap();
        mount::attach_at(&mounted, directory).unwrap();
        packet::set_nonblocking(&connection).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let server = std::thread::spawn({
            let is_over = is_over.clone();
            move || serve(connection, &is_over)
        });
        Some(Stalled { directory: directory.to_owned(), is_over, server: Some(server) })
    }
}

impl Drop for Stalled {
    /// With its last descriptor the connection ends, and every request fails.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.server.take().unwrap().join().unwrap();
        assert!(Command::new("umount").arg("--lazy").arg(&self.directory).status().unwrap().success());
    }
}

/// A request that was read can no longer be taken back by a signal.
fn serve(mut connection: File, is_over: &AtomicBool) {
    let mut request = vec![0; 1 << 18];
    let mut set = PollSet::default();
    while !is_over.load(Ordering::Relaxed) {
        set.clear();
        set.add(&connection, Interest::Read);
        set.wait(Some(Duration::from_millis(20))).unwrap();
        let Ok(len) = connection.read(&mut request) else { continue };
        // struct fuse_in_header: length, opcode, unique.
        let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        if 16 <= len && opcode == INIT {
            let mut answer = vec![0; 16 + 64];
            answer[..4].copy_from_slice(&80u32.to_ne_bytes());
            answer[8..16].copy_from_slice(&request[8..16]);
            // struct fuse_init_out: major 7, minor 31, read-ahead, flags, two counts, and the longest write.
            answer[16..20].copy_from_slice(&7u32.to_ne_bytes());
            answer[20..24].copy_from_slice(&31u32.to_ne_bytes());
            answer[36..40].copy_from_slice(&4096u32.to_ne_bytes());
            connection.write_all(&answer).unwrap();
        }
    }
}
