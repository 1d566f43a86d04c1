//! A socket moves to the shard of its user: the descriptor from ring to ring, what belongs to it through the inbox.
//!
//! Order at the source: nothing is written or received any more, the ring hands the socket over, and only then the letter
//! is sent. So nothing has to be undone where the other table is full: the socket stays, and its session works through the
//! inbox.

use super::Shard;
use super::conn::{Move, State, flag};
use super::stats::Stat;
use crate::mesh::{Letter, Message};
use crate::ring::{Errno, Handle};
use crate::transport::websocket::{Decoder, Role};
use hashbrown::HashMap;
use ringpost_proto::v1;
use ringpost_router::{Identity, ShardId};
use std::sync::Arc;

/// What waits at the target for its other half; either may come first.
#[derive(Default)]
pub(super) struct Meetings {
    sockets: HashMap<u64, Handle>,
    letters: HashMap<u64, Box<Letter>>,
    /// Counts the moves from this shard.
    next: u64,
}

/// A tag has 56 bits: the shard that it comes from, and a count.
const COUNT_BITS: u32 = 40;

impl Shard {
    /// Begins the move of an authenticated connection.
    pub(super) fn start_move(
        &mut self,
        handle: Handle,
        home: ShardId,
        identity: Arc<Identity>,
        id: u64,
        hello: Box<v1::Hello>,
    ) {
        self.meetings.next += 1;
        let tag = u64::from(self.id) << COUNT_BITS | self.meetings.next & ((1 << COUNT_BITS) - 1);
        let moving = Move { home, tag, identity, hello, id, bytes: Vec::new(), quiet: false, sent: false };
        self.enter(handle, State::Moving(Box::new(moving)));
        // Answered by RecvEnded, unless the socket is being closed.
        let _ = self.ring.pause_recv(handle);
    }

    /// Hands the socket over once nothing is in flight.
    pub(super) fn depart_if_quiet(&mut self, handle: Handle) {
        let Some(conn) = self.conns.get(handle) else { return };
        let idle = !conn.is(flag::SENDING) && conn.out.is_empty();
        let State::Moving(moving) = &mut conn.state else { return };
        if !moving.quiet || !idle || moving.sent {
            return;
        }
        let sent = self.mesh.peer(moving.home).is_some_and(|peer| self.ring.send_fd(handle, peer, moving.tag).is_ok());
        match sent {
            true => moving.sent = true,
            false => self.stay(handle),
        }
    }

    /// What became of the socket.
    pub(super) fn departed(&mut self, handle: Handle, result: Result<(), Errno>) {
        if result.is_err() {
            return self.stay(handle);
        }
        let moving = self.conns.get(handle).is_some_and(|conn| matches!(conn.state, State::Moving(_)));
        if !moving {
            return;
        }
        self.wheel.cancel(handle.slot);
        let Some(State::Moving(moving)) = self.enter(handle, State::Departed) else { return };
        self.stats.add(Stat::Departed, 1);
        let Some(conn) = self.conns.get(handle) else { return };
        let decoder = std::mem::replace(&mut conn.decoder, Decoder::new(Role::Server, 0));
        let encoding = conn.encoding;
        let Move { home, tag, identity, hello, id, bytes, .. } = *moving;
        self.mesh.send(home, Message::Letter(Box::new(Letter { tag, encoding, decoder, identity, hello, id, bytes })));
    }

    /// The other shard's table is full: the session's router is there, its socket here.
    fn stay(&mut self, handle: Handle) {
        self.stats.add(Stat::MoveFailed, 1);
        let moving = self.conns.get(handle).is_some_and(|conn| matches!(conn.state, State::Moving(_)));
        if !moving {
            return;
        }
        let Some(State::Moving(moving)) = self.enter(handle, State::Hello(None)) else { return };
        let Move { home, identity, hello, id, mut bytes, .. } = *moving;
        self.open(handle, home, identity, id, hello);
        // Refused only where the socket is being closed.
        let _ = self.ring.recv(handle);
        self.feed(handle, &mut bytes);
    }

    pub(super) fn arrived(&mut self, handle: Handle, tag: u64) {
        self.conns.insert(handle, State::Arriving, self.now.mono_ms);
        self.stats.add(Stat::Arrived, 1);
        self.stats.add(Stat::ConnHello, 1);
        self.wheel.arm(handle.slot, self.now.mono_ms + self.setup.config.authenticate_ms);
        match self.meetings.letters.remove(&tag) {
            Some(letter) => self.unite(handle, *letter),
            None => drop(self.meetings.sockets.insert(tag, handle)),
        }
    }

    pub(super) fn letter(&mut self, letter: Box<Letter>) {
        match self.meetings.sockets.remove(&letter.tag) {
            Some(handle) => self.unite(handle, *letter),
            None => drop(self.meetings.letters.insert(letter.tag, letter)),
        }
    }

    fn unite(&mut self, handle: Handle, letter: Letter) {
        let Some(conn) = self.conns.get(handle) else { return };
        let Letter { encoding, decoder, identity, hello, id, mut bytes, .. } = letter;
        conn.encoding = encoding;
        conn.decoder = decoder;
        // As if it had been accepted here.
        let _ = self.ring.recv(handle);
        self.open(handle, self.id, identity, id, hello);
        self.feed(handle, &mut bytes);
    }
}
