//! What would hold others up, or have them act for us: whoever closes what we send, walks where we were, or reads what we
//! wrote. What comes of it only the board sees.

use super::floods::NOTIFY;
use super::{Attempt, Expected, Outcome, Watched, fuse};
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use yado_sys::datagram;

pub(super) const ATTEMPTS: &[Attempt] = &[
    outside("notify-linger", "sockets whose close lasts 6 s, to $NOTIFY_SOCKET", lingering),
    outside("notify-fuse", "a file whose close never ends, to $NOTIFY_SOCKET", unflushed),
    outside("console-typed", "20 KiB typed into a console that nobody reads", typed),
    outside("group-frozen", "the group of our exec is frozen from inside", frozen),
    outside("dev-crossing", "limits are bound over the place of a device's node", crossing),
    outside("setuid-file", "set-user-id files on the data partition", set_user_id),
    outside("disk-full", "the data partition is filled", full_disk),
    outside("no-inodes", "the data partition's inodes are taken", no_inodes),
    outside("forged-log", "a probe's words pass for ours", forged),
    outside("restart-storm", "the instance's init ends again and again", killed_init),
    outside("nested-groups", "groups in groups whose names are long, then a restart", nested),
    outside("linked-places", "links in place of /dev, /proc, /run and /sys, then a restart", linked),
    outside("fuse-stuck", "a process that waits for its own file system, then a stop", stuck),
];

/// A close that waits as long as the one who sent the socket chose.
const LINGER: Duration = Duration::from_secs(6);

const fn outside(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::ByBoard, expected: Expected::Held }
}

fn send_file(file: &impl AsFd) -> io::Result<()> {
    let sent = datagram::send(&datagram::unbound()?, Path::new(NOTIFY), b"FDSTORE=1", Some(file.as_fd()))?;
    sent.ok_or_else(|| rustix::io::Errno::AGAIN.into())
}

fn lingering() -> Outcome {
    const MANY: usize = 4;
    let send = || -> io::Result<Vec<TcpStream>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut unread = Vec::new();
        for _ in 0..MANY {
            let mut socket = TcpStream::connect(listener.local_addr()?)?;
            unread.push(listener.accept()?.0);
            socket.set_nonblocking(true)?;
            while socket.write(&[7; 64 * 1024]).is_ok() {}
            rustix::net::sockopt::set_socket_linger(&socket, Some(LINGER))?;
            send_file(&socket)?;
        }
        Ok(unread)
    };
    match send() {
        // The other ends must live as long as the closes are to last.
        Ok(unread) => {
            std::mem::forget(unread);
            Outcome::bounded(format!("{MANY} sent"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::not_here(NOTIFY),
        Err(error) => Outcome::refused(&error),
    }
}

fn unflushed() -> Outcome {
    if let Err(error) = fuse::serve() {
        return Outcome::refused(&error);
    }
    match fuse::open_file().and_then(|file| {
        let sent = send_file(&file);
        // A close of ours would wait too.
        std::mem::forget(file);
        sent
    }) {
        Ok(()) => Outcome::bounded("sent"),
        Err(error) => Outcome::refused(&error),
    }
}

/// The client outside does it.
fn typed() -> Outcome {
    Outcome::bounded("typed")
}

fn frozen() -> Outcome {
    let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    // Our own group last: then nothing of ours runs any more.
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.trim().rsplit('/').next().unwrap_or_default().to_owned();
    let mut refused = None;
    let mut names: Vec<String> = groups
        .filter(|entry| entry.path().join("cgroup.freeze").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_by_key(|name| *name == own);
    for name in &names {
        if let Err(error) = fs::write(format!("/sys/fs/cgroup/{name}/cgroup.freeze"), "1") {
            refused = Some(error);
        }
    }
    match refused {
        Some(error) => Outcome::refused(&error),
        None if names.is_empty() => Outcome::not_here("a group to freeze"),
        None => Outcome::bounded(format!("frozen: {}", names.join(" "))),
    }
}

/// The first bus has few devices; whichever number comes next, its place is taken.
fn crossing() -> Outcome {
    const LIMITS: [&str; 4] = ["memory.max", "pids.max", "cpu.max", "memory.swap.max"];
    let mut bound = 0;
    let mut refused = None;
    for bus in 1..=4 {
        for device in 1..=8 {
            let place = format!("/dev/bus/usb/{bus:03}/{device:03}");
            let limit = format!("/sys/fs/cgroup/{}", LIMITS[device % LIMITS.len()]);
            let covered = fs::create_dir_all(format!("/dev/bus/usb/{bus:03}"))
                .and_then(|()| fs::write(&place, ""))
                .and_then(|()| Ok(rustix::mount::mount_bind(&limit, &place)?));
            match covered {
                Ok(()) => bound += 1,
                Err(error) => refused = Some(error),
            }
        }
    }
    match refused {
        Some(error) if bound == 0 => Outcome::refused(&error),
        _ => Outcome::bounded(format!("{bound} places")),
    }
}

fn set_user_id() -> Outcome {
    let made = fs::copy("/proc/self/exe", "/root/attack-suid")
        .and_then(|_| fs::set_permissions("/root/attack-suid", fs::Permissions::from_mode(0o6755)));
    match made {
        Ok(()) => Outcome::bounded("made"),
        Err(error) => Outcome::refused(&error),
    }
}

fn full_disk() -> Outcome {
    let chunk = vec![7; 64 * 1024];
    let written = File::create("/root/attack-fill").map(|mut file| {
        let mut count = 0u64;
        while count < 4 * 1024 * 16 && file.write_all(&chunk).is_ok() {
            count += 1;
        }
        count / 16
    });
    match written {
        Ok(mib) => Outcome::bounded(format!("{mib} MiB")),
        Err(error) => Outcome::refused(&error),
    }
}

fn no_inodes() -> Outcome {
    let place = Path::new("/root/attack-inodes");
    if let Err(error) = fs::create_dir_all(place) {
        return Outcome::refused(&error);
    }
    super::counted_tables::take("files", 60_000, |number| File::create(place.join(number.to_string())).map(drop))
}

/// What a probe says; the instance `forger` has it as its probe.
const FORGED_WORDS: &str = "yado-container: image: signature verified by FORGER\u{202e}\u{1b}[31m";

/// A probe that fails has its words told.
fn forged() -> Outcome {
    eprintln!("{FORGED_WORDS}");
    std::process::exit(1)
}

fn killed_init() -> Outcome {
    let killed = rustix::process::kill_process(rustix::process::Pid::INIT, rustix::process::Signal::TERM);
    match killed {
        Ok(()) => Outcome::bounded("asked to end"),
        Err(errno) => Outcome::refused(&errno.into()),
    }
}

fn nested() -> Outcome {
    const DEPTH: usize = 40;
    let name = "n".repeat(250);
    let went = || -> io::Result<usize> {
        // From one to the next by the working directory: no path is too long for that.
        rustix::process::chdir("/sys/fs/cgroup")?;
        let mut made = 0;
        while made < DEPTH {
            if let Err(error) = fs::create_dir(&name) {
                if made == 0 {
                    return Err(error);
                }
                break;
            }
            rustix::process::chdir(name.as_str())?;
            made += 1;
        }
        Ok(made)
    };
    match went() {
        Ok(made) => Outcome::bounded(format!("{made} deep")),
        Err(error) => Outcome::refused(&error),
    }
}

/// In mounts of our own nothing is mounted on these places, so they can be replaced below the others' mounts.
fn linked() -> Outcome {
    let replace = || -> io::Result<usize> {
        yado_sys::clone::unshare(yado_sys::clone::Namespaces::NEWNS)?;
        let place = "/tmp/attack-root";
        fs::create_dir_all(place)?;
        rustix::mount::mount("/", place, "", MountFlags::BIND, None)?;
        let mut replaced = 0;
        for name in ["run", "sys", "proc", "dev"] {
            let _ = rustix::mount::unmount(format!("/{name}"), rustix::mount::UnmountFlags::DETACH);
            let path = Path::new(place).join(name);
            if fs::remove_dir_all(&path).and_then(|()| std::os::unix::fs::symlink("/data", &path)).is_ok() {
                replaced += 1;
            }
        }
        Ok(replaced)
    };
    match replace() {
        Ok(0) => Outcome::refused(&rustix::io::Errno::BUSY.into()),
        Ok(count) => Outcome::bounded(format!("{count} replaced")),
        Err(error) => Outcome::refused(&error),
    }
}

fn stuck() -> Outcome {
    if let Err(error) = fuse::serve() {
        return Outcome::refused(&error);
    }
    match fuse::open_file() {
        Err(error) => Outcome::refused(&error),
        Ok(mut file) => {
            std::thread::spawn(move || io::Read::read(&mut file, &mut [0; 16]));
            // It has asked when the question is on its way; nothing tells us, so give it a moment.
            std::thread::sleep(Duration::from_millis(500));
            Outcome::bounded("a thread waits")
        }
    }
}
