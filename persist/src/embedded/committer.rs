//! Group commit, without threads: requests are staged, one commit makes them all durable, then the index knows them, then
//! they are answered.
//!
//! Owns: the log, and the only right to change the index. Guarantees: nothing is answered, nor seen by a read, before it is
//! durable. Never does: waiting, retrying.

use super::identity::{self, Lock};
use super::wal::{Failure, OpenError, Wal};
use super::{Options, RecoveryReport, entry};
use crate::files::Files;
use crate::index::Index;
use crate::record::RecordError;
use crate::{ConversationKind, Outcome, Raise, Record, StoreAnswer, StoreRequest, Tag};
use hashbrown::HashMap;
use ringpost_proto::id::{ConversationId, Seq, UserKey};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// A batch takes no further request from this size on; one append adds 4.3 MiB at most.
const BATCH_BYTES: usize = 4 << 20;
/// ... or from so many requests on, so that the first of them does not wait for ever.
const BATCH_REQUESTS: usize = 4_096;

/// Who asked: given with the request, comes back with the answer.
pub type Origin = usize;

/// See the module.
pub struct Committer {
    wal: Wal,
    index: Arc<RwLock<Index>>,
    staged: Vec<Staged>,
    /// Heads of the conversations that this batch appends to.
    heads: HashMap<ConversationId, Seq, foldhash::fast::FixedState>,
    full: bool,
    free_floor_percent: u64,
    files: Arc<dyn Files>,
    dir: PathBuf,
    _lock: Lock,
}

struct Staged {
    origin: Origin,
    tag: Tag,
    effect: Effect,
}

enum Effect {
    Append {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        expected_head: Seq,
        records: Vec<Arc<Record>>,
    },
    Raise(Vec<Raise>),
    /// Decided already.
    Answer(Outcome),
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
    /// Takes the lock of the directory and reads the log back.
    pub fn open(files: Arc<dyn Files>, options: &mut Options) -> Result<Recovery, OpenError> {
        let started = Instant::now();
        let dir = options.dir.clone();
        let mut entropy = std::mem::replace(&mut options.entropy, super::no_entropy());
        let lock = identity::lock(&*files, &dir)?;
        let incarnation = identity::incarnation(&*files, &dir, &mut entropy)?;
        let seed = entropy();
        let mut index = Index::new(seed);
        let (wal, found) =
            Wal::open(Arc::clone(&files), dir.clone(), incarnation, options.segment_bytes, entropy, &mut |payload| {
                entry::decode(payload, |entry| apply(&mut index, entry))
            })?;
        let report = RecoveryReport {
            records: index.records(),
            conversations: index.conversations() as u64,
            segments: found.segments,
            cut_bytes: found.cut_bytes,
            millis: started.elapsed().as_millis() as u64,
        };
        let mut committer = Self {
            wal,
            index: Arc::new(RwLock::new(index)),
            staged: Vec::new(),
            heads: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            full: false,
            free_floor_percent: options.free_floor_percent,
            files,
            dir,
            _lock: lock,
        };
        committer.check_space();
        Ok(Recovery { committer, incarnation, report })
    }

    /// For readers: it changes only within [`Committer::commit`].
    pub fn index(&self) -> Arc<RwLock<Index>> {
        Arc::clone(&self.index)
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

    /// Takes a request into the batch.
    pub fn stage(&mut self, origin: Origin, request: StoreRequest) {
        let tag = request.tag();
        let effect = match request {
            StoreRequest::Append { .. } if self.full => Effect::Answer(Outcome::Full),
            StoreRequest::Append { conversation, kind, expected_head, records, .. } => {
                self.stage_append(conversation, kind, expected_head, records)
            }
            StoreRequest::Raise { raises, .. } => self.stage_raises(raises),
            read => Effect::Read(read),
        };
        self.staged.push(Staged { origin, tag, effect });
    }

    fn stage_append(
        &mut self,
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        expected_head: Seq,
        records: Vec<Arc<Record>>,
    ) -> Effect {
        let index = &self.index;
        let head = self.heads.get(&conversation).copied();
        let head = head.unwrap_or_else(|| index.read().unwrap_or_else(PoisonError::into_inner).head(&conversation));
        match Index::judge_append(head, expected_head, &records) {
            Outcome::Appended { head } => {
                self.heads.insert(conversation, head);
                entry::encode_append(conversation, &kind, expected_head, &records, self.wal.payload());
                Effect::Append { conversation, kind, expected_head, records }
            }
            refused => Effect::Answer(refused),
        }
    }

    fn stage_raises(&mut self, mut raises: Vec<Raise>) -> Effect {
        {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            raises.retain(|raise| raise.value > index.register(&raise.key));
        }
        for raise in &raises {
            entry::encode_raise(raise, self.wal.payload());
        }
        Effect::Raise(raises)
    }

    /// Makes the batch durable, applies it, and appends its answers in the order of the requests. After an error the
    /// committer must not be used again, and nothing of the batch may be answered.
    pub fn commit(&mut self, answers: &mut Vec<(Origin, StoreAnswer)>) -> Result<Committed, Failure> {
        let mut done = Committed::default();
        if self.wal.payload_len() > 0 {
            let segment = self.wal.segment_number();
            done.bytes = self.wal.commit()?;
            if self.wal.segment_number() != segment {
                // Segments are reserved: it is here that the disk becomes less.
                self.check_space();
            }
        }
        self.heads.clear();
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for Staged { origin, tag, effect } in self.staged.drain(..) {
            let outcome = match effect {
                Effect::Append { conversation, kind, expected_head, records } => {
                    done.records += records.len();
                    index.append(conversation, &kind, expected_head, &records)
                }
                Effect::Raise(raises) => {
                    done.raises += raises.len();
                    for raise in &raises {
                        index.raise(raise);
                    }
                    Outcome::Raised
                }
                Effect::Answer(outcome) => outcome,
                Effect::Read(request) => index.read(&request).unwrap_or(Outcome::Unimplemented),
            };
            answers.push((origin, StoreAnswer { tag, outcome }));
        }
        Ok(done)
    }
}

/// One entry of the log, read back.
fn apply(index: &mut Index, entry: entry::Entry) -> Result<(), RecordError> {
    match entry {
        entry::Entry::Raise(raise) => {
            index.raise(&raise);
        }
        entry::Entry::Append { conversation, kind, expected_head, records } => {
            let known = index.kind(&conversation).cloned();
            let kind = known.or(kind.map(Arc::new)).ok_or(RecordError::Field("conversation kind"))?;
            let records: Vec<_> = records.into_iter().map(|record| Arc::new(share_sender(record, &kind))).collect();
            if !matches!(index.append(conversation, &kind, expected_head, &records), Outcome::Appended { .. }) {
                return Err(RecordError::Field("position"));
            }
        }
    }
    Ok(())
}

/// The name of a sender is kept once per conversation, not once per record.
fn share_sender(mut record: Record, kind: &ConversationKind) -> Record {
    if let Some(member) = kind.members().iter().find(|member: &&UserKey| **member == record.sender) {
        record.sender = member.clone();
    }
    record
}
