//! A start that is met by a freeze of all instances, as the guard of a board's memory freezes them: it goes on when they do, or has
//! failed when its time is over, and holds up nobody.

use crate::host::{Host, Running};
use crate::{name, refusal};
use std::time::{Duration, Instant};
use yado_sys::poll::PollSet;
use yado_wire::rescue::{InstanceState, Reply, Request};

const START_TIMEOUT_S: u32 = 4;

fn pass(time: Duration) {
    PollSet::default().wait(Some(time)).unwrap();
}

fn start() -> Request {
    Request::Start(name("one"))
}

fn stop_by_force(host: &Running) {
    let stop = Request::Stop { instance: name("one"), timeout_s: None, force: true };
    assert_eq!(host.ask(&stop), [Reply::Done]);
}

#[test]
fn a_start_that_is_met_by_a_freeze_goes_on_with_the_others_or_fails_by_name() {
    let Some(host) = Host::with(&[("one", "[config]\nhealth.window = \"100ms\"\n")]) else { return };
    host.say_start_timeout(START_TIMEOUT_S);
    let mut host = host.start();
    // The group of all instances is made with the first one.
    host.wait_until("it starts", |host| host.ask(&start()) == [Reply::Done]);
    stop_by_force(&host);
    // At its birth, and at moments of the launcher's work. A whole start takes about 20 ms.
    for after in [None, Some(1), Some(3), Some(6), Some(10), Some(20), Some(40)] {
        if after.is_none() {
            host.freeze_all(true);
        }
        let _asked = host.connect(&start(), &[]);
        if let Some(after) = after {
            pass(Duration::from_millis(after));
            host.freeze_all(true);
        }
        host.wait_until("it stands still", |host| host.stands_still("one"));
        pass(Duration::from_millis(100));
        host.freeze_all(false);
        host.wait_for("one", InstanceState::Ready);
        stop_by_force(&host);
    }
    // For longer than a start may take, or its first part, in which nothing but a process is made.
    host.freeze_all(true);
    let began = Instant::now();
    let asked = host.connect(&start(), &[]);
    host.wait_until("it stands still", |host| host.stands_still("one"));
    assert_eq!(host.state("one"), InstanceState::Starting, "and init answers");
    host.wait_for("one", InstanceState::Failed);
    let took = began.elapsed();
    let limit = Duration::from_secs(START_TIMEOUT_S.into());
    assert!(limit <= took && took < limit + Duration::from_secs(5), "{took:?}");
    let failure = refusal(crate::replies(&asked, Duration::from_secs(5)));
    let is_named = failure.reason.contains("it was not started") && failure.reason.contains("its step was");
    let is_kept = host.status("one").last_failure.as_ref() == Some(&*failure);
    assert!(is_named && is_kept, "{failure}");
    assert!(!host.stands_still("one"), "what stood still is gone");
    host.freeze_all(false);
    assert_eq!(host.ask(&start()), [Reply::Done]);
    host.wait_for("one", InstanceState::Ready);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
