//! Loads modules for which the kernel asks while drivers are being loaded and the first instances already run.
//!
//! A driver asks for a part of itself only when it has found its device: an Ethernet driver for that of its transceiver
//! (`mdio:`), which no uevent tells. So the kernel must be able to ask until drivers are loaded. But a process can make it ask,
//! too: for a file system, a protocol, a link kind, an algorithm, or by a bare name (`8021q`), as often as it likes, and for each
//! question the kernel starts this program as root and in no control group. So only names with the form of a device's alias are
//! loaded. Everything else is refused before any file is read, and after many refusals the kernel is told to ask no more.

use super::{Loader, forbid_requests};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use yado_sys::file_lock;

/// What stands before the colon of aliases that drivers ask for. Processes make the kernel ask with a colon too
/// (`ip_set_hash:ip`, `fs-a:b`), so what is not here is not theirs.
const BUSES: [&str; 29] = [
    "acpi",
    "amba",
    "auxiliary",
    "bcma",
    "dsa_tag",
    "hdaudio",
    "hid",
    "i2c",
    "ledtrig",
    "mdio",
    "mhi",
    "mmc",
    "of",
    "pci",
    "platform",
    "rpmsg",
    "scsi",
    "sdio",
    "sdw",
    "serio",
    "slim",
    "spi",
    "spmi",
    "ssb",
    "symbol",
    "typec",
    "usb",
    "usbfunc",
    "virtio",
];

/// What drivers ask for by a bare name, and nothing else can: operations of iwlwifi, makers' parts of brcmfmac, kinds of flash
/// and who finds their partitions.
const PARTS: [&str; 12] = [
    "iwlmvm",
    "iwldvm",
    "iwlmld",
    "brcmfmac-wcc",
    "brcmfmac-cyw",
    "brcmfmac-bca",
    "cfi_probe",
    "jedec_probe",
    "cfi_cmdset_0001",
    "cfi_cmdset_0002",
    "cmdlinepart",
    "ofpart",
];

/// So many requests are served at once: a driver that is being loaded for one may ask for a part of itself. Each holds the
/// lists of modules, 1 to 2 MB.
const MAX_AT_ONCE: u32 = 4;

/// After so many refusals the kernel is told to ask nobody: an instance's start has a few dozen at most.
const MAX_REFUSED: u64 = 256;

/// Where requests leave what the next one has to know: it is there before the first.
const DIRECTORY: &str = "/run";

/// Loads what the kernel asks for, if a driver may have asked. Returns whether it is there now.
pub(crate) fn serve(name: &str) -> bool {
    let directory = Path::new(DIRECTORY);
    if !may_be_of_driver(name) {
        // Where it cannot be counted the end of the drivers' job still ends it.
        if count_refused(directory).is_ok_and(|refused| MAX_REFUSED <= refused) {
            let _ = forbid_requests();
        }
        return false;
    }
    // Locked until the end.
    let Some(_slot) = take_slot(directory) else { return false };
    Loader::new().load(name)
}

/// Whether a driver may have asked for it. Pure.
fn may_be_of_driver(name: &str) -> bool {
    match name.split_once(':') {
        Some((bus, _)) => BUSES.contains(&bus),
        // Receivers of remote controls ask for their decoders.
        None => PARTS.contains(&name) || (name.starts_with("ir-") && name.ends_with("-decoder")),
    }
}

/// Counts a refusal. Returns how many there were: each is a byte.
fn count_refused(directory: &Path) -> io::Result<u64> {
    let mut file = File::options().append(true).create(true).open(directory.join("yado-refused-modules"))?;
    file.write_all(b".")?;
    Ok(file.metadata()?.len())
}

/// A lock that few can hold at once. `None`: they are all taken, or there is no place for them.
fn take_slot(directory: &Path) -> Option<File> {
    (0..MAX_AT_ONCE).find_map(|number| {
        let path = directory.join(format!("yado-module-request-{number}"));
        let file = File::options().append(true).create(true).open(path).ok()?;
        file_lock::try_lock(&file).ok()?;
        Some(file)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_drivers_are_loaded_and_what_processes_make_the_kernel_ask_for_is_not() {
        for name in [
            "iwlmvm",
            "brcmfmac-wcc",
            "ir-nec-decoder",
            "mmc:block",
            "symbol:tda10071_attach",
            "i2c:tda9887",
            "mdio:00000000001000100001010100010000",
            "dsa_tag:id-20",
            "of:NledsT(null)Cgpio-leds",
        ] {
            assert!(may_be_of_driver(name), "{name}");
        }
        // As the kernel forms them, with what a process put in: mount(2), socket(2), bind(2), ioctl(2), netlink, setsockopt(2),
        // open(2) of a node.
        for name in [
            "fs-btrfs",
            "fs-a:b",
            "net-pf-9",
            "net-pf-16-proto-10",
            "net-pf-2-proto-132-type-5",
            "net-sch-fq",
            "net-cls-flower",
            "net-act-mirred",
            "rtnl-link-dummy",
            "netdev-eth7",
            "netdev-usb:1",
            "crypto-ccm(aes)",
            "crypto-usb:1",
            "algif-hash",
            "algif-usb:1",
            "8021q",
            "bridge",
            "br_netfilter",
            "atm",
            "pppoe",
            "xt_LED",
            "ipt_ECN",
            "ebt_ip",
            "ip_set_hash:ip",
            "sch_fq",
            "tcp_bbr",
            "tcp_a:b",
            "nf_log_syslog",
            "iptable_nat",
            "nft-expr-1-ct",
            "nls_cp437",
            "binfmt-464c",
            "char-major-10-223",
            "block-major-7-0",
            "devname:net/tun",
            "devname:loop-control",
            "snd-card-0",
            "key-type-trusted",
            "unknown",
            "iwlmvm ",
            "IWLMVM",
            "mdio",
            "USB:1",
            " usb:1",
            ":",
            ":usb",
            "",
        ] {
            assert!(!may_be_of_driver(name), "{name}");
        }
    }

    #[test]
    fn few_requests_are_served_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut slots: Vec<File> = (0..MAX_AT_ONCE).map(|_| take_slot(directory.path()).unwrap()).collect();
        assert!(take_slot(directory.path()).is_none());
        slots.pop();
        assert!(take_slot(directory.path()).is_some());
        assert!(take_slot(&directory.path().join("missing")).is_none());
    }

    #[test]
    fn refusals_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!([1, 2, 3].map(|_| count_refused(directory.path()).unwrap()), [1, 2, 3]);
        assert!(count_refused(&directory.path().join("missing")).is_err());
    }
}
