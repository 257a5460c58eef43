//! As many instances as there may be.

use crate::host::{self, Host};
use std::fs;
use std::time::Instant;
use yado_wire::MAX_INSTANCES;
use yado_wire::rescue::{ApplyOutcome, InstanceState, Reply, Request};

const RUNS: &str = "[config]\nboot.autostart = true\nhealth.window = \"100ms\"\n";

/// What one more may cost PID 1.
const MAX_KIB_EACH: u64 = 24;

#[test]
fn as_many_as_there_may_be_run_and_one_more_is_refused_with_the_bound() {
    let Some(host) = Host::with(&[("i0", RUNS)]) else { return };
    let mut host = host.start();
    let (mut there, mut seen, mut first_reader) = (1, Vec::new(), None);
    for count in [1, 50, MAX_INSTANCES] {
        for number in there..count {
            host.add_instance(&format!("i{number}"), RUNS);
        }
        there = count;
        host.apply();
        host.wait_until(&format!("{count} are ready"), |host| {
            let is_ready =
                |reply: &&Reply| matches!(reply, Reply::Instance(one) if one.state == InstanceState::Ready);
            host.ask(&Request::Status).iter().filter(is_ready).count() == count
        });
        // One of them is started again beside all others.
        let stop = Request::Stop { instance: crate::name("i0"), timeout_s: None, force: true };
        assert_eq!(host.ask(&stop), [Reply::Done]);
        let start = Instant::now();
        assert_eq!(host.ask(&Request::Start(crate::name("i0"))), [Reply::Done]);
        let start = start.elapsed();
        let asked = Instant::now();
        host.ask(&Request::Status);
        seen.push((count, host.held().pss_kib, start, asked.elapsed(), host::kernel_memory_kib()));
        // One that has no room for their sockets ends, and another takes its place.
        let reader = host.reader().unwrap();
        assert_eq!(*first_reader.get_or_insert(reader), reader, "{count} instances");
    }
    for (count, pss_kib, start, status, kernel_kib) in &seen {
        println!(
            "{count} instances: init's PSS {pss_kib} KiB, one more starts in {start:?}, status {status:?}, \
             the kernel's own memory {kernel_kib} KiB"
        );
    }
    let (few, many) = (&seen[1], &seen[2]);
    let each = many.1.saturating_sub(few.1) / (many.0 - few.0) as u64;
    assert!(each < MAX_KIB_EACH, "{each} KiB for each more");
    host.add_instance("late", RUNS);
    let outcomes = host.apply();
    let [(name, ApplyOutcome::Refused(failure))] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(name, "late");
    assert!(failure.reason.contains(&MAX_INSTANCES.to_string()), "{failure}");
    let runtime = fs::read_dir(host.path("run/instances")).unwrap().count();
    assert_eq!(runtime, MAX_INSTANCES);
    assert!(host.end().success());
}
