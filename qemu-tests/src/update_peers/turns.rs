//! All take turns at the same task, in another order each time: first one in which memory is looked at and the slot is compared
//! afterwards, then those that are timed. Before each turn the slot, the boot state and what an updater remembers are as at first, and
//! the kernel's cache is empty.

use super::costs::{Costs, Task, Who};
use super::payload::Image;
use super::peer_board::{PRODUCT, PeerBoard, SLOT_B, TURN};
use super::{PeersError, PeersReport};
use crate::board::{Board, BoardError};
use fastrand::Rng;
use qemu_guest::Ended;
use qemu_guest::turn::{Memory, Turn, Turned};
use std::time::Duration;
use yado_image::hex;

/// Each one's timed turns.
const ROUNDS: usize = 5;
/// Anything on the board; its instructions are counted, which is slow.
const TIMEOUT: Duration = Duration::from_secs(900);

const STATE: &str = "/dev/disk/by-partlabel/state";
/// The boot state as the factory wrote it.
const FACTORY_STATE: &str = "/run/state.factory";
/// RAUC's service, as systemd has it.
const RAUC_GROUP: &str = "/sys/fs/cgroup/system.slice/rauc.service";

/// Takes all turns of all tasks, and looks at what is left in memory.
pub(super) fn measure(board: &Board, peers: &PeerBoard, report: &mut PeersReport) -> Result<(), PeersError> {
    let arena = Arena::prepare(board, peers)?;
    let mut chance = Rng::with_seed(report.seed);
    for task in [Task::Whole, Task::Hundredth] {
        let mut all: Vec<Costs> = Who::ALL
            .into_iter()
            .filter(|who| task == Task::Whole || who.installs())
            .map(|who| Costs::of(task, who))
            .collect();
        let mut order: Vec<usize> = (0..all.len()).collect();
        for round in 0..=ROUNDS {
            chance.shuffle(&mut order);
            for costs in order.iter().copied() {
                arena.take_turn(&mut all[costs], round)?;
            }
        }
        report.costs.extend(all);
    }
    report.idle_pss_kib = arena.idle()?;
    Ok(())
}

/// The board, with the kernel's names of its disk.
struct Arena<'a> {
    board: &'a Board,
    peers: &'a PeerBoard,
    disk: String,
    slot: String,
    slot_bytes: u64,
}

impl<'a> Arena<'a> {
    fn prepare(board: &'a Board, peers: &'a PeerBoard) -> Result<Arena<'a>, PeersError> {
        // What our first stage tells init, which is not here.
        let image = &peers.prepared.system.image;
        let running = crate::board::system_image::fingerprint(image)
            .map_err(|error| PeersError::Failed { who: "the image in slot A".to_owned(), how: error.to_string() })?;
        let script = format!(
            "set -e; mkdir -p /run/yado; printf 'slot=A\\nfingerprint={running}\\n' > /run/yado/boot\n\
             dd if={STATE} of={FACTORY_STATE} status=none\n\
             slot=$(basename $(readlink -f {SLOT_B})); disk=$(basename $(dirname $(readlink -f /sys/class/block/$slot)))\n\
             echo $disk $slot $(cat /sys/class/block/$slot/size)"
        );
        let said = board.shell(&script, TIMEOUT)?;
        let words: Vec<&str> = said.split_whitespace().collect();
        match words.as_slice() {
            [disk, slot, sectors] => {
                let slot_bytes = sectors.parse::<u64>().unwrap_or(0) * 512;
                let (disk, slot) = ((*disk).to_owned(), (*slot).to_owned());
                Ok(Arena { board, peers, disk, slot, slot_bytes })
            }
            _ => Err(PeersError::Failed { who: SLOT_B.to_owned(), how: said }),
        }
    }

    fn take_turn(&self, costs: &mut Costs, round: usize) -> Result<(), PeersError> {
        let (task, who) = (costs.task, costs.who);
        self.board.shell(&self.before(task), TIMEOUT)?;
        let is_first = round == 0;
        let memory = if is_first { Memory::Sampled } else { Memory::NotSampled };
        let turned = self.run(&self.turn(task, who, memory))?;
        let Turned {
            ended,
            said,
            micros,
            user_micros,
            system_micros,
            disk_written_bytes,
            partition_written_bytes,
            disk_read_bytes,
            peaks,
        } = turned;
        println!(
            "   {task:?} {round} {}: {:.2} s (user {:.2}, system {:.2}), {} KiB written",
            who.name(),
            micros as f64 / 1e6,
            user_micros as f64 / 1e6,
            system_micros as f64 / 1e6,
            disk_written_bytes >> 10
        );
        if ended != Ended::Code(0) {
            return Err(PeersError::Failed { who: who.name().to_owned(), how: format!("{ended:?}: {said}") });
        }
        if is_first {
            costs.peaks = peaks;
            self.judge(task, who, &said)?;
        } else {
            costs.micros.push(micros);
            costs.user_micros.push(user_micros);
            costs.system_micros.push(system_micros);
        }
        costs.disk_written_bytes = costs.disk_written_bytes.max(disk_written_bytes);
        costs.slot_written_bytes = costs.slot_written_bytes.max(partition_written_bytes);
        costs.disk_read_bytes = costs.disk_read_bytes.max(disk_read_bytes);
        Ok(())
    }

    fn run(&self, turn: &Turn) -> Result<Turned, PeersError> {
        let not_json = |said: String| BoardError::NotJson { what: TURN.to_owned(), said };
        let stdin = serde_json::to_string(turn).map_err(|error| not_json(error.to_string()))?;
        let ran = self.board.agent.start_run(&[TURN], &stdin, TIMEOUT)?.ran()?;
        let said = || not_json(format!("{:?}: {}{}", ran.ended, ran.stdout, ran.stderr));
        serde_json::from_str(&ran.stdout).map_err(|_| said().into())
    }

    fn turn(&self, task: Task, who: Who, memory: Memory) -> Turn {
        let image = self.image(task);
        let file = on_board(image);
        let name = image.name;
        let line = match who {
            Who::Copy => format!("dd if={file} of={SLOT_B} bs=1M conv=fsync"),
            Who::Sha256sum => format!("sha256sum {file}"),
            Who::Openssl => format!("openssl dgst -sha256 {file}"),
            Who::Ours => format!("yado-updater run install /data/release-{name}"),
            Who::Rauc => format!("rauc install /data/{name}.raucb"),
            Who::Swupdate => {
                format!("swupdate -H {PRODUCT}:1 -k /data/rauc/cert.pem -M -m -i /data/{name}.swu")
            }
        };
        let services = match who {
            Who::Rauc => vec![RAUC_GROUP.to_owned()],
            Who::Copy | Who::Sha256sum | Who::Openssl | Who::Ours | Who::Swupdate => Vec::new(),
        };
        Turn {
            argv: line.split(' ').map(str::to_owned).collect(),
            environment: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
            disk: self.disk.clone(),
            partition: self.slot.clone(),
            services,
            memory,
        }
    }

    fn image(&self, task: Task) -> &Image {
        match task {
            Task::Whole => &self.peers.payload.whole,
            Task::Hundredth => &self.peers.payload.hundredth,
        }
    }

    /// A script that makes all as it was at first.
    fn before(&self, task: Task) -> String {
        const MIB: u64 = 1 << 20;
        let last_block = self.slot_bytes / 4096 - 1;
        let slot = match task {
            // Where the image goes, and the place of a slot's header.
            Task::Whole => format!(
                "dd if=/dev/zero of={SLOT_B} bs=1M count={} status=none\n\
                 dd if=/dev/zero of={SLOT_B} bs=4096 seek={last_block} count=1 status=none\n",
                self.image(task).bytes.div_ceil(MIB)
            ),
            // As an install of the first image leaves it.
            Task::Hundredth => {
                let file = on_board(&self.peers.payload.whole);
                format!(
                    "dd if={file} of={SLOT_B} bs=1M status=none\n\
                     tail -c 4096 {file} | dd of={SLOT_B} bs=4096 seek={last_block} iflag=fullblock status=none\n"
                )
            }
        };
        format!(
            "set -e\n{slot}dd if={FACTORY_STATE} of={STATE} conv=fsync status=none\n\
             rm -rf /data/state /data/log /data/images /data/layers /data/rauc/status /run/yado/updater\n\
             mkdir -p /data/state /data/log /data/images /data/layers\n\
             sync; echo 3 > /proc/sys/vm/drop_caches"
        )
    }

    /// Whether the slot holds what it is to hold, and after ours, whether the boot loader and veritysetup(8) take it.
    fn judge(&self, task: Task, who: Who, said: &str) -> Result<(), PeersError> {
        if !who.installs() {
            return Ok(());
        }
        let image = self.image(task);
        let mut script = format!("set -e; cmp -n {} {} {SLOT_B}\n", image.bytes, on_board(image));
        if who == Who::Ours {
            let layout = &image.header.layout;
            script.push_str(&format!(
                "veritysetup verify --no-superblock --salt=- --data-blocks={} --hash-offset={} {SLOT_B} {SLOT_B} {}\n\
                 tr '\\0' '\\n' < {STATE} | grep -q -x BOOT_TRIAL=B\n",
                layout.payload_blocks(),
                layout.tree_offset(),
                hex::encode(&image.header.root_hash)
            ));
        }
        self.board.shell(&script, TIMEOUT).map(drop).map_err(|error| PeersError::Failed {
            who: who.name().to_owned(),
            how: format!("the slot is not what it is to be: {error}; it said: {said}"),
        })
    }

    /// What is left in memory of each when nobody updates anything.
    fn idle(&self) -> Result<Vec<(String, u64)>, PeersError> {
        let mut idle = Vec::new();
        for (who, program) in
            [(Who::Ours, "/usr/bin/yado"), (Who::Rauc, "/usr/bin/rauc"), (Who::Swupdate, "/usr/bin/swupdate")]
        {
            let script = format!(
                "sum=0; for process in /proc/[0-9]*; do [ \"$(readlink $process/exe)\" = {program} ] || continue\n\
                 kib=$(sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' $process/smaps_rollup); sum=$((sum + kib)); done; echo $sum"
            );
            let said = self.board.shell(&script, TIMEOUT)?;
            let how = || PeersError::Failed { who: program.to_owned(), how: format!("its memory: {said}") };
            idle.push((who.name().to_owned(), said.parse().map_err(|_| how())?));
        }
        Ok(idle)
    }
}

/// The image as a file on the board: that of our release, for everybody.
fn on_board(image: &Image) -> String {
    format!("/data/release-{}/images/{}", image.name, hex::encode(&image.header.fingerprint()))
}
