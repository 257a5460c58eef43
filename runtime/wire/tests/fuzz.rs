//! Packets come from whoever may connect: a launcher that went wrong, another release's command. What is read as a message
//! is one, within its bounds, and comes out the same again.

#![allow(clippy::unwrap_used)]

#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::fuzz;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::net::IpAddr;
use yado_wire::datagrams::{DatagramSource, ReaderReport, ReaderRequest, WatchdogPing};
use yado_wire::launch::{FileIdentity, FileTime, ImageMount, LaunchReport, StepTime};
use yado_wire::names::clipped;
use yado_wire::network::{LinkNote, LinkRole, LinkStatus, NetReply, NetRequest, NicKind, NicRequest};
use yado_wire::rescue::{
    Event, EventKind, InstanceState, InstanceStatus, LogRecord, Mode, Reply, Request, RunEnd, ServiceStatus,
    SystemStatus, Verify,
};
use yado_wire::{AboutInstance, Failure, InstanceId, InstanceName, RunNumber, Step, decode, encode};

fn about_web() -> AboutInstance {
    AboutInstance { id: InstanceId(300), name: web() }
}

fn web() -> InstanceName {
    InstanceName::parse("web-1").unwrap()
}

fn failure() -> Failure {
    Failure { errno: 13, ..Failure::refused(Step::ImageOpen, "/data/images/x/image", "permission denied") }
}

fn steps<const N: usize>() -> heapless::Vec<StepTime, N> {
    heapless::Vec::from_iter([StepTime { step: Step::Cgroup, micros: 300 }, StepTime { step: Step::Exec, micros: 7 }])
}

fn requests() -> Vec<Vec<u8>> {
    let exec = Request::Exec { instance: web() };
    let stop = Request::Stop { instance: web(), timeout_s: Some(30), force: true };
    let logs = Request::Logs { instance: Some(web()), follow: true };
    let update = Request::Update { words: vec!["install".to_owned(), "http://host/release".to_owned()] };
    [
        Request::Status,
        exec,
        stop,
        logs,
        Request::Poweroff,
        Request::Apply { forget: true },
        update,
        Request::StopUpdate,
    ]
    .iter()
    .map(|request| encode(request).unwrap())
    .collect()
}

fn replies() -> Vec<Vec<u8>> {
    let system = SystemStatus {
        version: clipped("0.1.0"),
        mode: Mode::System,
        fingerprint: Some([7; 32]),
        slot: Some('B'),
        uptime_ms: 123_456,
        data: Some(failure()),
        verify: Verify::Block,
    };
    let instance = InstanceStatus {
        id: InstanceId(300),
        name: web(),
        state: InstanceState::BackingOff,
        pid: Some(300),
        fingerprint: None,
        uptime_ms: Some(1),
        restarts: 2,
        start_us: None,
        memory_bytes: Some(9 << 20),
        memory_limit_bytes: None,
        processes: Some(11),
        oom_kills: 1,
        last_failure: Some(failure()),
        waits_for_restart: true,
        refused: None,
    };
    let service = ServiceStatus { name: clipped("netd"), pid: Some(80), restarts: 1 };
    let record = LogRecord {
        monotonic_ms: 5,
        priority: 4,
        identifier: clipped("instance/web-1"),
        pid: 300,
        message: clipped("link is down"),
    };
    let event = |kind| {
        Reply::Event(Event { sequence: 9, monotonic_us: 1 << 40, instance: Some(about_web()), kind: Some(kind) })
    };
    let all = [
        Reply::System(system),
        Reply::Instance(instance),
        Reply::Service(service),
        Reply::Log(record),
        event(EventKind::Started { start_us: 41_000, steps: steps() }),
        event(EventKind::Exited(RunEnd::Killed { after_ms: 30_000 })),
        event(EventKind::Ready(clipped("up"))),
        Reply::Refused(failure()),
    ];
    all.iter().map(|reply| encode(reply).unwrap()).collect()
}

fn reports() -> Vec<Vec<u8>> {
    let synced = LaunchReport::DevicesSynced {
        added: heapless::Vec::from_iter([clipped("/dev/ttyUSB0")]),
        removed: heapless::Vec::new(),
    };
    let time = FileTime { seconds: 1_700_000_000, nanoseconds: 999_999_999 };
    let identity = FileIdentity { device: 0xfe00, inode: 12, size_bytes: 1 << 20, modified: time, changed: time };
    let all = [
        LaunchReport::Payload { pid: 300 },
        LaunchReport::Started { steps: steps() },
        synced,
        LaunchReport::Image(ImageMount::New(identity)),
    ];
    all.iter().map(|report| encode(report).unwrap()).collect()
}

fn network() -> Vec<Vec<u8>> {
    let nic = NicRequest {
        name: clipped("eth0"),
        kind: NicKind::Network { network: clipped("yado0") },
        hwaddr: Some([0, 0x16, 0x3e, 1, 2, 3]),
        mtu: Some(1400),
        host_name: None,
        ipv4_address: Some([10, 158, 0, 9]),
    };
    let link = LinkStatus {
        name: clipped("end0"),
        role: LinkRole::Nic { instance: about_web(), name: clipped("eth0") },
        is_up: true,
        addresses: heapless::Vec::from_iter([(IpAddr::from([10, 0, 2, 15]), 24)]),
        gateways: heapless::Vec::from_iter([IpAddr::from([10, 0, 2, 2])]),
        nameservers: heapless::Vec::from_iter([IpAddr::from([10, 0, 2, 3])]),
        lease_left_s: Some(3600),
        note: Some(LinkNote::HeldDown { left_s: 30 }),
    };
    let attach = NetRequest::Attach {
        instance: about_web(),
        run: RunNumber(7_000_000),
        nics: heapless::Vec::from_iter([nic]),
    };
    vec![
        encode(&attach).unwrap(),
        encode(&NetReply::Link(link)).unwrap(),
        encode(&NetReply::Failed(failure())).unwrap(),
        encode(&NetReply::NetworkFailed { network: Some(clipped("yado0")), failure: failure() }).unwrap(),
    ]
}

fn datagrams() -> Vec<Vec<u8>> {
    let notification = ReaderReport::Notification {
        run: 7,
        uid: 1_000_000,
        is_ready: true,
        status: Some(clipped("up")),
        ping: Some(WatchdogPing::Alive),
    };
    let record = LogRecord {
        monotonic_ms: 5,
        priority: 4,
        identifier: clipped("journal"),
        pid: 300,
        message: clipped("link is down"),
    };
    let watch = ReaderRequest::Watch(DatagramSource::Instance { run: 7 });
    vec![encode(&notification).unwrap(), encode(&ReaderReport::Record(record)).unwrap(), encode(&watch).unwrap()]
}

fn check<M: Serialize + DeserializeOwned + Debug + PartialEq>(packet: &[u8]) {
    if let Ok(message) = decode::<M>(packet) {
        comes_out_again(message);
    }
}

fn comes_out_again<M: Serialize + DeserializeOwned + Debug + PartialEq>(message: M) {
    let again = encode(&message).unwrap();
    assert_eq!(decode(&again), Ok(message));
}

#[test]
fn packets_of_any_bytes_are_refused_or_messages_that_come_out_the_same_again() {
    let seeds = [requests(), replies(), reports(), network(), datagrams(), vec![encode(&web()).unwrap()]].concat();
    fuzz("packet", &seeds, &["..", "/", "-", "\u{e4}"], |packet| {
        check::<Request>(packet);
        match decode(packet) {
            // Nobody sends what it does not know.
            Ok(Reply::Event(Event { kind: None, .. })) | Err(_) => {}
            Ok(reply) => comes_out_again::<Reply>(reply),
        }
        check::<LaunchReport>(packet);
        check::<NetRequest>(packet);
        check::<NetReply>(packet);
        check::<ReaderRequest>(packet);
        check::<ReaderReport>(packet);
        if let Ok(name) = decode::<InstanceName>(packet) {
            assert_eq!(InstanceName::parse(name.as_str()), Ok(name), "a name that only the wire lets in");
        }
    });
}
