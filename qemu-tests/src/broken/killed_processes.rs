//! Processes that die where nobody expects it: netd, and the first process of an instance.

use super::bench::{Bench, TIMEOUT, service, text};
use super::clock::NETWORK;
use super::failure::BrokenError;
use super::instance_runs::{runs, runs_not, runs_on, uplink_has_lease};
use crate::board::container_images::{TOOL, greeting};
use crate::board::instance;
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::Value;

/// QEMU's user network answers for its gateway itself.
const GATEWAY: &str = "10.0.2.2";
const WITH_INTERFACE: [&str; 2] = ["crab", "shell"];

pub(super) fn netd(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let addresses = addresses(bench)?;
    let are_ours = addresses.iter().all(|address| address.starts_with(NETWORK));
    observer.check(Witness::Peer, "the containers have addresses of yado0's", addresses.join(", "), are_ours)?;
    reach(bench, observer)?;
    let before = bench.status()?;
    let old = service(&before, "netd").cloned().unwrap_or_default();
    bench.shell(&format!("kill -9 {}", old["pid"]))?;
    let new = bench.board()?.wait_status("netd that runs again", TIMEOUT, |status| {
        let netd = service(status, "netd")?;
        (netd["pid"].is_number() && netd["pid"] != old["pid"]).then(|| netd.clone())
    })?;
    let seen = format!("pid {} was killed, pid {} runs, {} restarts", old["pid"], new["pid"], new["restarts"]);
    let is_once = new["restarts"].as_u64() == old["restarts"].as_u64().map(|count| count + 1);
    observer.check(Witness::OwnWord, "netd is started again, once", seen, is_once)?;
    let look = format!("for pid in {} {}; do readlink /proc/$pid/exe; done; true", old["pid"], new["pid"]);
    let programs = bench.shell(&look)?;
    let is_another = programs.lines().count() == 1 && programs.ends_with("/yado");
    observer.check(Witness::Kernel, "the old process is gone, and the new one is there", &programs, is_another)?;
    uplink_has_lease(bench, observer, "the new one has the uplink's lease")?;
    let now = self::addresses(bench)?;
    observer.check(Witness::Peer, "the containers have the same addresses", now.join(", "), now == addresses)?;
    reach(bench, observer)?;
    runs_on(bench, observer, &before, &WITH_INTERFACE)
}

fn addresses(bench: &Bench<'_>) -> Result<Vec<String>, BrokenError> {
    let address = |name: &str| {
        let ask = || {
            let ran = bench.board()?.exec(name, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"], TIMEOUT)?;
            Ok::<_, BrokenError>(ran.stdout.split_whitespace().nth(3).map(str::to_owned))
        };
        let found = bench.board()?.wait_for(
            &format!("address of {name}"),
            TIMEOUT,
            || Ok(ask().ok().flatten().map_or(Value::Null, Value::String)),
            |address| address.as_str().map(str::to_owned),
        )?;
        Ok(found)
    };
    WITH_INTERFACE.iter().map(|name| address(name)).collect()
}

/// By name within, and out through the uplink.
fn reach(bench: &Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let page = bench.inside("crab", &format!("{TOOL} get shell 80 /"))?;
    let is_reached = page.stdout.contains(&format!("body={}", greeting("busybox")));
    observer.check(
        Witness::Peer,
        "crab reaches shell by its name",
        format!("{}{}", page.stdout, page.stderr),
        is_reached,
    )?;
    let answer = bench.inside("crab", &format!("ping -c 1 -W 10 {GATEWAY}"))?;
    let said = answer.stdout.lines().nth(1).unwrap_or(&answer.stderr).to_owned();
    observer.check(Witness::Peer, "crab reaches the world outside", said, answer.ended == Ended::Code(0))?;
    Ok(())
}

pub(super) fn init(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let before = bench.status()?;
    let pid = |name: &str| instance(&before, name).map(|found| found["pid"].clone()).unwrap_or_default();
    let (restarted, left) = (pid("spec-flipped"), pid("spec-cut"));
    bench.shell(&format!("kill -9 {restarted} {left}"))?;
    let again = bench.wait_instance("spec-flipped", "runs again", |status| {
        status["state"] == "ready" && status["pid"] != restarted
    })?;
    let seen = format!("pid {restarted} was killed, pid {} runs, {} restarts", again["pid"], again["restarts"]);
    observer.check(Witness::OwnWord, "it is told that it was started again, once", seen, again["restarts"] == 1)?;
    let what = "boot.restart = on-failure: it runs again";
    runs(bench, observer, what, "spec-flipped", &again, again["state"] == "ready")?;
    let failed = bench.wait_instance("spec-cut", "has failed", |status| status["state"] == "failed")?;
    let is_told = text(&failed["last_failure"]["reason"]).contains("killed by signal 9");
    let what = "boot.restart = never: it is left, and how it ended is told";
    runs_not(bench, observer, what, "spec-cut", &failed, is_told)?;
    runs_on(bench, observer, &before, &["crab", "shell", "good"])
}
