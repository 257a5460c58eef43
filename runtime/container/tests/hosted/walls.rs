//! What root inside tries against the system and the other instances, and what the kernel answers.

use crate::cases::{idle, run, script};
use crate::fixture::{BASE, Fixture};
use crate::init_role::Payload;
use rustix::fs::{CWD, FileType, Mode, inotify, makedev};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use yado_sys::clone::{self, Forked, Namespaces, Parent};
use yado_sys::packet;
use yado_sys::pidfd::{self, NamespacesOf};

type Case = (&'static str, fn(&Fixture));

pub(crate) const ALL: &[Case] = &[
    ("a_device_node_in_the_root_opens_nothing", nodes_in_the_root),
    ("what_one_instance_uses_up_the_others_and_the_system_still_have", own_counts),
];

fn nodes_in_the_root(fixture: &Fixture) {
    // The null device, which the device filter allows: only the mount refuses it.
    let order = script(fixture, "nodes", "cat /null; echo null=$?; cat /dev/null && echo standard");
    let upper = Path::new(&order.places.layer).join("upper");
    fs::create_dir_all(&upper).unwrap();
    let (mode, number) = (Mode::from_raw_mode(0o666), makedev(1, 3));
    rustix::fs::mknodat(CWD, upper.join("null"), FileType::CharacterDevice, mode, number).unwrap();
    let output = run(&order);
    assert!(output.contains("Permission denied\nnull=1\nstandard\n"), "{output}");
}

fn own_counts(fixture: &Fixture) {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if descriptors.is_some_and(|descriptors| descriptors < limit + 32) {
        println!("SKIPPED: a process here has fewer descriptors than a user inotify instances ({limit})");
        return;
    }
    let first = idle(&fixture.order("counts-1", &["/bin/sleep", "1000"]));
    let mut order = fixture.order("counts-2", &["/bin/sleep", "1000"]);
    order.idmap_base = BASE + 65_536;
    let second = idle(&order);
    let (in_first, first_holds) = take_inotify_instances(&first);
    let (in_second, second_holds) = take_inotify_instances(&second);
    let ours = inotify::init(inotify::CreateFlags::CLOEXEC);
    drop((first_holds, second_holds));
    first.kill();
    second.kill();
    assert_eq!((in_first, in_second), (limit, limit));
    ours.unwrap();
}

/// As root inside: makes inotify instances until the kernel refuses. Gives how many there were; they are held until the
/// socket is closed.
fn take_inotify_instances(running: &Payload) -> (u64, OwnedFd) {
    let (socket, childs_end) = packet::socketpair().unwrap();
    match clone::fork(Namespaces::empty(), Parent::Caller).unwrap() {
        Forked::Caller { .. } => {
            drop(childs_end);
            let mut answer = [0; 8];
            let packet = packet::recv(&socket, &mut answer).unwrap().unwrap();
            assert_eq!(packet.len, answer.len(), "no answer from inside");
            (u64::from_ne_bytes(answer), socket)
        }
        Forked::Child => {
            drop(socket);
            pidfd::enter_namespaces(&running.pidfd, NamespacesOf::USER).unwrap();
            let root = rustix::process::Uid::ROOT;
            rustix::thread::set_thread_res_uid(root, root, root).unwrap();
            let mut held = Vec::new();
            while let Ok(instance) = inotify::init(inotify::CreateFlags::CLOEXEC) {
                held.push(instance);
            }
            packet::send(&childs_end, &(held.len() as u64).to_ne_bytes(), &[]).unwrap();
            let _ = packet::recv(&childs_end, &mut [0]);
            std::process::exit(0)
        }
    }
}
