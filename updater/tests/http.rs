//! Releases from web servers: from nginx as Debian has it, and from one of our own that does what no honest one does. The process
//! that fetches is a real one, without privileges.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "http/confined.rs"]
mod confined;
#[path = "http/hostile.rs"]
mod hostile;
#[path = "http/nginx.rs"]
mod nginx;
#[path = "http/server.rs"]
mod server;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use yado_updater::source::fetch_process::{FetchProcess, HttpOptions, Limits};
use yado_updater::source::{FileName, Source, SourceError};

const IMAGE: FileName = FileName::Image([0x11; 32]);

/// Bytes of which no two blocks are alike.
fn content(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Short times: a server here answers at once, or never.
fn options(url: &str) -> HttpOptions {
    HttpOptions {
        program: Path::new(env!("CARGO_BIN_EXE_yado-updater")).to_owned(),
        limits: Limits {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(2),
            window: Duration::from_secs(1),
            bytes_in_window: 1000,
            attempts: 3,
            first_pause: Duration::from_millis(20),
            grace: Duration::from_secs(20),
        },
        ..HttpOptions::new(url, &|_| None)
    }
}

fn open(url: &str) -> Result<FetchProcess, SourceError> {
    FetchProcess::open(options(url))
}

fn read(source: &mut FetchProcess, file: FileName, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    source.read(file, range, &mut |piece| io::Write::write_all(&mut bytes, piece)).map(|()| bytes)
}

/// Why it was not given.
fn reason(result: Result<Vec<u8>, SourceError>) -> String {
    match result {
        Ok(bytes) => panic!("{} bytes were given", bytes.len()),
        Err(error) => error.to_string(),
    }
}
