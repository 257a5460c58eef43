//! The keys that images are verified by: those of the system image and those of the data partition, in one directory for
//! the launcher. What stands in them is not looked at here.

use crate::log::{Log, Priority};
use crate::places::Places;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The most trusted keys; what verifies images has the same limit.
const MOST_KEYS: usize = 64;

/// A key is one line.
const MAX_KEY_BYTES: u64 = 4096;

/// Copies them; what cannot be copied is told, and then not trusted.
pub(crate) fn collect(places: &Places, log: &mut Log) {
    let trust = places.trust();
    let _ = fs::remove_dir_all(&trust);
    if let Err(error) = fs::create_dir_all(&trust) {
        log.say(Priority::Error, format_args!("create {}: {error}", trust.display()));
        return;
    }
    let mut left = MOST_KEYS;
    for (origin, directory) in [("system", places.system.join("trust")), ("data", places.data.join("trust"))] {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if !is_key(&path) {
                continue;
            }
            let Some(fewer) = left.checked_sub(1) else {
                log.say(Priority::Error, format_args!("{}: not trusted: more than {MOST_KEYS} keys", path.display()));
                continue;
            };
            left = fewer;
            let name = format!("{origin}-{}", entry.file_name().to_string_lossy());
            if let Err(error) = copy(&path, &trust.join(name)) {
                log.say(Priority::Error, format_args!("copy {}: {error}", path.display()));
            }
        }
    }
}

/// By hand, because `fs::copy` brings every way in which Linux copies large files.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut key = Vec::new();
    File::open(from)?.take(MAX_KEY_BYTES).read_to_end(&mut key)?;
    fs::write(to, key)
}

fn is_key(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pub")
        && fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MAX_KEY_BYTES)
}
