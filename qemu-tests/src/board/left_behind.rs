//! What a board that fails a step leaves in its folder: `failed-STEP/` with what init says of everything, the kernel's log, and
//! the console until then. Later steps go on, and may change all of it.

use crate::board::agent::{Agent, Pending};
use crate::board::{Board, serial_log};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Files, and what prints them. All are asked at once.
const QUESTIONS: [(&str, &[&str]); 5] = [
    ("status.json", &["/usr/bin/yado", "rescue", "status", "--format", "json"]),
    ("logs.txt", &["/usr/bin/yado", "rescue", "logs"]),
    ("events.json", &["/usr/bin/yado", "rescue", "events", "--no-follow", "--format", "json"]),
    ("dmesg.txt", &["/bin/dmesg"]),
    ("processes.txt", &["/bin/sh", "-c", "ps; grep -H . /sys/fs/cgroup/instances/*/cgroup.procs; cat /proc/mounts"]),
];
/// A board that is stuck holds nobody up for longer than this, and a call's slack, once.
const TIMEOUT: Duration = Duration::from_secs(20);
const PREFIX: &str = "failed-";

/// Removes what an earlier run has left here.
pub fn clear(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let names = entries.flatten().map(|entry| entry.path());
    for path in names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))) {
        // What stays is overwritten, or is of another step.
        let _ = fs::remove_dir_all(path);
    }
}

/// Keeps it, and says where. `board`: if one is on; `of_board`: the directory of that one, or of the last one.
pub fn keep(directory: &Path, step: usize, board: Option<&Board>, of_board: &Path) {
    let folder = directory.join(format!("{PREFIX}{step}"));
    match write(&folder, board.map(|board| &board.agent), &serial_log(of_board)) {
        Ok(()) => println!("   what the board says of it: {}", folder.display()),
        Err(error) => println!("   {}: {error}", folder.display()),
    }
}

fn write(folder: &Path, agent: Option<&Agent>, console: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    if console.exists() {
        fs::copy(console, folder.join("console.log"))?;
    }
    let Some(agent) = agent else { return Ok(()) };
    let asked = QUESTIONS.map(|(file, argv)| (file, agent.start_run(argv, "", TIMEOUT)));
    let mut is_silent = false;
    for (file, pending) in asked {
        let text = match pending {
            Ok(_) if is_silent => "not waited for: the board did not answer another question\n".to_owned(),
            pending => match pending.and_then(Pending::ran) {
                Ok(ran) => format!("{}{}", ran.stdout, ran.stderr),
                Err(error) => {
                    is_silent = true;
                    format!("{error}\n")
                }
            },
        };
        fs::write(folder.join(file), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_board_that_is_gone_leaves_its_console_and_why_there_is_no_more() {
        let home = tempfile::tempdir().unwrap();
        let console = serial_log(home.path());
        fs::write(&console, "Kernel panic\n").unwrap();
        let listener = UnixListener::bind(home.path().join("agent")).unwrap();
        let agent = Agent::connect(&home.path().join("agent")).unwrap();
        drop(listener.accept().unwrap());
        let folder = home.path().join("failed-3");
        write(&folder, Some(&agent), &console).unwrap();
        for (file, _) in QUESTIONS {
            assert_ne!(fs::read_to_string(folder.join(file)).unwrap(), "", "{file}");
        }
        assert_eq!(fs::read_to_string(folder.join("console.log")).unwrap(), "Kernel panic\n");
        clear(home.path());
        assert!(!folder.exists() && console.exists());
    }
}
