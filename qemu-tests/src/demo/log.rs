//! Step 2, the log: what programs of the system send to the journal's socket is in init's log, whatever way it comes. The
//! sender's process id is the kernel's word and comes with nothing but that socket.

use super::{Demo, StepError};
use crate::board::BoardError;
use crate::report::{Observer, Witness};
use serde_json::Value;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);
/// How long the entries of a program are, and how each is sent: a socket takes some 160 to 210 KiB as one datagram, and init
/// looks at the first 64 KiB.
const ENTRIES: [(&str, &str); 3] =
    [("10", "one datagram"), ("100", "a datagram that init cuts"), ("300", "a sealed memfd")];
/// As much of a message as the log keeps.
const KEPT_BYTES: usize = 2048;

/// netd's own entries, and those of a program that has much to say. Both send them by `tracing-journald`.
pub(super) fn entries(demo: &Demo<'_>, observer: &mut Observer, netd: &Value) -> Result<(), StepError> {
    let entry =
        wait_for(demo, "an entry of netd", |record| record["identifier"] == "netd" && record["pid"] == *netd)?;
    observer.note("netd logs through the journal's socket", &entry["message"]);
    for (kib, way) in ENTRIES {
        let word = format!("entry-of-{kib}-KiB");
        // The shell says its number, which is the program's afterwards.
        let script = format!("echo $$; exec /usr/bin/guest-log {word} {kib}");
        let said = demo.board.agent.output(&["/bin/sh", "-c", &script], TIMEOUT).map_err(BoardError::Agent)?;
        let sender = said.lines().next().unwrap_or_default();
        let message = |record: &Value| record["message"].as_str().unwrap_or_default().to_owned();
        let entry = wait_for(demo, &word, |record| message(record).starts_with(&format!("{word} .")))?;
        let is_attested = entry["identifier"] == "guest-log"
            && entry["pid"].as_u64().is_some_and(|pid| sender.trim().parse() == Ok(pid));
        let (identifier, pid, length) = (&entry["identifier"], &entry["pid"], message(&entry).len());
        let shown = format!("{identifier}[{pid}]: {length} bytes kept of {word}; its sender is {sender}");
        observer.check(
            Witness::Peer,
            &format!("an entry of {kib} KiB is logged as its sender's, by {way}"),
            shown,
            is_attested && message(&entry).len() == KEPT_BYTES,
        )?;
    }
    Ok(())
}

fn wait_for(demo: &Demo<'_>, waited_for: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value, StepError> {
    let ask = || demo.board.yado(&["rescue", "logs", "--format", "json"]).map(Value::String);
    Ok(demo.board.wait_for(waited_for, TIMEOUT, ask, |said| {
        let mut records = said.as_str()?.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.find(|record| is_it(record))
    })?)
}
