//! Memory of the kernel's that the instance's own group is not charged for, or might not be: the outside looks at how much of
//! the machine's goes.

use super::counted_tables::{namespaces, raise_own_descriptors, take};
use super::whole_memory::filled_queue;
use super::{Attempt, Expected, Outcome, Watched};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::hostile;

pub(super) const ATTEMPTS: &[Attempt] = &[
    memory("netlink-queues", "queues of netlink sockets are filled", netlink_queues),
    memory("packet-rings", "rings for packets are made", packet_rings),
    memory("net-namespaces", "network namespaces are made", network_namespaces),
    memory("mount-namespaces", "mount namespaces are made", mount_namespaces),
    memory("groups", "control groups are made", groups),
    memory("dying-groups", "control groups are left that cannot die", dying_groups),
    memory("psi-triggers", "pressure triggers are set, a kernel thread each", triggers),
    memory("pipes", "pipes are made and filled", pipes),
    memory("unix-queues", "queues of local sockets are filled", unix_queues),
    memory("udp-queues", "queues of UDP sockets are filled", udp_queues),
    memory("dentries", "names that do not exist are looked up", directories),
];

/// So many of anything are enough to see it.
const MAX: usize = 4096;

const fn memory(name: &'static str, what: &'static str, run: fn() -> Outcome) -> Attempt {
    Attempt { name, what, run, watched: Watched::InMemory, expected: Expected::Held }
}

fn netlink_queues() -> Outcome {
    raise_own_descriptors();
    take("queues", 64, |_| filled_queue(0))
}

fn packet_rings() -> Outcome {
    const LEVEL_PACKET: i32 = 263;
    const RECEIVE_RING: i32 = 5;
    raise_own_descriptors();
    take("rings of 8 MiB", 64, |_| {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        // struct tpacket_req: bytes of a block, blocks, bytes of a frame, frames.
        let mut request = [0u8; 16];
        for (place, value) in request.chunks_mut(4).zip([256 * 1024u32, 32, 2048, 32 * 128]) {
            place.copy_from_slice(&value.to_ne_bytes());
        }
        hostile::set_socket_option(&socket, LEVEL_PACKET, RECEIVE_RING, &request)?;
        Ok(socket)
    })
}

fn network_namespaces() -> Outcome {
    namespaces("network namespaces", Namespaces::NEWNET, "/proc/self/ns/net")
}

fn mount_namespaces() -> Outcome {
    namespaces("mount namespaces", Namespaces::NEWNS, "/proc/self/ns/mnt")
}

/// Where our groups go; what is left of an earlier attempt is taken away.
fn own_groups() -> Result<&'static Path, io::Error> {
    const PLACE: &str = "/sys/fs/cgroup/attack";
    let place = Path::new(PLACE);
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path());
    }
    fs::create_dir_all(place)?;
    Ok(place)
}

fn groups() -> Outcome {
    let place = match own_groups() {
        Ok(place) => place,
        Err(error) => return Outcome::refused(&error),
    };
    let mut made = 0;
    let outcome = take("groups", MAX, |number| {
        fs::create_dir(place.join(number.to_string()))?;
        made += 1;
        Ok(())
    });
    // They would be in the way of what comes next; the figure tells how many they were.
    for number in 0..made {
        let _ = fs::remove_dir(place.join(number.to_string()));
    }
    let _ = fs::remove_dir(place);
    if MAX <= made { Outcome::succeeded(outcome.figure) } else { outcome }
}

/// A process in a group of its own leaves a file in memory: the group is removed, and lives on as long as the file.
fn dying_groups() -> Outcome {
    let place = match own_groups() {
        Ok(place) => place,
        Err(error) => return Outcome::refused(&error),
    };
    let files = Path::new("/dev/shm/attack-dying");
    let files = if fs::create_dir_all(files).is_ok() { files } else { Path::new("/run") };
    take("groups that are gone and live on", 1024, |number| {
        let group = place.join(format!("dying-{number}"));
        fs::create_dir(&group)?;
        match clone::fork(Namespaces::empty(), Parent::Caller, None)? {
            Forked::Child => {
                let moved = fs::write(group.join("cgroup.procs"), "0");
                let written = fs::write(files.join(format!("dying-{number}")), [7; 64]);
                std::process::exit(i32::from(moved.and(written).is_err()));
            }
            Forked::Caller { pid, .. } => {
                let pid = rustix::process::Pid::from_raw(pid);
                let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
                fs::remove_dir(&group)?;
                match ended.and_then(|(_, status)| status.exit_status()) {
                    Some(0) => Ok(()),
                    _ => Err(rustix::io::Errno::ACCESS.into()),
                }
            }
        }
    })
}

fn triggers() -> Outcome {
    const MANY: usize = 256;
    let place = match own_groups() {
        Ok(place) => place,
        Err(error) => return Outcome::refused(&error),
    };
    raise_own_descriptors();
    let mut made = 0;
    let outcome = take("triggers", MANY, |number| {
        let group = place.join(format!("trigger-{number}"));
        fs::create_dir_all(&group)?;
        let mut file = File::options().read(true).write(true).open(group.join("memory.pressure"))?;
        file.write_all(b"some 500000 1000000\0")?;
        made += 1;
        Ok(file)
    });
    if MANY <= made { Outcome::succeeded(outcome.figure) } else { outcome }
}

fn pipes() -> Outcome {
    raise_own_descriptors();
    take("pipes of 64 KiB", MAX, |_| {
        let (reader, writer) = rustix::pipe::pipe()?;
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK)?;
        while rustix::io::write(&writer, &[7; 4096]).is_ok() {}
        Ok((reader, writer))
    })
}

fn unix_queues() -> Outcome {
    raise_own_descriptors();
    take("queues", MAX, |_| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        while rustix::io::write(&pair.0, &[7; 16 * 1024]).is_ok() {}
        Ok(pair)
    })
}

fn udp_queues() -> Outcome {
    raise_own_descriptors();
    take("queues", MAX, |_| {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let to = receiver.local_addr()?;
        let sender = std::net::UdpSocket::bind("127.0.0.1:0")?;
        for _ in 0..64 {
            let _ = sender.send_to(&[7; 8 * 1024], to);
        }
        Ok((receiver, sender))
    })
}

fn directories() -> Outcome {
    take("names", 50_000, |number| match fs::metadata(format!("/tmp/no-such-name-{number:060}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => found.map(drop),
    })
}
