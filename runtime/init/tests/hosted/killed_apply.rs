//! Any process of ours is killed while an apply is at work: each instance and each network is as it was or as it is to be, and
//! nothing of what was begun is left.

use crate::host::{Host, Running};
use crate::name;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};
use yado_sys::poll::PollSet;
use yado_wire::rescue::{ApplyOutcome, InstanceState, Reply, Request};

const RUNS: &str = "[config]\nboot.autostart = true\n";

/// How often each is killed, each time later in the apply: more often when `cargo accept --long` has more applies made, too.
fn moments(victim: Victim) -> u32 {
    // Whoever is killed often waits longer each time until it is started again.
    let is_long = std::env::var_os("YADO_TEST_APPLIES").is_some() && victim != Victim::Netd;
    if is_long { 40 } else { 3 }
}

/// So often all of them are tried until one was met at work.
const MAX_ROUNDS: u32 = 10;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Command,
    Init,
    Netd,
    Reader,
    Launcher,
}

/// Two configurations, between which the applies go to and fro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Configuration {
    Red,
    Blue,
}

impl Configuration {
    fn word(self) -> &'static str {
        match self {
            Configuration::Red => "red",
            Configuration::Blue => "blue",
        }
    }

    /// The instances beside `stays`, each with its network.
    fn instances(self) -> [(&'static str, &'static str); 2] {
        match self {
            Configuration::Red => [("changed", "lan0"), ("leaves", "lan0")],
            Configuration::Blue => [("changed", "lan0"), ("comes", "lan1")],
        }
    }

    /// The networks, each with its address.
    fn networks(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Configuration::Red => &[("lan0", "10.203.1.1")],
            Configuration::Blue => &[("lan0", "10.203.2.1"), ("lan1", "10.203.3.1")],
        }
    }

    fn other(self) -> Configuration {
        match self {
            Configuration::Red => Configuration::Blue,
            Configuration::Blue => Configuration::Red,
        }
    }

    /// The file of one of its instances.
    fn text(self, network: &str) -> String {
        let word = self.word();
        format!(
            "image = \"stays\"\n[config]\nboot.autostart = true\nboot.autorestart = true\n\
            environment.COLOUR = \"{word}\"\nenvironment.SHADE = \"{word}\"\n\
            [devices.eth0]\ntype = \"nic\"\nnetwork = \"{network}\"\n"
        )
    }
}

/// What a person would do: networks are written and removed, one instance is deleted, and the files of the others are applied.
fn begin_apply(host: &Running, wanted: Configuration) -> Child {
    for (network, _) in wanted.other().networks() {
        let _ = fs::remove_file(host.path(&format!("data/networks/{network}.toml")));
    }
    fs::create_dir_all(host.path("data/networks")).unwrap();
    for (network, address) in wanted.networks() {
        let text = format!("[config]\nipv4.address = \"{address}/24\"\n");
        fs::write(host.path(&format!("data/networks/{network}.toml")), text).unwrap();
    }
    let [_, (deleted, _)] = wanted.other().instances();
    let _ = fs::remove_file(host.path(&format!("data/instances/{deleted}/instance.toml")));
    let files = host.path(wanted.word());
    fs::create_dir_all(&files).unwrap();
    let files: Vec<PathBuf> = wanted
        .instances()
        .iter()
        .map(|(name, network)| {
            let file = files.join(format!("{name}.toml"));
            fs::write(&file, wanted.text(network)).unwrap();
            file
        })
        .collect();
    host.begin_apply(&files)
}

/// Waits for so long; the victim is then killed as soon as it is there. `false`: it was not there before the apply was over.
fn kill(host: &mut Running, victim: Victim, applying: &mut Child, after: Duration) -> bool {
    PollSet::default().wait(Some(after)).unwrap();
    let words: &[&str] = match victim {
        Victim::Command => {
            let is_at_work = applying.try_wait().unwrap().is_none();
            applying.kill().unwrap();
            return is_at_work;
        }
        Victim::Init => {
            let is_at_work = applying.try_wait().unwrap().is_none();
            host.kill();
            return is_at_work;
        }
        Victim::Netd => &["yado-netd"],
        Victim::Reader => &["", "--datagram-reader"],
        Victim::Launcher => &["yado-container", "run"],
    };
    loop {
        let is_over = applying.try_wait().unwrap().is_some();
        if let Some(pid) = host.child_with(words) {
            host.kill_process(pid);
            return !is_over;
        }
        if is_over {
            return false;
        }
    }
}

/// Each instance's file is one of the two, and so is all that it was started with.
fn assert_whole(host: &Running, when: &str) {
    for configuration in [Configuration::Red, Configuration::Blue] {
        for (name, _) in configuration.instances() {
            let Ok(text) = fs::read_to_string(host.path(&format!("data/instances/{name}/instance.toml"))) else {
                continue;
            };
            let is_one = [Configuration::Red, Configuration::Blue]
                .iter()
                .any(|one| one.instances().iter().any(|(of, network)| *of == name && one.text(network) == text));
            assert!(is_one, "{when}: {name}: {text}");
        }
    }
    for reply in host.ask(&Request::Status) {
        let Reply::Instance(status) = reply else { continue };
        let Some(environ) = status.pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/environ")).ok()) else {
            continue;
        };
        let said: BTreeSet<&str> = environ
            .split('\0')
            .filter_map(|word| word.strip_prefix("COLOUR=").or(word.strip_prefix("SHADE=")))
            .collect();
        let most = usize::from(status.name.as_str() != "stays");
        assert!(said.len() <= most, "{when}: {}: {said:?}", status.name);
    }
}

/// All is as it is to be, and nothing else is there.
fn assert_is(host: &Running, wanted: Configuration, when: &str) {
    let mut expected: BTreeSet<String> = BTreeSet::from(["stays".to_owned()]);
    expected.extend(wanted.instances().iter().map(|(name, _)| (*name).to_owned()));
    let names = |host: &Running| {
        let replies = host.ask(&Request::Status);
        let names = replies.into_iter().filter_map(|reply| match reply {
            Reply::Instance(status) => Some(status.name.to_string()),
            _ => None,
        });
        names.collect::<BTreeSet<_>>()
    };
    assert_eq!(names(host), expected, "{when}");
    for name in &expected {
        let is_up = |host: &Running| matches!(host.state(name), InstanceState::Running | InstanceState::Ready);
        host.wait_until(&format!("{when}: {name} runs"), is_up);
    }
    let status = host.status("changed");
    if status.waits_for_restart {
        assert_eq!(host.ask(&Request::Restart(name("changed"))), [Reply::Done], "{when}");
    }
    let environ = fs::read_to_string(format!("/proc/{}/environ", host.status("changed").pid.unwrap())).unwrap();
    let word = wanted.word();
    assert!(environ.contains(&format!("COLOUR={word}\0")) && environ.contains(&format!("SHADE={word}\0")), "{when}");
    // The kernel's groups and our directories are those of the instances, each by the id that it has always had.
    let groups: BTreeSet<String> = expected.iter().map(|name| format!("{name}.{}", host.status(name).id)).collect();
    host.wait_until("nothing else is there", |host| {
        host.groups() == groups && listed(&host.path("run/instances")) == groups
    });
    // Interfaces: the loopback, each network's bridge, and each nic's end outside.
    host.wait_until("its networks are those, and none else", |host| {
        let links = host.links();
        let bridges: BTreeSet<&str> =
            links.iter().map(String::as_str).filter(|link| link.starts_with("lan")).collect();
        let wanted_bridges: BTreeSet<&str> = wanted.networks().iter().map(|(network, _)| *network).collect();
        let all = [Configuration::Red, Configuration::Blue].map(Configuration::networks);
        let are_addressed = all
            .iter()
            .copied()
            .flatten()
            .all(|network| host.has_address(network.1) == wanted.networks().contains(network));
        bridges == wanted_bridges && are_addressed && links.len() == 1 + bridges.len() + wanted.instances().len()
    });
    let left = aside(&host.path("data")).into_iter().chain(aside(&host.path("run"))).collect::<Vec<_>>();
    assert!(left.is_empty(), "{when}: {left:?}");
}

fn listed(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Files that were written aside and never renamed. What is in layers is the instances' own.
fn aside(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let file = entry.file_name().into_string().unwrap();
        if kind.is_dir() && file != "layers" && file != "instances.run" {
            found.extend(aside(&path));
        } else if file.starts_with('.') && file.ends_with(".new") {
            found.push(path);
        }
    }
    found
}

#[test]
fn whoever_of_ours_is_killed_during_an_apply_it_is_before_or_after_and_never_between() {
    let Some(host) = Host::with(&[("stays", RUNS)]) else { return };
    // It ends as soon as it is asked to.
    host.use_image_with_init(
        "stays",
        &["/bin/sh", "-c", "trap 'exit 0' USR2; while :; do sleep 1000 & wait $!; done"],
    );
    let mut host = host.start();
    let mut wanted = Configuration::Red;
    let mut longest = Duration::ZERO;
    // Each once as it is: that gives their ids, and says how long it takes.
    for _ in 0..3 {
        let began = Instant::now();
        assert!(begin_apply(&host, wanted).wait().unwrap().success());
        longest = began.elapsed();
        assert_is(&host, wanted, "nobody was killed");
        wanted = wanted.other();
    }
    // Who was there once keeps its id with its layer, and nobody new comes.
    let ids = fs::read_to_string(host.path("data/state/ids")).unwrap();
    let victims = [Victim::Command, Victim::Init, Victim::Netd, Victim::Reader, Victim::Launcher];
    for victim in victims {
        let mut hits = 0;
        let moments = moments(victim);
        for attempt in 0..moments * MAX_ROUNDS {
            // A launcher is there for some milliseconds, and who looks for it may look elsewhere just then.
            if moments <= attempt && hits != 0 {
                break;
            }
            let after = longest * (attempt % moments) / moments;
            let when = format!("{victim:?} was killed {} ms after the apply to {wanted:?} began", after.as_millis());
            let mut applying = begin_apply(&host, wanted);
            hits += u32::from(kill(&mut host, victim, &mut applying, after));
            applying.wait().unwrap();
            if victim == Victim::Init {
                host = host.start_again();
            }
            assert_whole(&host, &when);
            // The next one goes on as if nothing had been; only while init still works for the one that was killed, and without
            // netd until that is back, it says so.
            let again = |host: &Running| begin_apply(host, wanted).wait().unwrap().success();
            match victim {
                Victim::Command | Victim::Init | Victim::Netd => {
                    host.wait_until(&format!("{when}: an apply succeeds"), again);
                }
                Victim::Reader | Victim::Launcher => assert!(again(&host), "{when}"),
            }
            assert_is(&host, wanted, &when);
            assert_eq!(fs::read_to_string(host.path("data/state/ids")).unwrap(), ids, "{when}");
            wanted = wanted.other();
        }
        assert_ne!(hits, 0, "{victim:?} was never killed during an apply");
        println!("{victim:?}: killed {hits} times during an apply");
    }
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}

#[test]
fn who_is_who_is_known_although_it_could_not_be_written_and_the_next_apply_writes_it() {
    let Some(host) = Host::with(&[("one", RUNS)]) else { return };
    let mut host = host.start();
    host.wait_for("one", InstanceState::Running);
    // There it is written first.
    let aside = host.path("data/state/.ids.new");
    let obstruct = || fs::create_dir(&aside).unwrap();
    let clear = |host: &Running| {
        host.logs_until(None, "identities: ended with code 1");
        fs::remove_dir(&aside).unwrap();
    };
    let written = |host: &Running| fs::read_to_string(host.path("data/state/ids")).unwrap();
    obstruct();
    host.add_instance("two", RUNS);
    assert_eq!(host.apply(), [("two".to_owned(), ApplyOutcome::Added)]);
    host.wait_for("two", InstanceState::Running);
    clear(&host);
    assert!(!written(&host).contains(" two "));
    assert!(host.apply().is_empty(), "nothing is new");
    host.wait_until("it is written", |host| written(host).contains("\n2 two 1065536 65536\n"));

    // The same, and then init itself is killed: its layer says who it is.
    obstruct();
    host.add_instance("three", RUNS);
    host.add_instance("another", "");
    host.apply();
    host.wait_for("three", InstanceState::Running);
    let before = (host.status("three").id, host.first_host_id("three"));
    clear(&host);
    host.kill();
    let mut host = host.start_again();
    host.wait_for("three", InstanceState::Running);
    assert_eq!((host.status("three").id, host.first_host_id("three")), before);
    assert!(host.end().success());
    assert_eq!(host.left_over(), [""; 0]);
}
