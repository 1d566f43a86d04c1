//! What has arrived, and what may be acknowledged.
//!
//! Owns: for each conversation how far it was received without a gap and how far the app has stored it, and for the session
//! which pushes are not acknowledged. Guarantees: records reach the app in order, each once; an ack covers only what the app
//! has stored; what lies beyond a gap is held back (at most [`HELD_RECORDS`] a conversation) until a fetch or the answer to
//! one of our own sends fills it. Never does: remember bodies that the app has.

use super::Event;
use super::backoff::Random;
use super::outbox::{RETRY_MS, retry_delay};
use crate::id::Seq;
use crate::limits::FETCH_RECORDS;
use crate::v1::{self, client_frame::Request, peer::Peer, push::Item};
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

/// Records held beyond a gap, per conversation. Later ones are fetched again.
const HELD_RECORDS: usize = 128;
/// Fetches and reads without an answer; with the sends in flight they are the wire's 32.
const ASKING: usize = 8;
/// Ranges of own seqs remembered beyond a gap, per conversation. A fetch skips over forgotten ones.
const OWN_RANGES: usize = 64;

/// How long after its answer a read is durable for certain, milliseconds.
const DURABLE_MS: u64 = 2_500;
/// Pushes without an ack that a client follows: far beyond any window.
const UNACKED: usize = 4_096;

/// Index into `Inbox::conversations`; stable.
type Slot = u32;

#[derive(Debug, Default)]
pub struct Inbox {
    conversations: Vec<Conversation>,
    /// Slots in the order of their peers.
    sorted: Vec<Slot>,
    /// Fetches and reads that have no answer yet.
    requests: Vec<Pending>,
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

#[derive(Debug)]
struct Conversation {
    peer: Peer,
    /// Everything up to here was given to the app or is our own. `None`: nothing is known of it.
    received: Option<Seq>,
    stored: Seq,
    delivered_tick: Seq,
    read_tick: Seq,
    read_mark: Seq,
    moved_in: u32,
    gap: Option<Box<Gap>>,
}

#[derive(Debug, Default)]
struct Gap {
    held: BTreeMap<Seq, v1::Record>,
    /// Our own seqs beyond what was received, as disjoint ranges by their start.
    own: BTreeMap<Seq, Seq>,
    /// The highest seq that was pushed.
    known: Seq,
}

/// What has to happen before a push may be acknowledged.
#[derive(Debug)]
enum Until {
    Stored(Slot, Seq),
    Delivery(u64),
}

#[derive(Debug)]
struct Pending {
    id: u64,
    slot: Slot,
    what: Ask,
    due_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Fetch,
    Read(Seq),
    /// Answered at `due_ms`, and durable within [`DURABLE_MS`] of that: asked again if the server went away before.
    Settling(Seq),
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
        self.forget_settled(heard_ms);
        self.requests.retain(|request| request.what != Ask::Fetch);
        for request in &mut self.requests {
            if let Ask::Settling(seq) = request.what {
                request.what = Ask::Read(seq);
            }
            request.due_ms = now_ms;
        }
        for conversation in &mut self.conversations {
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
        let slot = self.slot(peer);
        if let Some(c) = self.conversations.get_mut(slot as usize) {
            (c.received, c.stored, c.moved_in) = (Some(seq), seq, self.session);
        }
    }

    /// Of which something was received.
    pub fn known(&self) -> Vec<Peer> {
        self.conversations.iter().filter(|c| c.received.is_some()).map(|c| c.peer.clone()).collect()
    }

    pub fn reset(&mut self, peer: &Peer) {
        let slot = self.slot(peer);
        self.requests.retain(|request| request.slot != slot);
        self.unstored.retain(|(_, at, _)| *at != slot);
        if let Some(c) = self.conversations.get_mut(slot as usize) {
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
                let (slot, seq) = (self.slot(peer), record.seq);
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
        let Some(c) = self.conversations.get_mut(slot as usize) else { return };
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
        let Some(c) = self.conversations.get_mut(slot as usize) else { return };
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
        let Some(c) = self.conversations.get_mut(slot as usize) else { return };
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
        let slot = self.slot(peer);
        self.passed(slot, seq, seq, auto_store, events);
        self.advance_ack();
    }

    fn tick(&mut self, tick: v1::Tick, events: &mut VecDeque<Event>) -> Result<Until, Violation> {
        let peer = tick.conversation.as_ref().and_then(|peer| peer.peer.as_ref()).ok_or(Violation)?;
        let slot = self.slot(peer);
        let c = self.conversations.get_mut(slot as usize).ok_or(Violation)?;
        let moved = tick.delivered_seq > c.delivered_tick || tick.read_seq > c.read_tick;
        c.delivered_tick = c.delivered_tick.max(tick.delivered_seq);
        c.read_tick = c.read_tick.max(tick.read_seq);
        if !moved {
            return Ok(Until::Delivery(0));
        }
        let (delivered, read) = (c.delivered_tick, c.read_tick);
        self.delivery += 1;
        events.push_back(Event::Tick { delivery: self.delivery, peer: c.peer.clone(), delivered, read });
        Ok(Until::Delivery(self.delivery))
    }

    fn read_mark(&mut self, mark: v1::ReadMark, events: &mut VecDeque<Event>) -> Result<Until, Violation> {
        let peer = mark.conversation.as_ref().and_then(|peer| peer.peer.as_ref()).ok_or(Violation)?;
        let slot = self.slot(peer);
        let c = self.conversations.get_mut(slot as usize).ok_or(Violation)?;
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
            if let Some(c) = self.conversations.get_mut(slot as usize) {
                let upto = if more { seq } else { c.received.unwrap_or(seq) };
                c.stored = c.stored.max(upto);
            }
        }
        self.advance_ack();
    }

    fn is_done(&self, until: &Until) -> bool {
        match *until {
            Until::Delivery(delivery) => delivery <= self.stored,
            Until::Stored(slot, seq) => self.conversations.get(slot as usize).is_none_or(|c| c.stored >= seq),
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
        let slot = self.slot(peer);
        let Some(c) = self.conversations.get_mut(slot as usize).filter(|c| c.read_mark < seq) else { return };
        c.read_mark = seq;
        self.requests.retain(|request| request.slot != slot || request.what == Ask::Fetch);
        self.requests.push(Pending { id: fresh(next_id), slot, what: Ask::Read(seq), due_ms: now_ms });
    }

    fn fetch_if_behind(&mut self, slot: Slot, next_id: &mut u64) {
        let Some(c) = self.conversations.get(slot as usize) else { return };
        let behind = c.gap.as_ref().is_some_and(|gap| gap.known > c.received.unwrap_or(0));
        let asked = self.requests.iter().any(|request| request.slot == slot && request.what == Ask::Fetch);
        if behind && !asked {
            self.requests.push(Pending { id: fresh(next_id), slot, what: Ask::Fetch, due_ms: 0 });
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
        let Some(at) = self.requests.iter().position(|request| request.id == re && request.what == Ask::Fetch) else {
            return false;
        };
        let slot = self.requests.remove(at).slot;
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
            // No progress: not at once again.
            self.requests
                .iter_mut()
                .filter(|r| r.slot == slot)
                .for_each(|r| r.due_ms = r.due_ms.max(now_ms + RETRY_MS));
        }
        true
    }

    fn received(&self, slot: Slot) -> Option<Seq> {
        self.conversations.get(slot as usize)?.received
    }

    /// `ok` for a read.
    pub fn ok(&mut self, now_ms: u64, re: u64) {
        self.forget_settled(now_ms);
        if let Some(request) = self.requests.iter_mut().find(|request| request.id == re)
            && let Ask::Read(seq) = request.what
        {
            request.what = Ask::Settling(seq);
            request.due_ms = now_ms;
        }
    }

    /// Reads that were answered long enough before the server was last heard are durable.
    fn forget_settled(&mut self, heard_ms: u64) {
        let settled =
            |request: &Pending| matches!(request.what, Ask::Settling(_)) && request.due_ms + DURABLE_MS <= heard_ms;
        self.requests.retain(|request| !settled(request));
    }

    /// Requests that want an answer, as many as may be on their way at a time.
    fn asking(&self) -> impl Iterator<Item = &Pending> {
        self.requests.iter().filter(|request| self.may_be_asked(request)).take(ASKING)
    }

    /// What was read counts once it was acknowledged: said before that it would be durable only as long as the server lives.
    fn may_be_asked(&self, request: &Pending) -> bool {
        let Some(c) = self.conversations.get(request.slot as usize) else { return false };
        match request.what {
            Ask::Fetch => true,
            Ask::Read(seq) => seq <= c.stored || c.received.is_none_or(|received| seq > received),
            Ask::Settling(_) => false,
        }
    }

    /// An error for one of our requests: later again, or given up. `Err` gives it back if it is none of ours.
    pub fn error(&mut self, now_ms: u64, re: u64, error: v1::Error, random: &mut Random) -> Result<(), v1::Error> {
        let Some(at) = self.requests.iter().position(|request| request.id == re) else { return Err(error) };
        match self.requests.get_mut(at) {
            Some(request) if error.retryable => request.due_ms = now_ms + retry_delay(&error, random),
            _ => drop(self.requests.swap_remove(at)),
        }
        Ok(())
    }

    /// The next frame to send: the ack first, it costs the server nothing and opens its window.
    pub fn poll(&mut self, now_ms: u64) -> Option<v1::ClientFrame> {
        if self.acked > self.ack_sent {
            self.ack_sent = self.acked;
            let ack = v1::Ack { push: self.acked, ranges: Vec::new() };
            return Some(v1::ClientFrame { id: 0, request: Some(Request::Ack(ack)) });
        }
        let id = self.asking().find(|request| request.due_ms <= now_ms)?.id;
        let request = self.requests.iter_mut().find(|request| request.id == id)?;
        request.due_ms = now_ms + RETRY_MS;
        let c = self.conversations.get(request.slot as usize)?;
        let conversation = Some(wire(&c.peer));
        let body = match request.what {
            Ask::Read(seq) | Ask::Settling(seq) => Request::Read(v1::Read { conversation, seq }),
            Ask::Fetch => {
                let from_seq = c.received.unwrap_or(0) + 1;
                let gap = c.gap.as_ref();
                let next = gap.and_then(|gap| gap.held.keys().next().map(|seq| seq - 1).or(Some(gap.known)));
                let to_seq = next.unwrap_or(from_seq).clamp(from_seq, from_seq + u64::from(FETCH_RECORDS) - 1);
                Request::Fetch(v1::Fetch { conversation, from_seq, to_seq })
            }
        };
        Some(v1::ClientFrame { id: request.id, request: Some(body) })
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        self.asking().map(|request| request.due_ms).min()
    }

    pub fn has_requests(&self) -> bool {
        self.asking().next().is_some()
    }

    /// Everything up to here was received from `peer`, and of it stored.
    pub fn position(&self, peer: &Peer) -> Option<(Seq, Seq)> {
        let at = self.find(peer).ok()?;
        let c = self.conversations.get(*self.sorted.get(at)? as usize)?;
        Some((c.received?, c.stored))
    }

    fn find(&self, peer: &Peer) -> Result<usize, usize> {
        let peer_of = |slot: &Slot| self.conversations.get(*slot as usize).map(|c| &c.peer);
        self.sorted.binary_search_by(|slot| peer_of(slot).map_or(Ordering::Less, |other| order(other, peer)))
    }

    fn slot(&mut self, peer: &Peer) -> Slot {
        match self.find(peer) {
            Ok(at) => self.sorted.get(at).copied().unwrap_or(0),
            Err(at) => {
                let slot = self.conversations.len() as Slot;
                self.conversations.push(Conversation::new(peer.clone()));
                self.sorted.insert(at, slot);
                slot
            }
        }
    }
}

impl Conversation {
    fn new(peer: Peer) -> Self {
        Self { peer, received: None, stored: 0, delivered_tick: 0, read_tick: 0, read_mark: 0, moved_in: 0, gap: None }
    }
}

pub(super) fn fresh(next_id: &mut u64) -> u64 {
    *next_id += 1;
    *next_id
}

pub(super) fn wire(peer: &Peer) -> v1::Peer {
    v1::Peer { peer: Some(peer.clone()) }
}

fn order(a: &Peer, b: &Peer) -> Ordering {
    match (a, b) {
        (Peer::User(a), Peer::User(b)) => a.cmp(b),
        (Peer::Group(a), Peer::Group(b)) => a.cmp(b),
        (Peer::User(_), Peer::Group(_)) => Ordering::Less,
        (Peer::Group(_), Peer::User(_)) => Ordering::Greater,
    }
}
