//! The writer's side: what appends and raises change, gathered for one batch and then applied.
//!
//! Owns: the only right to write to the trees. Guarantees: a request that cannot be decided (a row cannot be read) changes
//! nothing; the rows of a batch are written once each, after its records.

mod registers;

use super::bucket::{Bucket, Class, Retention};
use super::checkpoint::Sealed;
use super::keys::{self, Key};
use super::records::{IdHash, Row};
use super::rosters::Rosters;
use super::rows::{Lookups, Rows};
use super::state::{self, CheckpointRow, Group, Head, MemberRow, Span};
use super::{Log, Reached, TreeError, Trees};
use crate::embedded::stored::Stored;
use crate::embedded::wal::OpenError;
use crate::index::Index;
use crate::record::RecordError;
use crate::{ConversationKind, DOCUMENT_BYTES, DocumentKey, ItemKey, Outcome, Record, Roster};
use bytes::Bytes;
use lsm_tree::Slice;
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// So many times as many rosters as later are kept while a log is replayed: a roster that has to be read is many times a
/// record that is replayed (measured: of 100,000 busy conversations).
const TIMES_IN_REPLAY: usize = 4;

/// What a row of a batch costs beside the stored form.
const ENTRY_BYTES: u64 = 96;

/// See the module.
pub(in crate::embedded) struct Staging {
    trees: Arc<Trees>,
    class: Class,
    /// Every month before this one has expired.
    kept_from: u32,
    incarnation: [u8; 16],
    /// Of the batch, in the order in which they were decided.
    records: Vec<(Bucket, ConversationId, Row)>,
    rows: Rows,
    rosters: Rosters,
    staged_bytes: u64,
    /// In memory tables since the last checkpoint.
    record_bytes: u64,
    row_bytes: u64,
}

impl Staging {
    /// `cached`: rows in the cache at most.
    pub(in crate::embedded) fn new(
        trees: Arc<Trees>,
        reached: &Reached,
        retention: Retention,
        incarnation: [u8; 16],
        cached: usize,
        seed: u64,
    ) -> Self {
        Self {
            rows: Rows::new(trees.clone(), cached, seed),
            trees,
            class: reached.class.unwrap_or(Class::of(retention)),
            kept_from: reached.kept_from,
            incarnation,
            records: Vec::new(),
            rosters: Rosters::new(cached / 2, seed),
            staged_bytes: 0,
            record_bytes: 0,
            row_bytes: 0,
        }
    }

    /// From the next batch on records are of this class, and a replay will know it. `lsn`: the last batch applied.
    pub(in crate::embedded) fn retain(
        &mut self,
        retention: Retention,
        lsn: u64,
        reached: &Reached,
    ) -> Result<(), TreeError> {
        let class = Class::of(retention);
        if reached.class != Some(class) {
            self.class = class;
            self.seal(lsn, None).flush()?;
        }
        Ok(())
    }

    pub(in crate::embedded) fn trees(&self) -> &Arc<Trees> {
        &self.trees
    }

    /// Bytes in memory tables since the last checkpoint.
    pub(in crate::embedded) fn fresh_bytes(&self) -> u64 {
        self.record_bytes + self.row_bytes
    }

    /// Of them, records.
    pub(in crate::embedded) fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Of them, rows of the state.
    pub(in crate::embedded) fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// Bytes of what is kept of the trees, about.
    pub(in crate::embedded) fn cache_bytes(&self) -> u64 {
        self.trees.block_bytes() + self.rows.cached_bytes() + self.rosters.cached_bytes()
    }

    /// Bytes of the batch, about.
    pub(in crate::embedded) fn staged_bytes(&self) -> u64 {
        self.staged_bytes + self.rows.staged_bytes()
    }

    /// Records of the batch, and what is beside them.
    pub(in crate::embedded) fn staged_records(&self) -> usize {
        self.records.len()
    }

    /// Whether rosters take more memory than they may, and would take less after [`Self::apply`].
    pub(in crate::embedded) fn has_many_rosters(&self) -> bool {
        self.rosters.are_many()
    }

    /// While a log is replayed rows and rosters are read again and again that nobody wrote to the disk yet, and the cache of
    /// blocks, which readers will need, is empty.
    pub(in crate::embedded) fn replaying(&mut self, is_so: bool) {
        let times = if is_so { TIMES_IN_REPLAY } else { 1 };
        self.rosters.widen(times);
        self.rows.widen(times);
    }

    /// Since the last time it was asked.
    pub(in crate::embedded) fn take_lookups(&mut self) -> Lookups {
        self.rows.take_lookups()
    }

    /// The answer to an append; the batch holds it if that is `Appended`.
    pub(in crate::embedded) fn append(
        &mut self,
        conversation: &ConversationId,
        kind: Option<&ConversationKind>,
        expected_head: Seq,
        records: &[Stored],
    ) -> Result<Outcome, TreeError> {
        let key = keys::head_key(conversation);
        let mut head = self.rows.read(&key, Head::decode)?;
        let outcome = Index::judge_append(head.seq, expected_head, records.iter().map(|it| it.record.seq));
        if !matches!(outcome, Outcome::Appended { .. }) {
            return Ok(outcome);
        }
        // Everything that must be read, before anything changes.
        let mut roster = match kind {
            Some(kind) if head.seq == 0 => Roster::new(kind),
            None if head.seq == 0 => {
                return Err(TreeError::row("state")(RecordError::Field("conversation kind")));
            }
            _ => self.rosters.take(conversation, &self.trees)?,
        };
        let erased = match self.erased(conversation, &head, records) {
            Ok(erased) => erased,
            Err(error) => {
                self.rosters.put(*conversation, roster);
                return Err(error);
            }
        };
        if let (0, Some(kind)) = (head.seq, kind) {
            self.rows.write(keys::kind_key(conversation), state::encode_kind(kind));
            for (at, member) in (0..).zip(roster.members()) {
                self.rows.write(keys::member_key(conversation, &member.user), MemberRow::encode(at, member));
                self.rows.write(keys::user_key(&member.user, conversation), state::encode_listed(0));
            }
        }
        for stored in records {
            self.record(conversation, &mut head, stored);
            self.enroll(conversation, &mut roster, &stored.record);
        }
        for (bucket, record) in erased {
            self.put_record(conversation, bucket, &Stored::new(Arc::new(record)));
        }
        self.rosters.put(*conversation, roster);
        self.rows.write(key, head.encode());
        Ok(outcome)
    }

    /// What the records take back, without its bodies, and where it is.
    fn erased(
        &self,
        conversation: &ConversationId,
        head: &Head,
        records: &[Stored],
    ) -> Result<Vec<(Bucket, Record)>, TreeError> {
        let mut erased = Vec::new();
        if records.iter().all(|it| it.record.kind != Kind::Erase) {
            return Ok(erased);
        }
        let mut after = head.clone();
        for Stored { record, .. } in records {
            let bucket = after.bucket_for(self.class, record.us, self.kept_from);
            if after.spans.last().is_none_or(|last| last.bucket != bucket) {
                after.spans.push(Span { bucket, first: record.seq });
            }
            after.seq = record.seq;
            if record.kind != Kind::Erase {
                continue;
            }
            let seq = record.ref_seq;
            let Some(span) = after.spans.iter().rfind(|span| span.first <= seq).filter(|_| seq <= record.seq) else {
                continue;
            };
            if let Some(new) = seq.checked_sub(head.seq + 1).and_then(|at| records.get(at as usize)) {
                erased.push((span.bucket, new.record.erased()));
                continue;
            }
            // Of this batch, or of one before.
            let staged = self.records.iter().rev().find_map(|(_, of, row)| match row {
                Row::Record(at, form) if of == conversation && *at == seq => Some(form),
                _ => None,
            });
            let found = match staged {
                Some(form) => Some(Record::decode(form).map_err(TreeError::row(span.bucket))?),
                None => self.trees.record(conversation, head, seq)?,
            };
            erased.extend(found.map(|record| (span.bucket, record.erased())));
        }
        Ok(erased)
    }

    /// Who is in the conversation, as of this record.
    fn enroll(&mut self, conversation: &ConversationId, roster: &mut Roster, record: &Record) {
        let known = roster.members().len();
        let group = (record.kind == Kind::Change).then(|| Group::of(roster));
        for at in roster.apply(record) {
            let Some(member) = roster.get(at) else { continue };
            self.rows.write(keys::member_key(conversation, &member.user), MemberRow::encode(at, member));
            let left = member.leave == record.seq;
            if usize::from(at) >= known || group.is_some() && (left || member.is_current()) {
                let listed = state::encode_listed(if left { record.id } else { 0 });
                self.rows.write(keys::user_key(&member.user, conversation), listed);
            }
        }
        let now = group.as_ref().map(|_| Group::of(roster));
        if let Some(now) = now.filter(|now| Some(now) != group.as_ref()) {
            self.rows.write(keys::group_key(conversation), now.encode());
        }
    }

    fn record(&mut self, conversation: &ConversationId, head: &mut Head, stored: &Stored) {
        let record = &*stored.record;
        let bucket = head.bucket_for(self.class, record.us, self.kept_from);
        if head.spans.last().is_none_or(|last| last.bucket != bucket) {
            if self.trees.log(bucket).is_none() {
                self.rows.write(keys::bucket_key(bucket), state::PRESENT.to_vec());
            }
            // Of months that have gone since and follow each other one is left, which says where they begin.
            let mut after_gone = false;
            head.spans.retain(|span| {
                let kept = self.trees.log(span.bucket).is_some() || self.rows.holds(&keys::bucket_key(span.bucket));
                let stays = kept || !after_gone;
                after_gone = !kept;
                stays
            });
            head.spans.push(Span { bucket, first: record.seq });
        }
        self.put_record(conversation, bucket, stored);
        let id = id_hash(&record.sender, &record.device, &record.cmid);
        self.stage(conversation, bucket, Row::Id(id, record.seq));
        head.seq = record.seq;
        head.id = record.id;
        head.us = record.us;
        head.ordinal = record.ordinal;
        head.latest_cmid_ms = head.latest_cmid_ms.max(record.cmid.uuid_v7_ms().unwrap_or(0));
    }

    fn put_record(&mut self, conversation: &ConversationId, bucket: Bucket, stored: &Stored) {
        self.stage(conversation, bucket, Row::Record(stored.record.seq, stored.form.clone()));
    }

    fn stage(&mut self, conversation: &ConversationId, bucket: Bucket, row: Row) {
        self.staged_bytes += ENTRY_BYTES + if let Row::Record(_, form) = &row { form.len() as u64 } else { 0 };
        self.records.push((bucket, *conversation, row));
    }

    /// The answer to a `Cas`; the batch holds the document if that is `Stored`.
    pub(in crate::embedded) fn cas(
        &mut self,
        document: &DocumentKey,
        expected: u64,
        bytes: &Bytes,
    ) -> Result<Outcome, TreeError> {
        if bytes.len() > DOCUMENT_BYTES {
            return Ok(Outcome::Unimplemented);
        }
        let key = keys::document_key(document);
        let found = self.rows.read(&key, |row| state::decode_document(row).map(Some))?;
        if found.as_ref().map_or(0, |(version, _)| *version) != expected {
            return Ok(Outcome::Stale(found));
        }
        self.rows.write(key, state::encode_document(expected + 1, bytes));
        Ok(Outcome::Stored { version: expected + 1 })
    }

    /// `Stored`, and the batch holds the item; or `Unimplemented`, where it is too long.
    pub(in crate::embedded) fn put(&mut self, item: &ItemKey, bytes: &Bytes) -> Outcome {
        if bytes.len() > DOCUMENT_BYTES {
            return Outcome::Unimplemented;
        }
        self.rows.write(keys::item_key(item), state::encode_item(bytes));
        Outcome::Stored { version: 0 }
    }

    /// The item, if it was there; with the batch it is gone.
    pub(in crate::embedded) fn hand_out(&mut self, item: &ItemKey) -> Result<Option<Bytes>, TreeError> {
        let key = keys::item_key(item);
        let found = self.rows.read(&key, |row| state::decode_item(row).map(Some))?;
        if found.is_some() {
            self.rows.remove(key);
        }
        Ok(found)
    }

    /// Writes the batch into the memory tables, where every read sees it. The log has made it durable.
    pub(in crate::embedded) fn apply(&mut self) -> Result<(), OpenError> {
        self.staged_bytes = 0;
        let mut records = std::mem::take(&mut self.records).into_iter().peekable();
        while let Some(bucket) = records.peek().map(|(bucket, ..)| *bucket) {
            let Log { newer, .. } = self.trees.log_or_new(bucket)?;
            let of_bucket = std::iter::from_fn(|| records.next_if(|(of, ..)| *of == bucket));
            self.record_bytes += newer.write(of_bucket.map(|(_, conversation, row)| (conversation, row)));
        }
        self.row_bytes += self.rows.apply();
        self.rosters.settle();
        Ok(())
    }

    /// Closes the memory tables as of batch `lsn`, the last one applied. Months that have expired by `now_ms` are left out
    /// from here on.
    pub(in crate::embedded) fn seal(&mut self, lsn: u64, expire: Option<(u64, u32)>) -> Sealed {
        let mut expired = Vec::new();
        if let Some((now_ms, days)) = expire {
            let mut logs = self.trees.logs.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            expired.extend(logs.keys().copied().filter(|bucket| bucket.is_expired(now_ms, days)));
            for bucket in &expired {
                logs.remove(bucket);
                self.kept_from = self.kept_from.max(bucket.month.saturating_add(1));
            }
        }
        let row = CheckpointRow { lsn, incarnation: self.incarnation, class: self.class, kept_from: self.kept_from };
        let expired_rows = expired.iter().map(|bucket| (keys::bucket_key(*bucket), None));
        let checkpoint = (Key::from_slice(keys::CHECKPOINT), Some(Slice::from(row.encode())));
        self.trees.memory.write(expired_rows.chain([checkpoint]));
        (self.record_bytes, self.row_bytes) = (0, 0);
        Sealed::new(&self.trees, lsn, Some(self.trees.memory.seal()), expired)
    }

    /// Closes only the tables of the records: on disk they are ahead of the state then, as they are before each checkpoint
    /// ends.
    pub(in crate::embedded) fn seal_records(&mut self, lsn: u64) -> Sealed {
        self.record_bytes = 0;
        Sealed::new(&self.trees, lsn, None, Vec::new())
    }

    /// Whether a month has expired by `now_ms`.
    pub(in crate::embedded) fn has_expired(&self, now_ms: u64, days: u32) -> bool {
        let logs = self.trees.logs.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        logs.keys().any(|bucket| bucket.is_expired(now_ms, days))
    }
}

/// What finds a record by its client message id: cut from a hash that nobody can aim at.
pub(super) fn id_hash(sender: &UserKey, device: &DeviceId, cmid: &ClientMessageId) -> IdHash {
    let mut hash = Sha256::new();
    hash.update([sender.as_bytes().len() as u8]);
    hash.update(sender.as_bytes());
    hash.update([device.as_str().len() as u8]);
    hash.update(device.as_str().as_bytes());
    hash.update(cmid.0);
    let mut id = [0; 12];
    id.copy_from_slice(&hash.finalize()[..12]);
    id
}
