//! Reading a user's conversations at hello: what the device has, what it is behind in, welcome.
//!
//! Registers first, reads after: a fan-out that arrives meanwhile is noted, so nothing committed falls between.

use super::linking::Link;
use super::{State, TickPush};
use crate::Router;
use crate::acked::Lingering;
use crate::boundary::{Identity, Output, Request};
use crate::frozen::frozen;
use crate::ledger::tree_bytes;
use crate::pending::Pending;
use crate::shard::CLOCKS_MS;
use crate::slab::Key;
use crate::sync::Behind;
use crate::user::Known;
use ringpost_persist::ranges::{self, Ranges};
use ringpost_persist::{ConversationKind, Outcome, Peer, Raise, StoreRequest, UserEntry, UserPage};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ConversationId, DeviceId, RecordId, Seq, UserKey, record_id};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Conversations of one page of [`StoreRequest::LoadUser`].
const PAGE: u32 = 1_000;
const RETRIES: u32 = 5;
const RETRY_MS: u64 = 500;

#[derive(Debug, Default)]
pub(crate) struct Loading {
    pub(super) hello_id: u64,
    /// Who said hello, while the device may have to be linked.
    pub(super) identity: Option<Arc<Identity>>,
    /// Not hello's: the session is open, and only what it lacks is wanted.
    reconciles: bool,
    have: BTreeMap<ConversationId, (Peer, Seq)>,
    resuming: bool,
    after: Option<(RecordId, ConversationId)>,
    /// Pages of this pass over the list, and the id below which no record is that was committed since it began.
    pages: u32,
    began: RecordId,
    /// The same of the pass before (0: there was none): this one goes down to there.
    known: RecordId,
    /// This pass has shown a conversation that none before it did.
    found: bool,
    /// Everything read so far, with where this device is.
    pub(super) read: BTreeMap<ConversationId, Behind>,
    ticks: BTreeMap<ConversationId, TickPush>,
    /// What has expired of what the client says it has: it was told to pass over it, or it had it. Nobody knows, so it counts
    /// for the first.
    gone: BTreeMap<ConversationId, Ranges>,
    /// Where a further device starts behind acks that are not written yet: what of that has expired, and may be missed.
    pub(super) missed: BTreeMap<ConversationId, Ranges>,
    /// What was committed meanwhile: the head, and whether it began with the first record.
    noted: BTreeMap<ConversationId, Behind>,
    failures: u32,
    /// A page is on its way; every page was read, though the settings may not be.
    asked: bool,
    pub(super) listed: bool,
    /// Whether the device is one of its user's; and if it is to become one beside others, where it starts then.
    pub(super) link: Link,
    pub(super) further: bool,
    pub(super) starts: Vec<Raise>,
    /// The page that is on its way is of a reading that was given up.
    stale: bool,
    /// Requests that came before welcome, with their ids.
    pub(super) held: Vec<(u64, Request)>,
}

impl Loading {
    /// About.
    pub fn bytes(&self) -> usize {
        let read = tree_bytes(&self.have) + tree_bytes(&self.read) + tree_bytes(&self.noted) + tree_bytes(&self.ticks);
        size_of::<Self>() + read + tree_bytes(&self.gone) + tree_bytes(&self.missed)
    }

    pub fn new(
        hello_id: u64,
        identity: Arc<Identity>,
        have: BTreeMap<ConversationId, (Peer, Seq)>,
        resuming: bool,
    ) -> Self {
        Self { hello_id, identity: Some(identity), have, resuming, ..Self::default() }
    }

    /// The same for a session that is open.
    pub fn reconcile() -> Self {
        Self { reconciles: true, link: Link::Linked, ..Self::default() }
    }

    /// What the device lacks, what the other sides have progressed, and what was committed meanwhile.
    #[allow(clippy::type_complexity)] // three maps by conversation
    pub fn found(
        self,
    ) -> (BTreeMap<ConversationId, Behind>, BTreeMap<ConversationId, TickPush>, BTreeMap<ConversationId, Behind>) {
        (self.read, self.ticks, self.noted)
    }

    /// The conversations are read from the beginning again.
    pub(super) fn list_anew(&mut self) {
        (self.read, self.ticks, self.gone, self.missed) = Default::default();
        (self.pages, self.known, self.found, self.after) = (0, 0, false, None);
        (self.listed, self.stale) = (false, self.asked);
    }

    /// A record was committed while the conversations are read.
    pub fn note(&mut self, conversation: ConversationId, kind: &Arc<ConversationKind>, seq: Seq, id: RecordId) {
        let noted = self.noted.entry(conversation).or_insert_with(|| Behind::new(kind.clone(), seq, seq, id));
        noted.extend(seq, id);
    }

    fn take_in(&mut self, entry: UserEntry, device: DeviceId, acked: &Lingering) {
        let conversation = entry.conversation;
        let late = acked.get(&(conversation, device)).map_or(0, |(seq, _)| *seq);
        let written = if self.further { Self::start(&entry, acked) } else { of_device(&entry.delivered, device) };
        let delivered = written.max(late).max(entry.join.saturating_sub(1));
        let have = self.have.get(&conversation).map_or(0, |(_, seq)| *seq);
        let known = if have <= entry.head { delivered.max(have) } else { delivered };
        if self.further {
            let marked = entry.delivered.iter().map(|(_, seq)| *seq).max().unwrap_or(0);
            let missed = ranges::within(&entry.gone, marked.max(entry.join.saturating_sub(1)) + 1, written);
            self.missed.insert(conversation, missed);
        }
        let gone = ranges::within(&entry.gone, delivered + 1, known);
        if !gone.is_empty() {
            self.gone.insert(conversation, gone);
        }
        let behind = Behind::new(entry.kind.clone(), known + 1, entry.head, entry.last_id);
        self.found |= self.read.insert(conversation, behind).is_none();
        let told = entry.ticks.iter().find(|(d, ..)| *d == device).map_or((0, 0), |(_, d, r)| (*d, *r));
        let moved = |now: Seq, told: Seq| now > told && entry.last_own > told;
        if moved(entry.peer_delivered, told.0) || moved(entry.peer_read, told.1) {
            let (delivered, read, excluded) = (entry.peer_delivered, entry.peer_read, entry.peer_excluded);
            let tick = TickPush { kind: entry.kind, delivered, read, excluded };
            self.ticks.insert(conversation, tick);
        }
    }

    /// Takes a page in; `false`: there is more to read. A list of several pages moves while it is read, so it is read again,
    /// from the top down to where everything is that may have moved, until that is one page, or shows nothing new: ids from
    /// a clock that was ahead stay at the top for as long as it was.
    fn take_page(&mut self, page: UserPage, device: DeviceId, acked: &Lingering) -> bool {
        self.failures = 0;
        self.pages += 1;
        let last = page.entries.last().map(|entry| (entry.last_id, entry.conversation));
        for entry in page.entries {
            self.take_in(entry, device, acked);
        }
        if page.more && last.is_some_and(|(id, _)| id > self.known) {
            self.after = last;
            return false;
        }
        let again = self.known > 0;
        let whole = self.pages == 1 || (again && !self.found);
        let complete = self.is_complete();
        // What was noted and is in no page is somewhere further down.
        self.known = if whole && !complete { 0 } else { self.began };
        (self.pages, self.found, self.after) = (0, false, None);
        whole && complete
    }

    /// Whether everything noted can be placed: it was read, or it began with the first record.
    fn is_complete(&self) -> bool {
        self.reconciles
            || self.noted.iter().all(|(conversation, noted)| noted.next == 1 || self.read.contains_key(conversation))
    }
}

fn of_device(registers: &[(DeviceId, Seq)], device: DeviceId) -> Seq {
    registers.iter().find(|(d, _)| *d == device).map_or(0, |(_, seq)| *seq)
}

impl Router {
    /// Reads what a session begins with: the user's settings and devices, and its conversations.
    pub(crate) fn load(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else { return };
        let user = session.user.clone();
        let loading = session.work.as_ref().and_then(|work| work.loading.as_ref());
        let lists = loading.is_some_and(|loading| !loading.asked && !loading.listed);
        self.need_settings(&user);
        self.read_devices(key);
        if lists {
            self.list_conversations(key);
        }
    }

    pub(super) fn list_conversations(&mut self, key: Key) {
        let now_ms = self.now_ms();
        let Some(session) = self.sessions.get_mut(key) else { return };
        let user = session.user.clone();
        let loading = session.work.as_mut().and_then(|work| work.loading.as_mut());
        let Some(loading) = loading else { return };
        if loading.pages == 0 {
            // The clocks of two shards are read at different times.
            loading.began = record_id(now_ms.saturating_sub(CLOCKS_MS), 0, 0);
        }
        loading.asked = true;
        let after = loading.after;
        let (limit, shown) = (PAGE, false);
        self.ask(Pending::LoadUser { session: key }, |tag| StoreRequest::LoadUser { tag, user, after, limit, shown });
    }

    pub(crate) fn user_loaded(&mut self, key: Key, outcome: Outcome) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let device = session.device;
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        loading.asked = false;
        if std::mem::take(&mut loading.stale) {
            return self.list_conversations(key);
        }
        let further = loading.further;
        let Outcome::User(page) = outcome else { return self.load_again(key) };
        let user = session.user.clone();
        let of_all = further.then(|| self.late_acks(&user));
        let none = Lingering::new();
        let of_ended = self.users.get(&user).map_or(&none, |user| &user.rare.acked);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        if !loading.take_page(*page, device, of_all.as_ref().unwrap_or(of_ended)) {
            return self.list_conversations(key);
        }
        loading.listed = true;
        let reconciles = loading.reconciles;
        self.raise_starts(key);
        if reconciles { self.reconciled(key) } else { self.welcome_if_loaded(key) }
    }

    /// The settings of a user were read, or could not be.
    pub(crate) fn settings_known(&mut self, user: &UserKey) {
        let Some(entry) = self.users.get(user) else { return };
        let (known, sessions) = (entry.read == Known::Yes, entry.sessions.list());
        for key in sessions {
            match self.sessions.get(key).map(|session| session.state) {
                Some(State::Loading) if known => self.welcome_if_loaded(key),
                Some(State::Loading) => self.load_again(key),
                _ => {}
            }
        }
        if known { self.tell_all(user) } else { self.presence_unknown(user) }
    }

    /// Something could not be read: a moment later again, some times.
    pub(super) fn load_again(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(work) = self.sessions.get_mut(key).and_then(|session| session.work.as_mut()) else { return };
        let Some(loading) = &mut work.loading else { return };
        loading.failures += 1;
        if loading.failures > RETRIES && loading.reconciles {
            return self.reconciled(key);
        }
        if loading.failures > RETRIES {
            return self.end(key, CloseCode::Overloaded, "the store does not answer");
        }
        work.retry_ms = Some(now_ms + RETRY_MS * u64::from(loading.failures));
        self.settle_session(key);
    }

    pub(super) fn welcome_if_loaded(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let known = self.users.get(&session.user).is_some_and(|it| it.read == Known::Yes);
        let Some(work) = session.work.as_mut().filter(|_| known) else { return };
        if let Some(loading) = work.loading.take_if(|loading| loading.listed && loading.link == Link::Linked) {
            work.retry_ms = None;
            self.welcome(key, *loading);
            self.settle_session(key);
        }
    }

    fn welcome(&mut self, key: Key, mut loading: Loading) {
        for (conversation, noted) in std::mem::take(&mut loading.noted) {
            match loading.read.get_mut(&conversation) {
                Some(read) => read.extend(noted.head, noted.last_id),
                None => drop(loading.read.insert(conversation, noted)),
            }
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.state = State::Open;
        let (conn, user, device) = (session.conn, session.user.clone(), session.device);
        let mut reset = Vec::new();
        let mut known = Vec::new();
        for (conversation, (peer, seq)) in &loading.have {
            let head = loading.read.get(conversation).map_or(0, |read| read.head);
            if *seq > head {
                reset.push(v1::Reset { conversation: Some(peer.to_wire()), head_seq: head });
            } else if let Some(read) = loading.read.get(conversation).filter(|_| *seq > 0) {
                known.push((*conversation, read.kind.clone(), *seq));
            }
        }
        loading.read.retain(|_, read| read.next <= read.head);
        let mut queue: Vec<(RecordId, ConversationId)> = loading.read.iter().map(|(c, b)| (b.last_id, *c)).collect();
        queue.sort_unstable();
        let resumed = loading.resuming && loading.read.is_empty() && loading.ticks.is_empty() && reset.is_empty();
        let window = v1::Window { pushes: session.window_pushes, bytes: session.window_bytes };
        let work = session.work();
        work.backlog = Some((loading.read.len() as u32, 0));
        work.gone = loading.gone;
        work.behind = loading.read;
        work.queue = queue.into_iter().map(|(_, conversation)| conversation).collect();
        for (conversation, tick) in loading.ticks {
            // One that came while the conversations were read may say more, or less, than what was read.
            work.ticks.entry(conversation).and_modify(|live| live.extend(&tick)).or_insert(tick);
        }
        let welcome = self.welcome_frame(&user, device, window, resumed, reset);
        self.frame(conn, loading.hello_id, Answer::Welcome(welcome));
        self.emit(conn, Output::Established { conn });
        self.presence_changed(&user);
        for (conversation, kind, seq) in known {
            // What the client says it has is an ack that may have been lost.
            self.delivered(key, conversation, kind, seq);
        }
        self.tell_renew(key);
        self.pump(key);
        for (id, request) in loading.held {
            self.finish_request(key);
            self.request(conn, id, request);
        }
    }

    fn welcome_frame(
        &mut self,
        user: &UserKey,
        device: DeviceId,
        window: v1::Window,
        resumed: bool,
        reset: Vec<v1::Reset>,
    ) -> v1::Welcome {
        let session_id = format!("{:016x}", self.next_random());
        v1::Welcome {
            user: user.user().into(),
            device: device.as_str().into(),
            node: self.settings.node.to_string(),
            server_time_ms: self.now_ms(),
            heartbeat_ms: self.settings.heartbeat_ms,
            window: Some(window),
            resume_token: self.resume_token(&session_id),
            session_id,
            resumed,
            store_incarnation: self.settings.store_incarnation.to_vec().into(),
            reset,
            limits: Some(self.settings.limits()),
            crash_slot_ms: self.next_random() % self.settings.crash_slot_ms.max(1),
        }
    }
}

frozen!(Loading {
    hello_id,
    identity,
    reconciles,
    have,
    resuming,
    after,
    pages,
    began,
    known,
    found,
    read,
    ticks,
    gone,
    missed,
    noted,
    failures,
    asked,
    listed,
    link,
    further,
    starts,
    stale,
    held
});
