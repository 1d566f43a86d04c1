//! Group commit, without threads: requests are staged, one commit makes them all durable, then the trees know them, then
//! they are answered.
//!
//! Owns: the log, and the only right to write to the trees. Guarantees: nothing is answered, nor seen by a read, before it
//! is durable. Never does: waiting, retrying; it makes checkpoints but does not run them.

use super::identity;
use super::replay::Replay;
use super::stored::Stored;
use super::tree::{Checkpoint, Retention, Staging, TreeError, Trees};
use super::wal::{Failure, MakeAhead, OpenError, Wal};
use super::{Options, RecoveryReport, entry};
use crate::files::Files;
use crate::{ConversationKind, Outcome, Raise, Record, StoreAnswer, StoreRequest, Tag};
use ringpost_proto::id::{ConversationId, Seq};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A batch takes no further request from this size on; one append adds 4.3 MiB at most.
const BATCH_BYTES: usize = 4 << 20;
/// ... or from so many requests on, so that the first of them does not wait for ever.
const BATCH_REQUESTS: usize = 4_096;
/// What is in memory only is written to disk after this time at the latest, so that a start after a quiet hour is quick.
const CHECKPOINT_AGE: Duration = Duration::from_secs(600);

/// Who asked: given with the request, comes back with the answer.
pub type Origin = usize;

/// See the module.
pub struct Committer {
    wal: Wal,
    trees: Staging,
    staged: Vec<Staged>,
    /// Rows that could not be read.
    tree_errors: Vec<TreeError>,
    full: bool,
    free_floor_percent: u64,
    retention: Retention,
    memory_bytes: u64,
    log_bytes: u64,
    /// Written since the last checkpoint was made, and covered by the one that is under way.
    fresh_log: u64,
    sealed_log: u64,
    last_checkpoint: Instant,
    /// A checkpoint is under way.
    busy: Arc<AtomicBool>,
    files: Arc<dyn Files>,
    dir: PathBuf,
}

struct Staged {
    origin: Origin,
    tag: Tag,
    effect: Effect,
}

enum Effect {
    /// Decided already; so many records and raises are in the batch.
    Write { outcome: Outcome, records: usize, raises: usize },
    /// To be looked up once the batch is applied.
    Read(StoreRequest),
}

/// What one commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Bytes written; 0: nothing had to be, so nothing was synced.
    pub bytes: usize,
    /// Records that became durable.
    pub records: usize,
    pub raises: usize,
}

/// A committer and what its opening found.
pub struct Recovery {
    pub committer: Committer,
    pub incarnation: [u8; 16],
    pub report: RecoveryReport,
}

impl Committer {
    /// Takes the lock of the directory, opens the trees, and reads the log from where they end.
    pub fn open(files: Arc<dyn Files>, options: &mut Options) -> Result<Recovery, OpenError> {
        let started = Instant::now();
        let dir = options.dir.clone();
        let mut entropy = std::mem::replace(&mut options.entropy, super::no_entropy());
        let lock = identity::lock(&*files, &dir)?;
        let incarnation = identity::incarnation(&*files, &dir, &mut entropy)?;
        let seed = entropy();
        let (trees, reached) = Trees::open(&options.trees, incarnation, options.cache_bytes, lock, seed)?;
        let trees = Staging::new(Arc::new(trees), &reached, options.retention, incarnation, options.cached_rows, seed);
        let mut replay = Replay::start(trees, options.memory_bytes, &options.trees)?;
        let read = Wal::read(&*files, &dir, incarnation, reached.lsn, &mut |place, lsn, payload| {
            replay.batch(place, lsn, payload)
        });
        // What was found first is said first.
        let (mut trees, records) = replay.finish()?;
        let (wal, found) =
            Wal::open(Arc::clone(&files), dir.clone(), incarnation, options.segment_bytes, entropy, read?)?;
        let damaged = |error: TreeError| OpenError::Tree { path: options.trees.clone(), reason: error.to_string() };
        if trees.trees().newest_record_on_disk().max(reached.lsn) > wal.lsn() {
            // The trees hold a batch that the log has not: it was durable, so its loss is no torn end.
            return Err(OpenError::Damaged {
                segment: super::segment_name(wal.segment_number() - 1),
                offset: wal.end(),
            });
        }
        trees.trees().remove_strays()?;
        trees.retain(options.retention, wal.lsn(), &reached).map_err(damaged)?;
        let report = RecoveryReport {
            records,
            covered: reached.lsn,
            segments: found.segments,
            cut_bytes: found.cut_bytes,
            millis: started.elapsed().as_millis() as u64,
        };
        let mut committer = Self {
            wal,
            trees,
            staged: Vec::new(),
            tree_errors: Vec::new(),
            full: false,
            free_floor_percent: options.free_floor_percent,
            retention: options.retention,
            memory_bytes: options.memory_bytes,
            log_bytes: options.log_bytes,
            fresh_log: found.replayed_bytes,
            sealed_log: 0,
            last_checkpoint: started,
            busy: Arc::default(),
            files,
            dir,
        };
        committer.check_space();
        let incarnation = identity::told(&*committer.files, &committer.dir, incarnation)?;
        Ok(Recovery { committer, incarnation, report })
    }

    /// For readers: what they show changes only within [`Committer::commit`].
    pub fn trees(&self) -> Arc<Trees> {
        Arc::clone(self.trees.trees())
    }

    /// Whether this batch takes another request.
    pub fn has_room(&self) -> bool {
        self.wal.payload_len() < BATCH_BYTES && self.staged.len() < BATCH_REQUESTS
    }

    /// Looks how much disk is free; appends are refused under the floor. Call it now and then.
    pub fn check_space(&mut self) {
        // A file system that cannot say is taken to have room: its first failing write ends the process.
        self.full = self.files.space(&self.dir).is_ok_and(|space| {
            u128::from(space.free) * 100 < u128::from(space.total) * u128::from(self.free_floor_percent)
        });
    }

    /// Whether appends are refused for want of space.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Bytes of the log that no tree on disk covers yet: what a start would replay.
    pub fn uncovered_bytes(&self) -> u64 {
        self.fresh_log + if self.busy.load(Ordering::Acquire) { self.sealed_log } else { 0 }
    }

    /// Bytes in memory tables since the last checkpoint.
    pub(super) fn fresh_bytes(&self) -> u64 {
        self.trees.fresh_bytes()
    }

    /// Bytes of what is kept of the trees, about.
    pub(super) fn cache_bytes(&self) -> u64 {
        self.trees.cache_bytes()
    }

    /// Whether the disk does not keep up with what is written: the checkpoint under way has not ended, and as much again
    /// waits in memory, or the log is as long as it may be. Writes are answered `Unavailable` until then.
    pub fn is_stalled(&self) -> bool {
        self.busy.load(Ordering::Acquire)
            && (self.trees.fresh_bytes() > 2 * self.memory_bytes || self.uncovered_bytes() > self.log_bytes)
    }

    /// The work of making the next segment of the log, if it is to be done: to be run beside this, or a short one is made
    /// while a batch waits. Not under the floor of free space.
    pub fn make_ahead(&self) -> Option<MakeAhead> {
        if self.full { None } else { self.wal.make_ahead() }
    }

    /// Segments of the log that were made while something waited for them.
    pub(super) fn late_segments(&self) -> u64 {
        self.wal.late()
    }

    /// The rows of which the trees could not tell since this was last asked.
    pub fn take_errors(&mut self) -> Vec<TreeError> {
        std::mem::take(&mut self.tree_errors)
    }

    /// Decisions that found their row in memory, and those that had to ask the trees, since this was last asked.
    pub fn take_lookups(&mut self) -> (u64, u64) {
        let lookups = self.trees.take_lookups();
        (lookups.hits, lookups.misses)
    }

    /// Takes a request into the batch.
    pub fn stage(&mut self, origin: Origin, request: StoreRequest) {
        let tag = request.tag();
        let effect = match request {
            StoreRequest::Append { .. } if self.full => Effect::answer(Outcome::Full),
            ref write if write.is_write() && self.is_stalled() => Effect::answer(Outcome::Unavailable),
            StoreRequest::Append { conversation, kind, expected_head, records, .. } => {
                self.stage_append(conversation, &kind, expected_head, &records)
            }
            StoreRequest::Raise { raises, .. } => self.stage_raises(&raises),
            StoreRequest::Cas { key, expected, bytes, .. } => match self.trees.cas(&key, expected, &bytes) {
                Ok(outcome) => {
                    if let Outcome::Stored { version } = outcome {
                        entry::encode_document(&key, version, &bytes, self.wal.payload());
                    }
                    Effect::answer(outcome)
                }
                Err(error) => self.unreadable(error),
            },
            StoreRequest::Put { key, bytes, .. } => {
                let outcome = self.trees.put(&key, &bytes);
                if matches!(outcome, Outcome::Stored { .. }) {
                    entry::encode_item(&key, &bytes, self.wal.payload());
                }
                Effect::answer(outcome)
            }
            StoreRequest::Take { key, .. } => match self.trees.hand_out(&key) {
                Ok(found) => {
                    if found.is_some() {
                        entry::encode_taken(&key, self.wal.payload());
                    }
                    Effect::answer(Outcome::Taken(found))
                }
                Err(error) => self.unreadable(error),
            },
            read => Effect::Read(read),
        };
        self.staged.push(Staged { origin, tag, effect });
    }

    fn stage_append(
        &mut self,
        conversation: ConversationId,
        kind: &ConversationKind,
        expected_head: Seq,
        records: &[Arc<Record>],
    ) -> Effect {
        let records: Vec<_> = records.iter().cloned().map(Stored::new).collect();
        match self.trees.append(&conversation, Some(kind), expected_head, &records) {
            Ok(outcome @ Outcome::Appended { .. }) => {
                entry::encode_append(conversation, kind, expected_head, &records, self.wal.payload());
                Effect::Write { outcome, records: records.len(), raises: 0 }
            }
            Ok(refused) => Effect::answer(refused),
            Err(error) => self.unreadable(error),
        }
    }

    fn stage_raises(&mut self, raises: &[Raise]) -> Effect {
        let mut grown = 0;
        for raise in raises {
            match self.trees.raise(raise) {
                Ok(true) => {
                    entry::encode_raise(raise, self.wal.payload());
                    grown += 1;
                }
                Ok(false) => {}
                // Those before it stay: a register that grew without an answer harms nobody.
                Err(error) => return self.unreadable(error),
            }
        }
        Effect::Write { outcome: Outcome::Raised, records: 0, raises: grown }
    }

    fn unreadable(&mut self, error: TreeError) -> Effect {
        self.tree_errors.push(error);
        Effect::answer(Outcome::Unavailable)
    }

    /// Makes the batch durable, applies it, and appends its answers in the order of the requests. After an error the
    /// committer must not be used again, and nothing of the batch may be answered.
    pub fn commit(&mut self, answers: &mut Vec<(Origin, StoreAnswer)>) -> Result<Committed, Failure> {
        let mut done = Committed::default();
        if self.wal.payload_len() > 0 {
            let segment = self.wal.segment_number();
            done.bytes = self.wal.commit()?;
            self.fresh_log += done.bytes as u64;
            if self.wal.segment_number() != segment {
                // Segments are reserved: it is here that the disk becomes less.
                self.check_space();
            }
            self.trees.apply().map_err(Failure::Tree)?;
        }
        for Staged { origin, tag, effect } in self.staged.drain(..) {
            let outcome = match effect {
                Effect::Write { outcome, records, raises } => {
                    done.records += records;
                    done.raises += raises;
                    outcome
                }
                Effect::Read(request) => match self.trees.trees().read(&request) {
                    Ok(outcome) => outcome.unwrap_or(Outcome::Unimplemented),
                    Err(error) => {
                        self.tree_errors.push(error);
                        Outcome::Unavailable
                    }
                },
            };
            answers.push((origin, StoreAnswer { tag, outcome }));
        }
        Ok(done)
    }

    /// A checkpoint, if one is due at `now` and none is under way: when enough is in memory or in the log, when it has
    /// waited long enough, or when a month has expired at `unix_ms`. Between batches only.
    pub fn upkeep(&mut self, now: Instant, unix_ms: u64) -> Option<Checkpoint> {
        if self.busy.load(Ordering::Acquire) || self.wal.lsn() == 0 {
            return None;
        }
        let expired = match self.retention {
            Retention::Relay { days } => self.trees.has_expired(unix_ms, days),
            Retention::History => false,
        };
        let large = self.trees.fresh_bytes() >= self.memory_bytes || self.fresh_log >= self.log_bytes / 4;
        let old = self.fresh_log > 0 && now.saturating_duration_since(self.last_checkpoint) >= CHECKPOINT_AGE;
        (expired || large || old).then(|| self.checkpoint(now, unix_ms))
    }

    /// A checkpoint as of the last batch, due or not; none may be under way.
    pub fn checkpoint(&mut self, now: Instant, unix_ms: u64) -> Checkpoint {
        self.last_checkpoint = now;
        self.sealed_log = std::mem::take(&mut self.fresh_log);
        let table_bytes = self.trees.fresh_bytes();
        self.busy.store(true, Ordering::Release);
        let expire = match self.retention {
            Retention::Relay { days } => Some((unix_ms, days)),
            Retention::History => None,
        };
        Checkpoint {
            sealed: self.trees.seal(self.wal.lsn(), expire),
            files: Arc::clone(&self.files),
            dir: self.dir.clone(),
            // Without a batch there is nothing that a checkpoint could stand for.
            first_kept: if self.wal.lsn() == 0 { 0 } else { self.wal.segment_number() },
            covers_bytes: self.sealed_log,
            table_bytes,
            busy: Arc::clone(&self.busy),
        }
    }
}

impl Effect {
    fn answer(outcome: Outcome) -> Self {
        Self::Write { outcome, records: 0, raises: 0 }
    }
}
