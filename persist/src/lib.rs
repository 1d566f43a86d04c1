//! What is durable. The Store contract on one page; the rest of the crate keeps it.
//!
//! A store takes requests in batches and answers each exactly once, in any order, but for the append answers of one
//! conversation, which come in the order of their requests. Every answer may be `Unavailable` (nothing is known to have
//! changed and nothing will); only `Append`, `Cas` and `Take` may be `Unknown` (it may land later); an `Append` may be `Full`.
//!
//! Guarantees of an answer:
//! - `Appended`: the records are durable and every later read of any kind sees them.
//! - `LogSlice`, `Conversation`, `User`, `Found`: reflect at least everything answered before the request was submitted.
//! - `Raised`: durable. A lower or equal value changes nothing and is no error.

pub mod conformance;
pub mod embedded;
pub mod faulty;
pub mod files;
pub mod index;
pub mod prng;
pub mod record;

pub use record::{Body, Record, RecordError, content_hash};

use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, RecordId, Seq, UserKey};
use std::sync::Arc;

/// Chosen by who asks; comes back with the answer. A store never looks at it.
pub type Tag = u64;

/// What a log is about; stored with its first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConversationKind {
    /// The two users, in the order of their names; the same twice where a user talks to itself.
    Direct([UserKey; 2]),
}

impl ConversationKind {
    pub fn members(&self) -> &[UserKey] {
        match self {
            Self::Direct(both) if both[0] == both[1] => &both[..1],
            Self::Direct(both) => both,
        }
    }

    pub fn is_member(&self, user: &UserKey) -> bool {
        self.members().contains(user)
    }

    /// The other side of a direct conversation; oneself where a user talks to itself.
    pub fn peer_of(&self, user: &UserKey) -> &UserKey {
        match self {
            Self::Direct([a, b]) => {
                if a == user {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// A durable number that only grows. A missing register reads as 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterKey {
    /// Everything up to here that is addressed to the device was acknowledged by it.
    Delivered(ConversationId, UserKey, DeviceId),
    Read(ConversationId, UserKey),
    /// Up to where the device has acknowledged a tick: what an offline sender has not heard yet is told at its next sync.
    TickDelivered(ConversationId, UserKey, DeviceId),
    TickRead(ConversationId, UserKey, DeviceId),
}

impl RegisterKey {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Delivered(c, ..) | Self::Read(c, _) | Self::TickDelivered(c, ..) | Self::TickRead(c, ..) => *c,
        }
    }
}

/// One write of a register. `stamp`: the `us` of the record that the value refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    pub key: RegisterKey,
    pub value: Seq,
    pub stamp: u64,
}

/// Where a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRange {
    /// Upwards, from this seq on, at most up to `to` (`Seq::MAX`: the head).
    From { from: Seq, to: Seq },
    /// Downwards, the newest below this seq first (`Seq::MAX`: from the head).
    Before(Seq),
}

#[derive(Debug)]
pub enum StoreRequest {
    /// Conditional on the head being `expected_head`; the records are numbered expected_head + 1 ... 1 to 64 of them
    /// (anything else is answered `Unimplemented`). A store may share them for as long as it likes, so a body is not a
    /// small part of a large buffer.
    Append {
        tag: Tag,
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        expected_head: Seq,
        records: Vec<Arc<Record>>,
    },
    /// At most `records` records and about `bytes` bytes (never less than one record, if there is one).
    ReadLog {
        tag: Tag,
        conversation: ConversationId,
        range: ReadRange,
        records: u32,
        bytes: u32,
    },
    LoadConversation {
        tag: Tag,
        conversation: ConversationId,
    },
    /// The user's conversations, newest (by last record id, then conversation id) first, `limit` at most, strictly after
    /// `after` in that order (`None`: from the newest).
    LoadUser {
        tag: Tag,
        user: UserKey,
        after: Option<(RecordId, ConversationId)>,
        limit: u32,
    },
    Raise {
        tag: Tag,
        raises: Vec<Raise>,
    },
    /// The record with this client message id, however old (while it exists).
    FindCmid {
        tag: Tag,
        conversation: ConversationId,
        sender: UserKey,
        device: DeviceId,
        cmid: ClientMessageId,
    },
    /// Small versioned documents; reserved.
    Cas {
        tag: Tag,
    },
    /// Conditional delete, once; reserved.
    Take {
        tag: Tag,
    },
    /// Repair after a node died between commit and fan-out; reserved.
    Sweep {
        tag: Tag,
    },
}

impl StoreRequest {
    pub fn tag(&self) -> Tag {
        match self {
            Self::Append { tag, .. }
            | Self::ReadLog { tag, .. }
            | Self::LoadConversation { tag, .. }
            | Self::LoadUser { tag, .. }
            | Self::Raise { tag, .. }
            | Self::FindCmid { tag, .. }
            | Self::Cas { tag }
            | Self::Take { tag }
            | Self::Sweep { tag } => *tag,
        }
    }
}

#[derive(Debug, Clone)]
pub struct StoreAnswer {
    pub tag: Tag,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Appended {
        head: Seq,
    },
    /// Nothing was stored; the head is this.
    Conflict {
        head: Seq,
    },
    /// It may be stored, now or later. Read the slot to find out.
    Unknown,
    LogSlice {
        head: Seq,
        records: Vec<Arc<Record>>,
    },
    /// `None`: no such conversation yet.
    Conversation(Option<Box<ConversationState>>),
    User(Box<UserPage>),
    Raised,
    Found(Option<Arc<Record>>),
    /// Nothing changed and nothing will; try again later.
    Unavailable,
    /// Under the free-space floor: appends are refused, everything else goes on.
    Full,
    /// This backend does not do that.
    Unimplemented,
}

/// What a conversation's room needs to decide on the next record.
#[derive(Debug, Clone)]
pub struct ConversationState {
    pub kind: Arc<ConversationKind>,
    pub head: Seq,
    /// The latest time that a client message id of the whole log names (UUIDv7), Unix milliseconds; 0: none does.
    pub latest_cmid_ms: u64,
    /// The newest records in seq order: at least the last 256 and at least those of the last 24 h up to 4,096 (or all there are).
    pub tail: Vec<Arc<Record>>,
    /// The Delivered and Read registers of the conversation.
    pub registers: Vec<(RegisterKey, Seq)>,
}

/// One page of a user's conversations.
#[derive(Debug, Clone)]
pub struct UserPage {
    pub entries: Vec<UserEntry>,
    pub more: bool,
}

#[derive(Debug, Clone)]
pub struct UserEntry {
    pub conversation: ConversationId,
    pub kind: Arc<ConversationKind>,
    pub head: Seq,
    pub last: Arc<Record>,
    /// The newest record that this user sent; 0: none.
    pub last_own: Seq,
    /// Delivered of each of the user's devices that has one.
    pub delivered: Vec<(DeviceId, Seq)>,
    pub read: Seq,
    /// The other members: the minimum over them of the maximum over each one's devices, and of their Read;
    /// 0 where there is no other (a user talks to itself).
    pub peer_delivered: Seq,
    pub peer_read: Seq,
    /// TickDelivered and TickRead of each of the user's devices that has one.
    pub ticks: Vec<(DeviceId, Seq, Seq)>,
}
