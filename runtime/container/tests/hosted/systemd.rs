//! A whole Debian: systemd comes up to its default target, says so, and powers off when asked. Only where a root file system
//! is given, as `cargo accept` does: `YADO_TEST_DEBIAN=root.tar` (`mmdebstrap --variant=minbase
//! --include=systemd,systemd-sysv,dbus bookworm root.tar`).

use crate::fixture::{Fixture, image_of};
use crate::init_role::{Payload, exec, launch, wait};
use std::fs::Permissions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use yado_image::erofs::Owners;
use yado_image::pack::Source;
use yado_sys::children::{self, Ended};

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[("debian_comes_up_says_so_and_powers_off", debian)];

/// On a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// systemd(1): SIGRTMIN+4 starts poweroff.target.
const POWER_OFF: u8 = 38;
/// What the kernel makes of a pid namespace whose init asks for power off: reboot(2).
const POWERED_OFF: Ended = Ended::Signal(2);

fn debian(fixture: &Fixture) {
    let Some(tar) = std::env::var_os("YADO_TEST_DEBIAN") else {
        println!("SKIPPED: YADO_TEST_DEBIAN names no root.tar");
        return;
    };
    let mut request = fixture.request("debian", &["/sbin/init"]);
    let source = Source::Tar(Path::new(&tar).to_owned());
    request.spec.image = image_of(source, Owners::Kept, &fixture.path("debian-image"), 7);
    request.paths.image = fixture.path("debian-image").to_str().unwrap().to_owned();
    let socket_path = format!("{}/notify", request.paths.runtime);
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    std::fs::set_permissions(&socket_path, Permissions::from_mode(0o666)).unwrap();
    let mut payload = launch(&request).unwrap_or_else(|failure| panic!("{failure}"));
    let said = wait_until_ready(&socket, &mut payload);
    println!("  said {said:?}");

    let (_, state) = exec(&request, &payload, &["systemctl", "is-system-running"]).unwrap();
    let (_, failed) = exec(&request, &payload, &["systemctl", "--failed", "--no-legend", "--plain"]).unwrap();
    let (_, virtualisation) = exec(&request, &payload, &["systemd-detect-virt"]).unwrap();
    println!("  {} {} {}", state.trim(), virtualisation.trim(), failed.trim());
    assert_eq!((failed.as_str(), virtualisation.trim()), ("", "lxc"), "{state}");
    children::send_signal(payload.pidfd.as_fd(), POWER_OFF).unwrap();
    assert_eq!(wait(payload.pid, &payload.pidfd), POWERED_OFF);
}

fn wait_until_ready(socket: &UnixDatagram, payload: &mut Payload) -> Vec<String> {
    let console = payload.console.as_mut().unwrap();
    rustix::io::ioctl_fionbio(&*console, true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut said, mut output, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        // systemd writes to its console and would wait for somebody to read it.
        while let Ok(len @ 1..) = console.read(&mut buffer) {
            output.extend_from_slice(&buffer[..len]);
        }
        if let Ok(len) = socket.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let is_ready = message.lines().any(|line| line == "READY=1");
            said.push(message);
            if is_ready {
                return said;
            }
        }
    }
    panic!("not ready; it said {said:?}; its console: {}", String::from_utf8_lossy(&output));
}
