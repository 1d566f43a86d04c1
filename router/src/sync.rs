//! The one pump: a session is a window plus, for conversations that it is behind in, the next seq.
//!
//! There is no separate live path: a new record is a head that moved, with its bytes still at hand. Guarantees: records of a
//! conversation are pushed in order without a gap; nothing beyond the window is held, the log is the buffer; one read of the
//! log a session at a time, the conversation with the newest record first.

use crate::Router;
use crate::boundary::Output;
use crate::frozen::frozen;
use crate::pending::Pending;
use crate::session::{Pushed, PushedItem, State, TickPush, Work};
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Outcome, ReadRange, Record, StoreRequest, ranges};
use ringpost_proto::id::{ConversationId, RecordId, Seq, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::push::Item;
use ringpost_proto::v1::server_frame::Answer;
use std::sync::Arc;

/// What a tick or read mark counts for in the window, and what each range that a tick names adds to it.
const SMALL_PUSH: u32 = 64;
const RANGE_BYTES: u32 = 16;
const RETRY_MS: u64 = 1_000;

/// A conversation that a session is behind in: `next` ... `head` are to be pushed.
#[derive(Debug)]
pub(crate) struct Behind {
    pub kind: Arc<ConversationKind>,
    pub next: Seq,
    pub head: Seq,
    /// Its head when it was queued: beyond that the others have their turn.
    pub turn: Seq,
    /// Id of the newest record: the newest conversation goes first.
    pub last_id: RecordId,
}

impl Behind {
    pub fn new(kind: Arc<ConversationKind>, next: Seq, head: Seq, last_id: RecordId) -> Self {
        Self { kind, next, head, turn: head, last_id }
    }

    pub fn extend(&mut self, head: Seq, last_id: RecordId) {
        self.head = self.head.max(head);
        self.last_id = self.last_id.max(last_id);
    }
}

impl Router {
    /// Pushes what there is room for; asks the log for more.
    pub(crate) fn pump(&mut self, key: Key) {
        self.push_small(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let ((free, free_bytes), (share, share_bytes)) = (session.free(), session.share());
        let Some(work) = session.work.as_mut().filter(|_| session.state == State::Open) else { return };
        if work.reading || work.retry_ms.is_some() || work.loading.is_some() {
            return;
        }
        while let Some(conversation) = work.queue.last() {
            match work.behind.get_mut(conversation) {
                None => drop(work.queue.pop()),
                // It goes on growing while it is pushed: the others first.
                Some(behind) if behind.next > behind.turn => {
                    behind.turn = behind.head;
                    work.queue.rotate_right(1);
                }
                Some(_) => break,
            }
        }
        let Some(&conversation) = work.queue.last() else { return self.sync_done(key) };
        let Some(behind) = work.behind.get(&conversation) else { return };
        // Not a read for each ack: a fair part of the window at a time.
        let fair = free >= share && free_bytes >= share_bytes;
        if !fair && !work.outstanding.is_empty() {
            return;
        }
        work.reading = true;
        let (records, bytes, viewer) = (free, free_bytes, session.user.clone());
        // What is beyond the known head comes by its own fan-out.
        let range = ReadRange::From { from: behind.next, to: behind.head };
        self.ask(Pending::Pump { session: key, conversation }, |tag| StoreRequest::ReadLog {
            tag,
            conversation,
            viewer: Some(viewer),
            range,
            records,
            bytes,
        });
    }

    pub(crate) fn pump_read(&mut self, key: Key, conversation: ConversationId, outcome: Outcome) {
        let retry_ms = self.now.mono_ms + RETRY_MS;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(work) = session.work.as_mut().filter(|_| session.state == State::Open) else { return };
        work.reading = false;
        let Outcome::LogSlice { records, reached, gone, .. } = outcome else {
            if matches!(outcome, Outcome::NotMember) {
                work.behind.remove(&conversation);
                self.pump(key);
            } else {
                work.retry_ms = Some(retry_ms);
            }
            return self.settle_session(key);
        };
        // A month may go while it is read.
        let read: Vec<(Seq, Seq)> = records.iter().map(|record| (record.seq, record.seq)).collect();
        let gone = ranges::without(&gone, &read);
        if !gone.is_empty() {
            ranges::add_all(work.gone.entry(conversation).or_default(), &gone);
        }
        let before = work.behind.get(&conversation).map(|behind| behind.next);
        if records.into_iter().all(|record| self.push_next(key, conversation, &record)) {
            self.skip_to(key, conversation, reached);
        }
        let next = |work: &Work| work.behind.get(&conversation).map(|behind| behind.next);
        let moved = self.sessions.get(key).and_then(|it| it.work.as_ref()).is_some_and(|work| next(work) != before);
        self.caught_up(key, conversation);
        match self.sessions.get_mut(key).and_then(|session| session.work.as_mut()) {
            // There was no room for a single one: the ack that makes it reads on.
            Some(work) if !moved && !work.outstanding.is_empty() => {}
            // The log is shorter than what was said of it: no store does that, and none is asked again at once.
            Some(work) if !moved => work.retry_ms = Some(retry_ms),
            _ => self.pump(key),
        }
        self.settle_session(key);
    }

    /// Everything up to `seq` that is for this user was pushed, or has expired.
    fn skip_to(&mut self, key: Key, conversation: ConversationId, seq: Seq) {
        let work = self.sessions.get_mut(key).and_then(|session| session.work.as_mut());
        if let Some(behind) = work.and_then(|work| work.behind.get_mut(&conversation)) {
            behind.next = behind.next.max(seq + 1);
        }
    }

    /// Pushes or skips one record that was read; what lies before it is not for this user. `false`: it was pushed before, or
    /// there is no room.
    fn push_next(&mut self, key: Key, conversation: ConversationId, record: &Arc<Record>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let view = session.view(record);
        let room = view.as_ref().is_none_or(|view| session.has_room(view.cost() as u32));
        let Some(behind) = session.work().behind.get_mut(&conversation) else { return false };
        if behind.next > record.seq || !room {
            return false;
        }
        behind.next = record.seq + 1;
        let kind = behind.kind.clone();
        if let Some(view) = view {
            if let Some((_, records)) = &mut session.work().backlog {
                *records += 1;
            }
            self.push_record(key, conversation, kind, view);
        } else if session.is_for_none(record) {
            // As with what has expired: it is passed, and nobody is told that it was received.
            ranges::add(session.work().gone.entry(conversation).or_default(), record.seq, record.seq);
        }
        true
    }

    /// If the session has come to the head, it is no longer behind. What it skipped at the end counts as delivered once
    /// everything before is acknowledged.
    fn caught_up(&mut self, key: Key, conversation: ConversationId) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let work = session.work();
        let Some(behind) = work.behind.get(&conversation).filter(|behind| behind.next > behind.head) else { return };
        let (kind, seq) = (behind.kind.clone(), behind.head);
        work.behind.remove(&conversation);
        work.recent.insert(conversation, (seq, now_ms));
        work.remember(now_ms);
        let last = work.outstanding.iter_mut().rev().find_map(|pushed| match &mut pushed.item {
            PushedItem::Record { seq } if pushed.conversation == conversation => Some(seq),
            _ => None,
        });
        match last {
            Some(last) => *last = seq.max(*last),
            None => self.delivered(key, conversation, kind, seq),
        }
    }

    /// A record was committed that is for this session's user: pushed now, or read from the log later.
    pub(crate) fn head_moved(
        &mut self,
        key: Key,
        conversation: ConversationId,
        kind: &Arc<ConversationKind>,
        record: &Arc<Record>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let view = session.view(record);
        let room = view.as_ref().is_none_or(|view| session.has_room_beside(view.cost() as u32));
        if let Some(work) = &mut session.work {
            if let Some(loading) = &mut work.loading {
                return loading.note(conversation, kind, record.seq, record.id);
            }
            if let Some(behind) = work.behind.get_mut(&conversation) {
                return behind.extend(record.seq, record.id);
            }
            if work.recent.get(&conversation).is_some_and(|(upto, _)| record.seq <= *upto) {
                return;
            }
        }
        let Some(view) = view else { return };
        if room {
            return self.push_record(key, conversation, kind.clone(), view);
        }
        session.queue_behind(conversation, Behind::new(kind.clone(), record.seq, record.seq, record.id));
    }

    /// There are records from `first` on for this session's user that are not at hand any more.
    pub(crate) fn fall_behind(
        &mut self,
        key: Key,
        conversation: ConversationId,
        kind: &Arc<ConversationKind>,
        first: Seq,
        (last, last_id): (Seq, RecordId),
    ) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let mut next = first;
        if let Some(work) = &mut session.work {
            if let Some(loading) = &mut work.loading {
                loading.note(conversation, kind, first, last_id);
                return loading.note(conversation, kind, last, last_id);
            }
            if let Some(behind) = work.behind.get_mut(&conversation) {
                return behind.extend(last, last_id);
            }
            next = work.recent.get(&conversation).map_or(first, |(upto, _)| first.max(upto + 1));
        }
        if next <= last && session.state != State::Ended {
            session.queue_behind(conversation, Behind::new(kind.clone(), next, last, last_id));
            self.pump(key);
        }
    }

    fn push_record(
        &mut self,
        key: Key,
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        record: Arc<Record>,
    ) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let user = &session.user;
        let (conn, peer, own) = (session.conn, kind.peer_of(conversation, user), record.sender == *user);
        let item = PushedItem::Record { seq: record.seq };
        let n = session.push(now_ms, Pushed { conversation, kind, bytes: record.cost() as u32, item });
        self.counters.pushes += 1;
        self.emit(conn, Output::PushRecord { conn, n, peer, record, own });
    }

    /// Ticks and read marks that wait, as far as the window goes.
    fn push_small(&mut self, key: Key) {
        loop {
            let Some(session) = self.sessions.get_mut(key) else { return };
            let ready = session.state == State::Open && session.has_room(SMALL_PUSH);
            let Some(work) = session.work.as_mut().filter(|_| ready) else { return };
            if work.loading.is_some() {
                return;
            }
            if let Some((conversation, tick)) = work.ticks.pop_first() {
                self.push_tick(key, conversation, tick);
            } else if let Some((conversation, (kind, seq))) = work.marks.pop_first() {
                self.push_mark(key, conversation, kind, seq);
            } else {
                return;
            }
        }
    }

    fn push_tick(&mut self, key: Key, conversation: ConversationId, mut tick: TickPush) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key).filter(|it| !it.has_told(conversation, &tick)) else { return };
        let work = session.work();
        let (told, at_ms) = work.told.entry(conversation).or_default();
        (tick.delivered, tick.read) = (tick.delivered.max(told.0), tick.read.max(told.1));
        (*told, *at_ms) = ((tick.delivered, tick.read), now_ms);
        work.remember(now_ms);
        let peer = tick.kind.peer_of(conversation, &session.user).to_wire();
        let skip = |(from_seq, to_seq): (Seq, Seq)| v1::Skip { from_seq, to_seq };
        let bytes = SMALL_PUSH + RANGE_BYTES * tick.excluded.len() as u32;
        let excluded = tick.excluded.into_iter().map(skip).collect();
        let item = PushedItem::Tick { delivered: tick.delivered, read: tick.read };
        let wire = v1::Tick {
            conversation: Some(peer),
            delivered_seq: tick.delivered,
            read_seq: tick.read,
            member: String::new(),
            excluded,
        };
        self.counters.ticks += 1;
        self.push_item(key, Pushed { conversation, kind: tick.kind, bytes, item }, Item::Tick(wire));
    }

    fn push_mark(&mut self, key: Key, conversation: ConversationId, kind: Arc<ConversationKind>, seq: Seq) {
        let Some(session) = self.sessions.get(key) else { return };
        let peer = kind.peer_of(conversation, &session.user).to_wire();
        let wire = v1::ReadMark { conversation: Some(peer), seq };
        let pushed = Pushed { conversation, kind, bytes: SMALL_PUSH, item: PushedItem::Mark };
        self.push_item(key, pushed, Item::ReadMark(wire));
    }

    fn push_item(&mut self, key: Key, pushed: Pushed, item: Item) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let n = session.push(now_ms, pushed);
        let conn = session.conn;
        self.frame(conn, 0, Answer::Push(v1::Push { n, item: Some(item) }));
    }

    /// The other side's progress, for the sessions of this user that were opened at `opened_since_ms` or later.
    pub(crate) fn tick(&mut self, conversation: ConversationId, user: UserKey, fresh: TickPush, opened_since_ms: u64) {
        let Some(sessions) = self.users.get(&user).map(|entry| entry.sessions.list()) else { return };
        for key in sessions {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if session.opened_ms < opened_since_ms || session.has_told(conversation, &fresh) {
                continue;
            }
            session.work().ticks.entry(conversation).or_insert(fresh.clone()).extend(&fresh);
            self.push_small(key);
            self.settle_session(key);
        }
    }

    /// The user has read up to `seq`: tells its sessions but the one that said so, if it is known which.
    pub(crate) fn push_marks(
        &mut self,
        conversation: ConversationId,
        kind: &Arc<ConversationKind>,
        user: &UserKey,
        reader: Option<Key>,
        seq: Seq,
    ) {
        let Some(sessions) = self.users.get(user).map(|entry| entry.sessions.list()) else { return };
        for key in sessions.into_iter().filter(|key| Some(*key) != reader) {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            let mark = session.work().marks.entry(conversation).or_insert((kind.clone(), seq));
            mark.1 = mark.1.max(seq);
            self.push_small(key);
            self.settle_session(key);
        }
    }

    /// Says once that the backlog found at hello was pushed.
    fn sync_done(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let conn = session.conn;
        let Some((conversations, records)) = session.work.as_mut().and_then(|work| work.backlog.take()) else { return };
        self.frame(conn, 0, Answer::SyncDone(v1::SyncDone { conversations, records }));
        self.settle_session(key);
    }
}

frozen!(Behind { kind, next, head, turn, last_id });
