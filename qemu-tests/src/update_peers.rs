//! The floor `update-peers`: what an update costs with us, beside RAUC and SWUpdate from Debian, on one board in one run. All three
//! put the same bytes into the same slot from files on the data partition: over a network its emulation would be what is measured. What
//! a plain copy of these bytes takes, and SHA-256 of them, says what this board can do at all.
//!
//! The board is Debian with systemd, without our init: the updater runs as init starts it, on the board's real partitions, up to the
//! point where it asks for a restart, which nobody there gives it. What is measured ends when everything is on the disk.
//!
//! The board's clock counts instructions, as that of `cargo bench-board`, so other work on this machine changes little. Its disk is
//! this machine's memory: it takes the board's processor time and little else. That is the strictest disk for who reads and hashes
//! everything twice, because there is no waiting for the disk in which that could be done.

mod bundles;
mod costs;
mod judge;
mod payload;
mod peer_board;
mod turns;

use crate::arch::Arch;
use crate::bench::Promise;
use crate::board::agent::AgentError;
use crate::board::{BoardError, BuildError, remove_disk};
use crate::cache::Cache;
use costs::Costs;
use peer_board::PeerBoard;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct PeersReport {
    /// The board.
    pub arch: Arch,
    /// What was on it.
    pub kernel: String,
    /// What the changed blocks were chosen by.
    pub seed: u64,
    /// Bytes of the image that all install.
    pub image_bytes: u64,
    /// Blocks of 4 KiB that the second image has otherwise than the first one.
    pub changed_blocks: u64,
    /// A whole image into a slot that holds nothing of it, and a hundredth of it into one that holds the image before.
    pub costs: Vec<Costs>,
    /// What services take that wait for the next update.
    pub idle_pss_kib: Vec<(String, u64)>,
    /// What is promised, and what was seen.
    pub budgets: Vec<Promise>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl PeersReport {
    /// Writes the machine-readable form.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

/// What the changed blocks are chosen by, if not by chance: that of an earlier run does the same again.
const SEED: &str = "YADO_UPDATE_SEED";

/// Builds, boots, measures. The report tells how it went; an error is about what comes before the board.
pub fn run(cache: &Cache, arch: Arch, directory: &Path) -> Result<PeersReport, BuildError> {
    std::fs::create_dir_all(directory).map_err(BuildError::io(directory))?;
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("   {SEED}={seed}");
    let peer_board = PeerBoard::prepare(cache, arch, directory, seed)?;
    let payload = &peer_board.payload;
    let mut report = PeersReport {
        arch,
        kernel: peer_board.prepared.ingredients.kernel.release.clone(),
        seed,
        image_bytes: payload.whole.bytes,
        changed_blocks: payload.changed_blocks,
        costs: Vec::new(),
        idle_pss_kib: Vec::new(),
        budgets: Vec::new(),
        failures: Vec::new(),
    };
    match peer_board.boot(directory) {
        Ok(board) => {
            if let Err(error) = turns::measure(&board, &peer_board, &mut report) {
                report.failures.push(error.to_string());
            }
        }
        Err(error) => report.failures.push(format!("the board boots: {error}")),
    }
    costs::print(&report);
    report.budgets = judge::promises(&report);
    for Promise { what, seen, holds } in &report.budgets {
        println!("   {} {what}: {seen}", if *holds { "✓" } else { "✗" });
    }
    remove_disk(directory, &["data.ext4"]);
    for name in ["data.tree", "payload"] {
        // What stays is overwritten by the next run.
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
    Ok(report)
}

/// Why something was not measured.
#[derive(Debug)]
enum PeersError {
    /// The board did not do what was asked.
    Board(BoardError),
    /// Somebody did not install what was to be installed.
    Failed {
        /// Who.
        who: String,
        /// How that was seen.
        how: String,
    },
}

impl From<BoardError> for PeersError {
    fn from(error: BoardError) -> PeersError {
        PeersError::Board(error)
    }
}

impl From<AgentError> for PeersError {
    fn from(error: AgentError) -> PeersError {
        PeersError::Board(BoardError::Agent(error))
    }
}

impl fmt::Display for PeersError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeersError::Board(error) => error.fmt(out),
            PeersError::Failed { who, how } => write!(out, "{who}: {how}"),
        }
    }
}

impl std::error::Error for PeersError {}
