//! Files compressed by several threads, each file by one, and handed out in the order in which they are written. What a file
//! becomes depends on nothing but its content, so the number of threads changes no byte.

use super::clusters::{self, Clusters};
use super::contents::Reader;
use super::tree::Content;
use super::write::Problem;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use yado_lz4::{Encoder, Level};

/// How they are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompressionSettings {
    pub(super) cluster_blocks: usize,
    pub(super) level: Level,
}

/// What a file became; `None`: it would not become smaller.
type Outcome = io::Result<Option<Clusters>>;

/// A file, and where its outcome goes.
struct Job<'tree> {
    content: &'tree Content,
    outcome: Sender<Outcome>,
}

/// The files that are to be compressed, some of them under way.
pub(super) struct ParallelCompression<'tree> {
    /// Not begun, in order.
    files: VecDeque<&'tree Content>,
    under_way: VecDeque<(u64, Receiver<Outcome>)>,
    jobs: Sender<Job<'tree>>,
    max_under_way: usize,
}

/// So much of files that are not written yet is in memory, unless one alone is longer.
const MAX_BYTES: u64 = 64 << 20;

/// For each thread one that it is at, and some that are done before an earlier one.
const FILES_PER_THREAD: usize = 8;

impl<'tree> ParallelCompression<'tree> {
    /// Starts the threads. They end with the owner, or with the last file.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        files: VecDeque<&'tree Content>,
        archive: Option<&'tree File>,
        settings: CompressionSettings,
        threads: NonZeroUsize,
    ) -> ParallelCompression<'tree>
    where
        'tree: 'scope,
    {
        let (jobs, taken) = mpsc::channel::<Job<'tree>>();
        let taken = std::sync::Arc::new(Mutex::new(taken));
        for _ in 0..threads.get().min(files.len()) {
            let taken = std::sync::Arc::clone(&taken);
            scope.spawn(move || {
                let mut encoder = Encoder::new(settings.level);
                loop {
                    let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { content, outcome }) = job else { return };
                    // Nobody wants it any more if an earlier file could not be stored.
                    let _ = outcome.send(compress(content, archive, settings, &mut encoder));
                }
            });
        }
        let max_under_way = threads.get().saturating_mul(FILES_PER_THREAD);
        ParallelCompression { files, under_way: VecDeque::new(), jobs, max_under_way }
    }

    /// What the next file became.
    pub(super) fn next(&mut self) -> Result<Option<Clusters>, Problem> {
        self.send_more();
        // Both can fail only for a thread that has panicked, which the end of the scope tells.
        let gone = || Problem::Read { source: io::Error::other("a thread that compresses is gone") };
        let (_, outcome) = self.under_way.pop_front().ok_or_else(gone)?;
        let clusters = outcome.recv().map_err(|_| gone())?;
        self.send_more();
        clusters.map_err(super::contents::read_problem)
    }

    fn send_more(&mut self) {
        let mut bytes: u64 = self.under_way.iter().map(|(bytes, _)| bytes).sum();
        while let Some(content) = self.files.front() {
            let has_room = self.under_way.len() < self.max_under_way && bytes + content.bytes() <= MAX_BYTES;
            if !has_room && !self.under_way.is_empty() {
                return;
            }
            let (outcome, receiver) = mpsc::channel();
            if self.jobs.send(Job { content, outcome }).is_err() {
                return;
            }
            bytes += content.bytes();
            self.under_way.push_back((content.bytes(), receiver));
            self.files.pop_front();
        }
    }
}

fn compress(
    content: &Content,
    archive: Option<&File>,
    settings: CompressionSettings,
    encoder: &mut Encoder,
) -> Outcome {
    let Some(mut reader) = Reader::open(content, archive)? else { return Ok(None) };
    clusters::compress(&mut reader, content.bytes(), settings.cluster_blocks, encoder)
}
