//! Which modules are loaded when the kernel asks for them while drivers are being loaded and the first instances run already.
//! A process can make the kernel ask: for a file system, a protocol, a link kind, an algorithm, a match of a filter. What of
//! these the system needs is there by then; what is left are drivers that ask for a part of themselves. Pure.

use super::dependencies;

/// Kinds of modules that a process names the rest of: filters, traffic classes, congestion control, tables, character sets.
const OF_PROCESSES: [&str; 14] =
    ["act_", "arpt", "cls_", "ebt", "em_", "ip6t", "ip_set", "ip_vs", "ipt", "nf", "nls_", "sch_", "tcp_", "xt_"];

/// Whether a driver may have asked for it: by a device's alias (`mmc:block`), or by the name of a module in the list
/// (`iwlmvm`). What a process makes the kernel ask for is an alias without a bus (`fs-ext3`, `net-pf-9`), or of these kinds.
pub(crate) fn may_be_of_driver(dependencies: &str, name: &str) -> bool {
    match name.split_once(':') {
        Some((bus, _)) => bus.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        None => {
            let plain = dependencies::normalised(name);
            !OF_PROCESSES.iter().any(|kind| plain.starts_with(kind))
                && dependencies::find(dependencies, name).is_some()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_drivers_are_loaded_and_what_processes_make_the_kernel_ask_for_is_not() {
        let list = "kernel/iwlmvm.ko: kernel/iwlwifi.ko\nkernel/net/xt_LED.ko:\nkernel/net/tcp_bbr.ko:\n\
            kernel/net/nf-log-syslog.ko:\nkernel/net/iptable_nat.ko:\nkernel/fs/btrfs.ko:\n";
        for name in ["iwlmvm", "mmc:block", "symbol:tda10071_attach", "i2c:tda9887"] {
            assert!(may_be_of_driver(list, name), "{name}");
        }
        // As the kernel forms them, with what a process put in: mount(2), socket(2), netlink, setsockopt(2).
        for name in [
            "fs-btrfs",
            "fs-a:b",
            "net-pf-9",
            "net-pf-16-proto-10",
            "rtnl-link-dummy",
            "crypto-ccm(aes)",
            "xt_LED",
            "tcp_bbr",
            "tcp_a:b",
            "nf_log_syslog",
            "iptable_nat",
            "binfmt-464c",
            "char-major-10-223",
            "nft-expr-1-ct",
            "unknown",
            "",
        ] {
            assert!(!may_be_of_driver(list, name), "{name}");
        }
    }
}
