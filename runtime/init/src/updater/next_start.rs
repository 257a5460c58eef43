//! When the updater wants to be started again: a file that it leaves in its own directory, with a number of seconds.
//! Init takes it away with the number, so each is heeded once.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Its name in the directory.
pub(super) const FILE: &str = "next-start";

/// Nobody works more often than this, whatever the file says.
const SHORTEST: Duration = Duration::from_secs(1);

/// A month: who waits longer has made a mistake.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// A number of so many digits, and the end of its line.
const MAX_BYTES: usize = 12;

/// Reads the file in this directory and removes it. `None`: there is none, or no number in it.
pub(super) fn take(directory: &Path) -> Option<Duration> {
    let path = directory.join(FILE);
    let mut buffer = [0; MAX_BYTES];
    // Its directory is root's, on tmpfs: what stands there is the updater's own.
    let len = File::open(&path).and_then(|mut file| file.read(&mut buffer)).ok()?;
    let _ = fs::remove_file(&path);
    parse(buffer.get(..len)?)
}

fn parse(bytes: &[u8]) -> Option<Duration> {
    let seconds = core::str::from_utf8(bytes).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_seconds_is_heeded_once_and_within_bounds() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(take(directory.path()), None);
        for (text, seconds) in
            [("3600\n", Some(3600)), ("0", Some(1)), ("99999999999", Some(31 * 86_400)), ("", None), ("soon", None)]
        {
            fs::write(directory.path().join("next-start"), text).unwrap();
            assert_eq!(take(directory.path()).map(|pause| pause.as_secs()), seconds, "{text:?}");
            assert_eq!(take(directory.path()), None, "{text:?} again");
        }
    }
}
