//! `yado rescue logs`: the log ring that init keeps, as lines or as one JSON object a line.

use super::connection::{ANSWER_TIMEOUT, Connection, ExchangeError};
use super::parse_instance;
use crate::command_line::Outcome;
use crate::output::{self, Format, printable};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use yado_wire::InstanceName;
use yado_wire::rescue::{LogRecord, Reply, Request};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The instance's name: only what its console and events said
    #[arg(value_name = "NAME", value_parser = parse_instance)]
    pub(super) instance: Option<InstanceName>,
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
    /// How to show it; json is one object a line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(socket: &Path, arguments: Arguments) -> Outcome {
    let Arguments { instance, follow, format } = arguments;
    for_each_record(socket, instance, follow, |record| match format {
        Format::Table => output::print(&line(record)),
        Format::Json => output::print_json_line(&json(record)),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Calls `show` for each record, oldest first; with `follow`, until the reader of our output or init has gone.
pub(super) fn for_each_record(
    socket: &Path,
    instance: Option<InstanceName>,
    follow: bool,
    mut show: impl FnMut(&LogRecord) -> std::io::Result<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::ask_init(socket, &Request::Logs { instance, follow }, &[])?;
    if !follow {
        connection.set_timeout(ANSWER_TIMEOUT)?;
    }
    loop {
        match connection.next()?.0 {
            Reply::Log(record) => show(&record)?,
            Reply::Done => return Ok(()),
            Reply::Refused(failure) => return Err(ExchangeError::Refused(Box::new(failure)).into()),
            Reply::System(_)
            | Reply::Instance(_)
            | Reply::Service(_)
            | Reply::Event(_)
            | Reply::Console
            | Reply::Exited(_)
            | Reply::Applied(_)
            | Reply::Health(_) => return Err(connection.unexpected().into()),
        }
    }
}

/// As dmesg(1) does it: seconds since the kernel started.
fn line(record: &LogRecord) -> String {
    let LogRecord { monotonic_ms, priority, identifier, pid, message } = record;
    let pid = if *pid == 0 { String::new() } else { format!("[{pid}]") };
    format!(
        "[{:>6}.{:03}] {} {}{pid}: {}\n",
        monotonic_ms / 1000,
        monotonic_ms % 1000,
        priority_name(*priority),
        printable(identifier),
        printable(message)
    )
}

fn json(record: &LogRecord) -> Value {
    let LogRecord { monotonic_ms, priority, identifier, pid, message } = record;
    json!({
        "monotonic_ms": monotonic_ms,
        "priority": priority,
        "identifier": identifier.as_str(),
        "pid": pid,
        "message": message.as_str(),
    })
}

/// syslog(3)'s names.
fn priority_name(priority: u8) -> &'static str {
    match priority {
        0 => "emerg",
        1 => "alert",
        2 => "crit",
        3 => "err",
        4 => "warning",
        5 => "notice",
        6 => "info",
        _ => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yado_wire::names::clipped;

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        let record = LogRecord {
            monotonic_ms: 12_034,
            priority: 4,
            identifier: clipped("instance/web"),
            pid: 0,
            message: clipped("bell\x07 and\nline"),
        };
        assert_eq!(line(&record), "[    12.034] warning instance/web: bell\\u{7} and\\u{a}line\n");
        assert_eq!(json(&record)["message"], "bell\x07 and\nline");
        assert_eq!(json(&record).to_string().lines().count(), 1);
        let attested = LogRecord { pid: 80, identifier: clipped("netd"), ..record };
        assert!(line(&attested).contains(" netd[80]: "));
    }
}
