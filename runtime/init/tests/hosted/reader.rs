//! The datagram reader by itself, with this process as its init: all that it is asked for it does within its filter.

use super::host;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use yado_sys::children::{self, Program, Session};
use yado_sys::{datagram, identity, memfd, packet, pidfd};
use yado_wire::MAX_FRAME_BYTES;
use yado_wire::datagrams::{DatagramSource, ReaderReport, ReaderRequest};

fn ask(link: &OwnedFd, request: &ReaderRequest, descriptor: Option<BorrowedFd<'_>>) {
    packet::send(link, &yado_wire::encode(request).unwrap(), descriptor.as_slice()).unwrap().unwrap();
    assert_eq!(report(link), ReaderReport::Done, "{request:?}");
}

fn report(link: &OwnedFd) -> ReaderReport {
    let mut buffer = [0; MAX_FRAME_BYTES];
    let received = packet::recv(link, &mut buffer).unwrap().expect("no answer");
    assert!(!received.is_end(), "it has ended");
    yado_wire::decode(&buffer[..received.len]).unwrap()
}

#[test]
fn all_kinds_of_datagrams_and_requests_are_served_within_the_readers_filter() {
    if !identity::is_root() {
        return println!("SKIPPED: needs root");
    }
    let directory = tempfile::TempDir::new().unwrap();
    let (link, theirs) = packet::socketpair().unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let words = [env!("CARGO_BIN_EXE_yado-init"), "--datagram-reader"].map(|word| CString::new(word).unwrap());
    let child = children::start(&Program {
        path: &words[0],
        arguments: &words,
        environment: &[],
        descriptors: &[(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2), (theirs.as_fd(), 3)],
        cgroup: None,
        session: Session::Own,
    })
    .unwrap();
    drop(theirs);
    packet::set_timeout(&link, Duration::from_secs(20)).unwrap();
    let watch = |source: DatagramSource, name: &str| -> PathBuf {
        let path = directory.path().join(name);
        let socket = datagram::bind(&path, 0o600).unwrap();
        ask(&link, &ReaderRequest::Watch(source), Some(socket.as_fd()));
        path
    };
    let sender = datagram::unbound().unwrap();
    let say = |path: &Path, text: &[u8], descriptor: Option<BorrowedFd<'_>>| {
        datagram::send(&sender, path, text, descriptor).unwrap().unwrap();
        report(&link)
    };
    let journal = watch(DatagramSource::Journal, "journal");
    let said = say(&journal, b"MESSAGE=short\nPRIORITY=5\n", None);
    assert!(matches!(&said, ReaderReport::Record(record) if record.message.as_str() == "short"), "{said:?}");
    // As sd_journal_send(3) sends what its socket does not take.
    let long = format!("MESSAGE=long{}\nPRIORITY=5\n", " and longer".repeat(40_000));
    let said = say(&journal, b"", Some(memfd::sealed("entry", long.as_bytes()).unwrap().as_fd()));
    assert!(matches!(&said, ReaderReport::Record(record) if record.message.starts_with("long and")), "{said:?}");
    let said = say(&watch(DatagramSource::Syslog, "syslog"), b"<6>sshd[7]: hello", None);
    assert!(matches!(&said, ReaderReport::Record(record) if record.message.as_str() == "hello"), "{said:?}");
    let said = say(&watch(DatagramSource::Services, "services"), b"READY=1", None);
    assert_eq!(said, ReaderReport::ServiceReady { pid: std::process::id() as i32 });
    let instance = watch(DatagramSource::Instance { run: 7 }, "instance");
    let said = say(&instance, b"READY=1\nSTATUS=fine", None);
    assert!(matches!(said, ReaderReport::Notification { run: 7, is_ready: true, .. }), "{said:?}");
    let said = say(&instance, b"READY=1", Some(null.as_fd()));
    assert_eq!(said, ReaderReport::SentDescriptors { run: 7 });
    ask(&link, &ReaderRequest::Discard(DatagramSource::Instance { run: 7 }), None);
    // What it closes, also what would wait for long: the timer's signal is handled.
    let ((end, writer), (socket, _peer)) = (host::pipe(), host::lingering_socket(60));
    for descriptor in [&writer, &socket] {
        ask(&link, &ReaderRequest::Hold, Some(descriptor.as_fd()));
    }
    drop((writer, socket));
    ask(&link, &ReaderRequest::Release, None);
    assert!(matches!((&end).read(&mut [0; 1]), Ok(0)), "it is closed");
    ask(&link, &ReaderRequest::Ping, None);
    // It also ends within it. The last field of proc_pid_stat(5) is how.
    drop(link);
    assert!(pidfd::ends_within(&child.pidfd, Duration::from_secs(20)).unwrap());
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid)).unwrap();
    assert!(stat.trim_end().ends_with(" 0"), "{stat}");
}
