//! Which session a connection has.
//!
//! A connection of the shard's own is found by its slot, four bytes each; the few that stayed on other shards by a map. Guarantees:
//! nothing by itself: who asks compares the generation, which the session knows.

use crate::boundary::{ConnRef, ShardId};
use crate::paged::Paged;
use crate::shard::Seeded;
use crate::slab::{Key, Slab};
use hashbrown::HashMap;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct SessionsOfConns {
    shard: ShardId,
    /// Slots of sessions by slot of the connection.
    own: Paged<u32>,
    others: HashMap<ConnRef, u32, Seeded>,
}

impl SessionsOfConns {
    pub fn new(shard: ShardId, hasher: Seeded) -> Self {
        Self { shard, own: Paged::default(), others: HashMap::with_hasher(hasher) }
    }

    /// The session of exactly this connection.
    pub fn get(&self, conn: ConnRef, sessions: &Slab<super::Session>) -> Option<Key> {
        let slot = match conn.shard == self.shard {
            true => self.own.get(conn.slot as usize),
            false => self.others.get(&conn),
        };
        let key = sessions.key_at(*slot?)?;
        sessions.get(key).filter(|session| session.conn == conn).map(|_| key)
    }

    pub fn insert(&mut self, conn: ConnRef, session: Key) {
        if conn.shard == self.shard {
            *self.own.reach(conn.slot as usize, || NONE) = session.slot;
        } else {
            self.others.insert(conn, session.slot);
        }
    }

    /// The session is over, or moves.
    pub fn remove(&mut self, conn: ConnRef) {
        if conn.shard != self.shard {
            self.others.remove(&conn);
        } else if let Some(slot) = self.own.get_mut(conn.slot as usize) {
            *slot = NONE;
        }
    }

    /// Bytes for one connection, and all that is allocated.
    pub fn bytes(&self) -> (usize, usize) {
        (size_of::<u32>(), self.own.bytes() + self.others.allocation_size())
    }
}
