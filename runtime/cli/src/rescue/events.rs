//! `yado rescue events`: what happened, from init's ring and then as it happens.

use super::connection::{Connection, ExchangeError};
use super::status_view::failure_json;
use crate::command_line::Outcome;
use crate::output::{self, Format, printable};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use yado_wire::rescue::{Event, EventKind, ExitStatus, Reply, Request, RunEnd};

/// What the ring holds comes at once; after so long a silence it is at its end.
const RING_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only what init still remembers, without waiting for more
    #[arg(long)]
    no_follow: bool,
    /// How to show it; json is one object a line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(socket: &Path, arguments: &Arguments) -> Outcome {
    let connection = Connection::ask_init(socket, &Request::Events, &[])?;
    if arguments.no_follow {
        connection.set_timeout(RING_PAUSE)?;
    }
    loop {
        match connection.next_or_silence()? {
            Some((Reply::Event(event), _)) => match arguments.format {
                Format::Table => output::print(&line(&event))?,
                Format::Json => output::print_json_line(&json(&event))?,
            },
            Some((Reply::Refused(failure), _)) => return Err(ExchangeError::Refused(Box::new(failure)).into()),
            Some((Reply::Done, _)) | None => return Ok(ExitCode::SUCCESS),
            Some(_) => return Err(connection.unexpected().into()),
        }
    }
}

fn line(event: &Event) -> String {
    let Event { sequence, monotonic_us, instance, kind } = event;
    let instance = instance.as_ref().map_or(String::new(), |about| format!("{}: ", about.name));
    let words = match kind {
        Some(kind) => sentence(kind),
        None => format!("an event that this program does not know, number {sequence}"),
    };
    format!("[{:>6}.{:06}] {instance}{}\n", monotonic_us / 1_000_000, monotonic_us % 1_000_000, printable(&words))
}

fn sentence(kind: &EventKind) -> String {
    match kind {
        EventKind::Stage(name) => format!("stage {name}"),
        EventKind::State(state) => state.name().to_owned(),
        EventKind::Started { start_us, steps: _ } => format!("started in {start_us} us"),
        EventKind::Ready(status) if status.is_empty() => "said it is ready".to_owned(),
        EventKind::Ready(status) => format!("said it is ready: {status}"),
        EventKind::Exited(end) => end.to_string(),
        EventKind::Failed(failure) => format!("start failed: {failure}"),
        EventKind::OomKill { count } => format!("out of memory: {count} killed since its start"),
        EventKind::ProcessLimit { count } => format!("limits.processes: {count} forks refused since its start"),
        EventKind::DeviceAdded(node) => format!("device {node} added"),
        EventKind::DeviceRemoved(node) => format!("device {node} removed"),
        EventKind::Added => "is configured".to_owned(),
        EventKind::Changed => "its configuration changed".to_owned(),
        EventKind::Removed => "is no longer configured, and gone".to_owned(),
        EventKind::ImageDamaged { image, blocks } => format!("{image} is damaged: {blocks} blocks do not verify"),
        EventKind::ServiceExited { service, status } => format!("service {service} {}", exit_sentence(*status)),
    }
}

fn exit_sentence(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
    }
}

/// `{sequence, monotonic_us, instance, project, instance_id, kind, …}`, with what the kind carries beside it; kind `null` when this
/// program does not know it.
fn json(event: &Event) -> Value {
    let Event { sequence, monotonic_us, instance, kind } = event;
    let mut value = kind.as_ref().map_or_else(|| json!({ "kind": null }), kind_json);
    value["sequence"] = json!(sequence);
    value["monotonic_us"] = json!(monotonic_us);
    value["instance"] = json!(instance.as_ref().map(|about| about.name.as_str()));
    value["project"] = json!(instance.as_ref().map(|about| about.name.project()));
    value["instance_id"] = json!(instance.as_ref().map(|about| about.id.0));
    value
}

fn kind_json(kind: &EventKind) -> Value {
    match kind {
        EventKind::Stage(name) => json!({ "kind": "stage", "stage": name.as_str() }),
        EventKind::State(state) => json!({ "kind": "state", "state": state.name() }),
        EventKind::Started { start_us, steps } => {
            let steps: Vec<Value> =
                steps.iter().map(|time| json!({ "step": time.step.name(), "micros": time.micros })).collect();
            json!({ "kind": "started", "start_us": start_us, "steps": steps })
        }
        EventKind::Ready(status) => json!({ "kind": "ready", "status": status.as_str() }),
        EventKind::Exited(end) => json!({ "kind": "exited", "exit": end_json(*end) }),
        EventKind::Failed(failure) => json!({ "kind": "failed", "failure": failure_json(failure) }),
        EventKind::OomKill { count } => json!({ "kind": "oom-kill", "count": count }),
        EventKind::ProcessLimit { count } => json!({ "kind": "process-limit", "count": count }),
        EventKind::DeviceAdded(node) => json!({ "kind": "device-added", "node": node.as_str() }),
        EventKind::DeviceRemoved(node) => json!({ "kind": "device-removed", "node": node.as_str() }),
        EventKind::Added => json!({ "kind": "added" }),
        EventKind::Changed => json!({ "kind": "changed" }),
        EventKind::Removed => json!({ "kind": "removed" }),
        EventKind::ImageDamaged { image, blocks } => {
            json!({ "kind": "image-damaged", "image": image.as_str(), "blocks": blocks })
        }
        EventKind::ServiceExited { service, status } => {
            json!({ "kind": "service-exited", "service": service.as_str(), "exit": exit_json(*status) })
        }
    }
}

fn end_json(end: RunEnd) -> Value {
    match end {
        RunEnd::Code(code) => json!({ "code": code }),
        RunEnd::Signal(signal) => json!({ "signal": signal }),
        RunEnd::PoweredOff => json!({ "powered_off": true }),
        RunEnd::Rebooted => json!({ "rebooted": true }),
        RunEnd::Killed { after_ms } => json!({ "killed_after_ms": after_ms }),
    }
}

fn exit_json(status: ExitStatus) -> Value {
    match status {
        ExitStatus::Code(code) => json!({ "code": code }),
        ExitStatus::Signal(signal) => json!({ "signal": signal }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use yado_wire::names::clipped;
    use yado_wire::rescue::InstanceState;
    use yado_wire::{AboutInstance, Failure, InstanceId, InstanceName, Step};

    fn event(kind: Option<EventKind>) -> Event {
        let instance = InstanceName::parse("web").ok().map(|name| AboutInstance { id: InstanceId(7), name });
        Event { sequence: 7, monotonic_us: 3_000_042, instance, kind }
    }

    #[test]
    fn each_event_is_one_line_and_one_object() {
        let failure = Failure::refused(Step::ImageTree, "web", "block 12");
        let cases = [
            (EventKind::Stage(clipped("netd")), "stage netd", "stage"),
            (EventKind::State(InstanceState::BackingOff), "backing-off", "state"),
            (EventKind::Ready(clipped("")), "said it is ready", "ready"),
            (EventKind::Exited(RunEnd::Signal(9)), "was killed by signal 9", "exited"),
            (EventKind::Exited(RunEnd::PoweredOff), "powered off", "exited"),
            (EventKind::Exited(RunEnd::Killed { after_ms: 30_020 }), "killed after 30 s", "exited"),
            (EventKind::Failed(failure), "start failed: image-tree: web: block 12", "failed"),
            (EventKind::OomKill { count: 3 }, "out of memory: 3 killed since its start", "oom-kill"),
            (EventKind::DeviceAdded(clipped("/dev/sda")), "device /dev/sda added", "device-added"),
        ];
        for (kind, words, name) in cases {
            let event = event(Some(kind));
            assert_eq!(line(&event), format!("[     3.000042] web: {words}\n"));
            let value = json(&event);
            assert_eq!(
                (&value["kind"], &value["sequence"], &value["instance"]),
                (&json!(name), &json!(7), &json!("web"))
            );
        }
    }

    #[test]
    fn an_event_of_a_newer_init_is_one_line_and_one_object_too() {
        let event = event(None);
        let words = "an event that this program does not know, number 7";
        assert_eq!(line(&event), format!("[     3.000042] web: {words}\n"));
        let value = json(&event);
        assert_eq!((&value["kind"], &value["sequence"]), (&Value::Null, &json!(7)));
    }
}
