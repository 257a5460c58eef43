//! Processes that die where nobody expects it: netd, and the first process of an instance.

use super::bench::{Bench, TIMEOUT, instance, service, shown, text};
use super::failure::BrokenError;
use crate::board::container_images::{TOOL, greeting};
use crate::report::{Observer, Witness};
use qemu_guest::Ended;
use serde_json::Value;

/// QEMU's user network answers for its gateway itself.
const GATEWAY: &str = "10.0.2.2";
const WITH_INTERFACE: [&str; 2] = ["crab", "shell"];

pub(super) fn netd(bench: &mut Bench<'_>, observer: &mut Observer) -> Result<(), BrokenError> {
    let addresses = addresses(bench)?;
    observer.note("the containers have addresses", addresses.join(", "));
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
    observer.check(Witness::OwnWord, "netd is started again", seen, is_once)?;
    let uplink = bench.board()?.wait_status("uplink with a lease", TIMEOUT, |status| {
        let uplink = status["links"].as_array()?.iter().find(|link| link["role"] == "uplink")?;
        uplink["addresses"][0].is_string().then(|| uplink["addresses"][0].clone())
    })?;
    observer.note("the new one has the uplink's lease", text(&uplink));
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

/// Each has the same first process as before.
pub(super) fn runs_on(
    bench: &Bench<'_>,
    observer: &mut Observer,
    before: &Value,
    names: &[&str],
) -> Result<(), BrokenError> {
    let after = bench.status()?;
    for name in names {
        let seen =
            |status: &Value| instance(status, name).map(|found| (found["state"].clone(), found["pid"].clone()));
        let (before, after) = (seen(before), seen(&after));
        let shown = after.as_ref().map_or("gone".to_owned(), |(state, pid)| format!("{}, pid {pid}", text(state)));
        observer.check(Witness::OwnWord, &format!("{name} runs on"), shown, before == after)?;
    }
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
    observer.check(
        Witness::OwnWord,
        "boot.restart = on-failure: it is started again",
        seen,
        again["restarts"] == 1,
    )?;
    let failed = bench.wait_instance("spec-cut", "has failed", |status| status["state"] == "failed")?;
    let is_told = text(&failed["last_failure"]["reason"]).contains("killed by signal 9");
    observer.check(
        Witness::OwnWord,
        "boot.restart = never: it is left, and how it ended is told",
        shown(&failed),
        is_told,
    )?;
    runs_on(bench, observer, &before, &["crab", "shell", "good"])
}
