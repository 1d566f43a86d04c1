//! A conversation: the prefix of its log that decisions need, what waits to be appended, and how far each device is.
//!
//! Owns: the decision on the next record. Guarantees: a decision is a function of records 1 ... n-1 and counts only if the
//! record lands at n; at most one append outstanding; no SENT and no fan-out before the commit; registers only grow.

mod allow;
mod append;
mod ask;
mod begin;
mod decide;
mod edits;
mod fan_out;
mod frozen;
mod known;
mod missed;
mod progress;
mod registers;
mod relation;
mod rooms;
mod slices;
mod tail;
mod tick;
mod typing;

pub(crate) use ask::InfoRead;
pub(crate) use begin::Beginning;
pub(crate) use fan_out::FanOut;
pub use fan_out::{TOGETHER, TOGETHER_BYTES};
pub(crate) use progress::ReadBy;
pub(crate) use slices::{Lists, slices_of};

use crate::boundary::Proposal;
use crate::envelope::{RoomAsk, SessionRef};
use crate::ledger::{Tally, rounded_up};
use crate::user::settings::Audience;
use edits::Edits;
use fan_out::Fans;
use known::{Known, Sent};
use progress::Progress;
use ringpost_persist::ranges::Ranges;
use ringpost_persist::{ConversationKind, ConversationState, LastRecord, MemberAt, Record, RegisterKey, Roster, Shown};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use tail::{Brief, Tail};

/// Messages that wait for their append, and bytes of their bodies.
const QUEUE: usize = 1_024;
const QUEUE_BYTES: usize = 16 << 20;
/// A conversation with nothing to do is dropped from memory after this.
const IDLE_MS: u64 = 600_000;
/// Above the limit, one that was not used for this long goes: appends of which nothing was heard have arrived by then.
const REST_MS: u64 = 10_000;
/// Conversations looked at for each new one above the limit.
const LOOKS: u32 = 4;
/// Between two tries to read a conversation that acks wait for.
const LOAD_RETRY_MS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Conversation {
    id: ConversationId,
    pub kind: Arc<ConversationKind>,
    phase: Phase,
    head: Seq,
    /// Of the last record; the defaults where there is none.
    last: Last,
    /// The newest records, without their bodies.
    tail: Tail,
    /// Who is and was a member, as of the head.
    roster: Roster,
    /// Whom a record is sent to, by shard; made when it is needed.
    fans: Option<Fans>,
    /// The client message ids of late.
    known: Known,
    queue: VecDeque<Waiting>,
    /// Appended and not yet answered, or on their way to be appended again.
    batch: Vec<(Waiting, Arc<Record>)>,
    /// An append of the batch ended as Unknown: it may land yet, so the batch is not refused before the log says more.
    uncertain: bool,
    /// Acks and reads that came before the conversation was loaded.
    early: Vec<Early>,
    /// By member; those at the end may be missing, who have none.
    progress: Vec<Progress>,
    /// The furthest that any device has.
    ahead: Seq,
    /// Of a group: how far the least advanced members were when it was told last.
    least: tick::Leasts,
    /// Who is writing, and until when that is believed.
    typing: SmallVec<[(MemberAt, u64); 2]>,
    /// A register is to be written.
    dirty: bool,
    /// When the other sides are next told of progress; and when they last were.
    tick_ms: Option<u64>,
    ticked_ms: u64,
    /// Counts searches.
    tickets: u64,
    /// When dirty registers are written, and when there was last something to do.
    flush_ms: Option<u64>,
    /// Writes of registers without an answer: what they say is known only here.
    raising: u32,
    /// Since when a register is ahead of the store.
    ahead_ms: Option<u64>,
    /// The log could not be read: ask it again then.
    retry_ms: Option<u64>,
    used_ms: u64,
    /// Bytes on the heap when that was looked at last.
    counted: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Ready,
    Appending,
    /// An append ended as Conflict or Unknown: the log says what happened.
    Resolving,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    id: u64,
    us: u64,
    ordinal: u64,
    hash: [u8; 16],
}

/// A proposal and who waits for its outcome.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub from: SessionRef,
    pub re: u64,
    pub proposal: Proposal,
    pub search: Search,
    pub reference: Reference,
    pub lists: Lists,
    pub beginning: Beginning,
    pub edits: Edits,
    /// The erasure of its sender's that it goes with: nobody waits for its own outcome.
    pub made_for: Option<ClientMessageId>,
}

/// The record that an edit, erasure or reaction is about, where it is no longer in memory.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    No,
    /// On its way, with this ticket.
    Asked(u64),
    Read(Option<Arc<Record>>),
}

/// Whether the whole log was asked for a client message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    No,
    /// On its way, with this ticket.
    Asked(u64),
    /// The log has none.
    Absent,
}

#[derive(Debug)]
enum Early {
    Delivered { user: UserKey, device: DeviceId, seq: Seq, gone: Ranges, receipts: Option<Audience> },
    Read { by: ReadBy, seq: Seq, receipts: Option<Audience> },
    Ask { user: UserKey, from: SessionRef, re: u64, ask: RoomAsk },
    Relate { user: UserKey, watched: (UserKey, SessionRef) },
}

impl Early {
    fn is_ack(&self) -> bool {
        matches!(self, Self::Delivered { .. })
    }
}

impl Conversation {
    /// Bytes on the heap, but for what requests have of their own.
    fn heap_bytes(&self) -> usize {
        let progress = self.progress.capacity() * size_of::<progress::Progress>();
        let queue = self.queue.capacity() * size_of::<Waiting>();
        let batch = self.batch.capacity() * size_of::<(Waiting, Arc<Record>)>();
        let fans = self.fans.iter().flatten().map(|(_, users)| 32 + size_of_val::<[UserKey]>(users));
        let members = rounded_up(16 + size_of::<ConversationKind>()) + self.roster.heap_bytes() + fans.sum::<usize>();
        self.tail.heap_bytes() + self.known.heap_bytes() + progress + queue + batch + members
    }

    fn new(id: ConversationId, kind: Arc<ConversationKind>, now_ms: u64) -> Self {
        Self {
            id,
            roster: Roster::new(&kind),
            fans: None,
            kind,
            phase: Phase::Loading,
            head: 0,
            last: Last::default(),
            tail: Tail::default(),
            // The id is a hash that clients do not choose; what is looked up are ids that they do.
            known: Known::new(id.spread()),
            queue: VecDeque::new(),
            batch: Vec::new(),
            uncertain: false,
            early: Vec::new(),
            progress: Vec::new(),
            ahead: 0,
            least: tick::Leasts::default(),
            typing: SmallVec::new(),
            dirty: false,
            tick_ms: None,
            ticked_ms: 0,
            tickets: 0,
            flush_ms: None,
            raising: 0,
            ahead_ms: None,
            retry_ms: None,
            used_ms: now_ms,
            counted: Tally::default(),
        }
    }

    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// Before its first record a conversation is what the one is that would write it, not what somebody asked for.
    fn adopt(&mut self, kind: &Arc<ConversationKind>) {
        if self.head == 0 && self.batch.is_empty() && self.kind != *kind {
            self.roster = Roster::new(kind);
            self.kind = kind.clone();
            self.fans = None;
        }
    }

    fn member(&self, user: &UserKey) -> Option<MemberAt> {
        self.roster.find(user)
    }

    fn is_group(&self) -> bool {
        matches!(*self.kind, ConversationKind::Group)
    }

    /// Whether something that a session of this user sent is to be decided or committed.
    pub fn awaits(&self, user: &UserKey) -> bool {
        let sent = self.queue.iter().chain(self.batch.iter().map(|(waiting, _)| waiting));
        sent.into_iter().any(|waiting| waiting.proposal.sender == *user && !waiting.from.is_operator())
    }

    fn is_idle(&self) -> bool {
        let waits = self.flush_ms.is_some() || self.tick_ms.is_some() || self.raising > 0 || !self.typing.is_empty();
        self.phase == Phase::Ready && self.queue.is_empty() && !waits
    }

    /// Nothing is lost when it leaves memory now. What was read before it was delivered is known only here, and for as long as
    /// a conversation with nothing to do is held.
    fn is_at_rest(&self, now_ms: u64) -> bool {
        let awaits = self.progress.iter().any(|member| member.read_asked > member.read);
        self.is_idle() && !awaits && now_ms >= self.used_ms + REST_MS
    }

    /// Takes a committed record in: it is the next one. Returns how many records are missed now by those who passed over them.
    fn apply(&mut self, record: &Record) -> u64 {
        debug_assert_eq!(record.seq, self.head + 1);
        self.head = record.seq;
        self.last = Last::of(record);
        self.roster.apply(record);
        match record.kind {
            Kind::Change => self.fans = None,
            Kind::Erase => self.tail.erase(record.ref_seq),
            _ => {}
        }
        self.remember(record)
    }

    /// Keeps in memory what is needed of a record of the log. Returns how many records are missed now by those who passed over
    /// them.
    fn remember(&mut self, record: &Record) -> u64 {
        let (sender, device) = (self.member(&record.sender), record.device);
        if let Some(sender) = sender {
            self.known.add(Sent::of(record, sender));
        }
        let brief = Brief::of(record, &self.roster);
        self.tail.push(brief.clone());
        // A device has its own record from SENT: if it had everything before, it has everything.
        let own = sender.map_or(0, |sender| self.advance_own(sender, device));
        own + self.advance_unsent(&brief)
    }

    fn load(&mut self, state: ConversationState) {
        self.kind = state.kind;
        self.roster = state.roster;
        for (key, value) in state.registers {
            self.restore_register(key, value);
        }
        self.head = state.head;
        // The chain of hashes begins anew where the last record is no longer kept; the numbers go on.
        let hash = state.tail.last().map(|record| record.hash()).unwrap_or_default();
        let LastRecord { id, us, ordinal } = state.last;
        self.last = Last { id, us, ordinal, hash };
        self.known.before(if state.head > state.tail.len() as Seq { state.latest_cmid_ms } else { 0 });
        for record in &state.tail {
            self.remember(record);
        }
    }

    fn restore_register(&mut self, key: RegisterKey, value: Seq) {
        let member = match &key {
            RegisterKey::Delivered(_, user, _)
            | RegisterKey::Read(_, user)
            | RegisterKey::ReadShown(_, user)
            | RegisterKey::ToldDelivered(_, user)
            | RegisterKey::ToldRead(_, user)
            | RegisterKey::Missed(_, user, _) => self.member(user),
            _ => None,
        };
        let Some(member) = member else { return };
        match key {
            RegisterKey::Delivered(_, _, device) => {
                let progress = self.device(member, device);
                progress.delivered = progress.delivered.max(value);
            }
            RegisterKey::Read(..) => self.member_progress(member).read = value,
            RegisterKey::ReadShown(..) => self.member_progress(member).restore_shown(Shown(value)),
            RegisterKey::ToldDelivered(..) => self.member_progress(member).heard.0 = value,
            RegisterKey::ToldRead(..) => self.member_progress(member).heard.1 = value,
            RegisterKey::Missed(_, _, from) => self.restore_missed(member, &[(from, value)]),
            _ => {}
        }
    }
}

impl Last {
    fn of(record: &Record) -> Self {
        Self { id: record.id, us: record.us, ordinal: record.ordinal, hash: record.hash() }
    }
}
