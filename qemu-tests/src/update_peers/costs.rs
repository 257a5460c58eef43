//! What each one's turns cost, and a table of it.

use super::PeersReport;
use crate::spread::spread;
use qemu_guest::turn::Peaks;
use serde::Serialize;

/// What is to be done in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A whole image, into a slot that holds nothing of it.
    Whole,
    /// The second image, into a slot that holds the first one.
    Hundredth,
}

/// One of those who take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// `dd conv=fsync` of the image to the slot.
    Copy,
    /// SHA-256 of the image by coreutils.
    Sha256sum,
    /// SHA-256 of the image by OpenSSL.
    Openssl,
    /// Our updater, as init starts it for `yado update install`.
    Ours,
    /// RAUC with its service.
    Rauc,
    /// SWUpdate's command.
    Swupdate,
}

impl Who {
    /// In the order of the table.
    pub(super) const ALL: [Who; 6] = [Who::Copy, Who::Sha256sum, Who::Openssl, Who::Ours, Who::Rauc, Who::Swupdate];
    /// Those whom ours is compared with.
    pub(super) const PEERS: [Who; 2] = [Who::Rauc, Who::Swupdate];

    /// As people read it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Copy => "dd conv=fsync",
            Who::Sha256sum => "sha256sum",
            Who::Openssl => "openssl sha256",
            Who::Ours => "yado update install",
            Who::Rauc => "rauc install",
            Who::Swupdate => "swupdate -i",
        }
    }

    /// Whether the slot holds the image afterwards.
    pub(super) fn installs(self) -> bool {
        match self {
            Who::Copy | Who::Ours | Who::Rauc | Who::Swupdate => true,
            Who::Sha256sum | Who::Openssl => false,
        }
    }
}

/// One's turns at one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// What was done.
    pub task: Task,
    /// Who did it.
    pub who: Who,
    /// How long each turn took until all was on the disk.
    pub micros: Vec<u64>,
    /// Of that, what its processes worked outside of the kernel.
    pub user_micros: Vec<u64>,
    /// And inside of it; what the kernel's own threads did is in neither.
    pub system_micros: Vec<u64>,
    /// The most that was written to the disk in one of them.
    pub disk_written_bytes: u64,
    /// Of that, to the slot.
    pub slot_written_bytes: u64,
    /// The most that was read from the disk in one of them.
    pub disk_read_bytes: u64,
    /// Memory, in a turn of its own.
    pub peaks: Option<Peaks>,
}

impl Costs {
    /// None taken yet.
    pub(super) fn of(task: Task, who: Who) -> Costs {
        Costs {
            task,
            who,
            micros: Vec::new(),
            user_micros: Vec::new(),
            system_micros: Vec::new(),
            disk_written_bytes: 0,
            slot_written_bytes: 0,
            disk_read_bytes: 0,
            peaks: None,
        }
    }

    /// The least and the one in the middle, in seconds.
    pub(super) fn seconds(&self) -> Option<(f64, f64)> {
        spread(&self.micros).map(|(least, median, _)| (least as f64 / 1e6, median as f64 / 1e6))
    }
}

impl PeersReport {
    /// One's turns at one task.
    pub(super) fn costs_of(&self, task: Task, who: Who) -> Option<&Costs> {
        self.costs.iter().find(|costs| costs.task == task && costs.who == who)
    }

    /// What this board can do at all: the slower of a copy and of SHA-256 by this one; in seconds, by median.
    pub(super) fn limit_seconds(&self, hash: Who) -> Option<f64> {
        let median = |who| self.costs_of(Task::Whole, who)?.seconds().map(|(_, median)| median);
        Some(median(Who::Copy)?.max(median(hash)?))
    }
}

/// For people.
pub(super) fn print(report: &PeersReport) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let image_mib = mib(report.image_bytes);
    let changed = report.changed_blocks;
    println!("\nan image of {image_mib:.1} MiB; the second one has {changed} other blocks of 4 KiB");
    println!("the limit is the slower of the copy and OpenSSL's SHA-256");
    for (task, what) in [
        (Task::Whole, "a whole image, into a slot that holds nothing of it"),
        (Task::Hundredth, "the second image, into a slot that holds the first one"),
    ] {
        println!("\n{what}; the board's own seconds until all is on the disk; memory of all processes together\n");
        println!(
            "    median    least     user   system   MiB/s  of limit  written MiB  to slot  read MiB  PSS KiB  RSS KiB  largest  who"
        );
        let limit = report.limit_seconds(Who::Openssl).filter(|_| task == Task::Whole);
        for costs in report.costs.iter().filter(|costs| costs.task == task) {
            let Some((least, median)) = costs.seconds() else { continue };
            let of_limit = limit.map_or("-".to_owned(), |limit| format!("{:.2}", limit / median));
            let peaks = costs.peaks.unwrap_or_default();
            let median_of = |micros: &[u64]| spread(micros).map_or(0.0, |(_, median, _)| median as f64 / 1e6);
            let [user, system] = [&costs.user_micros, &costs.system_micros].map(|micros| median_of(micros));
            println!(
                "   {median:>7.2}  {least:>7.2}  {user:>7.2}  {system:>7.2}  {:>6.1}  {of_limit:>8}  {:>11.2}  {:>7.2}  {:>8.1}  {:>7}  {:>7}  {:>7}  {}",
                image_mib / median,
                mib(costs.disk_written_bytes),
                mib(costs.slot_written_bytes),
                mib(costs.disk_read_bytes),
                peaks.pss_kib,
                peaks.rss_kib,
                peaks.one_process_kib,
                costs.who.name()
            );
        }
    }
    for (who, kib) in &report.idle_pss_kib {
        println!("   {kib:>7} KiB while it waits: {who}");
    }
    for failure in &report.failures {
        println!("   NOT MEASURED {failure}");
    }
}
