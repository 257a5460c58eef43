//! A web server on this machine's loopback that serves a directory: Debian's nginx, which nobody of ours wrote. The board reaches
//! it as [`crate::board::outside::ADDRESS`].

use crate::board::BuildError;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It listens within milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A server that lives as long as the value.
#[derive(Debug)]
pub(super) struct WebServer {
    child: Child,
    port: u16,
    access_log: PathBuf,
}

impl WebServer {
    /// Serves what is in `root`; its own files go to `directory`.
    pub(super) fn start(root: &Path, directory: &Path) -> Result<WebServer, BuildError> {
        fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
        let port = free_port().map_err(BuildError::io(directory))?;
        let (configuration, access_log) = (directory.join("nginx.conf"), directory.join("access.log"));
        let temporary = |name: &str| format!("{name}_temp_path {};", directory.join(name).display());
        let text = format!(
            "daemon off;\nmaster_process off;\npid {pid};\nerror_log {errors};\nevents {{}}\nhttp {{\n\
             access_log {access};\ndefault_type application/octet-stream;\n{temporary}\n\
             server {{\nlisten 127.0.0.1:{port};\nroot {root};\n}}\n}}\n",
            pid = directory.join("nginx.pid").display(),
            errors = directory.join("error.log").display(),
            access = access_log.display(),
            temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary).join("\n"),
            root = root.display(),
        );
        fs::write(&configuration, text).map_err(BuildError::io(&configuration))?;
        // setpriv(1) has the kernel end it when we are killed without a chance to do it ourselves.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nginx", "-e"])
            .arg(directory.join("error.log"))
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .spawn()
            .map_err(BuildError::io(Path::new("nginx")))?;
        let server = WebServer { child, port, access_log };
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(refused) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            if deadline <= Instant::now() {
                return Err(BuildError::io(&directory.join("error.log"))(refused));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Of loopback's.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What was asked for since it was started: one line each, as nginx writes them.
    pub(super) fn requests(&self) -> String {
        fs::read_to_string(&self.access_log).unwrap_or_default()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // Already ended is fine; there is nobody to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free now; nobody else on this machine's loopback asks for one just then.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
