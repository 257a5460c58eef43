//! Which ids of the host instances have, as the kernel maps them.

use crate::host::{Host, Running};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use yado_wire::Step;
use yado_wire::hash::fnv32;
use yado_wire::rescue::{ApplyOutcome, InstanceState};

const RUNS: &str = "[config]\nboot.autostart = true\n";

fn ids<const N: usize>(host: &Running, names: [&str; N]) -> [u32; N] {
    names.map(|name| {
        host.wait_for(name, InstanceState::Running);
        host.first_host_id(name)
    })
}

fn layer_of(host: &Running, name: &str) -> PathBuf {
    let mut layers = fs::read_dir(host.path("data/layers")).unwrap().map(|entry| entry.unwrap().path());
    layers.find(|layer| fs::read_link(layer.join("owner")).unwrap() == Path::new(name)).unwrap()
}

fn restarted(mut host: Running) -> Running {
    assert!(host.end().success());
    host.start_again()
}

#[test]
fn the_ids_of_an_instance_stay_its_own_whoever_comes_or_goes_and_whatever_is_lost() {
    let Some(host) = Host::with(&[("b", RUNS), ("c", RUNS), ("d", RUNS)]) else { return };
    let host = host.start();
    let [b, c, d] = ids(&host, ["b", "c", "d"]);
    assert_eq!([b, c, d], [1_000_000, 1_065_536, 1_131_072]);
    let file = host.path("data/state/ids");
    let written = fs::metadata(&file).unwrap().ino();

    // Nothing is written where nothing changed. One with an error in its file keeps what it has.
    host.add_instance("c", "[config]\nboot.autostrat = true\n");
    let host = restarted(host);
    assert_eq!(ids(&host, ["b", "d"]), [b, d]);
    assert_eq!(fs::metadata(&file).unwrap().ino(), written);

    // One that comes first in the alphabet.
    host.add_instance("c", RUNS);
    host.add_instance("a", RUNS);
    let host = restarted(host);
    let [a] = ids(&host, ["a"]);
    assert_eq!((a, ids(&host, ["b", "c", "d"])), (1_196_608, [b, c, d]));

    // One that is gone, but for its layer; then the file is lost, or damaged.
    host.remove_instance("b");
    fs::remove_file(&file).unwrap();
    host.add_instance("e", RUNS);
    let host = restarted(host);
    // Nobody knows any more how many ids `a` had, so that much is left as the most that is usual.
    let e = a + (1 << 20);
    assert_eq!(ids(&host, ["a", "c", "d", "e"]), [a, c, d, e]);
    fs::write(&file, "yado-ids 1\na 1000000 65536\n").unwrap();
    host.add_instance("e", &format!("{RUNS}\"security.idmap.size\" = 200000\n"));
    let host = restarted(host);
    assert_eq!(ids(&host, ["a", "c", "d", "e"]), [a, c, d, e]);
    host.logs_until(None, "who has which ids is taken from the instances' layers");

    // With what it has left, its ids are free.
    fs::remove_dir_all(layer_of(&host, "b")).unwrap();
    let mut host = restarted(host);
    assert_eq!(ids(&host, ["a", "c", "d", "e"]), [a, c, d, e]);
    assert!(!fs::read_to_string(&file).unwrap().contains(" b "));
    assert!(host.end().success());
}

#[test]
fn a_range_that_needs_more_ids_is_moved_with_a_word_or_the_instance_does_not_start() {
    let Some(host) = Host::with(&[("d", RUNS), ("e", RUNS)]) else { return };
    let host = host.start();
    let [d, _] = ids(&host, ["d", "e"]);
    host.add_instance("d", &format!("{RUNS}security.nesting = true\n"));
    assert_eq!(host.apply(), [("d".to_owned(), ApplyOutcome::WaitsForRestart)]);
    host.logs_until(None, &format!("and no longer at {d}, where there was no room"));

    // The rest of all ids.
    let most = "[config]\n\"security.idmap.size\" = 1073741824\n";
    ["a", "b", "c"].iter().for_each(|name| host.add_instance(name, most));
    let host = restarted(host);
    let [d] = ids(&host, ["d"]);
    host.add_instance("d", &format!("{RUNS}security.idmap.size = 1073741824\n"));
    host.apply();
    host.logs_until(None, "d: no range of 1073741824 ids is free");
    let mut host = restarted(host);
    host.wait_for("d", InstanceState::Failed);
    let failure = host.status("d").last_failure.unwrap();
    let reason = "no range of 1073741824 ids is free, and it does not start with the 1048576 that it has";
    assert!(failure.step == Step::IdMap && failure.reason.starts_with(reason), "{failure}");
    // It is its own again when it needs no more.
    host.add_instance("d", &format!("{RUNS}security.nesting = true\n"));
    host.apply();
    assert_eq!(ids(&host, ["d"]), [d]);
    assert!(host.end().success());
}

#[test]
fn what_users_of_the_machine_have_for_their_containers_no_new_instance_gets() {
    let Some(host) = Host::with(&[("one", RUNS), ("two", RUNS)]) else { return };
    // One from before the users.
    let text = "yado-ids 3\nnext 2\n1 one 1000000 65536\n";
    host.write("data/state/ids", &format!("{text}sum {:08x}\n", fnv32(text.bytes())));
    let mut host = host.start_with_users("ann:1000000:65536\n", "ann:1065536:65536\n");
    assert_eq!(ids(&host, ["one", "two"]), [1_000_000, 1_131_072]);
    let log = host.logs_until(None, "one: a user of this machine has some of its ids too");
    assert!(!log.iter().any(|line| line.contains("two: a user of this machine")), "{log:?}");
    assert!(host.end().success());
}

#[test]
fn an_instance_that_apply_adds_and_that_has_a_users_ids_is_named_in_the_log() {
    let Some(host) = Host::with(&[("early", RUNS)]) else { return };
    // All that are left.
    let mut host = host.start_with_users("ann:1000000:4293967295\n", "");
    host.add_instance("late", RUNS);
    assert_eq!(host.apply(), [("late".to_owned(), ApplyOutcome::Added)]);
    host.logs_until(None, "late: a user of this machine has some of its ids too");
    assert!(host.end().success());
}
