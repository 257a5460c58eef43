//! What programs, containers, disks and the kernel say is hostile or torn until parsed. These parsers run in PID 1, where a
//! panic is the end of the machine.

#[path = "../../spec/tests/fuzzing/mod.rs"]
mod fuzzing;

use fuzzing::fuzz;
use std::collections::BTreeSet;
use yado_init::instance::notify::parse_notification;
use yado_init::log::journal_protocol::{Extent, parse_journal_entry};
use yado_init::log::syslog_protocol::parse_syslog;
use yado_init::modules::{aliases, dependencies, soft};
use yado_init::superblock::{self, Content};
use yado_init::uevent::parse_uevent;

fn seeds(list: &[&[u8]]) -> Vec<Vec<u8>> {
    list.iter().map(|seed| seed.to_vec()).collect()
}

#[test]
fn journal_entries_of_any_bytes() {
    let seeds = seeds(&[
        b"PRIORITY=5\nSYSLOG_IDENTIFIER\n\x04\0\0\0\0\0\0\0netd\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n",
        b"MESSAGE=short\nPRIORITY=3\nCODE_FILE=x.rs\nCODE_LINE=7\n",
        b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\x7fx\n",
    ]);
    fuzz("journal entry", &seeds, &["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "=", "\n"], |bytes| {
        let [whole, beginning] = [Extent::Whole, Extent::Beginning].map(|extent| parse_journal_entry(bytes, extent));
        for entry in whole.iter().chain(&beginning) {
            assert!(entry.priority <= 7);
            // Replacing what is no text makes at most three bytes of one.
            assert!(entry.message.len() <= 3 * bytes.len());
        }
        assert!(whole.is_none() || whole == beginning, "{whole:?} is {beginning:?} as a beginning");
    });
}

#[test]
fn syslog_messages_of_any_bytes() {
    let seeds = seeds(&[b"<30>Nov 22 10:06:57 chronyd[12]: clock set", b"<11>logger: oops\n\0", b"<191>", b"plain"]);
    fuzz("syslog message", &seeds, &["<", ">", ": ", "[", "Nov 22 10:06:57 "], |bytes| {
        assert!(parse_syslog(bytes).priority <= 7);
    });
}

#[test]
fn notifications_of_any_bytes() {
    let seeds = seeds(&[b"READY=1\nSTATUS=Startup finished in 1.2s.\n", b"WATCHDOG=1", b"STATUS=\xc3\xa4"]);
    fuzz("notification", &seeds, &["READY=1", "STATUS=", "\n"], |bytes| {
        let notification = parse_notification(bytes);
        assert!(!notification.ready || bytes.windows(7).any(|part| part == b"READY=1"));
    });
}

#[test]
fn uevents_of_any_bytes() {
    let seeds = seeds(&[
        b"add@/devices/virtual/block/vda/vda7\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=vda7\0PARTNAME=data\0SEQNUM=900\0",
        b"remove@/devices/usb1/1-1\0SUBSYSTEM=usb\0MODALIAS=usb:v46F4p0001\0",
    ]);
    fuzz("uevent", &seeds, &["@", "SUBSYSTEM=", "DEVNAME=", "MODALIAS=", "PARTNAME="], |bytes| {
        let _ = parse_uevent(bytes);
    });
}

#[test]
fn superblocks_of_any_bytes() {
    let mut ext4 = vec![0; 2048];
    ext4[1080..1084].copy_from_slice(&[0x53, 0xef, 1, 0]);
    fuzz("superblock", &[ext4, vec![0; 2048], vec![0xff; 100], Vec::new()], &["_BHRfS_M"], |bytes| {
        let is_blank = superblock::judge(bytes) == Content::Blank;
        assert_eq!(is_blank, bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff));
        // What reaches some place reaches all before it, and nothing reaches into a partition that is blank.
        assert!(!superblock::covers(bytes, 1 << 30) || superblock::covers(bytes, 1 << 20));
        assert!(!is_blank || !superblock::covers(bytes, 0));
    });
}

#[test]
fn module_lists_of_any_text() {
    let seeds = seeds(&[
        b"alias usb:v*p*d*dc*ic08isc06ip[50]0in* usb_storage\nalias pci:v00001AF4d*sv* virtio_pci\n",
        b"kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz\n",
        b"softdep libcrc32c pre: crc32c\nsoftdep a-b pre: x post: z\n",
    ]);
    let devices: BTreeSet<String> =
        ["usb:v46F4p0001d0000dc00ic08isc06ip50in00", "a", ""].map(str::to_owned).into_iter().collect();
    fuzz(
        "module list",
        &seeds,
        &["alias ", "softdep ", "*", "[", "]", ".ko", ": ", "pre:", "post:", "\\"],
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = aliases::modules_for(&text, &devices);
            let _ = dependencies::find(&text, "dm_verity");
            let _ = soft::find(&text, "a_b");
        },
    );
}
