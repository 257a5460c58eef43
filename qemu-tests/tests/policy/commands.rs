//! A command that a step gives to a board without a shell has a name there. busybox's shell, as Debian builds it, knows all programs of
//! busybox itself: in a script nothing needs a name.

use super::root;
use qemu_tests::board::container_images::BUSYBOX_APPLETS;
use std::fs;
use std::path::Path;

/// The programs of Debian 12's busybox that have no name on a board and in its containers; but for `init`, a word for much else.
const WITHOUT_A_NAME: &str = "acpid adjtimex ar arch arp arping ascii ash bc blkdiscard brctl bunzip2 bzcat bzip2 cal chgrp chroot chvt clear cmp \
     cpio crc32 crond crontab cttyhack dc deallocvt depmod devmem diff dnsdomainname dos2unix dpkg dpkg-deb dumpkmap \
     dumpleases ed egrep expand factor fallocate fatattr fdisk fgrep findfs fold freeramdisk fsfreeze fstrim ftpget \
     ftpput getopt getty groups gunzip gzip halt hostid httpd hwclock i2cdetect i2cdump i2cget i2cset i2ctransfer ifdown \
     ifup ionice ipcalc ipneigh klogd last link linux32 linux64 linuxrc loadfont loadkmap logger login logname \
     logread losetup lsscsi lzcat lzma lzop mdev microcom mim mkdosfs mke2fs mkfifo mkpasswd mkswap mktemp modinfo mt \
     nameif nl nologin nproc nsenter nuke openvt partprobe passwd paste patch pidof ping6 pivot_root rdate realpath \
     renice reset resume rev rmmod rpm rpm2cpio run-init run-parts setkeycodes setpriv setsid sha1sum sha3sum sha512sum \
     shred shuf ssl_client start-stop-daemon strings su sulogin svc svok swapoff swapon switch_root sysctl syslogd tac \
     taskset tc telnet telnetd tftp timeout traceroute traceroute6 truncate ts tunctl ubirename udhcpd uevent uncompress \
     unexpand unix2dos unlink unlzma unshare unxz unzip usleep uudecode uuencode vconfig w watch watchdog who xxd xz \
     xzcat zcat";

#[test]
fn what_a_step_has_executed_without_a_shell_has_a_name_on_the_board() {
    let without: Vec<&str> =
        WITHOUT_A_NAME.split_whitespace().filter(|name| !BUSYBOX_APPLETS.contains(name)).collect();
    let mut words = Vec::new();
    for place in ["board", "broken", "demo", "guests_on_board", "hostile", "bench"] {
        first_words(&root().join("qemu-tests/src").join(place), &mut words);
    }
    assert!(words.iter().any(|(word, _)| word == "uname"), "no command is found any more");
    for (word, file) in words {
        let name = word.rsplit('/').next().unwrap();
        assert!(!without.contains(&name), "{file}: {word} needs a line in BUSYBOX_APPLETS");
    }
}

/// The first word of each list in the Rust files below, which may be a command's.
fn first_words(directory: &Path, found: &mut Vec<(String, String)>) {
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            first_words(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let words = text.split("&[\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(words.map(|word| (word.to_owned(), path.display().to_string())));
        }
    }
}
