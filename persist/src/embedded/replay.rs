//! The log, poured into the trees again by the code that decides on new requests.
//!
//! Two threads: one reads, checks and decodes; the other decides and applies, in steps as large as a memory table. A third one
//! writes to the disk what was applied. Rows of the state stay in memory as long as they are few: most of them change again, and
//! those that are looked for are found there.
//! Guarantees: what the log holds and that code would not do is damage. A long log is read in the memory of a short one.

use super::entry::{self, Entry};
use super::tree::{Staging, TreeError};
use super::wal::{OpenError, Place};
use crate::Outcome;
use crate::record::RecordError;
use ringpost_proto::v1::kind::Value as Kind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Bytes of batches that are handed over at once; so many such steps may wait, and one is in each thread.
const STEP_BYTES: usize = 1 << 20;
const STEPS: usize = 2;
/// Every so many flushes the rows are written, too: a start that is ended before its end has not been for nothing.
const WHOLE: u64 = 4;
/// Among so many waiting records one that is taken back is looked for one by one.
const SEARCHED: usize = 1_024;

/// One batch of the log, decoded.
struct Batch {
    place: Place,
    lsn: u64,
    entries: Vec<Entry>,
}

/// The reading side. See the module.
pub(super) struct Replay {
    step: Vec<Batch>,
    step_bytes: usize,
    steps: SyncSender<Vec<Batch>>,
    pouring: JoinHandle<Poured>,
}

/// The trees, and how many records came into them.
type Poured = Result<(Staging, u64), OpenError>;

impl Replay {
    /// `memory_bytes`: of what was read at most, before it goes to the disk. `dir`: of the trees.
    pub(super) fn start(trees: Staging, memory_bytes: u64, dir: &Path) -> Result<Self, OpenError> {
        let (steps, due) = sync_channel(STEPS);
        let pouring =
            Pouring { trees, memory_bytes, dir: dir.to_owned(), records: 0, flushes: 0, flushing: Flushing::default() };
        let pouring = Builder::new().name("store-replay".into()).spawn(|| pouring.run(due));
        let pouring = pouring.map_err(OpenError::io("start the threads of", dir))?;
        Ok(Self { step: Vec::new(), step_bytes: 0, steps, pouring })
    }

    /// The next batch of the log.
    pub(super) fn batch(&mut self, place: Place, lsn: u64, payload: &[u8]) -> Result<(), OpenError> {
        let mut entries = Vec::new();
        let decoded = entry::decode(payload, |entry| {
            entries.push(entry);
            Ok::<_, RecordError>(())
        });
        decoded.map_err(|reason| place.undecodable(reason))?;
        self.step.push(Batch { place, lsn, entries });
        self.step_bytes += payload.len();
        if self.step_bytes >= STEP_BYTES {
            self.hand_over();
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        self.step_bytes = 0;
        // Refused after an error on the other side, which the end tells.
        let _ = self.steps.send(std::mem::take(&mut self.step));
    }

    /// Everything was read.
    pub(super) fn finish(mut self) -> Poured {
        self.hand_over();
        let Self { steps, pouring, .. } = self;
        drop(steps);
        pouring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The applying side.
struct Pouring {
    trees: Staging,
    memory_bytes: u64,
    dir: PathBuf,
    records: u64,
    flushes: u64,
    /// What was applied before, on its way to the disk.
    flushing: Flushing,
}

impl Pouring {
    fn run(mut self, due: Receiver<Vec<Batch>>) -> Poured {
        self.trees.replaying(true);
        for batch in due.into_iter().flatten() {
            let Batch { place, lsn, entries } = batch;
            entries.into_iter().try_for_each(|entry| self.entry(place, entry))?;
            // What an erasure had applied is in memory as well.
            let records = self.trees.staged_bytes() + self.trees.record_bytes();
            if records >= self.memory_bytes || self.trees.row_bytes() >= self.memory_bytes {
                self.flush(lsn)?;
            } else if self.trees.has_many_rosters() {
                self.trees.apply()?;
            }
        }
        self.trees.apply()?;
        let flushed = self.flushing.wait();
        flushed.map_err(|error| self.unreadable(error))?;
        self.trees.replaying(false);
        Ok((self.trees, self.records))
    }

    fn entry(&mut self, place: Place, entry: Entry) -> Result<(), OpenError> {
        let outcome = match entry {
            Entry::Raise(raise) => self.trees.raise(&raise).map(|_| None),
            Entry::Document { key, version, bytes } => {
                let stored = self.trees.cas(&key, version.saturating_sub(1), &bytes);
                stored.map(|outcome| (!matches!(outcome, Outcome::Stored { .. })).then_some("version"))
            }
            Entry::Item(key, bytes) => {
                self.trees.put(&key, &bytes);
                Ok(None)
            }
            Entry::Taken(key) => self.trees.hand_out(&key).map(|_| None),
            Entry::Append { conversation, kind, expected_head, records } => {
                self.records += records.len() as u64;
                let erases = records.iter().any(|it| it.record.kind == Kind::Erase);
                if erases && self.trees.staged_records() > SEARCHED {
                    // What is taken back is looked for in the tables, not among all that waits for them.
                    self.trees.apply()?;
                }
                let appended = self.trees.append(&conversation, kind.as_ref(), expected_head, &records);
                appended.map(|outcome| (!matches!(outcome, Outcome::Appended { .. })).then_some("position"))
            }
        };
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(field)) => Err(place.undecodable(RecordError::Field(field))),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// Applies what was read up to batch `lsn` and sends it to the disk. The next checkpoint removes of the log what this
    /// covers.
    fn flush(&mut self, lsn: u64) -> Result<(), OpenError> {
        self.trees.apply()?;
        let flushed = self.flushing.wait();
        flushed.map_err(|error| self.unreadable(error))?;
        self.flushes += 1;
        let whole = self.trees.row_bytes() >= self.memory_bytes || self.flushes.is_multiple_of(WHOLE);
        let sealed = if whole { self.trees.seal(lsn, None) } else { self.trees.seal_records(lsn) };
        self.flushing.0 = Some(std::thread::spawn(move || sealed.flush()));
        Ok(())
    }

    fn unreadable(&self, error: TreeError) -> OpenError {
        OpenError::Tree { path: self.dir.clone(), reason: error.to_string() }
    }
}

/// A flush beside the reading of the log; it never outlives it.
#[derive(Default)]
struct Flushing(Option<JoinHandle<Result<u64, TreeError>>>);

impl Flushing {
    fn wait(&mut self) -> Result<(), TreeError> {
        match self.0.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(flushed)) => flushed.map(|_| ()),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        // The start has failed already: what became of the flush is for the next one to see.
        let _ = self.0.take().map(JoinHandle::join);
    }
}
