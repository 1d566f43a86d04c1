//! Bytes to WebSocket messages, and the echo endpoint.

use super::Shard;
use super::conn::{State, flag};
use super::stats::Stat;
use crate::ring::Handle;
use crate::transport::websocket::{Event, Kind, Opcode, Violation, encode};
use bytes::Bytes;
use ringpost_proto::close::CloseCode;
use ringpost_proto::wire::Encoding;

impl Shard {
    /// Bytes from the ring.
    pub(super) fn received(&mut self, handle: Handle, bytes: &mut [u8]) {
        let now = self.now.mono_ms as u32;
        self.stats.add(Stat::BytesIn, bytes.len() as u64);
        let Some(conn) = self.conns.get(handle) else { return };
        conn.last_heard = now;
        conn.clear(flag::PINGED);
        self.feed(handle, bytes);
    }

    /// Takes bytes in, in whatever state the connection is; what it cannot take now is stashed.
    pub(super) fn feed(&mut self, handle: Handle, chunk: &mut [u8]) {
        // What waits was sent before: it comes first.
        let waits = self.conns.get(handle).is_some_and(|conn| conn.stash.is_some());
        let taken = if waits { 0 } else { self.take_in(handle, chunk) };
        if taken < chunk.len()
            && let Some(conn) = self.conns.get(handle)
        {
            conn.stash.get_or_insert_default().bytes.extend_from_slice(&chunk[taken..]);
        }
    }

    /// Takes bytes in until the connection is paused; how many.
    pub(super) fn take_in(&mut self, handle: Handle, bytes: &mut [u8]) -> usize {
        let all = bytes.len();
        let mut chunk = bytes;
        while !chunk.is_empty() {
            let Some(conn) = self.conns.get(handle) else { return all };
            if conn.is(flag::PAUSED) {
                return all - chunk.len();
            }
            match &mut conn.state {
                State::Preamble(_) => self.feed_preamble(handle, &mut chunk),
                State::Head(_) => self.feed_head(handle, &mut chunk),
                State::Http(_) => self.feed_body(handle, &mut chunk),
                State::Echo | State::Hello(_) | State::Open { .. } => self.feed_websocket(handle, &mut chunk),
                State::Moving(moving) => {
                    moving.bytes.extend_from_slice(chunk);
                    return all;
                }
                // Dropped; who has closed does not listen.
                State::Closing { .. } | State::Arriving | State::Departed | State::Free => return all,
            }
        }
        all
    }

    fn feed_websocket(&mut self, handle: Handle, chunk: &mut &mut [u8]) {
        loop {
            let Some(conn) = self.conns.get(handle) else { return };
            if conn.is(flag::PAUSED) || !conn.state.is_websocket() {
                return;
            }
            match conn.decoder.next(chunk) {
                Ok(None) => return,
                Ok(Some(Event::Message { kind, payload })) => {
                    self.stats.add(Stat::MessagesIn, 1);
                    self.message(handle, kind, payload);
                }
                Ok(Some(Event::Ping(payload))) => {
                    self.write(handle, |out| encode::message(out, Opcode::Pong, &payload));
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close { code, .. })) => {
                    self.write(handle, |out| encode::close_reply(out, code));
                    return self.close_after_output(handle, Stat::ClosedNormal, false);
                }
                Err(violation) => return self.violated(handle, violation),
            }
        }
    }

    fn violated(&mut self, handle: Handle, violation: Violation) {
        let why = match violation {
            Violation::TooLarge => Stat::ClosedTooLarge,
            Violation::Protocol(_) | Violation::InvalidText => Stat::ClosedWebSocket,
        };
        self.close_websocket(handle, violation.close_code(), violation.reason(), why);
    }

    fn message(&mut self, handle: Handle, kind: Kind, payload: Bytes) {
        let Some(conn) = self.conns.get(handle) else { return };
        if matches!(conn.state, State::Echo) {
            let opcode = match kind {
                Kind::Text => Opcode::Text,
                Kind::Binary => Opcode::Binary,
            };
            self.stats.add(Stat::MessagesOut, 1);
            return self.write(handle, |out| encode::message(out, opcode, &payload));
        }
        match (kind, conn.encoding) {
            (Kind::Binary, Encoding::Protobuf) | (Kind::Text, Encoding::Json) => self.frame(handle, payload),
            (Kind::Text, Encoding::Protobuf) => {
                self.close_session(handle, CloseCode::Unsupported, "this session speaks protobuf in binary messages");
            }
            (Kind::Binary, Encoding::Json) => {
                self.close_session(handle, CloseCode::Unsupported, "this session speaks JSON in text messages");
            }
        }
    }
}
