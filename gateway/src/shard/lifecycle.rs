//! From accept to the end of a connection: states, deadlines, pauses, closing.

use super::Shard;
use super::conn::{State, flag};
use super::listen;
use super::stats::Stat;
use crate::mesh::Errand;
use crate::ring::{Handle, RecvEnd};
use crate::transport::websocket::{Opcode, encode};
use ringpost_proto::close::CloseCode;
use std::net::IpAddr;

/// From the close frame, or the last byte of an answer, to the end of the socket: the peer sees a FIN at once and has this
/// long to take what is on its way.
const CLOSE_MS: u64 = 1_000;

/// From an HTTP request to its answer; the control plane's own time-out is shorter.
const HTTP_MS: u64 = 60_000;

/// Silence beyond two heartbeats before a session is given up, milliseconds.
const HEARTBEAT_GRACE_MS: u64 = 5_000;

impl Shard {
    /// `peer`: absent where the kernel did not tell; such a connection is not limited.
    pub(super) fn accepted(&mut self, handle: Handle, listener: usize, peer: Option<IpAddr>) {
        self.conns.insert(handle, State::Head(None), self.now.mono_ms);
        self.stats.add(Stat::Accepted, 1);
        self.stats.add(Stat::ConnHead, 1);
        self.wheel.arm(handle.slot, self.now.mono_ms + self.setup.config.authenticate_ms);
        if listener == listen::PROXIED {
            return self.accepted_from_proxy(handle, peer);
        }
        match peer.is_none_or(|peer| self.count_address(handle, peer)) {
            true => self.find_room(handle, Errand::Room),
            // What it sends is read and dropped, so that the answer is not lost to a reset.
            false => self.read(handle),
        }
    }

    /// One connection more of this address. False: it has too many, and was told.
    pub(super) fn count_address(&mut self, handle: Handle, address: IpAddr) -> bool {
        match self.setup.addresses.accept(address) {
            Ok(None) => {}
            Ok(Some(origin)) => drop(self.origins.insert(handle.slot, origin)),
            Err(exceeded) => {
                self.refuse_address(handle, exceeded, false);
                return false;
            }
        }
        true
    }

    /// Reads a fresh socket, here or where there is more room.
    pub(super) fn find_room(&mut self, handle: Handle, errand: Errand) {
        match self.roomier() {
            Some(shard) => self.start_move(handle, shard, errand),
            None => self.read(handle),
        }
    }

    /// Moves a connection into another state; what it was in before.
    pub(super) fn enter(&mut self, handle: Handle, state: State) -> Option<State> {
        let conn = self.conns.get(handle)?;
        let after = state.gauge();
        let before = std::mem::replace(&mut conn.state, state);
        if before.gauge() != after {
            if let Some(gauge) = before.gauge() {
                self.stats.sub(gauge, 1);
            }
            if let Some(gauge) = after {
                self.stats.add(gauge, 1);
            }
        }
        Some(before)
    }

    /// Begins the idle clock of a WebSocket; the first ping is jittered, so that sessions that came together part.
    pub(super) fn start_heartbeat(&mut self, handle: Handle) {
        let heartbeat = self.setup.config.heartbeat_ms;
        let first = heartbeat / 2 + self.below(heartbeat / 2);
        self.wheel.arm(handle.slot, self.now.mono_ms + first);
    }

    /// Deadlines that have passed.
    pub(super) fn fire_timers(&mut self) {
        let mut due = Vec::new();
        self.wheel.advance(self.now.mono_ms, |slot| due.push(slot));
        for slot in due {
            if let Some((handle, _)) = self.conns.at(slot) {
                self.deadline(handle);
            }
        }
    }

    fn deadline(&mut self, handle: Handle) {
        let Some(conn) = self.conns.get(handle) else { return };
        match &conn.state {
            State::Preamble(_) | State::Head(_) | State::Http(_) => self.abort(handle, Stat::ClosedTimeout),
            State::Hello(_) => self.close_session(handle, CloseCode::Unauthenticated, "no hello in time"),
            // The socket may be with the other shard already: the answer comes.
            State::Moving(moving) if moving.sent => self.wheel.arm(handle.slot, self.now.mono_ms + CLOSE_MS),
            // What was written goes out first: it was not read in time.
            State::Moving(_) if conn.is(flag::SENDING) || !conn.out.is_empty() => {
                self.abort(handle, Stat::ClosedTimeout)
            }
            State::Moving(_) | State::Arriving => self.abort(handle, Stat::ClosedInternal),
            State::Echo | State::Open { .. } => self.heartbeat(handle),
            State::Closing { .. } => self.ring.close(handle),
            State::Free | State::Departed => {}
        }
    }

    /// Pings after a heartbeat of silence, gives up after two and a grace; and sees to it that a send moves.
    fn heartbeat(&mut self, handle: Handle) {
        let (now, heartbeat) = (self.now.mono_ms as u32, self.setup.config.heartbeat_ms);
        let progress_ms = self.setup.config.progress_ms;
        let taken = self.ring.sent_so_far(handle);
        if taken.is_some() {
            self.watch(handle);
        }
        let Some(conn) = self.conns.get(handle) else { return };
        let mut next = u64::MAX;
        if conn.is(flag::WATCHED) {
            match taken {
                None => conn.clear(flag::WATCHED),
                Some(taken) if taken as u32 != conn.progress => {
                    conn.progress = taken as u32;
                    conn.since = now;
                }
                Some(_) if u64::from(now.wrapping_sub(conn.since)) >= progress_ms => {
                    return self.close_session(handle, CloseCode::SlowConsumer, "what was sent is not read");
                }
                Some(_) => {}
            }
            if conn.is(flag::WATCHED) {
                next = progress_ms - u64::from(now.wrapping_sub(conn.since));
            }
        }
        if conn.is(flag::PAUSED) {
            // Whoever is not read cannot be heard.
            conn.last_heard = now;
        }
        let silent = u64::from(now.wrapping_sub(conn.last_heard));
        let limit = 2 * heartbeat + HEARTBEAT_GRACE_MS;
        if silent >= limit {
            return self.close_session(handle, CloseCode::HeartbeatMissed, "nothing heard for two heartbeats");
        }
        let ping = silent >= heartbeat && !conn.is(flag::PINGED);
        if ping {
            conn.set(flag::PINGED);
        }
        let wait = if conn.is(flag::PINGED) { limit - silent } else { heartbeat - silent.min(heartbeat - 1) };
        self.wheel.arm(handle.slot, self.now.mono_ms + next.min(wait));
        if ping {
            self.write(handle, |out| encode::message(out, Opcode::Ping, b""));
        }
    }

    /// Reads the socket, again or for the first time.
    pub(super) fn read(&mut self, handle: Handle) {
        if let Some(conn) = self.conns.get(handle) {
            conn.clear(flag::RECV_OFF);
            // Refused only where the socket is being closed.
            let _ = self.ring.recv(handle);
        }
    }

    /// Stops reading for one of the reasons in `flag::PAUSED`.
    pub(super) fn pause(&mut self, handle: Handle, why: u16) {
        let Some(conn) = self.conns.get(handle) else { return };
        let was = conn.is(flag::PAUSED);
        conn.set(why);
        if !was {
            // Closing sockets are past pausing.
            let _ = self.ring.pause_recv(handle);
        }
    }

    /// One reason less; reading goes on when none is left, later in this turn.
    pub(super) fn unpause(&mut self, handle: Handle, why: u16) {
        let Some(conn) = self.conns.get(handle) else { return };
        if conn.is(why) {
            conn.clear(why);
            if !conn.is(flag::PAUSED) {
                self.resume.push(handle);
            }
        }
    }

    /// Connections that were paused and are not any more: first what had arrived, and only when nothing of it is left the
    /// socket. Otherwise a client that sends without end would have more stashed with every answer.
    pub(super) fn resume_paused(&mut self) {
        for handle in std::mem::take(&mut self.resume) {
            let now = self.now.mono_ms as u32;
            let Some(conn) = self.conns.get(handle).filter(|conn| !conn.is(flag::PAUSED)) else { continue };
            conn.last_heard = now;
            if let Some(mut stash) = conn.stash.take() {
                stash.taken += self.take_in(handle, stash.bytes.get_mut(stash.taken..).unwrap_or_default());
                if stash.taken < stash.bytes.len()
                    && let Some(conn) = self.conns.get(handle)
                {
                    conn.stash = Some(stash);
                    continue;
                }
            }
            let Some(conn) = self.conns.get(handle).filter(|conn| !conn.is(flag::PAUSED)) else { continue };
            let (eof, moving) = (conn.is(flag::EOF), matches!(conn.state, State::Moving(_)));
            if eof {
                self.ended(handle, Stat::ClosedPeer);
            } else if moving {
                self.depart_if_quiet(handle);
            } else {
                self.read(handle);
            }
        }
    }

    /// Nothing more comes from the socket, for now or for good.
    pub(super) fn recv_ended(&mut self, handle: Handle, why: RecvEnd) {
        let Some(conn) = self.conns.get(handle) else { return };
        match why {
            // Read again since, while this waited for room elsewhere: another end comes.
            RecvEnd::Paused if self.ring.is_receiving(handle) => {}
            RecvEnd::Paused => {
                conn.set(flag::RECV_OFF);
                self.depart_if_quiet(handle);
            }
            // What had arrived before is looked at first.
            RecvEnd::Eof if conn.is(flag::PAUSED) || conn.stash.is_some() => conn.set(flag::EOF),
            RecvEnd::Eof => self.ended(handle, Stat::ClosedPeer),
            RecvEnd::Error(_) => self.ended(handle, Stat::ClosedReset),
        }
    }

    /// The peer's side is over: so is ours, but for what a closing connection still has to say.
    fn ended(&mut self, handle: Handle, why: Stat) {
        let Some(conn) = self.conns.get(handle) else { return };
        conn.set(flag::EOF);
        let unsent = conn.is(flag::SENDING) || !conn.out.is_empty();
        match &conn.state {
            State::Closing { .. } if unsent => {}
            State::Closing { .. } => self.ring.close(handle),
            // A client that has sent its request and shut down its side may still read the answer.
            State::Http(http) if why == Stat::ClosedPeer && http.body.is_done() => {}
            state if why == Stat::ClosedPeer && state.is_websocket() && unsent => {
                self.close_after_output(handle, why, false);
            }
            _ => self.abort(handle, why),
        }
    }

    /// Ends a WebSocket with a close frame; the router hears of it.
    pub(super) fn close_session(&mut self, handle: Handle, code: CloseCode, reason: &str) {
        self.close_websocket(handle, code as u16, reason, stat_of(code));
    }

    pub(super) fn close_websocket(&mut self, handle: Handle, code: u16, reason: &str, why: Stat) {
        let Some(conn) = self.conns.get(handle) else { return };
        if matches!(conn.state, State::Closing { .. } | State::Departed) {
            return;
        }
        let before = conn.out.len();
        encode::close(&mut conn.out, code, reason);
        self.waiting += (conn.out.len() - before) as u64;
        self.close_after_output(handle, why, true);
    }

    /// Ends a connection once everything written has gone out.
    pub(super) fn close_after_output(&mut self, handle: Handle, why: Stat, linger: bool) {
        self.leave(handle, State::Closing { why, linger });
        self.wheel.arm(handle.slot, self.now.mono_ms + CLOSE_MS);
        // Also to see the end at once where nothing is left to send.
        self.write(handle, |_| {});
        if let Some(conn) = self.conns.get(handle) {
            conn.stash = None;
            if conn.is(flag::PAUSED) {
                // Read again, to drop what comes.
                conn.clear(flag::PAUSED);
                self.read(handle);
            }
        }
    }

    /// Ends a connection at once: there is nobody to talk to.
    pub(super) fn abort(&mut self, handle: Handle, why: Stat) {
        let closing = self.conns.get(handle).is_some_and(|conn| matches!(conn.state, State::Closing { .. }));
        if !closing {
            self.leave(handle, State::Closing { why, linger: false });
        }
        self.ring.close(handle);
    }

    /// Enters the last state; a session's router hears of it.
    fn leave(&mut self, handle: Handle, state: State) {
        if let Some(State::Open { home }) = self.enter(handle, state) {
            self.session_closed(handle, home);
        }
    }

    /// The last byte of a closing connection is with the kernel.
    pub(super) fn finish_close(&mut self, handle: Handle) {
        let Some(conn) = self.conns.get(handle) else { return };
        let State::Closing { linger, .. } = conn.state else { return };
        if !linger || conn.is(flag::EOF) {
            return self.ring.close(handle);
        }
        if !conn.is(flag::SHUT) {
            conn.set(flag::SHUT);
            self.ring.shutdown(handle);
        }
    }

    /// Every operation has completed and the slot is free.
    pub(super) fn closed(&mut self, handle: Handle) {
        self.wheel.cancel(handle.slot);
        self.origins.remove(&handle.slot);
        let Some(conn) = self.conns.remove(handle) else { return };
        if let Some(gauge) = conn.state.gauge() {
            self.stats.sub(gauge, 1);
        }
        match conn.state {
            State::Closing { why, .. } => self.stats.add(why, 1),
            State::Departed => {}
            _ => {
                debug_assert!(false, "closed in state {:?}", conn.state);
                self.stats.add(Stat::ClosedInternal, 1);
            }
        }
        self.waiting -= conn.out.len() as u64;
        self.recycle(conn.out.into());
    }

    /// The deadline of an HTTP exchange.
    pub(super) fn arm_http(&mut self, handle: Handle) {
        self.wheel.arm(handle.slot, self.now.mono_ms + HTTP_MS);
    }
}

fn stat_of(code: CloseCode) -> Stat {
    match code {
        CloseCode::Normal => Stat::ClosedNormal,
        CloseCode::Unsupported => Stat::ClosedUnsupported,
        CloseCode::Draining => Stat::ClosedDraining,
        CloseCode::HeartbeatMissed => Stat::ClosedHeartbeat,
        CloseCode::SlowConsumer => Stat::ClosedSlow,
        CloseCode::Overloaded => Stat::ClosedOverloaded,
        CloseCode::Internal => Stat::ClosedInternal,
        CloseCode::Replaced => Stat::ClosedReplaced,
        CloseCode::Unauthenticated => Stat::ClosedUnauthenticated,
        CloseCode::TokenExpired => Stat::ClosedTokenExpired,
        CloseCode::DeviceRevoked => Stat::ClosedDeviceRevoked,
        CloseCode::DeviceInUse => Stat::ClosedDeviceInUse,
        CloseCode::Protocol => Stat::ClosedProtocol,
    }
}
