//! What the process that fetches can still do, as the kernel says.

use super::server::{Server, send_range};
use super::{IMAGE, open, read};
use std::fs;
use std::path::{Path, PathBuf};
use yado_updater::source::fetch_process::FetchProcess;

/// Its folder in proc: the one child of ours that is it. Tests of this program run in threads, so each looks for its server.
fn process_of(port: u16) -> PathBuf {
    let remote = format!("0100007F:{port:04X}");
    let tcp = fs::read_to_string("/proc/net/tcp").unwrap();
    let inodes: Vec<&str> = tcp
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&remote.as_str()))
        .map(|fields| fields[9])
        .collect();
    let is_it = |process: &PathBuf| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let sockets = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        command == b"yado-updater\0fetch\0"
            && sockets
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .any(|link| inodes.iter().any(|inode| link.to_string_lossy() == format!("socket:[{inode}]")))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.into_iter().find(is_it).expect("the process that fetches")
}

fn status(process: &Path, field: &str) -> String {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap_or_default();
    line.split_once(':').map_or(String::new(), |(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn it_has_no_rights_no_privileges_and_a_filter_and_little_memory() {
    let server = Server::start(|asked, stream| send_range(asked, stream, &vec![7; 8 << 20], ""));
    let mut source: FetchProcess = open(&server.url).unwrap();
    assert_eq!(read(&mut source, IMAGE, 0..8 << 20).unwrap().len(), 8 << 20);
    let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
    let process = process_of(port);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let expected =
            if set == "CapBnd" && !is_root() { status(Path::new("/proc/self"), set) } else { "0".repeat(16) };
        assert_eq!(status(&process, set), expected, "{set}");
    }
    assert_eq!((status(&process, "NoNewPrivs"), status(&process, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(status(&process, "Threads"), "1");
    if is_root() {
        assert_eq!(status(&process, "Uid"), "65533 65533 65533 65533");
        assert_eq!(status(&process, "Groups"), "");
    }
    assert_little_memory(port);
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    for (limit, most) in [("Max open files", "16"), ("Max processes", "0"), ("Max file size", "0")] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert_eq!(line[limit.len()..].split_whitespace().next(), Some(most), "{limit}");
    }
    // With the source the process goes.
    drop(source);
    assert!(!process.exists());
}

/// Of the process that is connected to this port. Pages of the program's own file do not count: a build for tests has several times as
/// many as what ships, and the kernel takes them back when it needs them.
pub(crate) fn assert_little_memory(port: u16) {
    let process = process_of(port);
    let kib = |key: &str| status(&process, key).trim_end_matches(" kB").parse::<u64>().unwrap();
    let (all, file) = (kib("VmHWM"), kib("RssFile"));
    eprintln!("the process that fetches: at most {all} KiB resident, {file} KiB of them of files");
    assert!(all - file < 2 << 10, "{all} KiB, {file} KiB of them of files");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
