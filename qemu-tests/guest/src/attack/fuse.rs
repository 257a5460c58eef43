//! A file system whose server takes some questions and never answers them: whoever asked waits.

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Where it is mounted.
const PLACE: &str = "/tmp/attack-fuse";
/// Its one file.
const FILE: &str = "/tmp/attack-fuse/file";

// <linux/fuse.h>: questions.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const NOT_IMPLEMENTED: i32 = -38;

/// Mounts it, serves it in a thread of its own, and gives the thread's end of it.
pub(super) fn serve() -> io::Result<()> {
    let device: OwnedFd = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    fs::create_dir_all(PLACE)?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount("attack", PLACE, "fuse", MountFlags::empty(), Some(options.as_c_str()))?;
    let device = Arc::new(device);
    std::thread::spawn(move || while answer(&device).is_ok() {});
    Ok(())
}

/// Opens its file: a close of it asks the server, and so does a read.
pub(super) fn open_file() -> io::Result<File> {
    File::open(FILE)
}

fn answer(device: &OwnedFd) -> io::Result<()> {
    let mut question = vec![0u8; 128 * 1024];
    let length = rustix::io::read(device, &mut question)?;
    let Some(header) = question.get(..length.min(40)).filter(|header| header.len() == 40) else { return Ok(()) };
    // fuse_in_header: length, question, number, node, who asks.
    let kind = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let node = header[16];
    let (error, body) = match kind {
        FORGET | READ | FLUSH => return Ok(()),
        INIT => (0, start()),
        LOOKUP => (0, entry()),
        GETATTR => (0, [&[0; 16][..], &attributes(node)].concat()),
        OPEN => (0, vec![0; 16]),
        _ => (NOT_IMPLEMENTED, Vec::new()),
    };
    // fuse_out_header: length, error, the question's number.
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(error.to_ne_bytes());
    message.extend(&header[8..16]);
    message.extend(body);
    rustix::io::write(device, &message)?;
    Ok(())
}

/// fuse_init_out: version 7.31, and the least of everything.
fn start() -> Vec<u8> {
    let mut body = vec![0; 64];
    body[..4].copy_from_slice(&7u32.to_ne_bytes());
    body[4..8].copy_from_slice(&31u32.to_ne_bytes());
    body[20..24].copy_from_slice(&4096u32.to_ne_bytes());
    body
}

/// fuse_entry_out for the one file, node 2.
fn entry() -> Vec<u8> {
    let mut body = vec![0; 40];
    body[..8].copy_from_slice(&2u64.to_ne_bytes());
    [body, attributes(2)].concat()
}

/// fuse_attr: the root is a directory, all else a file of one block.
fn attributes(node: u8) -> Vec<u8> {
    let mode: u32 = if node == 1 { 0o040_755 } else { 0o100_644 };
    let mut body = vec![0; 88];
    body[..8].copy_from_slice(&u64::from(node).to_ne_bytes());
    body[8..16].copy_from_slice(&4096u64.to_ne_bytes());
    body[60..64].copy_from_slice(&mode.to_ne_bytes());
    body[64..68].copy_from_slice(&1u32.to_ne_bytes());
    body
}
