//! The inits that are known, each with the way in which it is asked to power off. One table: a new init is a line in each of these
//! functions.

use crate::container_facts::Stop;

/// What an init is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitKind {
    /// systemd.
    Systemd,
    /// Debian's and Devuan's old init, also under OpenRC.
    SysVinit,
    /// OpenRC's own init.
    OpenrcInit,
    /// runit.
    Runit,
    /// finit.
    Finit,
    /// busybox or toybox as init: Alpine, Buildroot.
    Busybox,
    /// OpenWrt's.
    Procd,
    /// s6-svscan, which ends itself when asked to.
    S6,
    /// s6-linux-init.
    S6LinuxInit,
    /// dinit.
    Dinit,
    /// tini, dumb-init, catatonit: they pass signals on to one program.
    SmallInit,
    /// None of these.
    Unknown,
}

impl InitKind {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            InitKind::Systemd => "systemd",
            InitKind::SysVinit => "sysvinit",
            InitKind::OpenrcInit => "openrc-init",
            InitKind::Runit => "runit",
            InitKind::Finit => "finit",
            InitKind::Busybox => "busybox init",
            InitKind::Procd => "procd",
            InitKind::S6 => "s6",
            InitKind::S6LinuxInit => "s6-linux-init",
            InitKind::Dinit => "dinit",
            InitKind::SmallInit => "a small init",
            InitKind::Unknown => "not known",
        }
    }

    /// How it is asked to power off. `argv`: with what the image is started.
    pub fn stop(self, argv: &[String]) -> Stop {
        let telinit = || Stop::Command(argv.first().cloned().into_iter().chain(["0".to_owned()]).collect());
        match self {
            // systemd(1): SIGRTMIN+3 starts halt.target.
            InitKind::Systemd => Stop::Signal(37),
            // It starts what /etc/inittab has for a failing power supply at SIGPWR, which is nothing or a message. telinit(8).
            InitKind::SysVinit => telinit(),
            // runit-init(8): makes stopit executable and sends SIGCONT.
            InitKind::Runit => telinit(),
            // Its pipe is read when it has booted. At SIGTERM it begins at once, and hangs in the lock of a boot that goes on.
            InitKind::OpenrcInit => Stop::Command(OPENRC_POWEROFF.map(str::to_owned).into()),
            InitKind::Finit | InitKind::Busybox | InitKind::Procd => Stop::Signal(12),
            InitKind::S6LinuxInit => Stop::Command(vec![S6_POWEROFF.to_owned(), "-p".to_owned()]),
            InitKind::S6 | InitKind::Dinit | InitKind::SmallInit => Stop::Signal(15),
            // The convention of containers of one program.
            InitKind::Unknown => Stop::Signal(15),
        }
    }
}

/// openrc-shutdown(8).
const OPENRC_POWEROFF: [&str; 3] = ["/sbin/openrc-shutdown", "--poweroff", "now"];

/// `halt`, `poweroff` and `reboot` are this program of s6-linux-init under other names.
const S6_POWEROFF: &str = "/sbin/poweroff";

/// What an init is, by the file that it leads to and what stands in it. `argv`: with what the image is started; `is_there`:
/// whether a path leads to a file of the root.
pub(super) fn kind_of(argv: &[String], file: &str, bytes: &[u8], is_there: &dyn Fn(&str) -> bool) -> InitKind {
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    match last_name(file) {
        "systemd" => InitKind::Systemd,
        "openrc-init" => InitKind::OpenrcInit,
        "runit-init" => InitKind::Runit,
        "finit" => InitKind::Finit,
        "procd" => InitKind::Procd,
        "dinit" => InitKind::Dinit,
        "s6-svscan" => InitKind::S6,
        "tini" | "tini-static" | "dumb-init" | "catatonit" | "docker-init" => InitKind::SmallInit,
        _ if bytes.starts_with(b"#!") => match has("s6-linux-init") && is_there(S6_POWEROFF) {
            true => InitKind::S6LinuxInit,
            false => InitKind::Unknown,
        },
        _ if has("BusyBox v") || last_name(file) == "toybox" => match is_init_applet(argv) {
            true => InitKind::Busybox,
            false => InitKind::Unknown,
        },
        _ if has("/etc/inittab") && has("/initctl") => InitKind::SysVinit,
        _ if has("/sbin/procd") => InitKind::Procd,
        _ => InitKind::Unknown,
    }
}

/// busybox and toybox are the program by whose name they are called, or that their first argument names.
fn is_init_applet(argv: &[String]) -> bool {
    let mut names = argv.iter().map(|word| last_name(word));
    match names.next() {
        Some("busybox" | "toybox") => names.next() == Some("init"),
        Some(name) => matches!(name, "init" | "linuxrc"),
        None => false,
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
