//! A socket moves to the shard of its user: the descriptor from ring to ring, what belongs to it through the inbox.
//!
//! Order at the source: nothing is written or received any more, the ring hands the socket over, and only then the letter
//! is sent. So nothing has to be undone where the other table is full: the socket stays, and its session works through the
//! inbox.

use super::Shard;
use super::conn::{Move, State, flag};
use super::preamble::Preamble;
use super::stats::Stat;
use crate::mesh::{Errand, Letter, Message};
use crate::ring::{Errno, Handle};
use crate::transport::websocket::{Decoder, Role};
use hashbrown::HashMap;
use ringpost_router::ShardId;
use std::sync::atomic::Ordering;

/// What waits at the target for its other half; either may come first.
#[derive(Default)]
pub(super) struct Meetings {
    sockets: HashMap<u64, Handle>,
    letters: HashMap<u64, Box<Letter>>,
    /// Counts the moves from this shard.
    next: u64,
}

/// Slots of a table that no socket is sent to, at most.
const LAST_SLOTS: u32 = 64;

/// A tag has 56 bits: the shard that it comes from, and a count.
const COUNT_BITS: u32 = 40;

impl Shard {
    /// Begins the move of an authenticated connection, or of a fresh one that says nothing yet.
    pub(super) fn start_move(&mut self, handle: Handle, home: ShardId, errand: Errand) {
        self.meetings.next += 1;
        let tag = u64::from(self.id) << COUNT_BITS | self.meetings.next & ((1 << COUNT_BITS) - 1);
        let moving = Move { home, tag, errand, bytes: Vec::new(), sent: false };
        self.enter(handle, State::Moving(Box::new(moving)));
        // Answered by RecvEnded, unless the socket is being closed, or nothing is received already (`flag::RECV_OFF`).
        let _ = self.ring.pause_recv(handle);
        self.depart_if_quiet(handle);
    }

    /// Hands the socket over once nothing is in flight.
    pub(super) fn depart_if_quiet(&mut self, handle: Handle) {
        let Some(conn) = self.conns.get(handle) else { return };
        let quiet = conn.is(flag::RECV_OFF) && conn.stash.is_none();
        let idle = !conn.is(flag::SENDING) && conn.out.is_empty();
        let State::Moving(moving) = &conn.state else { return };
        if !quiet || !idle || moving.sent {
            return;
        }
        let (home, tag) = (moving.home, moving.tag);
        let peer = self.mesh.peer(home).filter(|_| self.takes_arrivals(home));
        if peer.is_none_or(|peer| self.ring.send_fd(handle, peer, tag).is_err()) {
            return self.stay(handle);
        }
        if let Some(conn) = self.conns.get(handle)
            && let State::Moving(moving) = &mut conn.state
        {
            moving.sent = true;
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
        let deadline_ms = self.wheel.deadline_ms(handle.slot).unwrap_or(self.now.mono_ms);
        self.wheel.cancel(handle.slot);
        let Some(State::Moving(moving)) = self.enter(handle, State::Departed) else { return };
        self.stats.add(Stat::Departed, 1);
        let Some(conn) = self.conns.get(handle) else { return };
        let decoder = std::mem::replace(&mut conn.decoder, Decoder::new(Role::Server, 0));
        let encoding = conn.encoding;
        let Move { home, tag, errand, bytes, .. } = *moving;
        let origin = self.origins.remove(&handle.slot);
        let letter = Letter { tag, encoding, decoder, errand, origin, bytes, deadline_ms };
        self.mesh.send(home, Message::Letter(Box::new(letter)));
    }

    /// The other shard's table is full: the session's router is there, its socket here.
    fn stay(&mut self, handle: Handle) {
        self.stats.add(Stat::MoveFailed, 1);
        let moving = self.conns.get(handle).is_some_and(|conn| matches!(conn.state, State::Moving(_)));
        if !moving {
            return;
        }
        let Some(State::Moving(moving)) = self.enter(handle, State::Head(None)) else { return };
        let Move { home, errand, bytes, .. } = *moving;
        self.settle(handle, home, errand, bytes);
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
        // One that was given up meanwhile is closing already: no router may hear of it.
        let Some(conn) = self.conns.get(handle).filter(|conn| matches!(conn.state, State::Arriving)) else { return };
        let Letter { encoding, decoder, errand, origin, bytes, deadline_ms, .. } = letter;
        conn.encoding = encoding;
        conn.decoder = decoder;
        if let Some(origin) = origin {
            self.origins.insert(handle.slot, origin);
        }
        self.wheel.arm(handle.slot, deadline_ms);
        self.settle(handle, self.id, errand, bytes);
    }

    /// The connection goes on here.
    fn settle(&mut self, handle: Handle, home: ShardId, errand: Errand, mut bytes: Vec<u8>) {
        self.read(handle);
        match errand {
            Errand::Session(greeting) => self.open(handle, home, greeting),
            Errand::Upgrade(claim) => self.admit(handle, home, *claim),
            Errand::Room => drop(self.enter(handle, State::Head(None))),
            Errand::Preamble(proxy) => drop(self.enter(handle, State::Preamble(Box::new(Preamble::new(proxy))))),
        }
        self.feed(handle, &mut bytes);
    }

    /// Where a fresh socket should go instead: kernels spread connections unevenly, and a shard that is nearly full hands
    /// them on as long as another has room.
    pub(super) fn roomier(&self) -> Option<ShardId> {
        if self.ring.room() >= self.setup.config.derived.descriptors_per_shard / 16 {
            return None;
        }
        let room = self.setup.room.iter().map(|room| room.load(Ordering::Relaxed));
        let (at, most) = room.enumerate().max_by_key(|(_, room)| *room)?;
        let other = at as ShardId;
        (other != self.id && most > self.ring.room() && self.takes_arrivals(other)).then_some(other)
    }

    /// Whether a socket may be sent there. A shard's last slots are for those that the kernel accepts there: were they
    /// taken on the way, a client that believes itself connected would be cut.
    fn takes_arrivals(&self, shard: ShardId) -> bool {
        let last = (self.setup.config.derived.descriptors_per_shard / 16).min(LAST_SLOTS);
        self.setup.room.get(usize::from(shard)).is_some_and(|room| room.load(Ordering::Relaxed) > last)
    }
}
