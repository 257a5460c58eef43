//! Logs one entry as any program in the system image may: by `tracing-journald`, which hands an entry that is too long for a
//! datagram over as a sealed memfd.

use std::process::ExitCode;
use tracing_subscriber::layer::SubscriberExt;

const USAGE: &str = "usage: guest-log WORD KIB    log WORD and so much text behind it";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.as_slice() {
        [word, kib] => log(word, kib),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("guest-log: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn log(word: &str, kib: &str) -> Result<(), String> {
    let kib: usize = kib.parse().map_err(|error| format!("{kib}: {error}"))?;
    let journal = tracing_journald::layer().map_err(|error| format!("the journal's socket: {error}"))?;
    let subscriber = tracing_subscriber::registry().with(journal);
    tracing::subscriber::with_default(subscriber, || tracing::info!("{word} {}", ".".repeat(kib * 1024)));
    Ok(())
}
