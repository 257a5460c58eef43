//! The bytes of a launcher's reports are frozen: where init was started by an older release, the launcher may be of a newer one.
//! Those between init and its datagram reader are of one program, and frozen so that a change is seen.

#![allow(clippy::unwrap_used)]

mod frozen;

use frozen::is_frozen;
use yado_wire::datagrams::{DatagramSource, ReaderReport, ReaderRequest, WatchdogPing};
use yado_wire::launch::{FileIdentity, FileTime, ImageMount, LaunchReport, StepTime};
use yado_wire::names::clipped;
use yado_wire::rescue::LogRecord;
use yado_wire::{Failure, Step};

#[test]
fn version_1_reports_are_frozen() {
    let steps = heapless::Vec::from_iter([
        StepTime { step: Step::Cgroup, micros: 300 },
        StepTime { step: Step::Exec, micros: 7 },
    ]);
    let failure = Failure { errno: 22, ..Failure::refused(Step::Network, "eth0", "no").in_vain() };
    is_frozen(&LaunchReport::Payload { pid: 300 }, &[b"\x00\xd8\x04"]);
    is_frozen(&LaunchReport::Started { steps }, &[b"\x01\x02\x01\xac\x02\x1d\x07"]);
    is_frozen(&LaunchReport::Failed(failure), &[b"\x02\x15\x04eth0,\x02no\x01"]);
    is_frozen(&LaunchReport::ProbePassed, &[b"\x03"]);
    let synced = LaunchReport::DevicesSynced {
        added: heapless::Vec::from_iter([clipped("/dev/a")]),
        removed: heapless::Vec::from_iter([clipped("/dev/b"), clipped("/dev/c")]),
    };
    is_frozen(&synced, &[b"\x04\x01\x06/dev/a\x02\x06/dev/b\x06/dev/c"]);
    is_frozen(&LaunchReport::Image(ImageMount::Given), &[b"\x05\x00"]);
    let identity = FileIdentity {
        device: 300,
        inode: 12,
        size_bytes: 1 << 20,
        modified: FileTime { seconds: -1, nanoseconds: 2 },
        changed: FileTime { seconds: 1_700_000_000, nanoseconds: 999_999_999 },
    };
    is_frozen(
        &LaunchReport::Image(ImageMount::New(identity)),
        &[b"\x05\x01\xac\x02\x0c\x80\x80@\x01\x02\x80\xc4\x9f\xd5\x0c\xff\x93\xeb\xdc\x03"],
    );
    is_frozen(&LaunchReport::Image(ImageMount::Nothing), &[b"\x05\x02"]);
}

#[test]
fn version_1_requests_of_the_datagram_reader_are_frozen() {
    is_frozen(&ReaderRequest::Watch(DatagramSource::Instance { run: 300 }), &[b"\x00\x00\xac\x02"]);
    is_frozen(&ReaderRequest::Watch(DatagramSource::Services), &[b"\x00\x01"]);
    is_frozen(&ReaderRequest::Watch(DatagramSource::Journal), &[b"\x00\x02"]);
    is_frozen(&ReaderRequest::Hold, &[b"\x01"]);
    is_frozen(&ReaderRequest::Discard(DatagramSource::Syslog), &[b"\x02\x03"]);
    is_frozen(&ReaderRequest::Release, &[b"\x03"]);
    is_frozen(&ReaderRequest::Ping, &[b"\x04"]);
}

#[test]
fn version_1_reports_of_the_datagram_reader_are_frozen() {
    let notification = |is_ready, status: Option<&str>, ping| ReaderReport::Notification {
        run: 300,
        uid: 1000,
        is_ready,
        status: status.map(clipped),
        ping,
    };
    is_frozen(&ReaderReport::Done, &[b"\x00"]);
    is_frozen(
        &notification(true, Some("up"), Some(WatchdogPing::Alive)),
        &[b"\x01\xac\x02\xe8\x07\x01\x01\x02up\x01\x00"],
    );
    is_frozen(&notification(false, None, Some(WatchdogPing::Trigger)), &[b"\x01\xac\x02\xe8\x07\x00\x00\x01\x01"]);
    is_frozen(&notification(false, None, None), &[b"\x01\xac\x02\xe8\x07\x00\x00\x00"]);
    is_frozen(&ReaderReport::ServiceReady { pid: 80 }, &[b"\x02\xa0\x01"]);
    let record = LogRecord {
        monotonic_ms: 300,
        priority: 4,
        identifier: clipped("web"),
        pid: 80,
        message: clipped("link is down"),
    };
    is_frozen(&ReaderReport::Record(record), &[b"\x03\xac\x02\x04\x03web\xa0\x01\x0clink is down"]);
    is_frozen(&ReaderReport::SentDescriptors { run: 300 }, &[b"\x04\xac\x02"]);
}
