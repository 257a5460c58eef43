//! The mounts of images that init keeps from one start to the next.

use super::host::{Host, Running, next_reply};
use super::name;
use std::fs;
use std::time::{Duration, Instant};
use yado_sys::poll::PollSet;
use yado_wire::rescue::{EventKind, InstanceState, Reply, Request};
use yado_wire::{InstanceName, Step};

/// Waits until a change of the image would give its file another time than it has: one that was just built is not kept.
fn settle(host: &Host) {
    let image = host.path("system/images/aliases/busybox/image");
    let deadline = Instant::now() + Duration::from_secs(20);
    let age = || fs::metadata(&image).unwrap().modified().unwrap().elapsed().unwrap_or_default();
    while age() < Duration::from_secs(4) {
        assert!(Instant::now() < deadline, "the clock stands still");
        PollSet::default().wait(Some(Duration::from_millis(50))).unwrap();
    }
}

/// Of the starts that were told so far, or will have been told when so many were: whether the image was hashed.
fn starts(host: &Running, count: usize) -> Vec<(InstanceName, bool)> {
    let socket = host.connect(&Request::Events, &[]);
    let mut starts = Vec::new();
    while starts.len() < count {
        let Some(Reply::Event(event)) = next_reply(&socket) else { panic!("{starts:?}") };
        if let (Some(instance), Some(EventKind::Started { steps, .. })) = (event.instance, event.kind) {
            starts.push((instance.name, steps.iter().any(|step| step.step == Step::Verity)));
        }
    }
    starts
}

#[test]
fn an_image_is_hashed_by_the_first_start_and_used_by_all_others() {
    let instance = "[config]\nboot.autostart = true\n";
    let Some(host) = Host::with(&[("one", instance), ("two", instance), ("three", instance)]) else { return };
    settle(&host);
    let mut host = host.start();
    let hashed = starts(&host, 3).iter().filter(|(_, was_hashed)| *was_hashed).count();
    assert_eq!(hashed, 1, "they start at once, and one is waited for");
    for instance in ["one", "two", "three"] {
        host.wait_for(instance, InstanceState::Running);
    }
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    for instance in ["one", "two", "three"] {
        let stop = Request::Stop { instance: name(instance), timeout_s: None, force: true };
        assert_eq!(host.ask(&stop), [Reply::Done]);
    }
    // Nobody uses it now.
    assert_eq!(host.ask(&Request::Start(name("two"))), [Reply::Done]);
    assert_eq!(starts(&host, 5)[3..], [(name("one"), false), (name("two"), false)]);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn a_removed_image_is_let_go_of_and_one_in_its_place_is_hashed() {
    let Some(host) = Host::with(&[("one", "[config]\nboot.autostart = true\n")]) else { return };
    settle(&host);
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    assert_eq!(host.watched_files(), 1);
    let image = host.path("system/images/aliases/busybox/image");
    let copy = image.with_extension("copy");
    fs::copy(&image, &copy).unwrap();
    fs::rename(&copy, &image).unwrap();
    host.wait_until("nothing is kept of the old file", |host| host.watched_files() == 0);
    assert_eq!(host.ask(&Request::Restart(name("one"))), [Reply::Done]);
    assert_eq!(starts(&host, 2), [(name("one"), true), (name("one"), true)]);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
