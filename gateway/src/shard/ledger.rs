//! What a shard holds in memory, by owner: what idle sessions are made of, and what is there whether they are or not.
//!
//! Guarantees: each byte has one owner; asking costs the same however many connections there are. What is on the heap for busy
//! connections (incomplete frames, HTTP exchanges) is not counted.

use super::Shard;
use super::stats::Stat;
use crate::mesh;
use ringpost_router::rounded_up;

/// Of a submission and of a completion queue's entry (io_uring_sqe and io_uring_cqe of linux/io_uring.h), and the index of the
/// former.
const SUBMISSION: usize = 64 + 4;
const COMPLETION: usize = 16;

impl Shard {
    /// (owner, bytes) of this shard.
    pub(super) fn ledger(&self) -> [(Stat, u64); 10] {
        let router = self.router.ledger();
        let config = &self.setup.config;
        let open = self.stats.open() as usize;
        let (slots, socket) = (self.ring.slots_bytes(), self.ring.slots_bytes() / self.ring.slots().max(1) as usize);
        let (timer, timers) = self.wheel.bytes();
        let connections = open * (size_of::<super::conn::Conn>() + socket);
        let unused = router.unused
            + (self.conns.bytes() + slots).saturating_sub(connections)
            + timers.saturating_sub(open * timer);
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        let outboxes = self.waiting as usize + self.ring.bytes_in_flight() as usize;
        let buffers = self.ring.buffers_given() * config.buffer_bytes as usize + spare + outboxes;
        let rounding =
            router.rounding + self.spare.iter().map(|it| rounded_up(it.capacity()) - it.capacity()).sum::<usize>();
        let ring = config.sq_entries as usize * SUBMISSION + config.cq_entries as usize * COMPLETION;
        let queues = ring + mesh::INBOX_ENTRY * config.inbox_entries as usize;
        [
            (Stat::MemoryConnection, connections),
            (Stat::MemorySession, router.sessions),
            (Stat::MemoryUser, router.users),
            (Stat::MemoryIndex, router.indexes),
            (Stat::MemoryTimer, router.timers + open * timer),
            (Stat::MemoryConversation, router.conversations),
            (Stat::MemoryBuffer, buffers),
            (Stat::MemoryQueue, queues),
            (Stat::MemoryUnused, unused),
            (Stat::MemoryRounding, rounding),
        ]
        .map(|(owner, bytes)| (owner, bytes as u64))
    }
}
