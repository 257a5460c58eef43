//! Writes to the kernel's log: it exists before anything is mounted, is shown on the console, and is in pstore after a crash.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

/// The longest line: the kernel cuts a record at about 1 KiB.
const MAX_LINE_BYTES: usize = 900;

/// Opens `/dev/kmsg`. `None`: there is none, and nothing can be done about it.
pub(crate) fn open() -> Option<File> {
    // By default the kernel takes ten lines of a writer each five seconds and drops the rest.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    File::options().write(true).open("/dev/kmsg").ok()
}

/// Writes one record. `pid`: whose it is, if it is not ours.
pub(crate) fn write(kmsg: &mut File, priority: u8, identifier: &str, pid: i32, message: &str) {
    let mut line = String::with_capacity(message.len().min(MAX_LINE_BYTES).saturating_add(64));
    // 24: the facility "daemon". Writing to a String cannot fail.
    let _ = match pid {
        0 => write!(line, "<{}>{identifier}: ", 24 | priority),
        pid => write!(line, "<{}>{identifier}[{pid}]: ", 24 | priority),
    };
    let mut end = message.len().min(MAX_LINE_BYTES);
    while !message.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    line.push_str(message.get(..end).unwrap_or(""));
    // A log that cannot be written has nobody left to tell.
    let _ = kmsg.write_all(line.as_bytes());
}
