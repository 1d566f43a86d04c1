//! The registers: durable numbers that only grow, by which members and their devices say how far they are.

use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};

/// A durable number that only grows. A missing register reads as 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterKey {
    /// Everything up to here that is addressed to the device was acknowledged by it.
    Delivered(ConversationId, UserKey, DeviceId),
    Read(ConversationId, UserKey),
    /// How many records up to Read count for this user: what is unread is the rest.
    ReadCounted(ConversationId, UserKey),
    /// What others are shown of that: see [`Shown`].
    ReadShown(ConversationId, UserKey),
    /// Up to where the device has acknowledged a tick: what an offline sender has not heard yet is told at its next sync.
    TickDelivered(ConversationId, UserKey, DeviceId),
    TickRead(ConversationId, UserKey, DeviceId),
    /// Of a group: up to where the user is told that all others have received, and read. Each user's is its own: who is
    /// behind is not told of itself.
    ToldDelivered(ConversationId, UserKey),
    ToldRead(ConversationId, UserKey),
    /// From this position on, up to the value, records had expired before any device of the user had them, or had a slice for
    /// none of its devices: it was never given them, though its Delivered registers are beyond. They are one set of positions: a
    /// register reads as the end of what it begins in the midst of. The last of [`MISSED_RANGES`] ranges has no end
    /// ([`ranges::OPEN`](crate::ranges::OPEN)).
    Missed(ConversationId, UserKey, Seq),
}

/// Ranges that are kept for a user who missed something. From the beginning of the last one on nothing of that conversation is
/// shown as received by that user any more: were older ones made one instead, with what lies between them, messages that were
/// shown as received or read would not be any longer.
pub const MISSED_RANGES: usize = 32;

/// Ranges of a conversation that a sender is told were not received, at most; the last one of so many has no end.
pub const EXCLUDED_RANGES: usize = 256;

impl RegisterKey {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Delivered(c, ..)
            | Self::Read(c, _)
            | Self::ReadCounted(c, _)
            | Self::ReadShown(c, _)
            | Self::TickDelivered(c, ..)
            | Self::TickRead(c, ..)
            | Self::ToldDelivered(c, _)
            | Self::ToldRead(c, _)
            | Self::Missed(c, ..) => *c,
        }
    }
}

/// What others are shown of somebody's reading: the register ReadShown. 0: all of it. Else twice the position that is shown,
/// plus 1 while what is read beyond it is hidden: so it only grows, as long as hiding ends with a later position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown(pub u64);

impl Shown {
    pub fn upto(seq: Seq) -> Self {
        Self(2 * seq)
    }

    pub fn hidden_after(seq: Seq) -> Self {
        Self(2 * seq + 1)
    }

    /// Whether what is read is hidden.
    pub fn hides(self) -> bool {
        self.0 % 2 == 1
    }

    /// Up to where it is shown of somebody who has read up to `read`.
    pub fn of(self, read: Seq) -> Seq {
        if self.0 == 0 { read } else { read.min(self.0 / 2) }
    }
}

/// One write of a register. `stamp` orders the writes of one register for stores in which the last write stays: of two, the
/// one with the larger value has the larger stamp, whoever writes it and whatever it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    pub key: RegisterKey,
    pub value: Seq,
    pub stamp: u64,
}

impl Raise {
    /// The value is its own stamp: nothing else is the same for every process, before and after it was loaded anew.
    pub fn new(key: RegisterKey, value: Seq) -> Self {
        Self { key, value, stamp: value }
    }
}
