//! What init's child says of sockets, against processes in groups that hold such.

use crate::host::cgroup2;
use rustix::net::netlink::{SocketAddrNetlink, USERSOCK};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use yado_sys::clone::{self, Namespaces};
use yado_sys::{identity, netlink};

const MESSAGE_BYTES: usize = 32 * 1024;

/// Groups with a process in each, which goes with them.
struct Groups {
    place: PathBuf,
    children: Vec<(PathBuf, Child)>,
}

impl Groups {
    /// A process that holds three descriptors and does nothing.
    fn add(&mut self, name: &str, [input, output, error]: [OwnedFd; 3]) {
        let child = Command::new("sleep").arg("60").stdin(input).stdout(output).stderr(error).spawn().unwrap();
        let group = self.place.join(name);
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        self.children.push((group, child));
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for (group, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_dir(group);
        }
        let _ = fs::remove_dir(&self.place);
    }
}

/// A socket with as much in its queue as the kernel takes, and how much that was.
fn full_queue() -> (OwnedFd, u64) {
    let open = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(USERSOCK)).unwrap();
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
        socket
    };
    let (receiver, sender) = (open(), open());
    let to = SocketAddrNetlink::new(netlink::port(&receiver).unwrap(), 0);
    let mut sent = 0;
    while rustix::net::sendto(&sender, &[0; MESSAGE_BYTES], SendFlags::DONTWAIT, &to).is_ok() {
        sent += MESSAGE_BYTES as u64;
    }
    assert_ne!(sent, 0);
    (receiver, sent)
}

/// What `make` makes in a network namespace of its own, which nobody is in any more when it returns.
fn elsewhere<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        clone::unshare(Namespaces::NEWNET).unwrap();
        make()
    });
    thread.join().unwrap()
}

/// A local socket in the abstract namespace, which `/proc/net/unix` shows by its name, whatever that is.
fn named(name: &[u8]) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name).unwrap()).unwrap();
    socket
}

/// A line of that table that says that a socket is a local one.
fn lie(socket: &OwnedFd) -> Vec<u8> {
    let inode = rustix::fs::fstat(socket).unwrap().st_ino;
    format!("\n0000000000000000: 00000002 00000000 00010000 0001 01 {inode}\n").into_bytes()
}

fn nothing() -> OwnedFd {
    fs::File::open("/dev/null").unwrap().into()
}

#[test]
fn what_sockets_hold_is_seen_in_tables_and_what_is_in_none_is_counted() {
    let Some(mount) = cgroup2().filter(|_| identity::is_root()) else {
        println!("SKIPPED: needs root and a cgroup2 mount");
        return;
    };
    let place = mount.join(format!("yado-weighed-{}", std::process::id()));
    let mut groups = Groups { place: place.clone(), children: Vec::new() };

    // Three that a process holds in its own namespace; three of a namespace that has no process; three sent to nobody.
    let (groups, sent) = std::thread::spawn(move || {
        clone::unshare(Namespaces::NEWNET).unwrap();
        let queues = [0; 3].map(|_| full_queue());
        let sent: u64 = queues.iter().map(|(_, sent)| sent).sum();
        groups.add("full", queues.map(|(queue, _)| queue));
        (groups, sent)
    })
    .join()
    .unwrap();
    let mut groups = groups;
    // Local sockets of whatever name, one of them in a namespace that nobody is in.
    groups.add("calm", [nothing(), elsewhere(|| named(b"\xff\xfe")), named(b"calm")]);
    // What a name says of others, in the form of the kernel's own table, is not believed.
    let hidden = elsewhere(|| [0; 3].map(|_| full_queue().0));
    let lies: Vec<OwnedFd> = hidden.iter().map(|socket| named(&lie(socket))).collect();
    groups.add("liar", hidden);
    groups.add("hidden", elsewhere(|| [0; 3].map(|_| full_queue().0)));
    let unread = elsewhere(|| {
        let flags = SocketFlags::CLOEXEC;
        let (unread, to) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let queues = [0; 3].map(|_| full_queue().0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = queues.each_ref().map(AsFd::as_fd);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        rustix::net::sendmsg(&to, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        unread
    });
    groups.add("sent", [unread, nothing(), nothing()]);

    let weigh = |missing: u64| {
        let names = ["calm", "full", "gone", "hidden", "liar", "sent"];
        let init = Command::new(env!("CARGO_BIN_EXE_yado-init"))
            .arg("--weigh-sockets")
            .arg(missing.to_string())
            .arg(&place)
            .args(names)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        assert!(init.status.success(), "{init:?}");
        let text = String::from_utf8(init.stdout).unwrap();
        let lines = text.lines().map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_owned();
            (name, [0; 3].map(|_| words.next().unwrap().parse().unwrap()))
        });
        // The last word of each.
        let lines: BTreeMap<String, [u64; 3]> = lines.collect();
        assert!(lines.keys().map(String::as_str).eq(names), "{text}");
        lines
    };
    // As SO_RCVBUF takes it: twice.
    let queue: u64 = 2 * fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse::<u64>().unwrap();

    let all = weigh(1 << 40);
    let of = |name: &str| all.get(name).copied().unwrap();
    let [queued, unseen, deepest] = of("full");
    assert!((sent..=3 * sent).contains(&queued) && unseen == 0 && deepest == 0, "{sent} were sent: {all:?}");
    // Tables of the namespace that it shares with us may say something of others.
    let [_, unseen, deepest] = of("calm");
    assert_eq!((unseen, deepest), (0, 0), "local sockets of any name are no matter of ours: {all:?}");
    assert_eq!(of("hidden"), [0, 3 * queue, 3 * queue], "{all:?}");
    // One queue each; or each is a socket with others on their way to it.
    assert_eq!(of("sent"), [0, 3 * queue, 3 * 254 * queue], "{all:?}");
    let [_, unseen, deepest] = of("liar");
    assert_eq!((unseen, deepest), (3 * queue, 3 * queue), "{all:?}");
    assert_eq!(of("gone"), [0; 3]);

    drop(lies);
    // Where tables explain it, nothing else is looked at.
    let some = weigh(sent);
    assert!(some.values().all(|[_, unseen, _]| *unseen == 0), "{some:?}");
}
