//! A status as text for people and as JSON. Pure: values in, text out.

use super::links;
use super::status::Status;
use crate::apply::Compared;
use crate::output::{bytes, duration, printable, short_fingerprint, table};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;
use yado_spec::changes::Change;
use yado_wire::last_reset::{LastReset, ResetCause};
use yado_wire::rescue::{InstanceState, InstanceStatus, Mode, ServiceStatus, SystemStatus, Verify};
use yado_wire::{Failure, Retry, hex};

const INSTANCE_HEADINGS: [&str; 9] =
    ["INSTANCE", "STATE", "PID", "IMAGE", "UP", "START", "MEMORY", "PROCESSES", "RESTARTS"];

/// One line on the system, then a table each for instances, services and links, then what went wrong.
pub(super) fn render_table(status: &Status) -> String {
    let mut out = system_line(&status.system);
    if let Some(reset) = &status.last_reset {
        let _ = writeln!(out, "last reset: {}", reset_words(reset));
    }
    if status.instances.is_empty() {
        out.push_str("\nno instances\n");
    } else {
        out.push('\n');
        out.push_str(&table(&INSTANCE_HEADINGS, status.instances.iter().map(instance_row)));
    }
    if !status.services.is_empty() {
        out.push('\n');
        out.push_str(&table(&["SERVICE", "PID", "RESTARTS"], status.services.iter().map(service_row)));
    }
    match &status.links {
        Ok(links) if links.is_empty() => {}
        Ok(links) => {
            out.push('\n');
            out.push_str(&table(&links::HEADINGS, links.iter().map(links::row)));
        }
        // Writing to a String does not fail, here and below.
        Err(reason) => {
            let _ = writeln!(out, "\nlinks: {}", printable(reason));
        }
    }
    out.push_str(&troubles(status));
    out
}

/// `{system, last_reset, instances, services, links, links_error}`; times and sizes in the units that the names say.
pub(super) fn render_json(status: &Status) -> Value {
    let Status { system, instances, services, last_reset, links } = status;
    json!({
        "system": system_json(system),
        "last_reset": last_reset.as_ref().map(reset_json),
        "instances": instances.iter().map(instance_json).collect::<Vec<_>>(),
        "services": services.iter().map(service_json).collect::<Vec<_>>(),
        "links": links.as_ref().map_or(Vec::new(), |links| links.iter().map(links::json).collect()),
        "links_error": links.as_ref().err(),
    })
}

/// One instance, what went wrong with it, and which keys it runs with are not those that are configured.
pub(super) fn render_one_table(instance: &InstanceStatus, compared: &Compared) -> String {
    let Compared { differences, not_enforced } = compared;
    let mut out = table(&INSTANCE_HEADINGS, [instance_row(instance)]);
    if !differences.is_empty() {
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let rows = differences.iter().map(|change| vec![change.key.clone(), said(&change.old), said(&change.new)]);
        out.push('\n');
        out.push_str(&table(&["KEY", "RUNS WITH", "CONFIGURED"], rows));
    }
    if let Some((key, reason)) = not_enforced {
        let _ = write!(out, "\n{key}: {reason}\n");
    }
    out.push_str(&instance_troubles(instance));
    out
}

/// The instance as in [`render_json`], with `differences` and `not_enforced`.
pub(super) fn render_one_json(instance: &InstanceStatus, compared: &Compared) -> Value {
    let Compared { differences, not_enforced } = compared;
    let mut value = instance_json(instance);
    let difference =
        |change: &Change| json!({ "key": change.key, "runs_with": change.old, "configured": change.new });
    value["differences"] = differences.iter().map(difference).collect();
    value["not_enforced"] = not_enforced.map(|(key, reason)| json!({ "key": key, "reason": reason })).into();
    value
}

/// A failure as JSON; `events` shows them too.
pub(crate) fn failure_json(failure: &Failure) -> Value {
    let Failure { step, object, errno, reason, retry } = failure;
    let retry = match retry {
        Retry::MayHelp => "may-help",
        Retry::InVain => "in-vain",
        Retry::WhenDeviceComes => "when-device-comes",
    };
    json!({
        "step": step.name(), "object": object.as_str(), "errno": errno, "reason": reason.as_str(), "retry": retry,
    })
}

fn system_line(system: &SystemStatus) -> String {
    let SystemStatus { version, mode, fingerprint, slot, uptime_ms, data: _, verify } = system;
    let mut out = format!("yado {}, {}", printable(version), mode_name(*mode));
    if let Some(slot) = slot {
        let _ = write!(out, ", slot {slot}");
    }
    if let Some(fingerprint) = fingerprint {
        let _ = write!(out, ", image {}", short_fingerprint(fingerprint));
    }
    let up = duration(Duration::from_millis(*uptime_ms));
    let _ = writeln!(out, ", up {up}, images verified at each {}", verify_name(*verify));
    out
}

/// `panic, of slot B; the kernel's log of it is kept`.
fn reset_words(reset: &LastReset) -> String {
    let LastReset { cause, slot, by, reason, is_log_kept } = reset;
    let mut words = match cause {
        ResetCause::Asked => "asked for",
        ResetCause::Panic => "the kernel panicked",
        ResetCause::Watchdog => "the watchdog was not fed",
        ResetCause::Power => "the power was cut, or somebody pressed reset",
        ResetCause::Unknown => "nothing tells why",
    }
    .to_owned();
    for (word, said) in [(" by ", by.as_str()), (": ", reason.as_str())] {
        if !said.is_empty() {
            words.push_str(word);
            words.push_str(&printable(said));
        }
    }
    if let Some(slot) = slot {
        let _ = write!(words, "; slot {slot} was up last");
    }
    if *is_log_kept {
        words.push_str("; what the kernel said is in /data/log/last-kernel-log");
    }
    words
}

fn reset_json(reset: &LastReset) -> Value {
    let LastReset { cause, slot, by, reason, is_log_kept } = reset;
    json!({
        "cause": cause.name(), "slot": slot, "by": by.as_str(), "reason": reason.as_str(), "log_kept": is_log_kept,
    })
}

fn instance_row(status: &InstanceStatus) -> Vec<String> {
    let memory = match (status.memory_bytes, status.memory_limit_bytes) {
        (None, _) => "-".to_owned(),
        (Some(used), None) => bytes(used),
        (Some(used), Some(limit)) => format!("{} of {}", bytes(used), bytes(limit)),
    };
    vec![
        status.name.to_string(),
        status.state.name().to_owned(),
        or_dash(status.pid),
        status.fingerprint.as_ref().map_or("-".to_owned(), short_fingerprint),
        status.uptime_ms.map_or("-".to_owned(), |millis| duration(Duration::from_millis(millis))),
        status.start_us.map_or("-".to_owned(), |micros| format!("{}.{}ms", micros / 1000, micros / 100 % 10)),
        memory,
        or_dash(status.processes),
        status.restarts.to_string(),
    ]
}

fn service_row(status: &ServiceStatus) -> Vec<String> {
    let ServiceStatus { name, pid, restarts } = status;
    vec![name.to_string(), or_dash(*pid), restarts.to_string()]
}

/// What somebody must know: the data partition, and the last failure and memory kills of each instance.
fn troubles(status: &Status) -> String {
    let mut out = String::new();
    if let Some(failure) = &status.system.data {
        let _ = writeln!(out, "data partition: {}", printable(&failure.to_string()));
    }
    for instance in &status.instances {
        out.push_str(&instance_lines(instance));
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

fn instance_troubles(instance: &InstanceStatus) -> String {
    let lines = instance_lines(instance);
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn instance_lines(instance: &InstanceStatus) -> String {
    let mut out = String::new();
    if let Some(failure) = &instance.last_failure {
        let when = if instance.state == InstanceState::Failed { "failed" } else { "failed before" };
        let _ = writeln!(out, "{} {when}: {}", instance.name, printable(&failure.to_string()));
    }
    if let Some(failure) = &instance.refused {
        let _ = writeln!(
            out,
            "{}: its new configuration is not used: {}",
            instance.name,
            printable(&failure.to_string())
        );
    }
    if instance.waits_for_restart {
        let _ = writeln!(
            out,
            "{0}: some of its configuration waits for its next start: yado rescue restart {0}",
            instance.name
        );
    }
    if instance.oom_kills != 0 {
        let _ = writeln!(out, "{}: {} killed for lack of memory", instance.name, instance.oom_kills);
    }
    out
}

fn system_json(system: &SystemStatus) -> Value {
    let SystemStatus { version, mode, fingerprint, slot, uptime_ms, data, verify } = system;
    json!({
        "version": version.as_str(),
        "mode": mode_name(*mode),
        "fingerprint": fingerprint.as_ref().map(|fingerprint| hex::encode(fingerprint)),
        "slot": slot,
        "uptime_ms": uptime_ms,
        "data": data.as_ref().map(failure_json),
        "verify": verify_name(*verify),
    })
}

fn instance_json(status: &InstanceStatus) -> Value {
    let InstanceStatus {
        id,
        name,
        state,
        pid,
        fingerprint,
        uptime_ms,
        restarts,
        start_us,
        memory_bytes,
        memory_limit_bytes,
        processes,
        oom_kills,
        last_failure,
        waits_for_restart,
        refused,
    } = status;
    json!({
        "id": id.0,
        "name": name.as_str(),
        "project": name.project(),
        "state": state.name(),
        "pid": pid,
        "fingerprint": fingerprint.as_ref().map(|fingerprint| hex::encode(fingerprint)),
        "uptime_ms": uptime_ms,
        "restarts": restarts,
        "start_us": start_us,
        "memory_bytes": memory_bytes,
        "memory_limit_bytes": memory_limit_bytes,
        "processes": processes,
        "oom_kills": oom_kills,
        "last_failure": last_failure.as_ref().map(failure_json),
        "waits_for_restart": waits_for_restart,
        "refused": refused.as_ref().map(failure_json),
    })
}

fn service_json(status: &ServiceStatus) -> Value {
    let ServiceStatus { name, pid, restarts } = status;
    json!({ "name": name.as_str(), "pid": pid, "restarts": restarts })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::System => "system",
        Mode::Hosted => "hosted",
    }
}

fn verify_name(verify: Verify) -> &'static str {
    match verify {
        Verify::Block => "block",
        Verify::Start => "start",
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::IpAddr;
    use yado_wire::names::clipped;
    use yado_wire::network::{LinkRole, LinkStatus};
    use yado_wire::{InstanceId, InstanceName, Step};

    fn fixed() -> Status {
        let debian = InstanceStatus {
            id: InstanceId(1),
            name: InstanceName::parse("debian").unwrap(),
            state: InstanceState::Ready,
            pid: Some(412),
            fingerprint: Some([0xab; 32]),
            uptime_ms: Some(192_000),
            restarts: 1,
            start_us: Some(5_230),
            memory_bytes: Some(19 << 20),
            memory_limit_bytes: Some(64 << 20),
            processes: Some(12),
            oom_kills: 2,
            last_failure: None,
            waits_for_restart: true,
            refused: None,
        };
        let broken = InstanceStatus {
            id: InstanceId(7),
            name: InstanceName::parse("web").unwrap(),
            state: InstanceState::Failed,
            pid: None,
            fingerprint: None,
            uptime_ms: None,
            start_us: None,
            memory_bytes: None,
            memory_limit_bytes: None,
            processes: None,
            restarts: 0,
            oom_kills: 0,
            last_failure: Some(Failure::refused(Step::ImageSignature, "web\x1b[2J", "no valid signature")),
            waits_for_restart: false,
            refused: None,
        };
        let uplink = LinkStatus {
            name: clipped("eth0"),
            role: LinkRole::Uplink,
            is_up: true,
            addresses: heapless::Vec::from_iter([(IpAddr::from([10, 0, 2, 15]), 24)]),
            gateways: heapless::Vec::from_iter([IpAddr::from([10, 0, 2, 2])]),
            nameservers: heapless::Vec::from_iter([IpAddr::from([10, 0, 2, 3])]),
            lease_left_s: Some(86_000),
            note: None,
        };
        Status {
            system: SystemStatus {
                version: clipped("0.1.0"),
                mode: Mode::System,
                fingerprint: Some([1; 32]),
                slot: Some('A'),
                uptime_ms: 200_000,
                data: None,
                verify: Verify::Block,
            },
            instances: vec![debian, broken],
            services: vec![ServiceStatus { name: clipped("netd"), pid: Some(80), restarts: 0 }],
            last_reset: None,
            links: Ok(vec![uplink]),
        }
    }

    #[test]
    fn people_see_columns_and_then_what_went_wrong() {
        let expected = "\
yado 0.1.0, system, slot A, image 010101010101, up 3m 20s, images verified at each block

INSTANCE  STATE   PID  IMAGE         UP      START  MEMORY                PROCESSES  RESTARTS
debian    ready   412  abababababab  3m 12s  5.2ms  19.0 MiB of 64.0 MiB  12         1
web       failed  -    -             -       -      -                     -          0

SERVICE  PID  RESTARTS
netd     80   0

LINK  ROLE    STATE  ADDRESSES     GATEWAY   NAME SERVERS
eth0  uplink  up     10.0.2.15/24  10.0.2.2  10.0.2.3

debian: some of its configuration waits for its next start: yado rescue restart debian
debian: 2 killed for lack of memory
web failed: image-signature: web\\u{1b}[2J: no valid signature
";
        assert_eq!(render_table(&fixed()), expected);
    }

    #[test]
    fn programs_see_every_field() {
        let value = render_json(&fixed());
        let debian = &value["instances"][0];
        assert_eq!(debian["state"], "ready");
        assert_eq!(debian["fingerprint"], "ab".repeat(32));
        assert_eq!(debian["memory_limit_bytes"], 64 << 20);
        assert_eq!(debian["last_failure"], Value::Null);
        assert_eq!(value["instances"][1]["last_failure"]["step"], "image-signature");
        assert_eq!(value["system"]["slot"], "A");
        assert_eq!(value["services"][0]["name"], "netd");
        assert_eq!(value["links"][0]["addresses"], json!(["10.0.2.15/24"]));
        assert_eq!(value["links_error"], Value::Null);
    }

    #[test]
    fn why_the_system_was_started_is_said_in_both_forms() {
        let reset = LastReset {
            cause: ResetCause::Asked,
            slot: Some('A'),
            by: clipped("updater"),
            reason: clipped("release 2\x1b"),
            is_log_kept: false,
        };
        let status = |reset| Status { last_reset: Some(reset), ..fixed() };
        let asked = status(reset.clone());
        let second = |status: &Status| render_table(status).lines().nth(1).unwrap().to_owned();
        assert_eq!(second(&asked), "last reset: asked for by updater: release 2\\u{1b}; slot A was up last");
        assert_eq!(render_json(&asked)["last_reset"]["cause"], "asked");
        let panicked = status(LastReset {
            cause: ResetCause::Panic,
            is_log_kept: true,
            by: clipped(""),
            reason: clipped(""),
            ..reset
        });
        assert!(
            second(&panicked).ends_with("slot A was up last; what the kernel said is in /data/log/last-kernel-log")
        );
        assert_eq!(render_json(&panicked)["last_reset"]["log_kept"], true);
        assert_eq!(render_json(&fixed())["last_reset"], Value::Null);
    }

    #[test]
    fn a_netd_that_does_not_answer_is_said_and_the_rest_is_shown() {
        let status = Status { links: Err("netd does not answer".to_owned()), ..fixed() };
        assert!(render_table(&status).contains("\nlinks: netd does not answer\n"));
        assert_eq!(render_json(&status)["links_error"], "netd does not answer");
        assert_eq!(render_json(&status)["links"], json!([]));
    }
}
