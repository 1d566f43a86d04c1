//! Shard to shard, within one process.
//!
//! Owns: one bounded inbox per shard, and what did not fit into it (the spill, kept by the sender). Guarantees: messages from
//! one shard to another arrive in the order in which they were sent, and none is lost; a shard that sleeps is woken, one
//! that is awake is not bothered. Never does: wait. A sender whose spill grows takes no new input from clients until it has
//! shrunk ([`Mesh::is_congested`]).

mod bell;
mod message;

pub use bell::Bell;
pub use message::{Claim, Errand, Greeting, Letter, Message};

use crate::ring::{PeerId, Ring};
use crossbeam_queue::ArrayQueue;
use ringpost_router::ShardId;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of one entry of an inbox: the message and the queue's own number of it.
pub const INBOX_ENTRY: usize = size_of::<Message>() + size_of::<usize>();

/// Messages that spilled towards all shards together before client input is gated.
const CONGESTED: usize = 1024;

/// Where the other shards put messages for one shard.
#[derive(Debug)]
pub struct Inbox {
    queue: ArrayQueue<Message>,
    bell: Bell,
}

impl Inbox {
    pub fn new(entries: usize, bell: Bell) -> Self {
        Self { queue: ArrayQueue::new(entries.max(1)), bell }
    }

    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// From a thread that is no shard (start and stop). `false`: full.
    pub fn post(&self, message: Message) -> bool {
        let pushed = self.queue.push(message).is_ok();
        self.bell.ring();
        pushed
    }
}

/// One shard's end of the mesh.
pub struct Mesh {
    me: ShardId,
    inboxes: Arc<[Inbox]>,
    /// The other shards' rings, as this shard's ring knows them.
    peers: Vec<PeerId>,
    spill: Vec<VecDeque<Message>>,
    spilled: usize,
    /// Shards that were sent something in this turn.
    touched: Vec<bool>,
    pub sent: u64,
    /// Messages that did not fit at once.
    pub delayed: u64,
}

impl Mesh {
    /// Makes all shards known to this shard's ring.
    pub fn new(me: ShardId, inboxes: Arc<[Inbox]>, ring: &mut Ring) -> Self {
        let peers = inboxes.iter().map(|inbox| ring.add_peer(inbox.bell.waker().clone())).collect();
        let count = inboxes.len();
        Self {
            me,
            inboxes,
            peers,
            spill: (0..count).map(|_| VecDeque::new()).collect(),
            spilled: 0,
            touched: vec![false; count],
            sent: 0,
            delayed: 0,
        }
    }

    pub fn shards(&self) -> ShardId {
        self.inboxes.len() as ShardId
    }

    pub fn peer(&self, shard: ShardId) -> Option<PeerId> {
        self.peers.get(usize::from(shard)).copied()
    }

    /// Sends; arrives in order. To oneself, too, through the inbox.
    pub fn send(&mut self, to: ShardId, message: Message) {
        let to = usize::from(to);
        let (Some(inbox), Some(spill)) = (self.inboxes.get(to), self.spill.get_mut(to)) else {
            debug_assert!(false, "no shard {to}");
            return;
        };
        self.sent += 1;
        self.touched[to] = true;
        let left = if spill.is_empty() { inbox.queue.push(message).err() } else { Some(message) };
        if let Some(message) = left {
            spill.push_back(message);
            self.spilled += 1;
            self.delayed += 1;
        }
    }

    /// The next message for this shard.
    pub fn receive(&self) -> Option<Message> {
        self.inboxes.get(usize::from(self.me))?.queue.pop()
    }

    /// Whether something waits for this shard.
    pub fn has_mail(&self) -> bool {
        self.inboxes.get(usize::from(self.me)).is_some_and(|inbox| !inbox.queue.is_empty())
    }

    /// At the end of a turn: tries the spill again, and wakes whoever sleeps with this ring's next enter.
    pub fn flush(&mut self, ring: &mut Ring) {
        for to in 0..self.inboxes.len() {
            if self.spilled > 0 {
                self.retry(to);
            }
            if std::mem::take(&mut self.touched[to]) && self.inboxes[to].bell.was_parked() {
                ring.wake(self.peers[to]);
            }
        }
    }

    fn retry(&mut self, to: usize) {
        while let Some(message) = self.spill[to].pop_front() {
            self.touched[to] = true;
            if let Err(message) = self.inboxes[to].queue.push(message) {
                self.spill[to].push_front(message);
                return;
            }
            self.spilled -= 1;
        }
    }

    /// Messages that wait for room in an inbox.
    pub fn spilled(&self) -> usize {
        self.spilled
    }

    /// Whether the shard should take no new input from clients.
    pub fn is_congested(&self) -> bool {
        self.spilled > CONGESTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Config;
    use ringpost_router::{ConnRef, Input};

    fn numbered(n: u32) -> Message {
        let conn = ConnRef { shard: 0, slot: n, generation: 0 };
        Message::Input(Box::new(Input::Closed { conn }))
    }

    fn number(message: &Message) -> u32 {
        match message {
            Message::Input(input) => match **input {
                Input::Closed { conn } => conn.slot,
                _ => panic!("{input:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn two(entries: usize) -> (Ring, Mesh, Ring, Mesh) {
        let config = Config { slots: 4, buffers: 1, ..Config::default() };
        let (mut a, mut b) = (Ring::new(&config).unwrap(), Ring::new(&config).unwrap());
        let inboxes = [&a, &b].map(|ring| Inbox::new(entries, Bell::new(ring.waker())));
        let inboxes: Arc<[Inbox]> = inboxes.into_iter().collect();
        let meshes = (Mesh::new(0, Arc::clone(&inboxes), &mut a), Mesh::new(1, inboxes, &mut b));
        (a, meshes.0, b, meshes.1)
    }

    #[test]
    fn what_does_not_fit_comes_later_and_in_order() {
        let (mut ring, mut from, _other, to) = two(8);
        let mut received = Vec::new();
        for n in 0..5_000 {
            from.send(1, numbered(n));
            // The other takes less than is sent.
            if n % 3 == 0 {
                received.extend(to.receive().map(|message| number(&message)));
                from.flush(&mut ring);
            }
        }
        assert!(from.is_congested() && from.delayed > 0);
        while from.spilled() > 0 || to.has_mail() {
            received.extend(to.receive().map(|message| number(&message)));
            from.flush(&mut ring);
        }
        assert_eq!(received, (0..5_000).collect::<Vec<_>>());
        assert!(!from.is_congested());
    }

    #[test]
    fn only_a_sleeping_shard_is_woken() {
        let (mut ring, mut from, _other, to) = two(8);
        let before = ring.counters().submissions;
        from.send(1, numbered(1));
        from.flush(&mut ring);
        assert_eq!(ring.counters().submissions, before, "awake");
        to.inboxes[1].bell().park();
        from.send(1, numbered(2));
        from.send(1, numbered(3));
        from.flush(&mut ring);
        from.flush(&mut ring);
        assert_eq!(ring.counters().submissions, before + 1, "asleep: woken once");
    }
}
