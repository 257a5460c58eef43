//! A spec as drafts again, so that the tables can show what it has: what the builders do, the other way round. What a key
//! said and the spec does not tell (a default that was written down, `boot.autorestart` in place of `boot.restart`) comes
//! back as the plainest way of saying it.

use crate::draft::{ConfigDraft, HealthDraft, ReadyWord, RestartDraft};
use crate::instance::{Health, InstanceSpec, Limits, MemoryLimit, Probe, Readiness, Restart};
use crate::keys;
use crate::values::Memory;

impl ConfigDraft {
    /// `[config]` of a spec.
    pub(crate) fn of(spec: &InstanceSpec) -> ConfigDraft {
        let defaults = keys::default_config();
        let Limits { memory, swap_bytes, cpu, cpus, cpu_priority, processes, kernel } = spec.limits.clone();
        let (memory, is_memory_hard) = match memory {
            None => (None, true),
            Some(MemoryLimit::Hard(bytes)) => (Some(Memory::Bytes(bytes)), true),
            Some(MemoryLimit::Soft(bytes)) => (Some(Memory::Bytes(bytes)), false),
            Some(MemoryLimit::HardPercent(percent)) => (Some(Memory::Percent(percent)), true),
            Some(MemoryLimit::SoftPercent(percent)) => (Some(Memory::Percent(percent)), false),
        };
        let Restart { policy, first_pause, longest_pause, attempts } = spec.restart.clone();
        ConfigDraft {
            boot: spec.boot.clone(),
            autorestart: None,
            restart: RestartDraft { policy: Some(policy), pause: first_pause, pause_max: longest_pause, attempts },
            health: health(&spec.health, defaults.health),
            memory,
            is_memory_hard,
            swap_bytes,
            cpu,
            cpus,
            cpu_priority,
            processes,
            kernel,
            security: spec.security.clone(),
            idmap_size: Some(spec.security.idmap_size),
            environment: spec.environment.iter().cloned().collect(),
        }
    }
}

fn health(health: &Health, mut draft: HealthDraft) -> HealthDraft {
    let Health { ready, probe, watchdog, required } = health.clone();
    (draft.watchdog, draft.required) = (watchdog, required);
    match ready {
        Readiness::Alive { window } => (draft.ready, draft.window) = (ReadyWord::Alive, window),
        Readiness::Notify { timeout } => (draft.ready, draft.timeout) = (ReadyWord::Notify, timeout),
        Readiness::Probe { timeout } => (draft.ready, draft.timeout) = (ReadyWord::Probe, timeout),
    }
    if let Some(Probe { attempt, interval, timeout, failures }) = probe {
        draft.probe = Some(attempt);
        (draft.probe_interval, draft.probe_timeout, draft.probe_failures) = (interval, timeout, failures);
    }
    draft
}
