//! A session: one device's connection, from hello to the end.
//!
//! Owns: the numbers of its pushes, its window, what it is behind in. Guarantees: pushes of a conversation are a prefix in order;
//! nothing beyond the window is held; an idle, synced session has no [`Work`].

mod ack;
mod answer;
mod devices;
mod group;
mod life;
mod linking;
mod load;
mod of_conn;
mod open;
mod partners;
mod query;
mod reconcile;
pub(crate) mod request;
mod slices;
mod watch;

pub(crate) use devices::ListsRead;
pub(crate) use load::Loading;
pub(crate) use of_conn::SessionsOfConns;
pub(crate) use partners::Partners;
pub(crate) use query::LookupRead;
pub(crate) use watch::Watching;

use crate::acked::LateAcks;
use crate::boundary::ConnRef;
use crate::conversation::slices_of;
use crate::frozen::{frozen, frozen_enum};
use crate::ledger::{Tally, rounded_up, tree_bytes};
use crate::sync::Behind;
use ringpost_persist::ranges::{self, Ranges};
use ringpost_persist::{Body, ConversationKind, Record};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Registered; its conversations are being read. Fan-outs that arrive are noted.
    Loading,
    Open,
    /// Told to close. Its acks are still facts about the device.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub conn: ConnRef,
    pub user: UserKey,
    pub device: DeviceId,
    /// Unix milliseconds at which its token was issued.
    pub issued_ms: u64,
    pub state: State,
    /// Monotonic milliseconds.
    pub opened_ms: u64,
    told_renew: bool,
    /// Its client says that nobody is at it.
    pub away: bool,
    reading: bool,
    pub unanswered: u32,
    /// The last push sent, and the last one acknowledged.
    pub pushed: u64,
    pub acked: u64,
    pub window_pushes: u32,
    pub window_bytes: u32,
    /// Tokens of this device count that were issued after this, Unix milliseconds; 0: every one does.
    pub floor_ms: u64,
    /// When it was written down last that the device is here, monotonic milliseconds.
    pub seen_ms: u64,
    /// Monotonic milliseconds at which the token expires, leeway not included, and what it says itself, Unix milliseconds.
    expires_ms: u64,
    exp_ms: u64,
    /// Monotonic milliseconds at which it looks whether it has everything.
    reconcile_ms: u64,
    pub work: Option<Box<Work>>,
    pub watching: Option<Box<Watching>>,
}

/// Per idle session; its connection, its user and its deadline are apart.
const _: () = assert!(size_of::<Session>() <= 184);

/// What a session holds while it is behind or waits for acks.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub loading: Option<Box<Loading>>,
    /// Pushes acked + 1 ... pushed.
    pub outstanding: VecDeque<Pushed>,
    pub outstanding_bytes: u32,
    /// When the oldest outstanding push was sent or the last ack came.
    pub progress_ms: u64,
    pub behind: BTreeMap<ConversationId, Behind>,
    /// Conversations to read next, the next one last; may name some that are no longer behind.
    pub queue: Vec<ConversationId>,
    /// A read of the log is on its way.
    pub reading: bool,
    /// A read failed: try again then.
    pub retry_ms: Option<u64>,
    /// Ticks and read marks that wait for window room; a later one replaces an earlier one.
    pub ticks: BTreeMap<ConversationId, TickPush>,
    pub marks: BTreeMap<ConversationId, (Arc<ConversationKind>, Seq)>,
    /// The backlog found at hello, until syncDone: conversations and records pushed.
    pub backlog: Option<(u32, u64)>,
    /// What was just pushed of the log, and when: the fan-out of the same records may still be on its way.
    pub recent: BTreeMap<ConversationId, (Seq, u64)>,
    /// Progress of the other sides, (delivered, read) each, that the device has heard of and that is not written down.
    pub heard: BTreeMap<ConversationId, (Seq, Seq)>,
    /// What it was told of them lately, and when: what is read of the store, or still on its way, may be older.
    pub told: BTreeMap<ConversationId, ((Seq, Seq), u64)>,
    /// What the device has acknowledged lately.
    pub acked: LateAcks,
    /// What of a conversation had expired before the device was given it, or was for no device that its user has, until it
    /// acknowledges what comes after.
    pub gone: BTreeMap<ConversationId, Ranges>,
    /// The other devices of its user, as they were at hello; `None`: that is not at hand any more.
    pub others: Option<Vec<DeviceId>>,
    /// When to write what was heard, and when to forget what is no longer recent.
    pub write_ms: Option<u64>,
    pub forget_ms: Option<u64>,
    pub counted: Tally,
}

/// For so long a fan-out may be on its way, milliseconds.
const RECENT_MS: u64 = 8_000;

#[derive(Clone, Debug)]
pub(crate) struct TickPush {
    pub kind: Arc<ConversationKind>,
    pub delivered: Seq,
    pub read: Seq,
    /// Of the user's records, those that are kept from the other side, or that it missed.
    pub excluded: Ranges,
}

impl TickPush {
    pub fn extend(&mut self, other: &Self) {
        if other.delivered >= self.delivered {
            self.excluded.clone_from(&other.excluded);
        }
        self.delivered = self.delivered.max(other.delivered);
        self.read = self.read.max(other.read);
    }
}

/// One push without an ack.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub conversation: ConversationId,
    pub kind: Arc<ConversationKind>,
    pub bytes: u32,
    pub item: PushedItem,
}

#[derive(Debug)]
pub(crate) enum PushedItem {
    Record { seq: Seq },
    Tick { delivered: Seq, read: Seq },
    Mark,
}

impl Work {
    fn is_idle(&self) -> bool {
        self.loading.is_none()
            && self.outstanding.is_empty()
            && self.behind.is_empty()
            && !self.reading
            && self.retry_ms.is_none()
            && self.ticks.is_empty()
            && self.marks.is_empty()
            && self.backlog.is_none()
            && self.recent.is_empty()
            && self.heard.is_empty()
            && self.told.is_empty()
            && self.acked.is_empty()
            && self.gone.is_empty()
    }

    /// About; 0 where there is nothing to do, and so no need of it.
    fn bytes(&self) -> usize {
        if self.is_idle() {
            return 0;
        }
        let lists =
            self.outstanding.capacity() * size_of::<Pushed>() + self.queue.capacity() * size_of::<ConversationId>();
        let behind =
            tree_bytes(&self.behind) + tree_bytes(&self.ticks) + tree_bytes(&self.marks) + tree_bytes(&self.gone);
        let lately = tree_bytes(&self.recent) + tree_bytes(&self.heard) + tree_bytes(&self.told) + self.acked.bytes();
        let loading = self.loading.as_ref().map_or(0, |loading| loading.bytes());
        rounded_up(size_of::<Self>()) + lists + behind + lately + loading
    }

    /// Counts it anew; whether there is still a need of it.
    pub fn settle(&mut self, sum: &mut usize) -> bool {
        let bytes = self.bytes();
        self.counted.become_bytes(bytes, sum);
        bytes > 0
    }

    /// What of a conversation up to `seq` the device passes and its user never gets; each is said once.
    pub fn take_gone(&mut self, conversation: ConversationId, seq: Seq) -> Ranges {
        let Some(gone) = self.gone.remove(&conversation) else { return Ranges::new() };
        let rest = ranges::within(&gone, seq.saturating_add(1), Seq::MAX);
        if !rest.is_empty() {
            self.gone.insert(conversation, rest);
        }
        ranges::within(&gone, 1, seq)
    }

    /// Something is now recent.
    pub fn remember(&mut self, now_ms: u64) {
        self.forget_ms.get_or_insert(now_ms + RECENT_MS);
    }

    fn forget(&mut self, now_ms: u64) {
        self.recent.retain(|_, (_, at_ms)| *at_ms + RECENT_MS > now_ms);
        self.told.retain(|_, (_, at_ms)| *at_ms + RECENT_MS > now_ms);
        self.acked.forget(now_ms);
        let forgotten = self.recent.is_empty() && self.told.is_empty() && self.acked.is_empty();
        self.forget_ms = if forgotten { None } else { Some(now_ms + RECENT_MS) };
    }
}

impl Session {
    /// The record as this device is sent it; `None`: it is not for it. A device is never pushed its own records: it knows them
    /// from SENT.
    pub fn view(&self, record: &Arc<Record>) -> Option<Arc<Record>> {
        let Self { user, device, .. } = self;
        if record.device == *device && record.sender == *user {
            return None;
        }
        if !matches!(record.body, Body::Slices(_)) {
            return Some(record.clone());
        }
        record.sliced(user, device).map(Arc::new)
    }

    /// Whether this record, of which there is no slice for this device, is for none of its user's: when it was sent, the user
    /// had none, or those that it had are unlinked. Who distributes a key leaves out whom it likes.
    pub fn is_for_none(&self, record: &Record) -> bool {
        let Body::Slices(bytes) = &record.body else { return false };
        let user = &self.user;
        let others = self.work.as_ref().and_then(|work| work.others.as_deref());
        let may_get = |name: &str| others.is_none_or(|them| them.iter().any(|it| it.as_str() == name));
        record.kind != Kind::KeyDistribution
            && record.sender != *user
            && !slices_of(bytes).iter().any(|slice| slice.user == user.user() && may_get(&slice.device))
    }

    /// Nothing of it matters any more.
    pub fn stop_work(&mut self, sum: &mut usize) {
        if let Some(mut work) = self.work.take() {
            work.counted.become_bytes(0, sum);
        }
    }

    pub fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// Whether one more push may be sent. One that is larger than the window goes alone.
    pub fn has_room(&self, bytes: u32) -> bool {
        let Some(work) = &self.work else { return true };
        let fits = work.outstanding_bytes.saturating_add(bytes) <= self.window_bytes;
        work.outstanding.is_empty() || (work.outstanding.len() < self.window_pushes as usize && fits)
    }

    /// The same for a record that came in live: while the session is behind in others, a quarter of the window is for them.
    pub fn has_room_beside(&self, bytes: u32) -> bool {
        if self.work.as_ref().is_none_or(|work| work.behind.is_empty()) {
            return self.has_room(bytes);
        }
        let ((free, free_bytes), (share, share_bytes)) = (self.free(), self.share());
        free > share && free_bytes.saturating_sub(bytes) >= share_bytes
    }

    /// The session is behind in a conversation in which it was not: its turn comes, first where nothing was pushed lately.
    pub fn queue_behind(&mut self, conversation: ConversationId, behind: Behind) {
        let work = self.work();
        work.behind.insert(conversation, behind);
        if work.recent.contains_key(&conversation) {
            // It had its turn.
            work.queue.insert(0, conversation);
        } else {
            work.queue.push(conversation);
        }
        if work.queue.len() > 2 * work.behind.len() + 64 {
            // Names of conversations that are no longer behind, or are there twice: the last one counts.
            let mut seen = std::collections::BTreeSet::new();
            let mut newest_first: Vec<_> = std::mem::take(&mut work.queue).into_iter().rev().collect();
            newest_first.retain(|conversation| work.behind.contains_key(conversation) && seen.insert(*conversation));
            newest_first.reverse();
            work.queue = newest_first;
        }
    }

    /// Whether it is told what is never stored: only where records would find room.
    pub fn hears_ephemera(&self) -> bool {
        self.state == State::Open && self.reading && self.has_room(0)
    }

    /// What the window has room for, pushes and bytes.
    pub fn free(&self) -> (u32, u32) {
        let used = self.work.as_ref().map_or((0, 0), |work| (work.outstanding.len() as u32, work.outstanding_bytes));
        (self.window_pushes.saturating_sub(used.0), self.window_bytes.saturating_sub(used.1))
    }

    /// A quarter of the window: what the log is read for, and what is left to it.
    pub fn share(&self) -> (u32, u32) {
        ((self.window_pushes / 4).max(1), self.window_bytes / 4)
    }

    /// Whether what the device was told lately of the other side's progress is as much as this, or more.
    pub fn has_told(&self, conversation: ConversationId, tick: &TickPush) -> bool {
        let told = self.work.as_ref().and_then(|work| work.told.get(&conversation));
        told.is_some_and(|((delivered, read), _)| *delivered >= tick.delivered && *read >= tick.read)
    }

    /// Counts one push and returns its number.
    pub fn push(&mut self, now_ms: u64, pushed: Pushed) -> u64 {
        let work = self.work();
        if work.outstanding.is_empty() {
            work.progress_ms = now_ms;
        }
        work.outstanding_bytes = work.outstanding_bytes.saturating_add(pushed.bytes);
        work.outstanding.push_back(pushed);
        self.pushed += 1;
        self.pushed
    }
}

frozen!(Session {
    conn,
    user,
    device,
    issued_ms,
    state,
    opened_ms,
    told_renew,
    away,
    reading,
    unanswered,
    pushed,
    acked,
    window_pushes,
    window_bytes,
    floor_ms,
    seen_ms,
    expires_ms,
    exp_ms,
    reconcile_ms,
    work,
    watching,
});
frozen!(Work {
    loading,
    outstanding,
    outstanding_bytes,
    progress_ms,
    behind,
    queue,
    reading,
    retry_ms,
    ticks,
    marks,
    backlog,
    recent,
    heard,
    told,
    acked,
    gone,
    others,
    write_ms,
    forget_ms,
    counted,
});
frozen!(TickPush { kind, delivered, read, excluded });
frozen!(Pushed { conversation, kind, bytes, item });
frozen_enum!(State { 0 = Loading {}, 1 = Open {}, 2 = Ended {} });
frozen_enum!(PushedItem { 0 = Record { seq: seq }, 1 = Tick { delivered: delivered, read: read }, 2 = Mark {} });
