//! Makes a supervisor: its directories, its log, its sockets. A failure is logged, and the supervisor does without what failed;
//! only signals are required, since without them no child would ever be reaped.

use crate::boot::progress::Boot;
use crate::boot_clock::Moment;
use crate::close_queue::CloseQueue;
use crate::control::client::Clients;
use crate::damaged_images::DamagedImages;
use crate::events::Events;
use crate::free_space::FreeSpace;
use crate::hotplug::table::{self as hotplug, Hotplug};
use crate::identities::Identities;
use crate::identities::stored::IdentitiesFile;
use crate::image_cache::ImageCache;
use crate::instances::Instances;
use crate::job::Jobs;
use crate::log::{Log, Priority};
use crate::memory_guard::guard::MemoryGuard;
use crate::netd::Netd;
use crate::paths::Paths;
use crate::poll_events::Sockets;
use crate::reader_link::ReaderLink;
use crate::supervisor::Supervisor;
use crate::updater::Updater;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use yado_sys::{clock, datagram, packet, signals, uevent};
use yado_wire::datagrams::DatagramSource;

impl Supervisor {
    /// A supervisor of nothing yet, with its sockets open. `Err`: it cannot be one; the log says why.
    pub(crate) fn new(paths: Paths, log: Log) -> Result<Supervisor, ()> {
        let mut log = log;
        let signals = match signals::signal_fd() {
            Ok(signals) => signals,
            Err(error) => {
                log.say(Priority::Error, format_args!("signals: {error}"));
                return Err(());
            }
        };
        for directory in [paths.run.join("log"), paths.runtimes.clone(), paths.specs()] {
            if let Err(error) = fs::create_dir_all(&directory) {
                log.say(Priority::Error, format_args!("create {}: {error}", directory.display()));
            }
        }
        log.open_rings(&paths.run.join("log"));
        let told = |path: &Path, result: io::Result<OwnedFd>, log: &mut Log| {
            result
                .map_err(|error| log.say(Priority::Error, format_args!("listen on {}: {error}", path.display())))
                .ok()
        };
        let (socket, notify) = (paths.socket(), paths.run.join("notify"));
        let sockets = Sockets {
            signals: Some(signals),
            uevents: told(Path::new("uevents"), uevent::open(), &mut log),
            control: told(&socket, packet::listen(&socket), &mut log),
            power_keys: Vec::new(),
        };
        let close_queue = CloseQueue::default();
        let mut reader = ReaderLink::default();
        if let Some(notify) = told(&notify, datagram::bind(&notify, 0o600), &mut log) {
            reader.watch(DatagramSource::Services, notify, close_queue.discarded());
        }
        log.say(Priority::Info, format_args!("yado-init {} ({:?})", env!("CARGO_PKG_VERSION"), paths.mode));
        Ok(Supervisor {
            paths,
            log,
            events: Events::default(),
            sockets,
            reader,
            close_queue,
            clients: Clients::default(),
            instances: Instances::default(),
            identities: Identities::default(),
            identities_file: IdentitiesFile::NotOurs,
            pending_apply: None,
            services: Vec::new(),
            updater: Updater::new(),
            launches: Vec::new(),
            next_launch: 0,
            jobs: Jobs::default(),
            boot: Boot::new(),
            hotplug: Hotplug::default(),
            uevent_budget: hotplug::event_budget(),
            netd: Netd::default(),
            image_cache: ImageCache::default(),
            shutdown: None,
            watchdog: None,
            slot: None,
            data_failure: None,
            free_space: FreeSpace::default(),
            damaged_images: DamagedImages::default(),
            memory_guard: MemoryGuard::default(),
            unknown_ends: Vec::new(),
            started: clock::since_boot(),
            next_turn: Moment::ZERO,
        })
    }
}
