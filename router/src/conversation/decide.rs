//! Deciding on a message, on the prefix of the log held in memory: new, sent before, or refused.

use super::allow::{No, Rules};
use super::{Beginning, Conversation, Phase, QUEUE, QUEUE_BYTES, Reference, Search, Waiting};
use crate::Router;
use crate::boundary::{Proposal, Wants};
use crate::envelope::{Envelope, SendOutcome, SessionRef};
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::{Outcome, ReadRange, Record, StoreRequest, content_hash_v1};
use ringpost_proto::id::{ConversationId, Seq, UserKey};
use ringpost_proto::limits::DEDUPE_MS;
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::server_frame::Answer;
use smallvec::SmallVec;

pub(super) enum Decision {
    Append,
    /// The same id, or what it is about, is in the batch that is being committed, or is being searched for: wait for it.
    Wait,
    Sent(v1::Sent),
    Refuse(v1::Error),
    /// It is as asked for; nothing is stored.
    Already,
    /// The id may be older than what is in memory: ask the whole log.
    Search,
    /// What it is about is older than what is in memory: read it.
    Look(Seq),
    /// It takes back a message that is older than what is in memory: ask the log for its edits, from there on.
    Edits(Seq),
    /// It begins the conversation: ask its sender's home.
    Begin,
    /// It has a slice for each device: read the lists of these users.
    Lists(Vec<UserKey>),
}

/// What the sender of `proposal` is told if a record with this content carries its id.
fn decide_found(sent: v1::Sent, content_hash: [u8; 16], proposal: &Proposal) -> Decision {
    let Proposal { message_kind, ref_seq, body, media, .. } = proposal;
    let is_same = content_hash == proposal.content_hash
        || content_hash == content_hash_v1(*message_kind, *ref_seq, body, media.as_ref());
    if is_same { Decision::Sent(sent) } else { Decision::Refuse(refusal::conflict(sent)) }
}

pub(super) fn sent(record: &Record, duplicate: bool) -> v1::Sent {
    v1::Sent { seq: record.seq, id: record.id, server_time_ms: record.server_time_ms(), duplicate }
}

impl Conversation {
    pub(super) fn decide(&self, waiting: &Waiting, rules: Rules) -> Decision {
        let proposal = &waiting.proposal;
        // Who is no member any more may still ask what became of a message of before.
        let member = self.member(&proposal.sender);
        if let Some(found) = member.and_then(|it| self.known.find(proposal.cmid, proposal.device, it)) {
            return decide_found(found.answer(), found.content_hash, proposal);
        }
        let same = |other: &Proposal| {
            other.cmid == proposal.cmid && other.device == proposal.device && other.sender == proposal.sender
        };
        if self.batch.iter().any(|(other, _)| same(&other.proposal)) {
            return Decision::Wait;
        }
        let made_ms = proposal.cmid.uuid_v7_ms();
        let expired = made_ms.is_some_and(|ms| ms + DEDUPE_MS < rules.now_ms);
        match waiting.search {
            Search::Asked(_) => Decision::Wait,
            Search::No if !self.known.covers(made_ms, self.head) => Decision::Search,
            _ if expired => Decision::Refuse(refusal::expired()),
            _ => match self.allows(waiting, rules) {
                Ok(()) if waiting.edits.are_asked() => Decision::Wait,
                Ok(()) => self.edits_of(waiting).map_or_else(Decision::Edits, |_| Decision::Append),
                Err(No::Refuse(error)) => Decision::Refuse(*error),
                Err(No::Already) => Decision::Already,
                Err(No::Wait) => Decision::Wait,
                Err(No::Look(_)) if matches!(waiting.reference, Reference::Asked(_)) => Decision::Wait,
                Err(No::Look(seq)) => Decision::Look(seq),
                Err(No::Lists(_)) if waiting.lists.are_asked() => Decision::Wait,
                Err(No::Lists(users)) => Decision::Lists(users),
                Err(No::Begin) if waiting.beginning != Beginning::No => Decision::Wait,
                Err(No::Begin) => Decision::Begin,
            },
        }
    }

    /// What was read of a record is no longer so, nor may what is being read of it be.
    pub(super) fn forget_read(&mut self, seq: Seq) {
        for waiting in &mut self.queue {
            waiting.edits.forget(seq);
            if waiting.proposal.ref_seq == seq {
                waiting.reference = Reference::No;
            }
        }
    }
}

impl Waiting {
    pub fn new(from: SessionRef, re: u64, proposal: Proposal) -> Self {
        let (search, reference, beginning) = (Search::No, Reference::No, Beginning::No);
        let (lists, edits, made_for) = Default::default();
        Self { from, re, proposal, search, reference, lists, beginning, edits, made_for }
    }
}

impl Router {
    pub(crate) fn propose(&mut self, id: ConversationId, from: SessionRef, re: u64, proposal: Proposal) {
        let key = self.conversation(id, &proposal.kind);
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get_mut(key) else { return };
        let waiting = Waiting::new(from, re, proposal);
        let bytes = |waiting: &Waiting| waiting.proposal.body.bytes().len();
        // Few are long, and where none is, the number bounds them.
        let full = bytes(&waiting) > QUEUE_BYTES / QUEUE && room.queue.iter().map(bytes).sum::<usize>() >= QUEUE_BYTES;
        if full || room.queue.len() >= QUEUE {
            return self.refuse(&waiting, refusal::overloaded());
        }
        room.used_ms = now_ms;
        room.queue.push_back(waiting);
        self.append_next(key);
    }

    /// Forms the next batch from what waits, if nothing is outstanding.
    pub(super) fn append_next(&mut self, key: Key) {
        let rules = Rules {
            now_ms: self.now_ms(),
            refuse_blocked: self.settings.refuse_blocked,
            limits_beginnings: self.settings.new_conversations > 0,
        };
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.phase != Phase::Ready {
            return;
        }
        let mut later = std::collections::VecDeque::new();
        let mut decided = Vec::new();
        let (mut searches, mut looks, mut lists, mut begins) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut edits, searched) = (None, room.queue.iter().any(|waiting| waiting.edits.are_asked()));
        // Messages of one session keep their order: none overtakes one that has to wait.
        let mut held: SmallVec<[SessionRef; 4]> = SmallVec::new();
        while let Some(mut waiting) = next_in_turn(room) {
            room.adopt(&waiting.proposal.kind);
            let decision = room.decide(&waiting, rules);
            if let Decision::Search = decision {
                room.tickets += 1;
                waiting.search = Search::Asked(room.tickets);
                let Proposal { sender, device, cmid, .. } = &waiting.proposal;
                searches.push((room.tickets, sender.clone(), *device, *cmid));
            }
            if let Decision::Look(seq) = decision {
                room.tickets += 1;
                waiting.reference = Reference::Asked(room.tickets);
                looks.push((room.tickets, seq));
            }
            if let (Decision::Edits(from), false) = (&decision, searched || edits.is_some()) {
                room.tickets += 1;
                waiting.edits.ask(room.tickets);
                edits = Some((room.tickets, *from));
            }
            if let Decision::Begin = decision {
                room.tickets += 1;
                waiting.beginning = Beginning::Asked(room.tickets);
                begins.push((room.tickets, waiting.proposal.sender.clone()));
            }
            if let Decision::Lists(users) = &decision {
                room.tickets += 1;
                waiting.await_lists(room.tickets, users);
                lists.push((room.tickets, users.clone()));
            }
            match decision {
                Decision::Append if !held.contains(&waiting.from) => {
                    let edits = room.edits_of(&waiting).unwrap_or_default();
                    room.take_back(waiting, &edits, self.now.unix_us, self.settings.worker);
                }
                Decision::Append
                | Decision::Wait
                | Decision::Search
                | Decision::Look(_)
                | Decision::Edits(_)
                | Decision::Begin
                | Decision::Lists(_) => {
                    if !held.contains(&waiting.from) {
                        held.push(waiting.from);
                    }
                    later.push_back(waiting);
                }
                decision => decided.push((waiting, decision)),
            }
            // What follows a change is decided on what it has changed.
            let changes = |kind| matches!(kind, Kind::Change | Kind::Erase);
            let closed = room.batch.last().is_some_and(|(_, record)| changes(record.kind));
            if closed || room.batch.len() == super::append::BATCH {
                break;
            }
        }
        later.append(&mut room.queue);
        room.queue = later;
        let (conversation, appends) = (room.id, !room.batch.is_empty());
        for (ticket, sender, device, cmid) in searches {
            let pending = Pending::FindCmid { conversation: key, ticket };
            self.ask(pending, |tag| StoreRequest::FindCmid { tag, conversation, sender, device, cmid });
        }
        for (ticket, seq) in looks {
            let (range, pending) =
                (ReadRange::From { from: seq, to: seq }, Pending::Look { conversation: key, ticket });
            let request = |tag| StoreRequest::ReadLog { tag, conversation, viewer: None, range, records: 1, bytes: 0 };
            self.ask(pending, request);
        }
        if let Some((ticket, from)) = edits {
            self.ask_edits(key, ticket, from);
        }
        for (ticket, user) in begins {
            self.ask_beginning(conversation, ticket, user);
        }
        for (ticket, users) in lists {
            self.ask_lists(key, ticket, users);
        }
        for (waiting, decision) in decided {
            self.conclude(key, waiting, decision);
        }
        if appends {
            self.append(key);
        }
    }

    fn conclude(&mut self, key: Key, waiting: Waiting, decision: Decision) {
        match decision {
            Decision::Sent(sent) => {
                self.counters.sends_duplicate += 1;
                self.tell_sent(key, &waiting, sent);
            }
            Decision::Already => self.tell_sent(key, &waiting, v1::Sent::default()),
            Decision::Refuse(error) => {
                let mismatch = error.code() == Code::DeviceMismatch;
                self.counters.device_mismatches += u64::from(mismatch);
                self.refuse(&waiting, error);
            }
            Decision::Append
            | Decision::Wait
            | Decision::Search
            | Decision::Look(_)
            | Decision::Edits(_)
            | Decision::Begin
            | Decision::Lists(_) => {}
        }
    }

    /// What was proposed is in the log, or is so without it.
    pub(super) fn tell_sent(&mut self, key: Key, waiting: &Waiting, sent: v1::Sent) {
        let outcome = match (waiting.proposal.wants, self.conversations.get(key)) {
            // Who has left since learns no more than that.
            (Wants::Group, Some(room)) if sent.duplicate && !room.roster.is_member(&waiting.proposal.sender) => {
                SendOutcome::Refused(Box::new(refusal::not_member()))
            }
            (Wants::Group, Some(room)) => SendOutcome::Answer(Box::new(Answer::Group(room.wire_group()))),
            (Wants::Ok, _) => SendOutcome::Answer(Box::new(Answer::Ok(v1::Ok {}))),
            _ => SendOutcome::Sent(sent),
        };
        self.post(waiting.from.shard, Envelope::Outcome { to: waiting.from, re: waiting.re, outcome });
    }

    /// The log was asked for the record that a proposal is about.
    pub(crate) fn looked(&mut self, key: Key, ticket: u64, outcome: Outcome) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let asked = |waiting: &Waiting| matches!(waiting.reference, Reference::Asked(number) if number == ticket);
        let Some(at) = room.queue.iter().position(asked) else { return };
        match outcome {
            Outcome::LogSlice { records, .. } => {
                room.queue[at].reference = Reference::Read(records.into_iter().next());
            }
            _ => {
                if let Some(waiting) = room.queue.remove(at) {
                    self.refuse(&waiting, refusal::unavailable());
                }
            }
        }
        self.append_next(key);
    }

    /// The whole log was asked for a client message id.
    pub(crate) fn cmid_found(&mut self, key: Key, ticket: u64, outcome: Outcome) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let asked = |waiting: &Waiting| waiting.search == Search::Asked(ticket);
        let Some(at) = room.queue.iter().position(asked) else { return };
        if let Outcome::Found(None) = outcome {
            room.queue[at].search = Search::Absent;
        } else if let Some(waiting) = room.queue.remove(at) {
            let decision = match outcome {
                Outcome::Found(Some(record)) => {
                    decide_found(sent(&record, true), record.content_hash, &waiting.proposal)
                }
                _ => Decision::Refuse(refusal::unavailable()),
            };
            self.conclude(key, waiting, decision);
        }
        self.append_next(key);
    }
}

/// Takes the next proposal, round robin by sender: one that floods the conversation does not starve the others.
fn next_in_turn(room: &mut Conversation) -> Option<Waiting> {
    let last = room.batch.last().map(|(waiting, _)| waiting.from);
    let other = room.queue.iter().take(super::append::BATCH).position(|waiting| Some(waiting.from) != last);
    room.queue.remove(other.unwrap_or(0))
}
