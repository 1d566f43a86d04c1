//! The append: the position is the commit. What follows a commit, a conflict, and an outcome that nobody knows.

use super::decide::sent;
use super::{Conversation, Phase, Search, Waiting};
use crate::Router;
use crate::boundary::{Proposal, Wants};
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::record::counts;
use ringpost_persist::{Outcome, ReadRange, Record, StoreRequest};
use ringpost_proto::id::{Seq, record_id};
use ringpost_proto::v1;
use std::sync::Arc;

/// Records of one append at most.
pub(super) const BATCH: usize = 64;
/// Between two questions to a store that does not answer.
const RETRY_MS: u64 = 500;

impl Conversation {
    /// The record that `proposal` becomes if it lands right after the batch as it stands.
    pub(super) fn place(&self, proposal: &Proposal, unix_us: u64, worker: u16) -> Arc<Record> {
        let previous = self.batch.last().map(|(_, record)| super::Last::of(record));
        let last = previous.unwrap_or(self.last);
        let counts = counts(proposal.message_kind);
        Arc::new(Record {
            seq: self.head + self.batch.len() as Seq + 1,
            id: record_id(unix_us / 1_000, worker, last.id),
            us: unix_us.max(last.us + 1),
            ordinal: last.ordinal + u64::from(counts),
            sender: proposal.sender.clone(),
            device: proposal.device,
            cmid: proposal.cmid,
            content_hash: proposal.content_hash,
            previous_hash: last.hash,
            kind: proposal.message_kind,
            ref_seq: proposal.ref_seq,
            body: self.body_of(proposal),
            media: proposal.media.clone(),
            trace: proposal.trace,
        })
    }

    /// Puts the batch back to the front of the queue, but for what is made anew. That the log has not their ids was true of a
    /// shorter one: it is asked again where what is in memory does not tell.
    fn decide_again(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        for (mut waiting, _) in batch.into_iter().rev().filter(|(waiting, _)| waiting.made_for.is_none()) {
            waiting.search = Search::No;
            self.queue.push_front(waiting);
        }
    }

    /// Whether `record`, read from the log, is the one that this process appended.
    fn is_ours(&self, record: &Record) -> bool {
        let ours = self.batch.first().map(|(_, ours)| ours);
        ours.is_some_and(|ours| ours.seq == record.seq && ours.hash() == record.hash())
    }
}

impl Router {
    /// Submits the batch; again, byte for byte, if its outcome was unknown and the slot is empty.
    pub(super) fn append(&mut self, key: Key) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.phase = Phase::Appending;
        let (conversation, kind, expected_head) = (room.id, room.kind.clone(), room.head);
        let records = room.batch.iter().map(|(_, record)| record.clone()).collect();
        self.ask(Pending::Append { conversation: key }, |tag| StoreRequest::Append {
            tag,
            conversation,
            kind,
            expected_head,
            records,
        });
    }

    pub(crate) fn appended(&mut self, key: Key, outcome: Outcome) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        match outcome {
            Outcome::Appended { .. } => {
                let count = room.batch.len();
                self.commit(key, count);
            }
            Outcome::Conflict { .. } => {
                self.counters.append_conflicts += 1;
                return self.read_slot(key);
            }
            Outcome::Unknown => {
                self.counters.append_unknown += 1;
                room.uncertain = true;
                return self.read_slot(key);
            }
            // An earlier append of the same batch may land yet, and a sender that was refused would not know.
            _ if room.uncertain => return self.ask_again(key),
            Outcome::Full => self.refuse_batch(key, refusal::storage_full()),
            _ => self.refuse_batch(key, refusal::unavailable()),
        }
        self.next_round(key);
    }

    fn next_round(&mut self, key: Key) {
        if let Some(room) = self.conversations.get_mut(key) {
            room.phase = Phase::Ready;
            room.uncertain = false;
            room.clamp_reads();
        }
        self.append_next(key);
    }

    /// Nothing of the batch was stored, and nothing will be. Nor what parts of the batch were made for: it waits for them, and
    /// would only make them again.
    fn refuse_batch(&mut self, key: Key, error: v1::Error) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let (made, mut refused): (Vec<_>, Vec<_>) = std::mem::take(&mut room.batch)
            .into_iter()
            .map(|(waiting, _)| waiting)
            .partition(|waiting| waiting.made_for.is_some());
        let waits = |whole: &Waiting| {
            made.iter().any(|part| part.from == whole.from && part.made_for == Some(whole.proposal.cmid))
        };
        let (parted, queue): (Vec<_>, _) = room.queue.drain(..).partition(waits);
        room.queue = queue.into();
        refused.extend(parted);
        for waiting in refused {
            self.refuse(&waiting, error.clone());
        }
    }

    /// The first `count` records of the batch are in the log: SENT, then the members.
    fn commit(&mut self, key: Key, count: usize) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let committed: Vec<_> = room.batch.drain(..count.min(room.batch.len())).collect();
        for (waiting, record) in committed {
            self.counters.appends += 1;
            // SENT goes before what it sets off; a group is told as it is with the record.
            let (wants, told) = (waiting.proposal.wants, waiting.made_for.is_none());
            if told && wants == Wants::Sent {
                self.tell_sent(key, &waiting, sent(&record, false));
            }
            self.take_in(key, record.clone());
            if told && wants != Wants::Sent {
                self.tell_sent(key, &waiting, sent(&record, false));
            }
        }
    }

    /// Asks the log what is in the slots that the batch was for.
    pub(super) fn read_slot(&mut self, key: Key) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.phase = Phase::Resolving;
        let (conversation, from) = (room.id, room.head + 1);
        let range = ReadRange::From { from, to: Seq::MAX };
        let (records, bytes) = (BATCH as u32, u32::MAX);
        self.ask(Pending::ReadSlot { conversation: key }, |tag| StoreRequest::ReadLog {
            tag,
            conversation,
            viewer: None,
            range,
            records,
            bytes,
        });
    }

    /// The log is asked what is in the slots of the batch, a moment later.
    fn ask_again(&mut self, key: Key) {
        let retry_ms = self.now.mono_ms + RETRY_MS;
        if let Some(room) = self.conversations.get_mut(key) {
            room.phase = Phase::Resolving;
            room.retry_ms = Some(retry_ms);
            self.arm_conversation(key);
        }
    }

    pub(crate) fn slot_read(&mut self, key: Key, outcome: Outcome) {
        let Outcome::LogSlice { head, records, .. } = outcome else {
            // Not known, and it may not be refused: a later retry must not be stored twice.
            return self.ask_again(key);
        };
        if records.is_empty() {
            return self.append(key);
        }
        for record in records {
            let Some(room) = self.conversations.get_mut(key) else { return };
            if room.head + 1 != record.seq {
                continue;
            }
            if room.is_ours(&record) {
                self.commit(key, 1);
            } else {
                // Another's record: what waited is decided again, on the longer prefix.
                room.decide_again();
                self.take_in(key, record);
            }
        }
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.head < head {
            return self.read_slot(key);
        }
        // An append is all or nothing; what is left of the batch after some of it landed is decided again as well.
        room.decide_again();
        self.next_round(key);
    }
}
