//! Whether an instance runs: by its status, which is init's word, and by the kernel, whose it is to know.

use super::bench::{Bench, TIMEOUT, shown, text};
use super::failure::BrokenError;
use crate::board::{Seen, instance};
use crate::report::{Observer, Witness};
use serde_json::Value;

/// Waits until it is ready, or has failed; it must be ready.
pub(super) fn is_ready(
    bench: &Bench<'_>,
    observer: &mut Observer,
    what: &str,
    name: &str,
) -> Result<Value, BrokenError> {
    let status = bench.wait_settled(name)?;
    runs(bench, observer, what, name, &status, status["state"] == "ready")?;
    Ok(status)
}

/// With this status, of which something `is_so`, its first process is there.
pub(super) fn runs(
    bench: &Bench<'_>,
    observer: &mut Observer,
    what: &str,
    name: &str,
    status: &Value,
    is_so: bool,
) -> Result<(), BrokenError> {
    let Seen { shown: of_kernel, holds } = bench.board()?.first_process(name, &status["pid"]);
    observer.check(Witness::Kernel, what, format!("{}; {of_kernel}", shown(status)), is_so && holds)?;
    Ok(())
}

/// With this status, in which what `is_told` is, nothing of it is there.
pub(super) fn runs_not(
    bench: &Bench<'_>,
    observer: &mut Observer,
    what: &str,
    name: &str,
    status: &Value,
    is_told: bool,
) -> Result<(), BrokenError> {
    observer.check(Witness::OwnWord, what, shown(status), is_told)?;
    let left = bench.board()?.remains(name)?;
    let seen = if left.is_empty() { "none" } else { &left };
    observer.check(Witness::Kernel, &format!("{name} has no process and no group"), seen, left.is_empty())?;
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
        let status = instance(&after, name).cloned().unwrap_or_default();
        runs(bench, observer, &format!("{name} runs on"), name, &status, seen(before) == seen(&after))?;
    }
    Ok(())
}

/// Waits until netd says that the uplink has an address; the kernel must say so too.
pub(super) fn uplink_has_lease(bench: &Bench<'_>, observer: &mut Observer, what: &str) -> Result<(), BrokenError> {
    let uplink = bench.board()?.wait_status("uplink with a lease", TIMEOUT, |status| {
        let uplink = status["links"].as_array()?.iter().find(|link| link["role"] == "uplink")?;
        uplink["addresses"][0].is_string().then(|| uplink.clone())
    })?;
    let Seen { shown, holds } = bench.board()?.has_addresses(&uplink)?;
    let told = text(&uplink["addresses"][0]);
    observer.check(Witness::Kernel, what, format!("{told}; {shown}"), holds)?;
    Ok(())
}
