//! The command line of yado-init. It says in which role the program runs: as PID 1 of an initramfs or of the system, as a daemon
//! on a host, or as one of init's own helper processes.

use crate::instance::cgroup;
use crate::last_reset::BY_WATCHDOG;
use crate::modules::Loader;
use crate::modules::devices::NewDevices;
use crate::modules::requested;
use crate::shutdown::unmount;
use crate::{
    close_queue, data_partition, datagram_reader, hosted, identities, initramfs, last_reset, memory_guard, system,
};
use std::ffi::OsString;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yado_sys::scheduling;
use yado_wire::last_reset::parse_slot;

const HELP: &str = "\
yado-init: starts and keeps signed containers

As PID 1 it takes no arguments. On any other Linux, as root:

  yado-init --hosted DIR   keep the instances of DIR/system and DIR/data, with run-time state in DIR/run
  yado-init --help         this text
  yado-init --version      the version

SIGTERM ends a hosted init in order: all instances first.

The kernel calls it as its modprobe (-q -- NAME), and it calls itself to load drivers
(--load-drivers [ALIAS...], --load-modules KIND), to receive what instances and services send (--datagram-reader), to
close their sockets (--close), to write limits of instances that run (--set-limits GROUP FILE=VALUE...) and which
ids they have (--save-identities FILE TEXT), to see what their sockets hold (--weigh-sockets BYTES GROUPS NAME...), to mount the data
partition (--mount DEVICE TYPE), to keep some files there for the system (--fill-reserve), to note why the system was started
(--note-boot DATA RUN RESET SLOT), and to unmount all disks at the end (--unmount FILE MARK).
";

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    PidOne,
    Hosted(PathBuf),
    /// Drivers for these aliases; for all devices when there are none.
    LoadDrivers(Vec<String>),
    /// What every instance needs.
    LoadForInstances,
    /// What netd needs.
    LoadForNetworks,
    /// To receive for init what others send.
    ReadDatagrams,
    /// To close what init must not close itself.
    Close,
    /// To say what sockets hold, when so many bytes are missing: of instances by their names, with their groups in this one.
    WeighSockets(u64, PathBuf, Vec<String>),
    /// One module, for the kernel.
    LoadModule(String),
    /// This device, with a file system of this kind, mounted as the data partition.
    Mount(PathBuf, String),
    /// What is missing of the reserve of files on the data partition, made.
    FillReserve,
    /// This text, written to the file that says who is who.
    SaveIdentities(PathBuf, String),
    /// These limits, `FILE=VALUE` each, written to this control group.
    SetLimits(PathBuf, Vec<String>),
    /// Why the system was started, noted on the data partition and in the runtime directory.
    NoteBoot {
        data: PathBuf,
        run: PathBuf,
        was_watchdog: bool,
        slot: Option<char>,
    },
    /// The time saved in this file, this text beside it, what is on disks unmounted, all written back.
    Unmount(PathBuf, String),
    Help,
    Version,
}

/// Runs as what `arguments` (the program's name first) and our process id say.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match parse(arguments, std::process::id()) {
        Ok(Role::PidOne) if Path::new(initramfs::MARKER).exists() => initramfs::run(),
        Ok(Role::PidOne) => system::run(),
        Ok(Role::Hosted(directory)) => hosted::run(&directory),
        Ok(Role::LoadDrivers(aliases)) => load(|loader| match aliases.is_empty() {
            true => {
                run_after_instances();
                loader.load_for_all(&NewDevices::open());
            }
            false => loader.load_for(&aliases.into_iter().collect()),
        }),
        Ok(Role::LoadForInstances) => load(Loader::load_for_instances),
        Ok(Role::LoadForNetworks) => load(|loader| {
            run_after_instances();
            loader.load_for_networks();
        }),
        Ok(Role::ReadDatagrams) => datagram_reader::run(),
        Ok(Role::Close) => close_queue::run(),
        Ok(Role::WeighSockets(missing, groups, names)) => memory_guard::sockets::run(missing, &groups, &names),
        Ok(Role::LoadModule(name)) => {
            let is_early = Path::new(initramfs::MARKER).exists();
            let is_there = if is_early { Loader::new().load(&name) } else { requested::serve(&name) };
            // The kernel goes on only when this succeeds (kernel/module/kmod.c).
            if is_there { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(Role::SaveIdentities(file, text)) => identities::stored::run_save(&file, &text),
        Ok(Role::SetLimits(group, writes)) => cgroup::run_set_limits(&group, &writes),
        // Nobody is to mount or unmount a host's disks by a slip.
        Ok(Role::Mount(device, kind)) if parent_id() == 1 => data_partition::run_mount(&device, &kind),
        Ok(Role::FillReserve) if parent_id() == 1 => data_partition::run_fill_reserve(),
        Ok(Role::NoteBoot { data, run, was_watchdog, slot }) if parent_id() == 1 => {
            last_reset::run(&data, &run, was_watchdog, slot)
        }
        Ok(Role::Unmount(clock, mark)) if parent_id() == 1 => unmount::run(&clock, &mark),
        Ok(Role::Mount(..) | Role::FillReserve | Role::NoteBoot { .. } | Role::Unmount(..)) => {
            eprintln!("yado-init: only PID 1 asks for that");
            ExitCode::FAILURE
        }
        Ok(Role::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Role::Version) => {
            println!("yado-init {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("yado-init: {reason}");
            ExitCode::from(2)
        }
    }
}

/// PID 1 ignores its arguments: the kernel hands it whatever it did not understand of its own command line.
fn parse(arguments: &[OsString], pid: u32) -> Result<Role, String> {
    let words: Vec<&str> = arguments.iter().skip(1).map(|word| word.to_str().unwrap_or("?")).collect();
    match (words.as_slice(), pid) {
        (["--hosted", _], _) => {
            let directory = arguments.get(2).map(PathBuf::from).unwrap_or_default();
            Ok(Role::Hosted(directory))
        }
        (_, 1) => Ok(Role::PidOne),
        (["--help" | "-h"], _) => Ok(Role::Help),
        (["--version" | "-V"], _) => Ok(Role::Version),
        (["--load-drivers", aliases @ ..], _) => {
            Ok(Role::LoadDrivers(aliases.iter().map(|alias| (*alias).to_owned()).collect()))
        }
        (["--load-modules", "instances"], _) => Ok(Role::LoadForInstances),
        (["--load-modules", "networks"], _) => Ok(Role::LoadForNetworks),
        (["--mount", device, kind], _) => Ok(Role::Mount(PathBuf::from(device), (*kind).to_owned())),
        (["--fill-reserve"], _) => Ok(Role::FillReserve),
        (["--save-identities", file, text], _) => Ok(Role::SaveIdentities(PathBuf::from(file), (*text).to_owned())),
        (["--set-limits", group, writes @ ..], _) => {
            Ok(Role::SetLimits(PathBuf::from(group), writes.iter().map(|write| (*write).to_owned()).collect()))
        }
        (["--note-boot", data, run, reset, slot], _) => Ok(Role::NoteBoot {
            data: PathBuf::from(data),
            run: PathBuf::from(run),
            was_watchdog: *reset == BY_WATCHDOG,
            slot: parse_slot(slot),
        }),
        (["--unmount", clock, mark], _) => Ok(Role::Unmount(PathBuf::from(clock), (*mark).to_owned())),
        (["--datagram-reader"], _) => Ok(Role::ReadDatagrams),
        (["--close"], _) => Ok(Role::Close),
        (["--weigh-sockets", missing, groups, names @ ..], _) => Ok(Role::WeighSockets(
            missing.parse().map_err(|_| format!("{missing}: not a number of bytes"))?,
            PathBuf::from(groups),
            names.iter().map(|name| (*name).to_owned()).collect(),
        )),
        (["-q", "--", name], _) => Ok(Role::LoadModule((*name).to_owned())),
        ([], _) => Err("it is not PID 1; --hosted DIR runs it as a daemon (--help says more)".to_owned()),
        ([word, ..], _) => Err(format!("unknown or incomplete argument {word} (--help says more)")),
    }
}

/// Instances that need nothing of what is loaded start meanwhile, and all of them together have a quarter of the usual weight.
fn run_after_instances() {
    if let Err(error) = scheduling::run_after_others() {
        println!("be scheduled after others: {error}");
    }
}

fn load(what: impl FnOnce(&mut Loader)) -> ExitCode {
    let mut loader = Loader::new();
    what(&mut loader);
    // A driver whose device is not there says so by an error; that is normal, and worth one line.
    for (module, reason) in &loader.failures {
        println!("module {module}: {reason}");
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(words: &[&str], pid: u32) -> Result<Role, String> {
        let arguments: Vec<OsString> =
            std::iter::once("yado-init").chain(words.iter().copied()).map(OsString::from).collect();
        parse(&arguments, pid)
    }

    #[test]
    fn only_pid_1_is_pid_1() {
        assert_eq!(role(&[], 1), Ok(Role::PidOne));
        assert_eq!(role(&["splash", "--help"], 1), Ok(Role::PidOne));
        assert!(role(&[], 77).is_err());
        assert!(role(&["--hosted"], 77).is_err());
        assert!(role(&["--load"], 77).is_err());
        assert_eq!(role(&["--hosted", "/x"], 77), Ok(Role::Hosted(PathBuf::from("/x"))));
        assert_eq!(role(&["--hosted", "/x"], 1), Ok(Role::Hosted(PathBuf::from("/x"))), "PID 1 of a container");
        let mount = Role::Mount(PathBuf::from("/dev/x"), "f2fs".to_owned());
        assert_eq!(role(&["--mount", "/dev/x", "f2fs"], 77), Ok(mount));
        assert_eq!(role(&["--fill-reserve"], 77), Ok(Role::FillReserve));
        assert_eq!(role(&["--unmount", "/x", "y"], 77), Ok(Role::Unmount(PathBuf::from("/x"), "y".to_owned())));
        let (data, run) = (PathBuf::from("/d"), PathBuf::from("/r"));
        for (reset, slot, was_watchdog, is_slot) in [(BY_WATCHDOG, "B", true, Some('B')), ("other", "-", false, None)]
        {
            let noted = Role::NoteBoot { data: data.clone(), run: run.clone(), was_watchdog, slot: is_slot };
            assert_eq!(role(&["--note-boot", "/d", "/r", reset, slot], 77), Ok(noted));
        }
        assert_eq!(role(&["-q", "--", "fs-erofs"], 77), Ok(Role::LoadModule("fs-erofs".to_owned())));
        let weighed = Role::WeighSockets(7, PathBuf::from("/x"), vec!["one".to_owned()]);
        assert_eq!(role(&["--weigh-sockets", "7", "/x", "one"], 77), Ok(weighed));
        assert!(role(&["--weigh-sockets", "much", "/x"], 77).is_err());
        assert_eq!(role(&["--load-modules", "instances"], 77), Ok(Role::LoadForInstances));
        assert_eq!(role(&["--load-modules", "networks"], 77), Ok(Role::LoadForNetworks));
        assert!(role(&["--load-modules", "all"], 77).is_err());
        let aliases = vec!["usb:x".to_owned()];
        assert_eq!(role(&["--load-drivers", "usb:x"], 77), Ok(Role::LoadDrivers(aliases)));
    }
}
