//! Where log records go: the journal's socket (init's on an appliance, journald's own elsewhere), or standard error.

use crate::arguments::Log;
use std::fmt::Write as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Takes the records of this process from now on.
pub fn start(log: Log) {
    let journal = match log {
        Log::Journal => tracing_journald::layer().ok(),
        Log::Stderr => None,
    };
    let is_on_stderr = journal.is_none();
    let subscriber = tracing_subscriber::registry()
        .with(journal.map(|layer| layer.with_syslog_identifier("netd".to_owned())))
        .with(is_on_stderr.then_some(Stderr))
        .with(tracing::level_filters::LevelFilter::INFO);
    // Fails only on a second call in one process.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// One line per record, with the priority as journald understands it on a service's standard error (sd-daemon(3)).
struct Stderr;

impl<S: Subscriber> Layer<S> for Stderr {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut line = Line(format!("<{priority}>netd:"));
        event.record(&mut line);
        eprintln!("{}", line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
