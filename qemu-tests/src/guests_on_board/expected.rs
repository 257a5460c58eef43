//! What is expected of each guest of the matrix, and what can be run inside it. The hosted tests of init judge by it, and so do the
//! boards': it says nothing of where a guest runs.

/// A guest.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its root's.
    pub(crate) name: &'static str,
    /// When it is ready: keys of its configuration.
    pub(crate) health: &'static str,
    pub(crate) commands: Commands,
    /// The name by which it asks for the board's neighbour.
    pub(crate) neighbour: &'static str,
    /// What runs inside when all has been started.
    pub(crate) programs: &'static [&'static str],
    /// What runs for as long as it still boots, on a board for a minute: OpenRC that is asked to stop then waits a minute for each
    /// service that was being started.
    pub(crate) boots_by: &'static [&'static str],
    /// Of the units that failed, or the lines in which it says that something did: those that do so in any container, by words of
    /// them.
    pub(crate) may_fail: &'static [&'static str],
}

/// systemd says when all that it starts has been started: on an emulated board that takes minutes.
const NOTIFIES: &str = "health.ready = \"notify\"\nhealth.timeout = \"10m\"\n";

const NOTIFIES_NESTING: &str = "health.ready = \"notify\"\nhealth.timeout = \"10m\"\nsecurity.nesting = true\n";

pub(crate) const SYSTEMD: Guest = Guest {
    name: "systemd",
    health: NOTIFIES,
    commands: Commands::Systemd,
    neighbour: "neighbour",
    programs: &["systemd", "systemd-journal", "systemd-network"],
    boots_by: &[],
    may_fail: &[],
};

/// It asks by systemd-resolved, which sends no name without a dot to a server.
const RESOLVED: Guest = Guest { neighbour: "neighbour.lxd", ..SYSTEMD };

/// systemd before 248 gives up a unit with `ProtectProc=` where it may not mount a second /proc, which takes nesting.
pub(crate) const BULLSEYE: Guest = Guest {
    name: "bullseye",
    health: NOTIFIES_NESTING,
    // The kernel gives no container its audit messages; later versions do not ask in one.
    may_fail: &["systemd-journald-audit.socket"],
    ..RESOLVED
};

pub(crate) const SID: Guest = Guest { name: "sid", ..RESOLVED };

pub(crate) const FULL: Guest = Guest { name: "full", programs: &["systemd", "sshd", "cron", "rsyslogd"], ..RESOLVED };

/// Runs containers of its own.
pub(crate) const NESTING: Guest = Guest { name: "nesting", health: NOTIFIES_NESTING, ..SYSTEMD };

pub(crate) const SYSVINIT: Guest = Guest {
    name: "sysvinit",
    health: "health.window = \"1s\"\n",
    commands: Commands::Shell,
    neighbour: "neighbour",
    programs: &["init", "dhclient"],
    boots_by: &["openrc", "openrc-run", "rc", "startpar"],
    may_fail: &[
        // mount(8)'s second line, where Debian's scripts mount what is mounted already, or what no container may have.
        "after failed mount system call",
        // The kernel's log is not a container's.
        "read kernel buffer failed",
        // What the launcher has mounted stays until the last process has ended.
        "umount: ",
    ],
};

pub(crate) const OPENRC: Guest = Guest { name: "openrc", ..SYSVINIT };

pub(crate) const OPENRC_INIT: Guest = Guest { name: "openrc-init", commands: Commands::Openrc, ..SYSVINIT };

pub(crate) const RUNIT: Guest = Guest { name: "runit", programs: &["runit", "runsvdir"], ..SYSVINIT };

pub(crate) const FINIT: Guest = Guest { name: "finit", ..SYSVINIT };

pub(crate) const BUSYBOX: Guest =
    Guest { name: "busybox-init", programs: &["init", "udhcpc"], commands: Commands::Busybox, ..SYSVINIT };

pub(crate) const PROGRAM: Guest =
    Guest { name: "program", commands: Commands::Program, programs: &["init"], ..SYSVINIT };

/// What can be run inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commands {
    /// bash and glibc's, and systemctl.
    Systemd,
    /// bash and glibc's.
    Shell,
    /// The same, but `openrc-shutdown` in place of `poweroff` and `reboot`.
    Openrc,
    /// busybox's.
    Busybox,
    /// What `program.c` has.
    Program,
}

impl Commands {
    pub(crate) fn has_network(self) -> bool {
        self != Commands::Program
    }

    fn shell(line: &str) -> Vec<String> {
        ["/bin/sh", "-c", line].map(str::to_owned).into()
    }

    fn program(words: &[&str]) -> Vec<String> {
        [&["/sbin/init"], words].concat().into_iter().map(str::to_owned).collect()
    }

    /// Ends with 7.
    pub(crate) fn exits(self) -> Vec<String> {
        if self == Commands::Program { Commands::program(&["exit", "7"]) } else { Commands::shell("exit 7") }
    }

    /// Makes a file.
    pub(crate) fn keep(self) -> Vec<String> {
        if self == Commands::Program {
            Commands::program(&["keep"])
        } else {
            Commands::shell("echo kept >/root/kept")
        }
    }

    /// Ends with 0 if the file is there.
    pub(crate) fn is_kept(self) -> Vec<String> {
        if self == Commands::Program {
            Commands::program(&["kept"])
        } else {
            Commands::shell("read word </root/kept && [ $word = kept ]")
        }
    }

    pub(crate) fn power_off(self) -> Vec<String> {
        match self {
            Commands::Openrc => Commands::shell("exec openrc-shutdown --poweroff now"),
            Commands::Program => Commands::program(&["poweroff"]),
            Commands::Systemd | Commands::Shell | Commands::Busybox => Commands::shell("exec /sbin/poweroff"),
        }
    }

    pub(crate) fn reboot(self) -> Vec<String> {
        match self {
            Commands::Openrc => Commands::shell("exec openrc-shutdown --reboot now"),
            Commands::Program => Commands::program(&["reboot"]),
            Commands::Systemd | Commands::Shell | Commands::Busybox => Commands::shell("exec /sbin/reboot"),
        }
    }

    /// Prints what a server answers by HTTP.
    pub(crate) fn fetch(self, host: &str, port: u16) -> Vec<String> {
        match self {
            Commands::Busybox => Commands::shell(&format!("wget -q -O - http://{host}:{port}/")),
            _ => {
                let ask =
                    format!("exec 3<>/dev/tcp/{host}/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3");
                ["/bin/bash", "-c", &ask].map(str::to_owned).into()
            }
        }
    }
}

impl Guest {
    /// Of the lines that it said on its console, those that tell of a failure, but for what may fail. systemd's units are asked for.
    pub(crate) fn told_failures(&self, said: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for line in said {
            match (line.as_str(), lines.last_mut()) {
                // The end of a line in which another program has spoken.
                ("failed." | "failed!", Some(before)) => before.push_str(" failed"),
                _ => lines.push(line),
            }
        }
        let is_told = |line: &str| self.commands != Commands::Systemd && line.to_lowercase().contains("fail");
        lines.retain(|line| is_told(line) && !self.may_fail(line));
        lines.sort();
        lines.dedup();
        lines
    }

    /// Whether a line names only what fails in any container.
    pub(crate) fn may_fail(&self, line: &str) -> bool {
        self.may_fail.iter().any(|known| line.contains(known))
    }
}
