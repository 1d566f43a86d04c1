//! What is durable. The Store contract on one page; the rest of the crate keeps it.
//!
//! A store takes requests in batches and answers each exactly once, in any order, but for the append answers of one
//! conversation, which come in the order of their requests. Every answer may be `Unavailable` (nothing is known to have
//! changed and nothing will); only `Append`, `Cas`, `Put` and `Take` may be `Unknown` (it may land later); an `Append` may be
//! `Full`.
//!
//! Guarantees of an answer:
//! - `Appended`: the records are durable and every later read of any kind sees them.
//! - `LogSlice`, `Conversation`, `User`, `Found`, `Counted`, `Document`: reflect at least everything answered before the request was submitted.
//! - `Raised`: durable. A lower or equal value changes nothing and is no error.

pub mod conformance;
mod conversation;
pub mod embedded;
pub mod faulty;
pub mod files;
pub mod index;
mod port;
pub mod prng;
pub mod ranges;
mod recent;
pub mod record;
mod register;
pub mod roster;
#[cfg(feature = "cluster")]
pub mod scylla;
mod view;

pub use conversation::{ConversationKind, Peer, Role};
pub use port::{StorePort, Waker};
pub use ranges::Ranges;
pub use record::{Body, Record, RecordError, content_hash, content_hash_v1};
pub use register::{EXCLUDED_RANGES, MISSED_RANGES, Raise, RegisterKey, Shown};
pub use roster::{Member, MemberAt, Roster};
pub use view::TAIL_MS;

use bytes::Bytes;
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, RecordId, Seq, UserKey};
use std::sync::Arc;

/// Chosen by who asks; comes back with the answer. A store never looks at it.
pub type Tag = u64;

/// A small document with a version: the first write makes version 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DocumentKey {
    /// The devices of a user.
    Devices(UserKey),
    /// Its settings: profile, privacy, mutes.
    Settings(UserKey),
}

/// One of the things that are handed out once each (one-time keys).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey {
    pub user: UserKey,
    pub device: DeviceId,
    pub number: u64,
}

/// Bytes of a document or an item at most.
pub const DOCUMENT_BYTES: usize = 64 << 10;

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
    /// At most `records` records and about `bytes` bytes (never less than one record, if there is one). With a viewer: those
    /// that this member may see ([`Member::sees`]); who never was one gets `NotMember`, if there is such a conversation.
    ReadLog {
        tag: Tag,
        conversation: ConversationId,
        viewer: Option<UserKey>,
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
        /// Whether `last`, `title` and `unread` of the entries are wanted: each may cost a look into the log. A store may
        /// tell them all the same.
        shown: bool,
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
    /// How many records up to `upto` count for this member and are none of its own: the value of ReadCounted there.
    CountRead {
        tag: Tag,
        conversation: ConversationId,
        user: UserKey,
        upto: Seq,
    },
    ReadDocument {
        tag: Tag,
        key: DocumentKey,
    },
    /// Writes the document if its version is `expected` (0: there is none). At most [`DOCUMENT_BYTES`].
    Cas {
        tag: Tag,
        key: DocumentKey,
        expected: u64,
        bytes: Bytes,
    },
    /// Keeps an item; one with the same key is replaced. At most [`DOCUMENT_BYTES`].
    Put {
        tag: Tag,
        key: Box<ItemKey>,
        bytes: Bytes,
    },
    /// The numbers of a device's items, ascending, so many at most.
    ListItems {
        tag: Tag,
        user: UserKey,
        device: DeviceId,
        limit: u32,
    },
    /// Hands an item out and removes it: of all that ask for it one gets it.
    Take {
        tag: Tag,
        key: Box<ItemKey>,
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
            | Self::CountRead { tag, .. }
            | Self::ReadDocument { tag, .. }
            | Self::Cas { tag, .. }
            | Self::Put { tag, .. }
            | Self::ListItems { tag, .. }
            | Self::Take { tag, .. }
            | Self::Sweep { tag } => *tag,
        }
    }

    /// The same request under another tag.
    pub fn with_tag(mut self, new: Tag) -> Self {
        match &mut self {
            Self::Append { tag, .. }
            | Self::ReadLog { tag, .. }
            | Self::LoadConversation { tag, .. }
            | Self::LoadUser { tag, .. }
            | Self::Raise { tag, .. }
            | Self::FindCmid { tag, .. }
            | Self::CountRead { tag, .. }
            | Self::ReadDocument { tag, .. }
            | Self::Cas { tag, .. }
            | Self::Put { tag, .. }
            | Self::ListItems { tag, .. }
            | Self::Take { tag, .. }
            | Self::Sweep { tag } => *tag = new,
        }
        self
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Append { .. } | Self::Raise { .. } | Self::Cas { .. } | Self::Put { .. } | Self::Take { .. }
        )
    }

    /// Whether it reads many rows, for somebody who comes back or looks back: what a message on its way waits for goes first.
    pub fn is_page(&self) -> bool {
        match self {
            Self::LoadUser { .. } | Self::ListItems { .. } => true,
            Self::ReadLog { records, .. } => *records > 1,
            _ => false,
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
    /// `head`: of the log, or of the viewer's part of it. `reached`: everything of the range up to here (downwards: down to here) was looked at; what is not among the records
    /// is not for the viewer, or no longer kept. Without anything in the range: where it begins, less one (downwards: plus
    /// one). `gone`: what of the range up to there is no longer kept; no record that is neither among the records nor in
    /// there is for the viewer.
    LogSlice {
        head: Seq,
        reached: Seq,
        records: Vec<Arc<Record>>,
        gone: Ranges,
    },
    /// The viewer never was a member.
    NotMember,
    /// `None`: no such conversation yet.
    Conversation(Option<Box<ConversationState>>),
    User(Box<UserPage>),
    Raised,
    Found(Option<Arc<Record>>),
    Counted(u64),
    /// The version and the bytes.
    Document(Option<(u64, Bytes)>),
    /// `Cas` and `Put`: it is stored; the version (of an item: 0).
    Stored {
        version: u64,
    },
    /// `Cas`: the version is another one; this is what there is.
    Stale(Option<(u64, Bytes)>),
    Items(Vec<u64>),
    /// `None`: it is gone, or never was.
    Taken(Option<Bytes>),
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
    pub last: LastRecord,
    /// The latest time that a client message id of the whole log names (UUIDv7), Unix milliseconds; 0: none does.
    pub latest_cmid_ms: u64,
    /// The newest records in seq order: the last 256, and those of the last [`TAIL_MS`] up to 4,096 (or all there are); of
    /// them the newest, and before it as many as cost 8 MiB together.
    pub tail: Vec<Arc<Record>>,
    /// As of the head.
    pub roster: Roster,
    /// The Delivered, Read, ReadCounted, ReadShown, Told and Missed registers of the conversation.
    pub registers: Vec<(RegisterKey, Seq)>,
}

/// What the last record of a log says of those that follow it; also where the record itself is no longer kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastRecord {
    pub id: RecordId,
    pub us: u64,
    pub ordinal: u64,
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
    /// The last record of the log that may be for this user: of a former member, the one with which it left.
    pub head: Seq,
    /// Id of the newest record of the log, whoever it is for; of a former member, of the one with which it left: by it the
    /// list is sorted.
    pub last_id: RecordId,
    /// The newest record that this user may see; `None`: none of the newest few.
    pub last: Option<Arc<Record>>,
    /// The first record that may be for this user.
    pub join: Seq,
    /// Of a group.
    pub title: String,
    /// The newest record that this user sent; 0: none.
    pub last_own: Seq,
    /// Delivered of each of the user's devices that has one.
    pub delivered: Vec<(DeviceId, Seq)>,
    pub read: Seq,
    /// Records that count, are kept and were not read.
    pub unread: u64,
    /// Of a direct conversation: the maximum over the other side's devices, and what is [`Shown`] of its reading; 0 where a user
    /// talks to itself. Of a group: its Told registers.
    pub peer_delivered: Seq,
    pub peer_read: Seq,
    /// Of a direct conversation: the ranges that are kept from the other side, or that it [missed](RegisterKey::Missed). Of
    /// a group: what any of the others missed.
    pub peer_excluded: Ranges,
    /// What of the log up to `head` is no longer kept.
    pub gone: Ranges,
    /// TickDelivered and TickRead of each of the user's devices that has one.
    pub ticks: Vec<(DeviceId, Seq, Seq)>,
}
