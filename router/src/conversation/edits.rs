//! What goes with a message that is taken back: its edits, each of which holds a text of its own.
//!
//! Guarantees: an erasure of a message lands behind erasures of all edits of it, in the same append where they are few; so
//! whoever is told SENT of it knows that none of its text is left, also of an edit that was on its way when it was asked for.
//! One that comes later is refused. These erasures are ordinary records of whoever takes the message back, as many as edits were
//! sent at their sender's rate; where they are many, others have their turn between them. One search for edits of messages that
//! are older than the tail at a time, a page at a time. Never does: search for what the operator erases, who names every record
//! of a user.

use super::{Conversation, Last, Waiting};
use crate::Router;
use crate::boundary::Proposal;
use crate::frozen::frozen;
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::{Body, Outcome, ReadRange, StoreRequest, content_hash, content_hash_v1};
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::limits::EDIT_MS;
use ringpost_proto::v1::kind::Value as Kind;
use std::collections::BTreeSet;

/// Of one page of the log.
const RECORDS: u32 = 256;
const BYTES: u32 = 1 << 20;
/// Of one append, for one message that is taken back.
const SHARE: usize = super::append::BATCH / 4;
/// The records of one append follow each other by a microsecond at least, whatever the clock says.
const SLACK_US: u64 = 1_000_000;

/// The edits of a message that is to be erased, as far as they were searched for.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Of the page that is on its way; 0: none is.
    ticket: u64,
    /// Edits up to here are found; 0: none was searched for.
    upto: Seq,
    found: BTreeSet<Seq>,
}

impl Edits {
    pub fn are_asked(&self) -> bool {
        self.ticket != 0
    }

    pub fn ask(&mut self, ticket: u64) {
        self.ticket = ticket;
    }

    /// One of them was taken back meanwhile.
    pub fn forget(&mut self, edit: Seq) {
        self.found.remove(&edit);
    }
}

impl Conversation {
    /// The edits that go with what a proposal takes back, those of the batch among them; of many the first, more than one append
    /// takes. `Err`: the log is to be asked for more, from there on.
    pub(super) fn edits_of(&self, waiting: &Waiting) -> Result<Vec<Seq>, Seq> {
        if waiting.proposal.message_kind != Kind::Erase || waiting.from.is_operator() {
            return Ok(Vec::new());
        }
        let Ok(Some(about)) = self.about(waiting) else { return Ok(Vec::new()) };
        if !about.counts() {
            return Ok(Vec::new());
        }
        let upto = waiting.edits.upto.max(about.seq);
        if upto < self.head && !self.tail.is_whole_after(upto) {
            return Err(upto + 1);
        }
        let is_edit = |kind: Kind, ref_seq: Seq| kind == Kind::Edit && ref_seq == about.seq;
        let mut edits: Vec<Seq> = waiting.edits.found.iter().copied().take(SHARE).collect();
        if upto < self.head {
            let known = self.tail.between(upto, self.head).filter(|it| is_edit(it.kind, it.ref_seq) && !it.erased);
            edits.extend(known.map(|it| it.seq));
        }
        let pending = self.batch.iter().map(|(_, record)| record).filter(|it| is_edit(it.kind, it.ref_seq));
        edits.extend(pending.map(|it| it.seq));
        Ok(edits)
    }

    /// Puts erasures of `edits` into the batch, and behind them what was proposed. Where there is no room for all of them it waits
    /// behind what others wait for, to be decided again when these have landed; what its session sent later stays behind it.
    pub(super) fn take_back(&mut self, waiting: Waiting, edits: &[Seq], unix_us: u64, worker: u16) {
        let room = super::append::BATCH.saturating_sub(self.batch.len()).min(SHARE);
        for edit in edits.iter().take(room) {
            let last = self.batch.last().map_or(self.last, |(_, record)| Last::of(record));
            let made = waiting.for_edit(*edit, last.hash);
            let record = self.place(&made.proposal, unix_us, worker);
            self.batch.push((made, record));
        }
        if edits.len() >= room {
            let (own, others): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(|it| it.from == waiting.from);
            self.queue.extend(others.into_iter().chain([waiting]).chain(own));
            return;
        }
        let record = self.place(&waiting.proposal, unix_us, worker);
        self.batch.push((waiting, record));
    }

    fn is_taken_back(&self, seq: Seq) -> bool {
        self.tail.between(seq, self.head).any(|it| it.kind == Kind::Erase && it.ref_seq == seq)
    }
}

impl Waiting {
    /// The erasure of an edit that goes with this one; nobody is told what becomes of it.
    fn for_edit(&self, edit: Seq, previous_hash: [u8; 16]) -> Self {
        let proposal = &self.proposal;
        let content_hash = content_hash(Kind::Erase, edit, &proposal.body, None);
        let cmid = id_for(proposal.cmid, previous_hash);
        let proposal = Proposal { cmid, content_hash, ref_seq: edit, ..proposal.clone() };
        Self { made_for: Some(self.proposal.cmid), ..Self::new(self.from, 0, proposal) }
    }
}

/// Of the record before it, whose hash nobody knows before it has its place: so nobody can have used this id, and whoever uses it
/// later is told of the conflict.
fn id_for(cmid: ClientMessageId, previous_hash: [u8; 16]) -> ClientMessageId {
    let made_of = [cmid.0, previous_hash].concat().into();
    let mut hash = content_hash_v1(Kind::Erase, 0, &Body::Payload(made_of), None);
    if let Some(unix_ms) = cmid.uuid_v7_ms() {
        return ClientMessageId::uuid_v7(unix_ms, u128::from_be_bytes(hash));
    }
    // Version 8 (RFC 9562 section 5.8): it carries no time.
    (hash[6], hash[8]) = (hash[6] & 0x0f | 0x80, hash[8] & 0x3f | 0x80);
    ClientMessageId(hash)
}

impl Router {
    /// Asks the log for the edits of a message that is to be erased.
    pub(super) fn ask_edits(&mut self, key: Key, ticket: u64, from: Seq) {
        let Some(room) = self.conversations.get(key) else { return };
        let (conversation, range) = (room.id, ReadRange::From { from, to: room.head });
        let (viewer, records, bytes) = (None, RECORDS, BYTES);
        self.ask(Pending::Edits { conversation: key, ticket }, |tag| StoreRequest::ReadLog {
            tag,
            conversation,
            viewer,
            range,
            records,
            bytes,
        });
    }

    pub(crate) fn edits_read(&mut self, key: Key, ticket: u64, outcome: Outcome) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let Some(at) = room.queue.iter().position(|waiting| waiting.edits.ticket == ticket) else {
            // Whoever asked was refused meanwhile; others waited for their turn to ask.
            return self.append_next(key);
        };
        let (about, before) = (room.about(&room.queue[at]), room.queue[at].edits.upto);
        let mut edits = std::mem::take(&mut room.queue[at].edits);
        edits.ticket = 0;
        let mut answered = true;
        match (about, outcome) {
            (Ok(Some(about)), Outcome::LogSlice { records, reached, .. }) => {
                edits.upto = reached.max(before);
                for record in records {
                    if record.us > about.us + EDIT_MS * 1_000 + SLACK_US {
                        edits.upto = Seq::MAX;
                        break;
                    }
                    let is_there = !matches!(record.body, Body::Erased(_)) && !room.is_taken_back(record.seq);
                    if record.kind == Kind::Edit && record.ref_seq == about.seq && is_there {
                        edits.found.insert(record.seq);
                    }
                }
                answered = edits.upto > before;
            }
            // What it is about has changed meanwhile: that is looked at first.
            (_, Outcome::LogSlice { .. }) => {}
            _ => answered = false,
        }
        room.queue[at].edits = edits;
        if !answered && let Some(waiting) = room.queue.remove(at) {
            self.refuse(&waiting, refusal::unavailable());
        }
        self.append_next(key);
    }
}

frozen!(Edits { ticket, upto, found });
