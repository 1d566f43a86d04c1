//! What the state machines hold in memory, by owner.
//!
//! Guarantees: asking costs the same however many sessions there are. What is counted is what idle sessions are made of, and,
//! about, what busy ones and rooms hold beside it; requests on their way are not.

use crate::Router;
use crate::conversation::Conversation;
use crate::frozen::{Frozen, Read, Reader};
use std::collections::BTreeMap;

/// Bytes. What idle sessions are made of is exactly what was asked of the allocator and is in use; what busy sessions and rooms hold
/// beside their entries, and the last two, are about right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Entries of sessions, and what those hold that are behind or wait for acks.
    pub sessions: usize,
    /// Entries of users, and their names.
    pub users: usize,
    /// What finds a session by its connection, a user by name, a conversation by id or by who writes to whom.
    pub indexes: usize,
    /// Deadlines that can be armed for what there is.
    pub timers: usize,
    /// Rooms, with what they keep of their newest records.
    pub conversations: usize,
    /// Entries, buckets and deadlines that are allocated and hold nothing.
    pub unused: usize,
    /// What the allocator rounds up, see [`rounded_up`].
    pub rounding: usize,
}

/// Bytes that an allocator takes for so many: of most sizes there are four classes from one power of two to the next.
pub fn rounded_up(bytes: usize) -> usize {
    match bytes {
        0..=64 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(1 << (bytes - 1).ilog2().saturating_sub(2)),
    }
}

/// Bytes of a tree: its nodes have eleven places, of which about eight are taken.
pub(crate) fn tree_bytes<K, V>(map: &BTreeMap<K, V>) -> usize {
    map.len().div_ceil(8) * rounded_up(11 * size_of::<(K, V)>() + 16)
}

/// Bytes of one thing, as they stand in the sum over all of its kind. In no snapshot: what is restored is counted anew.
#[derive(Debug, Default)]
pub(crate) struct Tally(usize);

impl Tally {
    pub fn become_bytes(&mut self, bytes: usize, sum: &mut usize) {
        *sum = *sum + bytes - std::mem::replace(&mut self.0, bytes);
    }
}

impl Frozen for Tally {
    fn write(&self, _: &mut Vec<u8>) {}
    fn read(_: &mut Reader<'_>) -> Read<Self> {
        Ok(Self::default())
    }
}

impl Router {
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        let mut paged = |owner: fn(&mut Ledger) -> &mut usize, count: usize, (each, all): (usize, usize)| {
            let used = count * each;
            *owner(&mut ledger) += used;
            ledger.unused += all.saturating_sub(used);
        };
        let (sessions, users, rooms) = (self.sessions.len(), self.users.len(), self.conversations.len());
        paged(|it| &mut it.sessions, sessions, self.sessions.bytes());
        let (entry, entries, names) = self.users.entry_bytes();
        paged(|it| &mut it.users, users, (entry, entries));
        paged(|it| &mut it.conversations, rooms, self.conversations.bytes());
        paged(|it| &mut it.timers, sessions, self.session_wheel.bytes());
        paged(|it| &mut it.timers, rooms, self.conversation_wheel.bytes());
        paged(|it| &mut it.indexes, sessions, self.of_conns.bytes());
        paged(|it| &mut it.indexes, users, self.users.index_bytes());
        let of_room = size_of::<(ringpost_proto::id::ConversationId, crate::slab::Key)>() + 1;
        paged(|it| &mut it.indexes, rooms, (of_room, self.by_conversation.allocation_size()));
        let (partners, free) = self.partners.bytes();
        ledger.indexes += partners;
        ledger.unused += free;
        // How many are looked at soon is not kept apart.
        ledger.unused += self.lingering.capacity() * size_of::<(u64, ringpost_proto::id::UserKey)>();
        ledger.sessions += self.work_bytes;
        ledger.users += names;
        ledger.rounding += self.users.names_rounded_up() - names;
        let boxed = size_of::<Conversation>();
        ledger.conversations += rooms * boxed + self.room_bytes;
        ledger.rounding += rooms * (rounded_up(boxed) - boxed);
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_a_quarter_of_a_power_of_two() {
        for (bytes, rounded) in
            [(1, 16), (33, 48), (64, 64), (65, 80), (81, 96), (128, 128), (129, 160), (1_025, 1_280)]
        {
            assert_eq!(rounded_up(bytes), rounded, "{bytes}");
        }
        assert!((1..100_000).all(|bytes| (bytes..bytes + bytes / 4 + 16).contains(&rounded_up(bytes))));
    }
}
