//! What the tables of keys write into while a file is read: the parts of a spec as far as they were said. The builders
//! turn a draft into the spec once every key is in.

use crate::instance::{
    Boot, CpuAllowance, Cpus, Health, IDS_FOR_NESTING, KernelLimit, Limits, MemoryLimit, Probe, ProbeAttempt,
    Readiness, Restart, RestartPolicy, Security, USUAL_IDS,
};
use crate::network::{DhcpSpec, DnsMode, Ipv4Prefix, LinkSelector};
use crate::values::Memory;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use yado_wire::Text;

/// `[config]` of an instance, with the profiles below it.
#[derive(Debug)]
pub struct ConfigDraft {
    /// `boot.*`; `after` is not a config key.
    pub boot: Boot,
    /// `boot.autorestart`.
    pub autorestart: Option<bool>,
    /// `boot.restart` and what belongs to it.
    pub restart: RestartDraft,
    /// `health.*`.
    pub health: HealthDraft,
    /// `limits.memory`.
    pub memory: Option<Memory>,
    /// `limits.memory.enforce`: `memory.max`, or `memory.high`.
    pub is_memory_hard: bool,
    /// `limits.memory.swap`.
    pub swap_bytes: Option<u64>,
    /// `limits.cpu.allowance`.
    pub cpu: Option<CpuAllowance>,
    /// `limits.cpu`.
    pub cpus: Option<Cpus>,
    /// `limits.cpu.priority`.
    pub cpu_priority: u8,
    /// `limits.processes`.
    pub processes: Option<u32>,
    /// `limits.kernel.*`.
    pub kernel: Vec<KernelLimit>,
    /// `security.*`. Its ids are those of [`ConfigDraft::security`].
    pub security: Security,
    /// `security.idmap.size`.
    pub idmap_size: Option<u32>,
    /// `environment.*`.
    pub environment: BTreeMap<String, String>,
}

/// `boot.restart` and what belongs to it.
#[derive(Debug)]
pub struct RestartDraft {
    /// `boot.restart`.
    pub policy: Option<RestartPolicy>,
    /// `boot.restart.pause`.
    pub pause: Duration,
    /// `boot.restart.pause_max`.
    pub pause_max: Duration,
    /// `boot.restart.attempts`.
    pub attempts: u32,
}

/// `health.*`.
#[derive(Debug)]
pub struct HealthDraft {
    /// `health.ready`.
    pub ready: ReadyWord,
    /// `health.timeout`.
    pub timeout: Duration,
    /// `health.window`.
    pub window: Duration,
    /// `health.probe`.
    pub probe: Option<ProbeAttempt>,
    /// `health.probe.interval`.
    pub probe_interval: Duration,
    /// `health.probe.timeout`.
    pub probe_timeout: Duration,
    /// `health.probe.failures`.
    pub probe_failures: u32,
    /// `health.watchdog`.
    pub watchdog: Option<Duration>,
    /// `health.required`.
    pub required: bool,
}

/// The words of `health.ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyWord {
    /// `alive`.
    Alive,
    /// `notify`.
    Notify,
    /// `probe`.
    Probe,
}

impl ConfigDraft {
    /// Nothing said; the defaults come from the table.
    pub fn blank() -> ConfigDraft {
        ConfigDraft {
            boot: Boot {
                autostart: false,
                delay: Duration::ZERO,
                priority: 0,
                after: Vec::new(),
                shutdown_timeout: Duration::ZERO,
                stop_priority: 0,
                stop_method: None,
            },
            autorestart: None,
            restart: RestartDraft { policy: None, pause: Duration::ZERO, pause_max: Duration::ZERO, attempts: 0 },
            health: HealthDraft {
                ready: ReadyWord::Alive,
                timeout: Duration::ZERO,
                window: Duration::ZERO,
                probe: None,
                probe_interval: Duration::ZERO,
                probe_timeout: Duration::ZERO,
                probe_failures: 0,
                watchdog: None,
                required: false,
            },
            memory: None,
            is_memory_hard: true,
            swap_bytes: None,
            cpu: None,
            cpus: None,
            cpu_priority: 0,
            processes: None,
            kernel: Vec::new(),
            security: Security::default(),
            idmap_size: None,
            environment: BTreeMap::new(),
        }
    }

    /// When it counts as ready, and when no longer.
    pub fn health(&self) -> Health {
        let health = &self.health;
        Health {
            ready: match health.ready {
                ReadyWord::Alive => Readiness::Alive { window: health.window },
                ReadyWord::Notify => Readiness::Notify { timeout: health.timeout },
                ReadyWord::Probe => Readiness::Probe { timeout: health.timeout },
            },
            probe: health.probe.clone().map(|attempt| Probe {
                attempt,
                interval: health.probe_interval,
                timeout: health.probe_timeout,
                failures: health.probe_failures,
            }),
            watchdog: health.watchdog,
            required: health.required,
        }
    }

    /// What happens when it ends by itself.
    pub fn restart(&self) -> Restart {
        let policy = match (self.restart.policy, self.autorestart) {
            (Some(policy), _) => policy,
            (None, Some(true)) => RestartPolicy::OnFailure,
            (None, Some(false) | None) => RestartPolicy::Never,
        };
        Restart {
            policy,
            first_pause: self.restart.pause,
            longest_pause: self.restart.pause_max,
            attempts: self.restart.attempts,
        }
    }

    /// What it may do.
    pub fn security(&self) -> Security {
        let usual = if self.security.nesting { IDS_FOR_NESTING } else { USUAL_IDS };
        Security { idmap_size: self.idmap_size.unwrap_or(usual), ..self.security.clone() }
    }

    /// What it may use.
    pub fn limits(&self) -> Limits {
        let memory = self.memory.map(|memory| match (memory, self.is_memory_hard) {
            (Memory::Bytes(bytes), true) => MemoryLimit::Hard(bytes),
            (Memory::Bytes(bytes), false) => MemoryLimit::Soft(bytes),
            (Memory::Percent(percent), true) => MemoryLimit::HardPercent(percent),
            (Memory::Percent(percent), false) => MemoryLimit::SoftPercent(percent),
        });
        Limits {
            memory,
            swap_bytes: self.swap_bytes,
            cpu: self.cpu,
            cpus: self.cpus.clone(),
            cpu_priority: self.cpu_priority,
            processes: self.processes,
            kernel: self.kernel.clone(),
        }
    }
}

/// `[config]` of a network of either type.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is the key of its name")]
pub struct NetworkDraft {
    pub ipv4_address: Ipv4Choice,
    pub ipv4_nat: Option<bool>,
    pub ipv4_dhcp: bool,
    pub ipv4_dhcp_ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub ipv4_dhcp_expiry: Duration,
    pub ipv4_routing: bool,
    pub ipv4_firewall: bool,
    pub ipv4_gateway: Option<Ipv4Addr>,
    pub dns_mode: DnsMode,
    pub dns_domain: Text<63>,
    pub dns_nameservers: Vec<Ipv4Addr>,
    pub mtu: Option<u16>,
    pub hwaddr: Option<[u8; 6]>,
    pub external_interfaces: Vec<Text<15>>,
    pub parent: LinkSelector,
}

/// `ipv4.address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Choice {
    /// `auto`, or nothing.
    Auto,
    /// `none`.
    None,
    /// `10.158.0.1/24`.
    Given(Ipv4Prefix),
}

impl NetworkDraft {
    /// Nothing said; the defaults come from the table.
    pub fn blank() -> NetworkDraft {
        NetworkDraft {
            ipv4_address: Ipv4Choice::Auto,
            ipv4_nat: None,
            ipv4_dhcp: true,
            ipv4_dhcp_ranges: Vec::new(),
            ipv4_dhcp_expiry: DhcpSpec::DEFAULT_EXPIRY,
            ipv4_routing: true,
            ipv4_firewall: true,
            ipv4_gateway: None,
            dns_mode: DnsMode::Managed,
            dns_domain: Text::new(),
            dns_nameservers: Vec::new(),
            mtu: None,
            hwaddr: None,
            external_interfaces: Vec::new(),
            parent: LinkSelector::FirstEthernet,
        }
    }
}
