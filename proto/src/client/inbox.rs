//! What has arrived, and what may be acknowledged.
//!
//! Owns: for each conversation how far it was received without a gap and how far the app has stored it, and for the session
//! which pushes are not acknowledged. Guarantees: records reach the app in order, each once; an ack covers only what the app
//! has stored; what lies beyond a gap is held back (at most [`HELD_RECORDS`] a conversation) until a fetch or the answer to
//! one of our own sends fills it. Never does: remember bodies that the app has.

mod conversations;
mod excluded;
mod requests;

use super::Event;
use super::backoff::Random;
use crate::id::Seq;
use crate::v1::{self, client_frame::Request, peer::Peer, push::Item};
use conversations::{Conversation, Conversations, Slot};
use requests::Requests;
use std::collections::{BTreeMap, VecDeque};

/// Records held beyond a gap, per conversation. Later ones are fetched again.
const HELD_RECORDS: usize = 128;
/// Ranges of own seqs remembered beyond a gap, per conversation. A fetch skips over forgotten ones.
const OWN_RANGES: usize = 64;
/// Pushes without an ack that a client follows: far beyond any window.
const UNACKED: usize = 4_096;

#[derive(Debug, Default)]
pub struct Inbox {
    conversations: Conversations,
    requests: Requests,
    /// Pushes beyond `acked` that the device has not stored, as far as they are needed: front is push acked + 1.
    unacked: VecDeque<Until>,
    /// What the app was given and has not stored: (delivery, conversation, seq).
    unstored: VecDeque<(u64, Slot, Seq)>,
    last_push: u64,
    acked: u64,
    ack_sent: u64,
    /// The number of the last delivery given to the app, and of the last that it has stored.
    delivery: u64,
    stored: u64,
    session: u32,
    /// An unknown conversation begins at 1, instead of where the server does.
    from_start: bool,
}

/// What has to happen before a push may be acknowledged.
#[derive(Debug)]
enum Until {
    Stored(Slot, Seq),
    Delivery(u64),
}

/// The session broke the protocol; the caller drops the connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation;

impl Inbox {
    /// A new session begins: push numbers start again, and the server streams from what was acknowledged. `heard_ms`: when
    /// the server was last heard on the session before.
    pub fn opened(&mut self, now_ms: u64, heard_ms: u64) {
        self.session += 1;
        (self.last_push, self.acked, self.ack_sent) = (0, 0, 0);
        self.unacked = VecDeque::new();
        self.requests.opened(now_ms, heard_ms);
        for conversation in self.conversations.iter_mut() {
            if let Some(gap) = &mut conversation.gap {
                gap.held = BTreeMap::new();
                gap.known = 0;
                if gap.own.is_empty() {
                    conversation.gap = None;
                }
            }
        }
    }

    /// Positions for hello: those that moved in this session or the one before, the rest the server's registers have.
    pub fn have(&self, most: usize) -> Vec<v1::Position> {
        let recent = self.conversations.iter().filter(|c| c.stored > 0 && c.moved_in + 1 >= self.session);
        recent.take(most).map(|c| v1::Position { conversation: Some(wire(&c.peer)), seq: c.stored }).collect()
    }

    pub fn begin_at_first(&mut self) {
        self.from_start = true;
    }

    /// What an app that kept its state tells after a restart.
    pub fn restore(&mut self, peer: &Peer, seq: Seq) {
        let slot = self.conversations.slot(peer);
        if let Some(c) = self.conversations.get_mut(slot) {
            (c.received, c.stored, c.moved_in) = (Some(seq), seq, self.session);
        }
    }

    /// Of which anything is known: records, own messages, ticks or reads.
    pub fn known(&self) -> Vec<Peer> {
        self.conversations.iter().map(|c| c.peer.clone()).collect()
    }

    pub fn reset(&mut self, peer: &Peer) {
        let slot = self.conversations.slot(peer);
        self.requests.forget(slot);
        self.unstored.retain(|(_, at, _)| *at != slot);
        if let Some(c) = self.conversations.get_mut(slot) {
            *c = Conversation::new(peer.clone());
        }
    }

    /// One push, in order. `auto_store`: what the app gets counts as stored.
    pub fn push(
        &mut self,
        push: v1::Push,
        auto_store: bool,
        next_id: &mut u64,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Violation> {
        if push.n != self.last_push + 1 {
            return Err(Violation);
        }
        self.last_push = push.n;
        let until = match push.item {
            Some(Item::Record(record)) => {
                let peer = record.conversation.as_ref().and_then(|peer| peer.peer.as_ref()).ok_or(Violation)?;
                let (slot, seq) = (self.conversations.slot(peer), record.seq);
                self.record(slot, record, auto_store, events);
                self.fetch_if_behind(slot, next_id);
                Until::Stored(slot, seq)
            }
            Some(Item::Tick(tick)) => self.tick(tick, events)?,
            Some(Item::ReadMark(mark)) => self.read_mark(mark, events)?,
            None => Until::Delivery(0),
        };
        if auto_store {
            self.stored = self.delivery;
        }
        if self.unacked.is_empty() && self.is_done(&until) {
            self.acked = push.n;
        } else {
            self.unacked.push_back(until);
            self.advance_ack();
        }
        if self.unacked.len() > UNACKED { Err(Violation) } else { Ok(()) }
    }

    fn record(&mut self, slot: Slot, record: v1::Record, auto_store: bool, events: &mut VecDeque<Event>) {
        let Some(c) = self.conversations.get_mut(slot) else { return };
        let seq = record.seq;
        let first = if self.from_start { 1 } else { seq };
        let received = *c.received.get_or_insert(first.saturating_sub(1));
        if seq <= received {
            return;
        }
        if seq == received + 1 && c.gap.is_none() {
            c.received = Some(seq);
            c.moved_in = self.session;
            self.delivery += 1;
            if auto_store {
                c.stored = seq;
            } else {
                self.unstored.push_back((self.delivery, slot, seq));
            }
            events.push_back(Event::Record { delivery: self.delivery, record: Box::new(record) });
            return;
        }
        let gap = c.gap.get_or_insert_default();
        gap.known = gap.known.max(seq);
        if seq == received + 1 || gap.held.len() < HELD_RECORDS {
            gap.held.insert(seq, record);
        }
        self.drain(slot, auto_store, events);
    }

    /// Gives the app everything that follows without a gap.
    fn drain(&mut self, slot: Slot, auto_store: bool, events: &mut VecDeque<Event>) {
        let session = self.session;
        let Some(c) = self.conversations.get_mut(slot) else { return };
        let (Some(received), Some(gap)) = (&mut c.received, &mut c.gap) else { return };
        let before = *received;
        loop {
            if let Some(record) = gap.held.remove(&(*received + 1)) {
                *received += 1;
                self.delivery += 1;
                if auto_store {
                    c.stored = *received;
                } else {
                    self.unstored.push_back((self.delivery, slot, *received));
                }
                events.push_back(Event::Record { delivery: self.delivery, record: Box::new(record) });
            } else if let Some((_, to)) = gap.own.range(..=*received + 1).next_back().filter(|(_, to)| **to > *received)
            {
                *received = *to;
            } else {
                break;
            }
        }
        let received = *received;
        gap.held = gap.held.split_off(&received);
        gap.own.retain(|_, to| *to > received);
        if gap.held.is_empty() && gap.own.is_empty() && gap.known <= received {
            c.gap = None;
        }
        // Nothing of it is with the app: what lies between is our own, and stored by its outcome.
        if auto_store || !self.unstored.iter().any(|(_, at, _)| *at == slot) {
            c.stored = c.stored.max(received);
        }
        if received > before {
            c.moved_in = session;
        }
    }

    /// `from..=to` of the conversation need no push: our own records, or skipped ones.
    fn passed(&mut self, slot: Slot, from: Seq, to: Seq, auto_store: bool, events: &mut VecDeque<Event>) {
        let Some(c) = self.conversations.get_mut(slot) else { return };
        if c.received.is_none() && from == 1 {
            c.received = Some(0);
        }
        if c.received.is_some_and(|received| to <= received) {
            return;
        }
        let own = &mut c.gap.get_or_insert_default().own;
        let (mut from, mut to) = (from, to);
        while let Some((&at, &end)) =
            own.range(..=to.saturating_add(1)).next_back().filter(|(_, end)| **end + 1 >= from)
        {
            own.remove(&at);
            (from, to) = (from.min(at), to.max(end));
        }
        own.insert(from, to);
        if own.len() > OWN_RANGES {
            own.pop_first();
        }
        self.drain(slot, auto_store, events);
    }

    /// One of our sends to `peer` is in the log at `seq`.
    pub fn own(&mut self, peer: &Peer, seq: Seq, auto_store: bool, events: &mut VecDeque<Event>) {
        let slot = self.conversations.slot(peer);
        self.passed(slot, seq, seq, auto_store, events);
        self.advance_ack();
    }

    fn tick(&mut self, tick: v1::Tick, events: &mut VecDeque<Event>) -> Result<Until, Violation> {
        let peer = tick.conversation.as_ref().and_then(|peer| peer.peer.as_ref()).ok_or(Violation)?;
        let slot = self.conversations.slot(peer);
        let c = self.conversations.get_mut(slot).ok_or(Violation)?;
        let mut moved = tick.delivered_seq > c.delivered_tick || tick.read_seq > c.read_tick;
        // A tick that is behind another names only what it covers itself: what was named before stays so.
        for skip in &tick.excluded {
            moved |= c.excluded.add(skip.from_seq, skip.to_seq);
        }
        c.delivered_tick = c.delivered_tick.max(tick.delivered_seq);
        c.read_tick = c.read_tick.max(tick.read_seq);
        if !moved {
            return Ok(Until::Delivery(0));
        }
        let (delivered, read) = (c.delivered_tick, c.read_tick);
        let excluded = c.excluded.ranges().to_vec();
        self.delivery += 1;
        events.push_back(Event::Tick { delivery: self.delivery, peer: c.peer.clone(), delivered, read, excluded });
        Ok(Until::Delivery(self.delivery))
    }

    fn read_mark(&mut self, mark: v1::ReadMark, events: &mut VecDeque<Event>) -> Result<Until, Violation> {
        let peer = mark.conversation.as_ref().and_then(|peer| peer.peer.as_ref()).ok_or(Violation)?;
        let slot = self.conversations.slot(peer);
        let c = self.conversations.get_mut(slot).ok_or(Violation)?;
        if mark.seq <= c.read_mark {
            return Ok(Until::Delivery(0));
        }
        c.read_mark = mark.seq;
        self.delivery += 1;
        events.push_back(Event::ReadMark { delivery: self.delivery, peer: c.peer.clone(), seq: mark.seq });
        Ok(Until::Delivery(self.delivery))
    }

    /// The app has stored everything up to `delivery`.
    pub fn stored(&mut self, delivery: u64) {
        self.stored = self.stored.max(delivery.min(self.delivery));
        while let Some(&(_, slot, seq)) = self.unstored.front().filter(|(at, ..)| *at <= self.stored) {
            self.unstored.pop_front();
            let more = self.unstored.iter().any(|(_, other, _)| *other == slot);
            if let Some(c) = self.conversations.get_mut(slot) {
                let upto = if more { seq } else { c.received.unwrap_or(seq) };
                c.stored = c.stored.max(upto);
            }
        }
        self.advance_ack();
    }

    fn is_done(&self, until: &Until) -> bool {
        match *until {
            Until::Delivery(delivery) => delivery <= self.stored,
            Until::Stored(slot, seq) => self.conversations.get(slot).is_none_or(|c| c.stored >= seq),
        }
    }

    fn advance_ack(&mut self) {
        while self.unacked.front().is_some_and(|until| self.is_done(until)) {
            self.unacked.pop_front();
            self.acked += 1;
        }
        if self.unacked.is_empty() {
            self.unacked = VecDeque::new();
        }
    }

    /// Marks everything up to `seq` as read by the user.
    pub fn read(&mut self, now_ms: u64, peer: &Peer, seq: Seq, next_id: &mut u64) {
        let slot = self.conversations.slot(peer);
        let Some(c) = self.conversations.get_mut(slot).filter(|c| c.read_mark < seq) else { return };
        c.read_mark = seq;
        self.requests.read(now_ms, slot, seq, next_id);
    }

    fn fetch_if_behind(&mut self, slot: Slot, next_id: &mut u64) {
        if self.conversations.get(slot).is_some_and(Conversation::is_behind) {
            self.requests.fetch(slot, next_id);
        }
    }

    /// The answer to a fetch; false: it is none of ours.
    pub fn page(
        &mut self,
        now_ms: u64,
        re: u64,
        page: v1::Page,
        auto_store: bool,
        next_id: &mut u64,
        events: &mut VecDeque<Event>,
    ) -> bool {
        let Some(slot) = self.requests.fetched(re) else { return false };
        let before = self.received(slot);
        for record in page.records {
            self.record(slot, record, auto_store, events);
        }
        for skip in page.skips {
            if skip.from_seq <= skip.to_seq {
                self.passed(slot, skip.from_seq, skip.to_seq, auto_store, events);
            }
        }
        if auto_store {
            self.stored = self.delivery;
        }
        self.advance_ack();
        self.fetch_if_behind(slot, next_id);
        if self.received(slot) == before {
            self.requests.wait(now_ms, slot);
        }
        true
    }

    fn received(&self, slot: Slot) -> Option<Seq> {
        self.conversations.get(slot)?.received
    }

    /// `ok` for a read.
    pub fn ok(&mut self, now_ms: u64, re: u64) {
        self.requests.ok(now_ms, re);
    }

    /// An error for one of our requests: later again, or given up. `Err` gives it back if it is none of ours.
    pub fn error(&mut self, now_ms: u64, re: u64, error: v1::Error, random: &mut Random) -> Result<(), v1::Error> {
        self.requests.error(now_ms, re, error, random)
    }

    /// The next frame to send: the ack first, it costs the server nothing and opens its window.
    pub fn poll(&mut self, now_ms: u64) -> Option<v1::ClientFrame> {
        if self.acked > self.ack_sent {
            self.ack_sent = self.acked;
            let ack = v1::Ack { push: self.acked, ranges: Vec::new() };
            return Some(v1::ClientFrame { id: 0, request: Some(Request::Ack(ack)) });
        }
        self.requests.poll(now_ms, &self.conversations)
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        self.requests.next_due_ms(&self.conversations)
    }

    pub fn has_requests(&self) -> bool {
        self.next_due_ms().is_some()
    }

    /// Whether nothing is asked, and everything that was pushed is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.unacked.is_empty() && self.acked == self.ack_sent && !self.has_requests()
    }

    /// Everything up to here was received from `peer`, and of it stored.
    pub fn position(&self, peer: &Peer) -> Option<(Seq, Seq)> {
        let c = self.conversations.of(peer)?;
        Some((c.received?, c.stored))
    }
}

pub(super) fn fresh(next_id: &mut u64) -> u64 {
    *next_id += 1;
    *next_id
}

pub(super) fn wire(peer: &Peer) -> v1::Peer {
    v1::Peer { peer: Some(peer.clone()) }
}
