//! What each outstanding store request is for.

use crate::conversation::InfoRead;
use crate::session::{ListsRead, LookupRead};
use crate::slab::Key;
use crate::user::Editing;
use ringpost_persist::{Peer, Raise};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};

#[derive(Debug)]
pub(crate) enum Pending {
    LoadUser {
        session: Key,
    },
    Pump {
        session: Key,
        conversation: ConversationId,
    },
    Page(Box<PageRead>),
    Lookup(Box<LookupRead>),
    DeviceLists(Box<ListsRead>),
    /// Whether a user was ever answered, who would begin one conversation more than a day allows.
    Answered {
        user: UserKey,
        conversation: ConversationId,
        ticket: u64,
    },
    /// The devices of a user whose session is loading; and where its device starts, being written.
    Devices {
        session: Key,
    },
    Starts {
        session: Key,
    },
    /// The devices of a user who asks for them.
    OwnDevices {
        session: Key,
        re: u64,
    },
    Conversations {
        session: Key,
        re: u64,
    },
    LoadConversation {
        conversation: Key,
    },
    Append {
        conversation: Key,
    },
    ReadSlot {
        conversation: Key,
    },
    FindCmid {
        conversation: Key,
        ticket: u64,
    },
    /// The record that a proposal is about.
    Look {
        conversation: Key,
        ticket: u64,
    },
    /// The edits of a message that is to be erased.
    Edits {
        conversation: Key,
        ticket: u64,
    },
    /// The record that a question is about.
    Info(Box<InfoRead>),
    /// The devices of a user whom a proposal has slices for.
    Lists {
        conversation: Key,
        ticket: u64,
        user: UserKey,
    },
    /// How much of a conversation counts as read by a user, before that is written.
    CountRead {
        conversation: ConversationId,
        user: UserKey,
        read: Seq,
        since_ms: u64,
    },
    /// A user's settings, for its sessions and who watches it.
    Settings {
        user: UserKey,
        watched: bool,
    },
    /// When a user who is watched was last here.
    LastSeen {
        user: UserKey,
    },
    /// A document that is to be changed, and one that was.
    ReadToEdit(Box<Editing>),
    WriteEdited(Box<Editing>),
    /// Registers of a conversation; empty for what a device has heard. `since_ms`: when the first of them moved.
    Raise {
        raises: Vec<Raise>,
        /// What is written when these are, the last of it first.
        behind: Vec<Vec<Raise>>,
        since_ms: u64,
    },
}

/// A fetch or history request on its way.
#[derive(Debug)]
pub(crate) struct PageRead {
    pub session: Key,
    pub re: u64,
    pub user: UserKey,
    pub device: DeviceId,
    pub peer: Peer,
    /// Fetch: the range; history: `None`.
    pub range: Option<(Seq, Seq)>,
    /// History: what is below this seq.
    pub before: Seq,
    pub limit: u32,
}
