//! netd's one loop. Everything that can wake it is an [`Event`], and after each event it does what is due. The wanted links are
//! always computed from configuration, attachments and leases (`reconcile.rs`), never kept as a list of changes.

use crate::arguments::Arguments;
use crate::bridge_sockets::BridgeSockets;
use crate::control::{self, Call};
use crate::dhcp::message::Message;
use crate::dhcp::server::Leases;
use crate::dns::zone::Zones;
use crate::exhausted_pools::ExhaustedPools;
use crate::failures::PendingFailure;
use crate::firewall::transaction::Firewall;
use crate::flap_damping::FlapDamping;
use crate::idle_memory::{IdleMemory, Pause, Work};
use crate::link::kernel::Kernel;
use crate::link::monitor::LinkMonitor;
use crate::link::observed::Observed;
use crate::notify::tell_ready;
use crate::owned_task::Task;
use crate::packet_filter::{Tables, Unlimited};
use crate::privileges;
use crate::reload::{FirstNetworks, GivenUp, first_networks};
use crate::run_numbers::RunNumbers;
use crate::saved::{Attachment, Borrowed, Saved};
use crate::subnet_move_limit::SubnetMoveLimit;
use crate::subnets::{Move, SubnetState, assign, moves_seen};
use crate::uplink::Uplink;
use futures_util::future::{Either, select};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as latest};
use tokio::time::timeout;
use yado_spec::NetworksSpec;
use yado_spec::network::BridgeSpec;
use yado_sys::clock::since_boot;
use yado_sys::machine;
use yado_wire::Budget;
use yado_wire::Text;

/// Everything that can wake netd, besides the time.
#[derive(Debug)]
pub enum Event {
    /// A request on the control socket.
    Called(Box<Call>),
    /// Links, addresses or routes have changed.
    LinksChanged,
    /// Somebody else touched our firewall table.
    FirewallChanged,
    /// A DHCP client on a bridge asks.
    Asked {
        /// Which bridge.
        bridge: Text<15>,
        /// What it asks.
        message: Box<Message>,
    },
    /// A datagram for an uplink's DHCP client.
    UplinkHeard {
        /// Which uplink, by its place.
        uplink: usize,
        /// The datagram's payload.
        bytes: Vec<u8>,
    },
    /// Something was done that led to none of these, after memory was given back.
    Woken,
    /// SIGHUP: read the networks anew.
    Reload,
    /// SIGTERM: end, and leave everything as it is.
    Terminate,
    /// A source of events failed: only a new netd can hear again.
    Deaf {
        /// Which source.
        source: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// Why netd ends by itself.
#[derive(Debug)]
pub enum DaemonError {
    /// Something it cannot do without could not be opened, or failed.
    Io {
        /// What.
        object: String,
        /// Why.
        source: io::Error,
    },
}

/// What is known of the netd before this one.
#[derive(Debug, Clone, Copy)]
enum Predecessor {
    /// What it wrote down, or that there was none.
    Known,
    /// There was one, and what it wrote down cannot be read.
    Unknown,
}

/// Everything netd knows.
pub(crate) struct Netd {
    pub(crate) arguments: Arguments,
    pub(crate) spec: NetworksSpec,
    /// `spec` is only what we made up, as nobody could say what it should be.
    pub(crate) is_guessing: bool,
    /// What has to be taken back from the kernel.
    pub(crate) given_up: GivenUp,
    /// The networks of `spec`, with the addresses that they have.
    pub(crate) networks: Vec<(BridgeSpec, SubnetState)>,
    pub(crate) moves: Vec<Move>,
    pub(crate) subnet_move_limit: SubnetMoveLimit,
    pub(crate) flap_damping: FlapDamping,
    pub(crate) kernel: Kernel,
    pub(crate) firewall: Firewall,
    /// The rules that stand; `None`: they have to be put there (again).
    pub(crate) rules: Option<Tables>,
    /// What this kernel cannot limit, as it lacks the modules.
    pub(crate) unlimited: Unlimited,
    /// The table of connections has the size and the times that it should have.
    pub(crate) is_conntrack_set: bool,
    pub(crate) observed: Observed,
    pub(crate) uplinks: Vec<Uplink>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) runs: RunNumbers,
    pub(crate) borrowed: Vec<Borrowed>,
    pub(crate) leases: BTreeMap<Text<15>, Leases>,
    pub(crate) exhausted_pools: ExhaustedPools,
    pub(crate) bridge_sockets: Vec<BridgeSockets>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) zones: latest::Sender<Arc<Zones>>,
    /// What `netd.state`, `networks.kept` and `resolv.conf` hold.
    pub(crate) saved: Saved,
    pub(crate) written_saved: Vec<u8>,
    pub(crate) written_networks: Option<NetworksSpec>,
    pub(crate) written_resolv_conf: Option<String>,
    /// When to look at the links again.
    pub(crate) look_at: Option<Duration>,
    /// When the code that was used last is given back.
    pause: Pause,
    idle_memory: IdleMemory,
    /// What failed at the last look, so that it is said once.
    pub(crate) failures: Vec<PendingFailure>,
    _monitors: Vec<Task>,
}

/// Events that wait. Beyond it their sources wait, and then the kernel's own buffers.
const MAX_EVENTS: usize = 32;
/// Changes come in bursts (a container's start is a dozen messages); they are looked at together.
pub(crate) const SETTLE: Duration = Duration::from_millis(20);
/// Looks at the links at once for changes that others make, and the pause between those that follow: a look costs as much as a
/// dozen leases, and a container that takes its link up and down is found out by the next one as well. What netd itself is asked
/// for, as the start of a container, does not wait for this.
const LINK_LOOKS: u32 = 3;
const LINK_LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Runs until SIGTERM.
pub(crate) async fn run(arguments: Arguments, idle_memory: IdleMemory) -> Result<(), DaemonError> {
    let (events, mut incoming) = mpsc::channel(MAX_EVENTS);
    let failed = |object: &str| {
        let object = object.to_owned();
        move |source| DaemonError::Io { object, source }
    };
    let kernel = Kernel::open().map_err(failed("rtnetlink socket"))?;
    let firewall = Firewall::open().map_err(failed("netfilter socket"))?;
    let monitors = vec![
        monitor_links(LinkMonitor::open().map_err(failed("link monitor"))?, events.clone()),
        monitor_firewall(&firewall, events.clone()).map_err(failed("netfilter monitor"))?,
        hear_signal(SignalKind::hangup(), || Event::Reload, events.clone()).map_err(failed("SIGHUP"))?,
        hear_signal(SignalKind::terminate(), || Event::Terminate, events.clone()).map_err(failed("SIGTERM"))?,
    ];
    let state_path = arguments.run.join("netd.state");
    let boot = machine::boot_id().map_err(failed("boot_id"))?;
    let seen = kernel.observe().await.ok();
    let (saved, predecessor) = match Saved::read(&state_path, &boot) {
        Ok(saved) => (saved, Predecessor::Known),
        Err(error) => {
            let path = state_path.display();
            tracing::error!("{path}: {error}; existing addresses and routes stay until new ones are known");
            (Saved::nothing(&boot), Predecessor::Unknown)
        }
    };
    // One whose pair is gone ended while nobody looked, and uses no network.
    let is_gone = |name: &String| seen.as_ref().is_some_and(|seen| seen.link(name).is_none());
    let is_there = |attachment: &&Attachment| !attachment.host_link.as_ref().is_some_and(is_gone);
    let attached: Vec<Attachment> = saved.attachments.iter().filter(is_there).cloned().collect();
    let FirstNetworks { spec, kept, is_guessing } = first_networks(&arguments, &attached);
    let moves = match predecessor {
        Predecessor::Known => saved.moves.clone(),
        Predecessor::Unknown => moves_seen(&spec.bridges, |bridge| seen.as_ref()?.our_bridge_address(&bridge.name)),
    };
    let mut netd = Netd {
        // Until the first look, which finds out what they collide with.
        networks: assign(&spec.bridges, &moves, &[], |_| false),
        spec,
        is_guessing,
        given_up: GivenUp::default(),
        moves,
        subnet_move_limit: SubnetMoveLimit::default(),
        flap_damping: FlapDamping::default(),
        kernel,
        firewall,
        rules: None,
        unlimited: Unlimited::default(),
        is_conntrack_set: false,
        observed: Observed::default(),
        uplinks: Vec::new(),
        attachments: saved.attachments.clone(),
        runs: saved.runs.clone(),
        borrowed: saved.borrowed.clone(),
        leases: saved.leases.iter().cloned().collect(),
        exhausted_pools: ExhaustedPools::default(),
        bridge_sockets: Vec::new(),
        events: events.clone(),
        zones: latest::Sender::new(Arc::default()),
        saved,
        written_saved: Vec::new(),
        written_networks: kept,
        written_resolv_conf: None,
        look_at: None,
        pause: Pause::default(),
        idle_memory,
        failures: Vec::new(),
        arguments,
        _monitors: monitors,
    };
    netd.take_networks();
    match predecessor {
        Predecessor::Known => {}
        Predecessor::Unknown => netd.uplinks.iter_mut().for_each(Uplink::keep_unknown_address),
    }
    if let Err(error) = privileges::drop_unneeded(netd.arguments.is_hosted) {
        tracing::warn!("privileges are kept: {error}");
    }
    // Before the first look, which makes bridges and rules: whoever starts with a nic does the rest of its start meanwhile. What is
    // asked is answered after it.
    let socket: PathBuf = netd.arguments.run.join("netd.sock");
    control::listen(&socket, events).map_err(failed(&socket.display().to_string()))?;
    if let Err(error) = tell_ready(std::env::var_os("NOTIFY_SOCKET").as_deref()) {
        tracing::warn!("tell ready: {error}");
    }
    netd.reconcile(since_boot()).await;
    tracing::info!("{} bridges, {} uplinks", netd.spec.bridges.len(), netd.spec.uplinks.len());
    netd.pause.work(Work::Asked, since_boot());
    loop {
        let wait = netd.deadline().map(|at| at.saturating_sub(since_boot()));
        let next = next_event(&mut incoming, &netd.idle_memory);
        let event = match wait {
            Some(wait) => timeout(wait, next).await.ok(),
            None => Some(next.await),
        };
        match event {
            Some(Some(Event::Terminate)) => return Ok(()),
            Some(Some(Event::Deaf { source, error })) => {
                return Err(DaemonError::Io { object: source.to_owned(), source: error });
            }
            // `netd.events` keeps the channel open.
            Some(None) => return Ok(()),
            Some(Some(event)) => {
                let work = match &event {
                    Event::Called(_) | Event::Reload | Event::Terminate => Work::Asked,
                    Event::LinksChanged
                    | Event::FirewallChanged
                    | Event::Asked { .. }
                    | Event::UplinkHeard { .. }
                    | Event::Woken
                    | Event::Deaf { .. } => Work::Caused,
                };
                netd.pause.work(work, since_boot());
                netd.idle_memory.note_use();
                netd.handle(event).await;
            }
            None => {}
        }
        netd.do_what_is_due().await;
    }
}

/// `None`: nobody is left who could send one.
async fn next_event(incoming: &mut mpsc::Receiver<Event>, idle_memory: &IdleMemory) -> Option<Event> {
    match select(pin!(incoming.recv()), pin!(idle_memory.woken())).await {
        Either::Left((event, _)) => event,
        Either::Right(((), _)) => Some(Event::Woken),
    }
}

impl Netd {
    fn deadline(&self) -> Option<Duration> {
        let uplinks = self.uplinks.iter().filter_map(Uplink::deadline);
        uplinks.chain(self.look_at).chain(self.pause.deadline()).chain(self.flap_damping.deadline()).min()
    }

    async fn handle(&mut self, event: Event) {
        let now = since_boot();
        match event {
            Event::Called(call) => self.answer_call(*call, now).await,
            Event::LinksChanged => self.look_soon(now + SETTLE),
            Event::FirewallChanged => {
                tracing::warn!("the firewall table was changed by somebody else and is put back");
                self.rules = None;
                self.look_soon(now + SETTLE);
            }
            Event::Asked { bridge, message } => self.answer_dhcp(&bridge, &message, now),
            Event::UplinkHeard { uplink, bytes } => {
                let Some(uplink) = self.uplinks.get_mut(uplink) else { return };
                let before = uplink.lease().cloned();
                uplink.hear(&bytes, &self.events, now);
                // Only a changed lease is worth a look: anybody on the cable can make us hear.
                if before.as_ref() != uplink.lease() {
                    self.look_soon(now);
                }
            }
            // Nobody waits for the answer; what fails is in the log.
            Event::Reload => drop(self.reload(now).await),
            // The others ended the loop before they came here.
            Event::Woken | Event::Terminate | Event::Deaf { .. } => {}
        }
    }

    async fn do_what_is_due(&mut self) {
        let now = since_boot();
        let events = self.events.clone();
        let mut has_changed = false;
        for uplink in &mut self.uplinks {
            if uplink.deadline().is_some_and(|at| at <= now) {
                let before = uplink.lease().cloned();
                uplink.wake(&events, now);
                has_changed |= before.as_ref() != uplink.lease();
            }
        }
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if has_changed || is_due(self.look_at) || is_due(self.flap_damping.deadline()) {
            self.reconcile(now).await;
        }
        if self.pause.ends(now) {
            self.idle_memory.ask();
        }
    }

    pub(crate) fn look_soon(&mut self, at: Duration) {
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn monitor_links(monitor: LinkMonitor, events: mpsc::Sender<Event>) -> Task {
    Task::spawn(async move {
        let mut budget = Budget::each(LINK_LOOKS, LINK_LOOK_PAUSE);
        loop {
            let event = match monitor.changed().await {
                Ok(()) => Event::LinksChanged,
                Err(error) => Event::Deaf { source: "link monitor", error },
            };
            if events.send(event).await.is_err() {
                return;
            }
            // A burst is one event, and whoever changes something without end is looked at now and then.
            tokio::time::sleep(SETTLE.max(budget.spend(1, since_boot()))).await;
        }
    })
}

fn monitor_firewall(firewall: &Firewall, events: mpsc::Sender<Event>) -> io::Result<Task> {
    let monitor = firewall.monitor()?;
    Ok(Task::spawn(async move {
        loop {
            let event = match monitor.changed().await {
                Ok(()) => Event::FirewallChanged,
                Err(error) => Event::Deaf { source: "netfilter monitor", error },
            };
            if events.send(event).await.is_err() {
                return;
            }
            // Two programs that undo each other do so once a second.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }))
}

fn hear_signal(kind: SignalKind, event: fn() -> Event, events: mpsc::Sender<Event>) -> io::Result<Task> {
    let mut signal = signal(kind)?;
    Ok(Task::spawn(async move { while signal.recv().await.is_some() && events.send(event()).await.is_ok() {} }))
}

impl fmt::Display for DaemonError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonError::Io { object, source } => write!(out, "{object}: {source}"),
        }
    }
}

impl std::error::Error for DaemonError {}
