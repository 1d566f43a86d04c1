//! What one shard says to another about users and conversations. Each variant says what is lost if it never arrives.
//!
//! Inside one process envelopes are in order per (from, to) and never lost; a shard sends to itself without the inbox.

use crate::boundary::{Output, Proposal, ShardId};
use crate::user::settings::Audience;
use ringpost_persist::{ConversationKind, Ranges, Record};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use std::sync::Arc;

/// A session in the router of a shard. The generation tells a later session in the same slot apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionRef {
    pub shard: ShardId,
    pub slot: u32,
    pub generation: u32,
}

#[derive(Debug)]
pub enum Envelope {
    /// To the conversation's home: append this. Lost: the client retries.
    Propose {
        conversation: ConversationId,
        from: SessionRef,
        re: u64,
        proposal: Proposal,
    },
    /// To the conversation's home: a member is writing, or no longer. Lost: said again, or over by itself.
    Types {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        composing: bool,
    },
    /// To the home of these members: one of them is writing, or no longer. Lost: over by itself at the client.
    Typing {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        users: Arc<[UserKey]>,
        by: UserKey,
        composing: bool,
    },
    /// To the home of these users: a session watches them, or no longer. Lost: its client watches again.
    Watch {
        users: Vec<UserKey>,
        by: SessionRef,
        watcher: UserKey,
        ticket: u64,
    },
    Unwatch {
        users: Vec<UserKey>,
        by: SessionRef,
        watcher: UserKey,
    },
    /// To the watcher's session: how a user is. `ticket` 0: unasked. Lost: told with the next change.
    Seen {
        to: SessionRef,
        ticket: u64,
        state: Box<v1::PresenceState>,
    },
    /// To a direct conversation's home: what `user` is to the other one, who watches it as `by`.
    Relate {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        watcher: UserKey,
        by: SessionRef,
    },
    /// To the home of `user`: the answer; `None`: it could not be read.
    Related {
        user: UserKey,
        watcher: UserKey,
        by: SessionRef,
        relation: Option<Relation>,
    },
    /// The same, unasked: what `user` is to `other` has changed. Lost: true at the next watch.
    Relates {
        user: UserKey,
        other: UserKey,
        relation: Relation,
    },
    /// To the sender's session: the outcome. Lost: the client retries and gets it as a duplicate.
    Outcome {
        to: SessionRef,
        re: u64,
        outcome: SendOutcome,
    },
    /// To the home of these members: a record was committed that is for them. One for each shard, however many they are.
    /// Lost: the devices get it at their next sync.
    Committed {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        users: Arc<[UserKey]>,
        record: Arc<Record>,
    },
    /// To the conversation's home: a question of a user. Lost: the client asks again.
    Ask {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        from: SessionRef,
        re: u64,
        ask: RoomAsk,
    },
    /// To the conversation's home: a device acknowledged everything up to here that is addressed to it. Lost: pushed again.
    Delivered {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        device: DeviceId,
        seq: Seq,
        /// What of that had expired before it could be given to the device, or has a slice for none of its user's.
        gone: Ranges,
        /// Whom the user shows what it reads, if that is known.
        receipts: Option<Audience>,
    },
    /// To the conversation's home: the user has read up to here.
    Read {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        from: SessionRef,
        re: u64,
        seq: Seq,
        receipts: Option<Audience>,
    },
    /// To the reader's home: the read position moved to `seq` (clamped), for the answer and the user's other devices.
    ReadDone {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        to: SessionRef,
        re: u64,
        seq: Seq,
        moved: bool,
    },
    /// To a reader's home: what was read before it was delivered counts now. Lost: the user's other devices hear at their
    /// next sync.
    Marked {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        seq: Seq,
    },
    /// To a sender's home: the other side's progress, for sessions opened at `opened_since_ms` or later. Lost: told at the
    /// next sync.
    Tick {
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        delivered: Seq,
        read: Seq,
        /// Of the user's records up to there, those that are kept from the other side, or that it missed.
        excluded: Ranges,
        opened_since_ms: u64,
    },
    /// To a user's home, from the operator: its sessions end, and what it has set, and which devices it has, is forgotten.
    /// Lost: asked again; a second time changes nothing.
    Forget {
        user: UserKey,
        from: SessionRef,
        re: u64,
    },
    /// To the shard `at`, from the home of a user that is being erased: whether all that it has said is in the log. Answered
    /// with Settled. Lost: the operator asks again.
    Settle {
        user: UserKey,
        by: SessionRef,
        re: u64,
        at: ShardId,
    },
    Settled {
        user: UserKey,
        by: SessionRef,
        re: u64,
        at: ShardId,
        settled: bool,
    },
    /// To a sender's home: it would begin this direct conversation; answered with Begin. Lost: the room waits, the client
    /// retries in vain.
    MayBegin {
        conversation: ConversationId,
        user: UserKey,
        ticket: u64,
    },
    /// To the conversation's home: it was counted; or it was not, and may be tried again after so many milliseconds.
    Begin {
        conversation: ConversationId,
        ticket: u64,
        wait_ms: u64,
    },
    /// To a user's home: somebody to whom the user had written wrote back, for the first time. Lost: the user stays limited
    /// until the next one does.
    Answered {
        user: UserKey,
    },
    /// To a user's home, from the operator: this device is unlinked, and its session closed. Lost: asked again.
    Revoke {
        user: UserKey,
        device: DeviceId,
        from: SessionRef,
        re: u64,
    },
    /// To the shard that holds a connection: do this there.
    Conn(Output),
}

/// What a user is to another one who wants to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Oneself,
    /// One of the two blocks the other.
    Blocked,
    /// The user has sent a record to the other one.
    Contact,
    Stranger,
}

/// What a room can be asked without changing it.
#[derive(Debug, Clone, Copy)]
pub enum RoomAsk {
    Group,
    /// How far each member is with this record.
    RecordInfo(Seq),
}

#[derive(Debug, Clone)]
pub enum SendOutcome {
    Sent(v1::Sent),
    /// Another answer than SENT.
    Answer(Box<Answer>),
    Refused(Box<v1::Error>),
}
