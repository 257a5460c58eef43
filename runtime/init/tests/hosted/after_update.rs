//! What meets after an update: the launcher of a newer release, started by an init that runs since before, and what the release
//! before has compiled.

use super::host::Host;
use super::{name, refusal};
use std::fs;
use yado_wire::rescue::{InstanceState, Reply, Request};

/// A report of kind 99, then what the test wants of it.
const LAUNCHER: &str = "printf '\\001\\143' >&4\n\
    if [ -e \"${0%/*}/ends\" ]; then exit 0; fi\n\
    if [ -e \"${0%/*}/hangs\" ]; then exec sleep 1005; fi\n\
    exec \"$launcher\" \"$@\"";

#[test]
fn an_unknown_report_is_told_and_the_start_has_the_outcome_of_its_others_its_end_or_its_time_limit() {
    let Some(host) = Host::with(&[("one", "")]) else { return };
    host.say_start_timeout(5);
    let mut host = host.start_with_launcher(LAUNCHER);
    // All others are understood.
    assert_eq!(host.ask(&Request::Start(name("one"))), [Reply::Done]);
    assert_eq!(host.state("one"), InstanceState::Running);
    host.logs_until(None, "report of a launcher: message: malformed body");
    let stop = Request::Stop { instance: name("one"), timeout_s: None, force: true };
    assert_eq!(host.ask(&stop), [Reply::Done]);
    // It was the only one, and the launcher ends well.
    fs::write(host.path("bin/ends"), "").unwrap();
    let reason = refusal(host.ask(&Request::Start(name("one")))).reason;
    assert!(reason.contains("ended with code 0 and without a report"), "{reason}");
    fs::remove_file(host.path("bin/ends")).unwrap();
    assert_eq!(host.ask(&stop), [Reply::Done]);
    // It was the only one, and the launcher does not end.
    fs::write(host.path("bin/hangs"), "").unwrap();
    let reason = refusal(host.ask(&Request::Start(name("one")))).reason;
    assert!(reason.contains("was made within"), "{reason}");
    fs::remove_file(host.path("bin/hangs")).unwrap();
    assert_eq!(host.ask(&stop), [Reply::Done]);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
