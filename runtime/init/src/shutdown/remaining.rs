//! Lists all children of this process, adopted ones too, from the process file system.

use std::fs;
use yado_wire::printable::is_obeyed;

/// As many are looked at in one round; there is another.
const MAX_CHILDREN: usize = 1024;

/// As many are named.
const MAX_NAMED: usize = 8;

/// A process that is our child, also by adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChildProcess {
    /// Its id, which stays its own until we reap it.
    pub(super) pid: i32,
    name: String,
    is_ended: bool,
}

/// Our children.
pub(super) fn children() -> Vec<ChildProcess> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let stats = entries.flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<i32>().ok()?;
        fs::read_to_string(entry.path().join("stat")).ok()
    });
    let children = stats.filter_map(|stat| parse_stat(&stat).filter(|(_, parent)| *parent == own));
    children.map(|(child, _)| child).take(MAX_CHILDREN).collect()
}

/// For people, the first few of them.
pub(super) fn names(children: &[ChildProcess]) -> String {
    let running = || children.iter().filter(|child| !child.is_ended);
    let mut names: Vec<String> =
        running().take(MAX_NAMED).map(|child| format!("{} ({})", child.name, child.pid)).collect();
    let more = running().count().saturating_sub(MAX_NAMED);
    if more != 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// A process and its parent, from a line of `/proc/PID/stat`: `PID (NAME) STATE PARENT …`, where the name may be anything.
fn parse_stat(stat: &str) -> Option<(ChildProcess, u32)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, fields) = rest.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let name = name.chars().map(|letter| if is_obeyed(letter) { '?' } else { letter }).collect();
    Some((ChildProcess { pid: pid.parse().ok()?, name, is_ended: matches!(state, "Z" | "X") }, parent))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn a_process_may_have_any_name() {
        let (turned, _) = parse_stat("77 (a\u{202e}\u{9b}b) D 1 77\n").unwrap();
        assert_eq!(names(&[turned]), "a??b (77)");
        let (child, parent) = parse_stat("77 (a) S 2 (\n) D 1 77 77 0 -1 4194560 100\n").unwrap();
        assert_eq!((child.pid, child.name.as_str(), child.is_ended, parent), (77, "a) S 2 (?", false, 1));
        assert_eq!(names(&[child.clone(), ChildProcess { is_ended: true, ..child }]), "a) S 2 (? (77)");
        fuzz("stat", &[b"77 (sleep) S 1 77 77 0 -1".to_vec()], &[" (", ") ", "("], |bytes| {
            if let Some((child, _)) = parse_stat(&String::from_utf8_lossy(bytes)) {
                assert!(!names(&[child]).contains(is_obeyed));
            }
        });
    }

    #[test]
    fn a_child_is_found() {
        let mut started = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let found = children().into_iter().find(|child| child.pid == started.id() as i32);
        started.kill().unwrap();
        started.wait().unwrap();
        assert!(found.is_some());
    }
}
