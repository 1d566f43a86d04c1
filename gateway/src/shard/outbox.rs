//! From frames to the socket: one send in flight per connection; what is written meanwhile goes out together with the next.
//!
//! Bounds: over [`PAUSE_BYTES`] waiting, the connection is not read; over `outbox_bytes`, or without progress for
//! `progress_ms`, it is closed 4002.

use super::Shard;
use super::conn::{State, flag};
use super::stats::Stat;
use crate::ring::{Errno, Handle, Payload};
use crate::transport::websocket::{Opcode, encode};
use ringpost_proto::close::CloseCode;
use ringpost_proto::wire::Encoding;

/// Bytes waiting for one socket above which it is not read, and half of which lets it go on.
const PAUSE_BYTES: usize = 256 << 10;

/// A send of more than this is watched from its start; a smaller one once something waits behind it, or at the next
/// heartbeat.
const WATCH_BYTES: u64 = 64 << 10;

/// Buffers kept for the next outboxes, and the largest that is kept.
const SPARE: usize = 64;
const SPARE_BYTES: usize = 16 << 10;

impl Shard {
    /// Appends to what the connection will be sent at the end of this turn.
    pub(super) fn write(&mut self, handle: Handle, append: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.get(handle) else { return };
        if conn.out.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            conn.out = spare;
        }
        let before = conn.out.len();
        append(&mut conn.out);
        self.waiting += (conn.out.len() - before) as u64;
        if !conn.is(flag::DIRTY) {
            conn.set(flag::DIRTY);
            self.dirty.push(handle);
        }
        let waiting = conn.out.len();
        // An echo is bounded by the pause: what waits is at most one message more.
        let echo = matches!(conn.state, State::Echo);
        if waiting > PAUSE_BYTES {
            self.pause(handle, flag::PAUSED_OUTBOX);
            if waiting > self.setup.config.outbox_bytes as usize && !echo {
                self.close_session(handle, CloseCode::SlowConsumer, "too much waits to be sent");
            }
        }
    }

    /// One WebSocket message of a session.
    pub(super) fn write_message(&mut self, handle: Handle, encoding: Encoding, payload: impl FnOnce(&mut Vec<u8>)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        payload(&mut scratch);
        let opcode = match encoding {
            Encoding::Protobuf => Opcode::Binary,
            Encoding::Json => Opcode::Text,
        };
        self.stats.add(Stat::MessagesOut, 1);
        self.write(handle, |out| encode::message(out, opcode, &scratch));
        self.scratch = scratch;
        self.scratch.shrink_to(SPARE_BYTES);
    }

    /// At the end of a turn: hands everything that was written to the ring. Flushing may close connections, which writes.
    pub(super) fn flush_outboxes(&mut self) {
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            for handle in dirty.drain(..) {
                if let Some(conn) = self.conns.get(handle) {
                    conn.clear(flag::DIRTY);
                    self.flush(handle);
                }
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
            }
        }
    }

    fn flush(&mut self, handle: Handle) {
        let Some(conn) = self.conns.get(handle) else { return };
        if conn.is(flag::SENDING) {
            return self.watch(handle);
        }
        if conn.out.is_empty() {
            return self.drained(handle);
        }
        let bytes = std::mem::take(&mut conn.out);
        let length = bytes.len() as u64;
        self.waiting -= length;
        match self.ring.send(handle, bytes) {
            Ok(()) => {
                conn.set(flag::SENDING);
                self.stats.add(Stat::BytesOut, length);
                if length > WATCH_BYTES {
                    self.watch(handle);
                }
            }
            // The socket is being closed.
            Err(unsent) => self.recycle(unsent.0),
        }
    }

    /// A send is over.
    pub(super) fn sent(&mut self, handle: Handle, payload: Payload, result: Result<(), Errno>) {
        self.recycle(payload);
        let now = self.now.mono_ms as u32;
        let Some(conn) = self.conns.get(handle) else { return };
        conn.clear(flag::SENDING);
        if conn.is(flag::WATCHED) {
            conn.since = now;
            conn.progress = 0;
        }
        if conn.out.len() <= PAUSE_BYTES / 2 {
            self.unpause(handle, flag::PAUSED_OUTBOX);
        }
        match result {
            Ok(()) => self.flush(handle),
            Err(_) => self.abort(handle, Stat::ClosedReset),
        }
    }

    /// Everything that was written is with the kernel.
    fn drained(&mut self, handle: Handle) {
        let Some(conn) = self.conns.get(handle) else { return };
        match &mut conn.state {
            State::Http(http) if http.owes_credit => {
                http.owes_credit = false;
                http.exchange.credit();
            }
            State::Moving(_) => self.depart_if_quiet(handle),
            State::Closing { .. } => self.finish_close(handle),
            _ => {}
        }
    }

    /// From now on the send in flight must move.
    pub(super) fn watch(&mut self, handle: Handle) {
        let now_ms = self.now.mono_ms;
        let Some(conn) = self.conns.get(handle) else { return };
        if conn.is(flag::WATCHED) || !conn.state.is_websocket() {
            return;
        }
        conn.set(flag::WATCHED);
        conn.since = now_ms as u32;
        conn.progress = self.ring.sent_so_far(handle).unwrap_or(0) as u32;
        let at_ms = now_ms + self.setup.config.progress_ms;
        if self.wheel.deadline_ms(handle.slot).is_none_or(|armed| at_ms < armed) {
            self.wheel.arm(handle.slot, at_ms);
        }
    }

    pub(super) fn recycle(&mut self, payload: Payload) {
        if let Payload::Owned(mut bytes) = payload
            && self.spare.len() < SPARE
            && bytes.capacity() <= SPARE_BYTES
        {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}
