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
    /// Of a group: how far the least advanced member is, and the next one after it. The progress of the others is the
    /// second for whoever is the first, and the first for everybody else.
    Least(ConversationId, Least),
}

/// Which of a group's smallest positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Least {
    Delivered,
    NextDelivered,
    Read,
    NextRead,
}

impl Least {
    pub const ALL: [Self; 4] = [Self::Delivered, Self::NextDelivered, Self::Read, Self::NextRead];
}

impl RegisterKey {
    pub fn conversation(&self) -> ConversationId {
        match self {
            Self::Delivered(c, ..)
            | Self::Read(c, _)
            | Self::ReadCounted(c, _)
            | Self::ReadShown(c, _)
            | Self::TickDelivered(c, ..)
            | Self::TickRead(c, ..)
            | Self::Least(c, _) => *c,
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

    /// Where such a member of a group stands among the readers: who hides is none of those who are counted.
    pub fn among_readers(self, read: Seq) -> Seq {
        if self.hides() { Seq::MAX } else { self.of(read) }
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
