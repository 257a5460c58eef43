//! Copies the keys that verify images, those of the system image and those of the data partition, into one directory for the
//! launcher. Their content is not looked at here.

use crate::log::{Log, Priority};
use crate::paths::Paths;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use yado_sys::regular_file;

/// The most trusted keys; what verifies images has the same limit.
const MAX_KEYS: usize = 64;

/// A key is one line.
const MAX_KEY_BYTES: u64 = 4096;

/// Copies them; what cannot be copied is told, and then not trusted.
pub(crate) fn collect(paths: &Paths, log: &mut Log) {
    let trust = paths.trust();
    let _ = fs::remove_dir_all(&trust);
    if let Err(error) = fs::create_dir_all(&trust) {
        log.say(Priority::Error, format_args!("create {}: {error}", trust.display()));
        return;
    }
    let mut left = MAX_KEYS;
    for (origin, directory) in [("system", paths.system.join("trust")), ("data", paths.data.join("trust"))] {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "pub") {
                continue;
            }
            let Some(fewer) = left.checked_sub(1) else {
                log.say(Priority::Error, format_args!("{}: not trusted: more than {MAX_KEYS} keys", path.display()));
                continue;
            };
            left = fewer;
            let name = format!("{origin}-{}", entry.file_name().to_string_lossy());
            // The system's directory is verified, and may be links; what lies on the data partition may be another's.
            let opened = if origin == "data" { regular_file::open(&path) } else { File::open(&path) };
            if let Err(error) = opened.and_then(|file| copy(file, &trust.join(name))) {
                log.say(Priority::Error, format_args!("copy {}: {error}", path.display()));
            }
        }
    }
}

/// By hand, because `fs::copy` brings every way in which Linux copies large files.
fn copy(from: File, to: &Path) -> io::Result<()> {
    let found = from.metadata()?;
    if !found.is_file() || MAX_KEY_BYTES < found.len() {
        let reason = format!("not a regular file of at most {MAX_KEY_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let mut key = Vec::new();
    from.take(MAX_KEY_BYTES).read_to_end(&mut key)?;
    fs::write(to, key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_no_key_on_the_data_partition_is_neither_followed_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let unused = directory.path().to_owned();
        let paths =
            Paths::of_host(directory.path(), unused.clone(), unused, yado_spec::launch_request::Verify::Start);
        let (system, data) = (paths.system.join("trust"), paths.data.join("trust"));
        for made in [&system, &data] {
            fs::create_dir_all(made).unwrap();
            fs::write(made.join("good.pub"), "key\n").unwrap();
            symlink("good.pub", made.join("link.pub")).unwrap();
        }
        // Whoever reads it waits for the kernel's next word.
        symlink("/proc/kmsg", data.join("kmsg.pub")).unwrap();
        let fifo = data.join("fifo.pub");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        fs::write(data.join("long.pub"), [b'x'; 4097]).unwrap();
        collect(&paths, &mut Log::of_host());
        let mut trusted: Vec<_> = fs::read_dir(paths.trust())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        trusted.sort();
        assert_eq!(trusted, ["data-good.pub", "system-good.pub", "system-link.pub"]);
    }
}
