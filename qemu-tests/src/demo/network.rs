//! Step 4: addresses, names, and the way out.

use super::start::read;
use super::{Demo, StepError, printed};
use crate::board::container_images::{TOOL, greeting};
use crate::board::outside::{ADDRESS, PAGE};
use crate::board::{Seen, has_inside, instance};
use crate::report::{Observer, Witness};
use std::time::Duration;

const LEASE_TIMEOUT: Duration = Duration::from_secs(60);
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn reach(demo: &mut Demo<'_>, observer: &mut Observer) -> Result<(), StepError> {
    let bridge = demo.board.wait_status("network yado0", LEASE_TIMEOUT, |status| {
        let bridge = status["links"].as_array()?.iter().find(|link| link["name"] == "yado0")?;
        Some(bridge.clone())
    })?;
    let told = bridge["addresses"].to_string();
    let Seen { shown, holds } = demo.board.has_addresses(&bridge)?;
    let has_its = told.contains("10.158.0.1/24") && holds;
    observer.check(Witness::Kernel, "the bridge has its address", format!("{told}; {shown}"), has_its)?;
    for name in ["busybox", "debian"] {
        let address = demo.board.wait_lease(name, LEASE_TIMEOUT)?;
        let pid = &instance(&demo.board.status()?, name).map(|entry| entry["pid"].to_string()).unwrap_or_default();
        let has_it = has_inside(&read(demo, &format!("/proc/{pid}/net/fib_trie"))?, &address);
        observer.check(
            Witness::Kernel,
            &format!("{name} leased an address, and has it"),
            format!("{address}, {} in its own name space", if has_it { "which is" } else { "which is not" }),
            address.starts_with("10.158.0.") && has_it,
        )?;
    }
    for (from, to) in [("busybox", "debian"), ("debian", "busybox")] {
        let said = fetch(demo, from, to, "80")?;
        let body = printed(&said, "body").unwrap_or_default();
        observer.check(Witness::Peer, &format!("{from} fetches http://{to}/"), &said, body == greeting(to))?;
    }
    let port = demo.outside.port().to_string();
    for from in ["busybox", "debian"] {
        let before = demo.outside.answered();
        let said = fetch(demo, from, ADDRESS, &port)?;
        let is_reached = printed(&said, "body") == Some(PAGE) && before < demo.outside.answered();
        observer.check(
            Witness::OtherEnd,
            &format!("{from} fetches a page of this machine, through NAT"),
            &said,
            is_reached,
        )?;
    }
    Ok(())
}

/// Fetches once; a name that is not known yet is asked for again until the deadline, by asking again.
fn fetch(demo: &Demo<'_>, from: &str, host: &str, port: &str) -> Result<String, StepError> {
    let ask = || {
        let ran = demo.board.exec(from, &[TOOL, "get", host, port, "/"], FETCH_TIMEOUT)?;
        Ok(serde_json::Value::String(format!("{}{}", ran.stdout, ran.stderr)))
    };
    let waited_for = format!("page of {host} in {from}");
    Ok(demo.board.wait_for(&waited_for, FETCH_TIMEOUT, ask, |said| {
        let said = said.as_str()?;
        printed(said, "status").map(|_| said.to_owned())
    })?)
}
