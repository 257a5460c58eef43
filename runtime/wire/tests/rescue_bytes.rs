//! The bytes of what is asked of init and what it answers are frozen: a command of another release may be at the other end.

#![allow(clippy::unwrap_used)]

mod frozen;

use frozen::is_frozen;
use yado_wire::launch::StepTime;
use yado_wire::names::clipped;
use yado_wire::rescue::{
    Applied, ApplyOutcome, Command, CommandUser, Event, EventKind, ExitStatus, InstanceHealth, InstanceState,
    InstanceStatus, LogRecord, Mode, Reply, Request, RunEnd, ServiceStatus, SystemStatus, Verify,
};
use yado_wire::{AboutInstance, Failure, InstanceId, InstanceName, Retry, Step, decode, encode};

fn web() -> InstanceName {
    InstanceName::parse("web-1").unwrap()
}

fn failure() -> Failure {
    Failure { errno: 22, ..Failure::refused(Step::Network, "eth0", "no").in_vain() }
}

const FAILURE: &[u8] = b"\x15\x04eth0\x2c\x02no\x01";

fn about() -> AboutInstance {
    AboutInstance { id: InstanceId(300), name: web() }
}

#[test]
fn version_1_requests_are_frozen() {
    let stop = |timeout_s, force| Request::Stop { instance: web(), timeout_s, force };
    is_frozen(&Request::Status, &[b"\x00"]);
    is_frozen(&Request::Logs { instance: Some(web()), follow: true }, &[b"\x01\x01\x05web-1\x01"]);
    is_frozen(&Request::Logs { instance: None, follow: false }, &[b"\x01\x00\x00"]);
    is_frozen(&Request::Exec { instance: web() }, &[b"\x02\x05web-1"]);
    is_frozen(&Request::Start(web()), &[b"\x03\x05web-1"]);
    is_frozen(&stop(Some(300), true), &[b"\x04\x05web-1\x01\xac\x02\x01"]);
    is_frozen(&stop(None, false), &[b"\x04\x05web-1\x00\x00"]);
    is_frozen(&Request::Restart(web()), &[b"\x05\x05web-1"]);
    is_frozen(&Request::Console { instance: web(), force: true }, &[b"\x06\x05web-1\x01"]);
    is_frozen(&Request::Reboot, &[b"\x07"]);
    is_frozen(&Request::Poweroff, &[b"\x08"]);
    is_frozen(&Request::Events, &[b"\x09"]);
    is_frozen(&Request::Apply { forget: true }, &[b"\x0a\x01"]);
    is_frozen(&Request::Update { words: vec!["install".into(), "/a".into()] }, &[b"\x0b\x02\x07install\x02/a"]);
    is_frozen(&Request::StopUpdate, &[b"\x0c"]);
    is_frozen(&Request::Health, &[b"\x0e"]);
    is_frozen(&Request::RebootFor { by: clipped("updater"), reason: clipped("why") }, &[b"\x0d\x07updater\x03why"]);
    let tryboot =
        Request::RebootWith { by: clipped("updater"), reason: clipped("why"), argument: clipped("0 tryboot") };
    is_frozen(&tryboot, &[b"\x0f\x07updater\x03why\x090 tryboot"]);
}

#[test]
fn the_file_of_a_command_is_frozen() {
    let ids = |uid, gid| CommandUser::Ids { uid, gid };
    let least = Command { argv: vec!["id".into()], environment: Vec::new(), cwd: None, user: ids(0, 0) };
    let most = Command {
        argv: vec!["ls".into(), "-l".into()],
        environment: vec!["A=b".into()],
        cwd: Some("/srv".into()),
        user: ids(1000, 5),
    };
    let shell =
        |gid| Command { argv: Vec::new(), user: CommandUser::Name { name: "www".into(), gid }, ..least.clone() };
    is_frozen(&least, &[b"\x01\x02id\x00\x00\x00\x00\x00"]);
    is_frozen(&most, &[b"\x02\x02ls\x02-l\x01\x03A=b\x01\x04/srv\x00\xe8\x07\x05"]);
    is_frozen(&shell(None), &[b"\x00\x00\x00\x01\x03www\x00"]);
    is_frozen(&shell(Some(5)), &[b"\x00\x00\x00\x01\x03www\x01\x05"]);
    // The file is the frame.
    assert_eq!(most.encode(), encode(&most));
}

#[test]
fn version_1_statuses_are_frozen() {
    let hosted = SystemStatus {
        version: clipped("0.1.0"),
        mode: Mode::Hosted,
        fingerprint: None,
        slot: None,
        uptime_ms: 300,
        data: None,
        verify: Verify::Start,
    };
    let board = SystemStatus {
        mode: Mode::System,
        fingerprint: Some([7; 32]),
        slot: Some('B'),
        data: Some(failure()),
        verify: Verify::Block,
        ..hosted.clone()
    };
    is_frozen(&Reply::System(hosted), &[b"\x00\x050.1.0\x01\x00\x00\xac\x02\x00\x01"]);
    is_frozen(
        &Reply::System(board),
        &[b"\x00\x050.1.0\x00\x01", &[7; 32], b"\x01\x01B\xac\x02\x01", FAILURE, b"\x00"],
    );
    let stopped = InstanceStatus {
        id: InstanceId(300),
        name: web(),
        state: InstanceState::Stopped,
        pid: None,
        fingerprint: None,
        uptime_ms: None,
        restarts: 0,
        start_us: None,
        memory_bytes: None,
        memory_limit_bytes: None,
        processes: None,
        oom_kills: 0,
        last_failure: None,
        waits_for_restart: false,
        refused: None,
    };
    let running = InstanceStatus {
        state: InstanceState::Running,
        pid: Some(80),
        fingerprint: Some([7; 32]),
        uptime_ms: Some(1),
        restarts: 2,
        start_us: Some(3),
        memory_bytes: Some(4),
        memory_limit_bytes: Some(5),
        processes: Some(6),
        oom_kills: 7,
        last_failure: Some(failure()),
        waits_for_restart: true,
        refused: Some(failure()),
        ..stopped.clone()
    };
    is_frozen(
        &Reply::Instance(stopped),
        &[b"\x01\xac\x02\x05web-1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"],
    );
    is_frozen(
        &Reply::Instance(running),
        &[
            b"\x01\xac\x02\x05web-1\x03\x01\xa0\x01\x01",
            &[7; 32],
            b"\x01\x01\x02\x01\x03\x01\x04\x01\x05\x01\x06\x07\x01",
            FAILURE,
            b"\x01\x01",
            FAILURE,
        ],
    );
    let service = |pid| Reply::Service(ServiceStatus { name: clipped("netd"), pid, restarts: 1 });
    is_frozen(&service(Some(80)), &[b"\x02\x04netd\x01\xa0\x01\x01"]);
    is_frozen(&service(None), &[b"\x02\x04netd\x00\x01"]);
}

#[test]
fn version_1_states_steps_and_retries_are_frozen_in_this_order() {
    let states = [
        InstanceState::Stopped,
        InstanceState::Waiting,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Ready,
        InstanceState::Stopping,
        InstanceState::BackingOff,
        InstanceState::Failed,
        InstanceState::Unhealthy,
        InstanceState::Stuck,
    ];
    for (state, number) in states.iter().zip(0..) {
        is_frozen(state, &[&[number]]);
    }
    let steps = [
        Step::Spec,
        Step::Cgroup,
        Step::Limits,
        Step::Launcher,
        Step::ImageOpen,
        Step::ImageHeader,
        Step::ImageSignature,
        Step::ImageManifest,
        Step::ImageRequires,
        Step::ImageTree,
        Step::ImagePayload,
        Step::Loop,
        Step::Verity,
        Step::ImageMount,
        Step::Layer,
        Step::Overlay,
        Step::Namespaces,
        Step::IdMap,
        Step::Mount,
        Step::Device,
        Step::DeviceAbsent,
        Step::Network,
        Step::Hostname,
        Step::Console,
        Step::Capabilities,
        Step::Seccomp,
        Step::DeviceFilter,
        Step::Rlimits,
        Step::Label,
        Step::Exec,
        Step::Health,
        Step::Data,
        Step::Slot,
        Step::Module,
        Step::Request,
    ];
    for (step, number) in steps.iter().zip(0..) {
        is_frozen(step, &[&[number]]);
    }
    for (retry, number) in [Retry::MayHelp, Retry::InVain, Retry::WhenDeviceComes].iter().zip(0..) {
        is_frozen(retry, &[&[number]]);
    }
}

#[test]
fn version_1_replies_are_frozen() {
    let record = LogRecord {
        monotonic_ms: 300,
        priority: 4,
        identifier: clipped("instance/web-1"),
        pid: 80,
        message: clipped("link is down"),
    };
    is_frozen(&Reply::Log(record), &[b"\x03\xac\x02\x04\x0einstance/web-1\xa0\x01\x0clink is down"]);
    is_frozen(&Reply::Console, &[b"\x05"]);
    is_frozen(&Reply::Exited(ExitStatus::Code(3)), &[b"\x06\x00\x03"]);
    is_frozen(&Reply::Exited(ExitStatus::Signal(9)), &[b"\x06\x01\x09"]);
    is_frozen(&Reply::Done, &[b"\x07"]);
    is_frozen(&Reply::Refused(failure()), &[b"\x08", FAILURE]);
    let applied = |outcome| Reply::Applied(Applied { instance: about(), outcome });
    is_frozen(&applied(ApplyOutcome::Added), &[b"\x09\xac\x02\x05web-1\x00"]);
    is_frozen(&applied(ApplyOutcome::Removed), &[b"\x09\xac\x02\x05web-1\x01"]);
    is_frozen(&applied(ApplyOutcome::Changed), &[b"\x09\xac\x02\x05web-1\x02"]);
    is_frozen(&applied(ApplyOutcome::WaitsForRestart), &[b"\x09\xac\x02\x05web-1\x03"]);
    is_frozen(&applied(ApplyOutcome::Refused(failure())), &[b"\x09\xac\x02\x05web-1\x04", FAILURE]);
    let stopped = InstanceHealth {
        instance: about(),
        is_required: false,
        is_wanted: false,
        state: InstanceState::Stopped,
        ready_ms: None,
        restarts: 0,
        unhealthy: 0,
        holds_update: false,
        fingerprint: None,
        last_failure: None,
    };
    let ready = InstanceHealth {
        is_required: true,
        is_wanted: true,
        state: InstanceState::Ready,
        ready_ms: Some(300),
        restarts: 2,
        unhealthy: 3,
        holds_update: true,
        fingerprint: Some([7; 32]),
        last_failure: Some(failure()),
        ..stopped.clone()
    };
    is_frozen(&Reply::Health(stopped), &[b"\x0a\xac\x02\x05web-1\x00\x00\x00\x00\x00\x00\x00\x00\x00"]);
    is_frozen(
        &Reply::Health(ready),
        &[b"\x0a\xac\x02\x05web-1\x01\x01\x04\x01\xac\x02\x02\x03\x01\x01", &[7; 32], b"\x01", FAILURE],
    );
}

#[test]
fn version_1_events_are_frozen() {
    let event = |instance, kind| Reply::Event(Event { sequence: 300, monotonic_us: 5, instance, kind: Some(kind) });
    is_frozen(&event(None, EventKind::Stage(clipped("netd"))), &[b"\x04\xac\x02\x05\x00\x06\x00\x04netd"]);
    let is_frozen = |kind, parts: &[&[u8]]| is_frozen(&event(Some(about()), kind), parts);
    is_frozen(EventKind::State(InstanceState::Ready), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x02\x01\x04"]);
    let steps = heapless::Vec::from_iter([StepTime { step: Step::Exec, micros: 7 }]);
    is_frozen(
        EventKind::Started { start_us: 300, steps },
        &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x06\x02\xac\x02\x01\x1d\x07"],
    );
    is_frozen(EventKind::Ready(clipped("up")), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x04\x03\x02up"]);
    is_frozen(EventKind::Exited(RunEnd::Code(3)), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x03\x04\x00\x03"]);
    is_frozen(EventKind::Exited(RunEnd::Signal(9)), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x03\x04\x01\x09"]);
    is_frozen(EventKind::Exited(RunEnd::PoweredOff), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x02\x04\x02"]);
    is_frozen(EventKind::Exited(RunEnd::Rebooted), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x02\x04\x03"]);
    is_frozen(
        EventKind::Exited(RunEnd::Killed { after_ms: 300 }),
        &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x04\x04\x04\xac\x02"],
    );
    is_frozen(EventKind::Failed(failure()), &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x0c\x05", FAILURE]);
    is_frozen(EventKind::OomKill { count: 300 }, &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x03\x06\xac\x02"]);
    is_frozen(EventKind::ProcessLimit { count: 2 }, &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x02\x07\x02"]);
    is_frozen(
        EventKind::DeviceAdded(clipped("/dev/a")),
        &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x08\x08\x06/dev/a"],
    );
    is_frozen(
        EventKind::DeviceRemoved(clipped("/dev/a")),
        &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x08\x09\x06/dev/a"],
    );
    is_frozen(
        EventKind::ServiceExited { service: clipped("netd"), status: ExitStatus::Signal(9) },
        &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x08\x0a\x04netd\x01\x09"],
    );
    is_frozen(EventKind::Added, &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x01\x0b"]);
    is_frozen(EventKind::Changed, &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x01\x0c"]);
    is_frozen(EventKind::Removed, &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x01\x0d"]);
    is_frozen(
        EventKind::ImageDamaged { image: clipped("/a"), blocks: 2 },
        &[b"\x04\xac\x02\x05\x01\xac\x02\x05web-1\x05\x0e\x02/a\x02"],
    );
}

#[test]
fn an_event_of_a_kind_that_is_not_known_is_an_event_all_the_same() {
    let unknown = Reply::Event(Event { sequence: 300, monotonic_us: 5, instance: Some(about()), kind: None });
    let begin = b"\x01\x04\xac\x02\x05\x01\xac\x02\x05web-1";
    for (kind, what) in [
        (&b"\x03\x63ab"[..], "a kind that was appended"),
        (b"\x02\x01\x63", "a state that was appended to those of a known kind"),
        (b"\x02\x0b\x00", "a known kind with more fields"),
        (b"\x01\x06", "a known kind with fewer fields"),
        (b"\x00", "none"),
    ] {
        assert_eq!(decode(&[&begin[..], kind].concat()).as_ref(), Ok(&unknown), "{what}");
    }
    assert_eq!(encode(&unknown), None, "nobody sends what it does not know");
    assert!(decode::<Reply>(&[&begin[..], b"\x03\x63a"].concat()).is_err(), "shorter than it says");
    assert!(decode::<Reply>(b"\x01\x63").is_err(), "a reply of a kind that is not known");
}

#[test]
fn a_log_record_is_found_in_its_packet_and_in_no_other() {
    let record = LogRecord {
        monotonic_ms: 300,
        priority: 4,
        identifier: clipped("instance/web-1"),
        pid: 80,
        message: clipped("link is down"),
    };
    let packet = encode(&Reply::Log(record.clone())).unwrap();
    assert_eq!(LogRecord::in_packet(&packet), Some(record));
    assert_eq!(LogRecord::in_packet(&packet[..packet.len() - 1]), None);
    let service = ServiceStatus { name: clipped("netd"), pid: None, restarts: 0 };
    let event = Event { sequence: 1, monotonic_us: 1, instance: None, kind: Some(EventKind::Added) };
    for other in [Reply::Service(service), Reply::Event(event), Reply::Done, Reply::Refused(failure())] {
        assert_eq!(LogRecord::in_packet(&encode(&other).unwrap()), None, "{other:?}");
    }
}
