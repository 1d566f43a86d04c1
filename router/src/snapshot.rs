//! A router written out and read back: for the live upgrade, and in the simulator at random moments.
//!
//! Holds every state machine and which store requests are under way, so that answers find whom they are for, in
//! this process or the next. Does not hold settings, outputs (drain them first) or what is derived: indexes and timers.

use crate::Router;
use crate::acked::LINGER_MS;
use crate::boundary::{ConnRef, Counters, Identity, Now, Proposal, Request, Settings, Wants};
use crate::envelope::{Relation, RoomAsk, SessionRef};
use crate::frozen::{Frozen, Reader, RestoreError, frozen, frozen_enum};
use crate::pending::{PageRead, Pending};
use crate::slab::Key;
use crate::user::User;
use ringpost_proto::id::UserKey;
use std::collections::BTreeMap;

/// The version that [`Router::snapshot`] writes and [`Router::restore`] reads.
pub const SNAPSHOT_VERSION: u16 = 12;

const MAGIC: &[u8] = b"ringpost router";

impl Router {
    /// Everything that this router knows. Between inputs only, with the outputs drained.
    pub fn snapshot(&self) -> Vec<u8> {
        debug_assert!(self.outputs.is_empty(), "outputs are drained before a snapshot");
        let mut out = MAGIC.to_vec();
        SNAPSHOT_VERSION.write(&mut out);
        self.random.write(&mut out);
        self.counters.write(&mut out);
        self.sessions.write(&mut out);
        let users: BTreeMap<_, _> = self.users.iter().collect();
        (users.len() as u32).write(&mut out);
        for (name, user) in users {
            name.write(&mut out);
            user.write(&mut out);
        }
        self.presence_reads.write(&mut out);
        let edits: BTreeMap<_, _> = self.edits.iter().collect();
        (edits.len() as u32).write(&mut out);
        for (key, waiting) in edits {
            key.write(&mut out);
            waiting.write(&mut out);
        }
        self.conversations.write(&mut out);
        self.pending.write(&mut out);
        self.fan_outs.write(&mut out);
        out
    }

    /// The router that wrote the snapshot, from here on under these settings. Times go on: the monotonic clock is the same.
    pub fn restore(settings: Settings, now: Now, snapshot: &[u8]) -> Result<Self, RestoreError> {
        let mut from = Reader(snapshot);
        if from.take(MAGIC.len())? != MAGIC || u16::read(&mut from)? != SNAPSHOT_VERSION {
            return Err(RestoreError("another version"));
        }
        // A deadline that has passed fires in the turn that follows.
        let wheels = Now { mono_ms: now.mono_ms.saturating_sub(1), ..now };
        let mut router = Self::new(settings, wheels);
        router.now = now;
        router.random = Frozen::read(&mut from)?;
        router.counters = Frozen::read(&mut from)?;
        router.sessions = Frozen::read(&mut from)?;
        for _ in 0..u32::read(&mut from)? {
            let name = Frozen::read(&mut from)?;
            let user: User = Frozen::read(&mut from)?;
            if user.lingers {
                router.lingering.push_back((now.mono_ms + LINGER_MS, UserKey::clone(&name)));
            }
            if user.rare.due_ms > 0 {
                router.presence_due.insert((user.rare.due_ms, UserKey::clone(&name)));
            }
            if user.asking {
                router.asking.push_back(UserKey::clone(&name));
            }
            if user.rare.presence.as_ref().is_some_and(|presence| presence.telling) {
                router.tellings.push_back(UserKey::clone(&name));
            }
            router.users.insert(name, user);
        }
        router.presence_reads = Frozen::read(&mut from)?;
        for _ in 0..u32::read(&mut from)? {
            let key = Frozen::read(&mut from)?;
            router.edits.insert(key, Frozen::read(&mut from)?);
        }
        router.conversations = Frozen::read(&mut from)?;
        router.pending = Frozen::read(&mut from)?;
        router.fan_outs = Frozen::read(&mut from)?;
        if !from.0.is_empty() {
            return Err(RestoreError("something follows"));
        }
        router.derive();
        router.derive_beginners();
        Ok(router)
    }

    /// Indexes and timers.
    fn derive(&mut self) {
        let sessions: Vec<(Key, ConnRef)> = self.sessions.iter().map(|(key, session)| (key, session.conn)).collect();
        self.by_conversation.extend(self.conversations.iter().map(|(key, room)| (room.id(), key)));
        for (key, conn) in sessions {
            self.of_conns.insert(conn, key);
            self.settle_session(key);
        }
        let conversations: Vec<Key> = self.by_conversation.values().copied().collect();
        conversations.into_iter().for_each(|key| self.arm_conversation(key));
    }
}

frozen!(Key { slot, generation });
frozen!(ConnRef { shard, slot, generation });
frozen!(SessionRef { shard, slot, generation });
frozen!(Identity { user, device, issued_ms, exp_ms, primary });
frozen!(Proposal {
    kind,
    sender,
    device,
    cmid,
    content_hash,
    message_kind,
    ref_seq,
    body,
    media,
    trace,
    group_epoch,
    wants,
});
frozen_enum!(Relation { 0 = Oneself {}, 1 = Blocked {}, 2 = Contact {}, 3 = Stranger {} });
frozen_enum!(Wants { 0 = Sent {}, 1 = Group {}, 2 = Ok {} });
frozen_enum!(RoomAsk { 0 = Group {}, 1 = RecordInfo { 0: seq } });
frozen!(PageRead { session, re, user, device, peer, range, before, limit });
frozen!(Counters {
    sends,
    sends_duplicate,
    sends_refused,
    appends,
    append_conflicts,
    append_unknown,
    pushes,
    acks,
    ticks,
    syncs,
    reconciles,
    reconcile_found,
    takeovers,
    slow_consumers,
    rate_limited,
    ephemeral,
    presence,
    device_mismatches,
    devices_linked,
    devices_unlinked,
    devices_dormant,
    device_limits,
    settings_unreadable,
    devices_unreadable,
    beginnings_refused,
    expired_undelivered,
});
frozen_enum!(Request {
    0 = Ack { push: push, ranges: ranges },
    1 = Ping {},
    2 = Bye {},
    3 = Send { 0: send },
    4 = Lookup { 0: lookup },
    5 = Read { 0: read },
    6 = Fetch { 0: fetch },
    7 = History { 0: history },
    8 = Conversations { 0: conversations },
    9 = Unexpected { hello: hello },
    10 = More { 0: request },
});
frozen_enum!(Pending {
    0 = LoadUser { session: session },
    1 = Pump { session: session, conversation: conversation },
    2 = Page { 0: page },
    3 = Lookup { 0: lookup },
    4 = Conversations { session: session, re: re },
    5 = LoadConversation { conversation: conversation },
    6 = Append { conversation: conversation },
    7 = ReadSlot { conversation: conversation },
    8 = FindCmid { conversation: conversation, ticket: ticket },
    9 = Raise { raises: raises, behind: behind, since_ms: since_ms },
    10 = Look { conversation: conversation, ticket: ticket },
    11 = CountRead { conversation: conversation, user: user, read: read, since_ms: since_ms },
    12 = Settings { user: user, watched: watched },
    15 = LastSeen { user: user },
    30 = Lists { conversation: conversation, ticket: ticket, user: user },
    31 = DeviceLists { 0: read },
    35 = Answered { user: user, conversation: conversation, ticket: ticket },
    32 = Devices { session: session },
    33 = Starts { session: session },
    34 = OwnDevices { session: session, re: re },
    13 = ReadToEdit { 0: editing },
    14 = WriteEdited { 0: editing },
    36 = Info { 0: read },
    37 = Edits { conversation: conversation, ticket: ticket },
});
