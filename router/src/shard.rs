//! One shard's state, and who handles what. No rules of its own.

use crate::boundary::{ConnRef, Counters, Input, Now, Output, Settings, ShardId};
use crate::conversation::{Conversation, FanOut, ReadBy};
use crate::envelope::{Envelope, SessionRef};
use crate::pending::Pending;
use crate::session::{Partners, Session, SessionsOfConns, TickPush};
use crate::slab::{Key, Slab};
use crate::user::linking::{DeviceChange, Unlinker};
use crate::user::{Edit, Users};
use crate::wheel::Wheel;
use hashbrown::HashMap;
use ringpost_persist::{DocumentKey, Outcome, StoreAnswer, StoreRequest, Tag};
use ringpost_proto::id::{ConversationId, UserKey};
use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

/// By how much the clocks of two shards may differ, each read once a turn, milliseconds.
pub(crate) const CLOCKS_MS: u64 = 1_000;

/// The shard on which a user's sessions live.
pub fn home_of_user(user: &UserKey, shards: ShardId) -> ShardId {
    // A spread is a hash; one shard needs none.
    if shards <= 1 { 0 } else { (user.spread() % u64::from(shards)) as ShardId }
}

/// The shard that proposes a conversation's appends.
pub fn home_of_conversation(conversation: ConversationId, shards: ShardId) -> ShardId {
    (conversation.spread() % u64::from(shards.max(1))) as ShardId
}

/// Seeded per process: clients choose the names that are hashed, and a world must replay.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(foldhash::fast::FixedState);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(foldhash::fast::FixedState::with_seed(seed))
    }
}

impl BuildHasher for Seeded {
    type Hasher = <foldhash::fast::FixedState as BuildHasher>::Hasher;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// One shard of the router; see the crate's contract.
#[derive(Debug)]
pub struct Router {
    pub(crate) settings: Settings,
    pub(crate) now: Now,
    pub(crate) outputs: VecDeque<Output>,
    /// Envelopes to this very shard.
    local: VecDeque<Envelope>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) of_conns: SessionsOfConns,
    pub(crate) users: Users,
    pub(crate) partners: Partners,
    /// Users who may have acks that are not written yet, and until when.
    pub(crate) lingering: VecDeque<(u64, UserKey)>,
    /// Watched users, and when to look at them again, monotonic milliseconds.
    pub(crate) presence_due: BTreeSet<(u64, UserKey)>,
    /// Watched users of whom something has to be read, how many of these reads are under way, and users whose watchers are
    /// being told.
    pub(crate) asking: VecDeque<UserKey>,
    pub(crate) presence_reads: u32,
    pub(crate) tellings: VecDeque<UserKey>,
    /// Documents that are being changed, with the changes that wait.
    pub(crate) edits: HashMap<DocumentKey, VecDeque<Edit>, Seeded>,
    pub(crate) conversations: Slab<Box<Conversation>>,
    /// Bytes that rooms hold, as far as they were looked at.
    pub(crate) room_bytes: usize,
    /// Of what sessions hold while they are at work.
    pub(crate) work_bytes: usize,
    pub(crate) by_conversation: HashMap<ConversationId, Key, Seeded>,
    /// Users who have begun conversations within a day, and until when each counts.
    pub(crate) beginners: VecDeque<(u64, UserKey)>,
    /// Fan-outs under way, in their order.
    pub(crate) fan_outs: VecDeque<FanOut>,
    /// Where the search for conversations at rest goes on.
    pub(crate) conversation_hand: u32,
    /// What each outstanding store request is for.
    pub(crate) pending: Slab<Pending>,
    pub(crate) session_wheel: Wheel,
    pub(crate) conversation_wheel: Wheel,
    pub(crate) counters: Counters,
    pub(crate) random: u64,
}

impl Router {
    pub fn new(settings: Settings, now: Now) -> Self {
        let hasher = Seeded::new(settings.seed);
        Self {
            now,
            outputs: VecDeque::new(),
            local: VecDeque::new(),
            sessions: Slab::default(),
            of_conns: SessionsOfConns::new(settings.shard, hasher.clone()),
            users: Users::new(hasher.clone()),
            partners: Partners::default(),
            lingering: VecDeque::new(),
            presence_due: BTreeSet::new(),
            asking: VecDeque::new(),
            presence_reads: 0,
            tellings: VecDeque::new(),
            edits: HashMap::with_hasher(hasher.clone()),
            conversations: Slab::default(),
            room_bytes: 0,
            work_bytes: 0,
            by_conversation: HashMap::with_hasher(hasher),
            beginners: VecDeque::new(),
            fan_outs: VecDeque::new(),
            conversation_hand: 0,
            pending: Slab::default(),
            session_wheel: Wheel::new(now.mono_ms),
            conversation_wheel: Wheel::new(now.mono_ms),
            counters: Counters::default(),
            random: settings.seed ^ 0x9e37_79b9_7f4a_7c15,
            settings,
        }
    }

    /// Takes one input. Afterwards drain [`Router::poll_output`] until it gives `None`.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Open { conn, id, identity, hello } => self.open(conn, id, identity, *hello),
            Input::Request { conn, id, request } => self.request(conn, id, request),
            Input::Renewed { conn, id, identity } => self.renewed(conn, id, identity),
            Input::Closed { conn } => self.closed(conn),
            Input::Store(answer) => self.store_answer(answer),
            Input::Envelope(envelope) => self.envelope(*envelope),
            Input::Timer => self.timers(),
            Input::Drain => self.drain(),
        }
        while let Some(envelope) = self.local.pop_front() {
            self.envelope(envelope);
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due at the latest, on the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let lingering = self.lingering.front().map(|(until_ms, _)| *until_ms);
        let presence = self.presence_due.first().map(|(at_ms, _)| *at_ms);
        let beginners = self.beginners.front().map(|(until_ms, _)| *until_ms);
        let fan_out = self.fan_outs.front().map(|_| 0).or(self.tellings.front().map(|_| 0));
        let deadlines =
            [self.session_wheel.next_ms(), self.conversation_wheel.next_ms(), lingering, presence, beginners, fan_out];
        deadlines.into_iter().flatten().min()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sessions that said hello and are not closed yet.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Users held in memory: those with a session, and for a few seconds those who had one.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// Users who are looked at once their last acks are written.
    pub fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// Armed deadlines of sessions and of conversations.
    pub fn timer_counts(&self) -> (usize, usize) {
        (self.session_wheel.len(), self.conversation_wheel.len())
    }

    /// Conversations held in memory.
    pub fn conversation_count(&self) -> usize {
        self.conversations.len()
    }

    /// Conversations that users have begun within a day, where that is limited.
    pub fn beginning_count(&self) -> usize {
        self.beginners.len()
    }

    /// Store requests without an answer yet.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    fn envelope(&mut self, envelope: Envelope) {
        match envelope {
            Envelope::Propose { conversation, from, re, proposal } => self.propose(conversation, from, re, proposal),
            Envelope::Outcome { to, re, outcome } => self.send_outcome(to, re, outcome),
            Envelope::Committed { conversation, kind, users, record } => {
                self.committed(conversation, kind, users, record);
            }
            Envelope::Types { conversation, kind, user, composing } => {
                self.conversation_typing(conversation, &kind, &user, composing);
            }
            Envelope::Typing { conversation, kind, users, by, composing } => {
                self.typing(conversation, &kind, &users, &by, composing);
            }
            Envelope::Ask { conversation, kind, user, from, re, ask } => {
                self.conversation_asked(conversation, &kind, user, from, re, ask);
            }
            Envelope::Delivered { conversation, kind, user, device, seq, gone, receipts } => {
                self.conversation_delivered(conversation, kind, (user, device), (seq, gone), receipts);
            }
            Envelope::Read { conversation, kind, user, from, re, seq, receipts } => {
                self.conversation_read(conversation, kind, ReadBy { user, from, re }, seq, receipts);
            }
            Envelope::ReadDone { conversation, kind, user, to, re, seq, moved } => {
                self.read_done(conversation, kind, user, to, re, seq, moved);
            }
            Envelope::Marked { conversation, kind, user, seq } => {
                self.push_marks(conversation, &kind, &user, None, seq);
            }
            Envelope::Tick { conversation, kind, user, delivered, read, excluded, opened_since_ms } => {
                self.tick(conversation, user, TickPush { kind, delivered, read, excluded }, opened_since_ms);
            }
            Envelope::Watch { users, by, watcher, ticket } => self.watched(&users, by, &watcher, ticket),
            Envelope::Unwatch { users, by, watcher } => self.unwatched(&users, by, &watcher),
            Envelope::Seen { to, ticket, state } => self.seen(to, ticket, *state),
            Envelope::Relate { conversation, kind, user, watcher, by } => {
                self.conversation_relates(conversation, &kind, user, (watcher, by));
            }
            Envelope::Related { user, watcher, by, relation } => self.related(&user, (watcher, by), relation),
            Envelope::Relates { user, other, relation } => self.relates(&user, &other, relation),
            Envelope::Forget { user, from, re } => self.erase_user(user, from, re),
            Envelope::Settle { user, by, re, at } => self.settle(user, by, re, at),
            Envelope::Settled { user, by, re, at, settled } => self.settled(user, by, re, at, settled),
            Envelope::MayBegin { conversation, user, ticket } => self.may_begin(user, conversation, ticket),
            Envelope::Begin { conversation, ticket, wait_ms } => self.begin(conversation, ticket, wait_ms),
            Envelope::Answered { user } => self.answered(&user),
            Envelope::Revoke { user, device, from, re } => {
                self.edit_devices(&user, DeviceChange::Unlink { device, by: Unlinker::Operator { by: from, re } });
            }
            Envelope::Conn(output) => self.outputs.push_back(output),
        }
    }

    fn store_answer(&mut self, answer: StoreAnswer) {
        let Some(pending) = self.pending.remove(Key::from_u64(answer.tag)) else { return };
        self.resume(pending, answer.outcome);
    }

    fn resume(&mut self, pending: Pending, outcome: Outcome) {
        match pending {
            Pending::LoadUser { session } => self.user_loaded(session, outcome),
            Pending::Pump { session, conversation } => self.pump_read(session, conversation, outcome),
            Pending::Page(page) => self.page_read(page, outcome),
            Pending::Lookup(lookup) => self.looked_up(lookup, outcome),
            Pending::Answered { user, conversation, ticket } => {
                self.answered_read(&user, conversation, ticket, outcome);
            }
            Pending::Devices { session } => self.devices_read(session, outcome),
            Pending::Starts { session } => self.starts_raised(session, outcome),
            Pending::OwnDevices { session, re } => self.own_devices_read(session, re, outcome),
            Pending::DeviceLists(read) => self.device_list_read(read, outcome),
            Pending::Lists { conversation, ticket, user } => self.list_read(conversation, ticket, user, outcome),
            Pending::Conversations { session, re } => self.conversations_read(session, re, outcome),
            Pending::LoadConversation { conversation } => self.conversation_loaded(conversation, outcome),
            Pending::Append { conversation } => self.appended(conversation, outcome),
            Pending::ReadSlot { conversation } => self.slot_read(conversation, outcome),
            Pending::FindCmid { conversation, ticket } => self.cmid_found(conversation, ticket, outcome),
            Pending::Look { conversation, ticket } => self.looked(conversation, ticket, outcome),
            Pending::Edits { conversation, ticket } => self.edits_read(conversation, ticket, outcome),
            Pending::Info(read) => self.info_read(*read, outcome),
            Pending::CountRead { conversation, user, read, since_ms } => {
                self.read_counted(conversation, user, read, since_ms, outcome);
            }
            Pending::Settings { user, watched } => self.settings_read(&user, watched, outcome),
            Pending::LastSeen { user } => self.last_seen_read(&user, outcome),
            Pending::ReadToEdit(editing) => self.document_read(editing, outcome),
            Pending::WriteEdited(editing) => self.document_written(editing, outcome),
            Pending::Raise { raises, behind, since_ms } => self.raised(raises, behind, since_ms, outcome),
        }
    }

    fn timers(&mut self) {
        self.forget_lingering();
        self.forget_beginners();
        self.presence_timers();
        self.go_on_telling();
        self.go_on_fanning_out();
        let mut due = Vec::new();
        self.session_wheel.advance(self.now.mono_ms, |slot| due.push(slot));
        for slot in due.drain(..) {
            if let Some(key) = self.sessions.key_at(slot) {
                self.session_deadline(key);
            }
        }
        self.conversation_wheel.advance(self.now.mono_ms, |slot| due.push(slot));
        for slot in due {
            if let Some(key) = self.conversations.key_at(slot) {
                self.conversation_deadline(key);
            }
        }
    }

    /// Asks the store; `request` gets its tag from what waits for the answer.
    pub(crate) fn ask(&mut self, pending: Pending, request: impl FnOnce(Tag) -> StoreRequest) {
        let tag = self.pending.insert(pending).to_u64();
        self.outputs.push_back(Output::Store(request(tag)));
    }

    /// To a connection, wherever it is.
    pub(crate) fn emit(&mut self, conn: ConnRef, output: Output) {
        if conn.shard == self.settings.shard {
            self.outputs.push_back(output);
        } else {
            let envelope = Box::new(Envelope::Conn(output));
            self.outputs.push_back(Output::Envelope { shard: conn.shard, envelope });
        }
    }

    /// To a shard, this one included.
    pub(crate) fn post(&mut self, shard: ShardId, envelope: Envelope) {
        if shard == self.settings.shard {
            self.local.push_back(envelope);
        } else {
            self.outputs.push_back(Output::Envelope { shard, envelope: Box::new(envelope) });
        }
    }

    pub(crate) fn post_to_user(&mut self, user: &UserKey, envelope: Envelope) {
        self.post(home_of_user(user, self.settings.shards), envelope);
    }

    pub(crate) fn post_to_conversation(&mut self, conversation: ConversationId, envelope: Envelope) {
        self.post(home_of_conversation(conversation, self.settings.shards), envelope);
    }

    pub(crate) fn session_ref(&self, key: Key) -> SessionRef {
        SessionRef { shard: self.settings.shard, slot: key.slot, generation: key.generation }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now.unix_us / 1_000
    }

    /// The next number of a splitmix64 sequence from the seed.
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
