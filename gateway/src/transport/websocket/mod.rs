//! WebSocket (RFC 6455), both roles, without extensions.
//!
//! Reading: one [`Decoder`] per connection; for each chunk that arrives, call [`Decoder::next`] until it gives
//! `Ok(None)`, then the chunk is used up and may go back to the ring:
//!
//! ```
//! use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, Violation, encode};
//!
//! # fn on_receive(decoder: &mut Decoder, mut chunk: &mut [u8], out: &mut Vec<u8>) {
//! loop {
//!     match decoder.next(&mut chunk) {
//!         Ok(Some(Event::Message { .. })) => { /* to the session */ }
//!         Ok(Some(Event::Ping(payload))) => encode::message(out, Opcode::Pong, &payload),
//!         Ok(Some(Event::Pong(_))) => {}
//!         Ok(Some(Event::Close { code, .. })) => return encode::close_reply(out, code), // then shut the socket down
//!         Ok(None) => return,
//!         Err(violation) => return encode::close(out, violation.close_code(), violation.reason()), // the same
//!     }
//! }
//! # }
//! # let mut decoder = Decoder::new(Role::Server, 1024);
//! # let mut out = Vec::new();
//! # on_receive(&mut decoder, &mut [0x89, 0x80, 0, 0, 0, 0], &mut out);
//! # assert_eq!(out, [0x8a, 0]);
//! ```
//!
//! Writing: [`encode`] appends whole frames to a buffer; [`frame::Header::encode`] gives the header alone, for a
//! payload that is shared between connections.
//!
//! Never here: time (close and heartbeat deadlines belong to the shard) and what a message means.

pub mod close;
pub mod codec;
pub mod encode;
pub mod frame;
pub mod mask;
pub mod utf8;

pub use codec::{Decoder, Event, Kind};
pub use frame::{Header, Opcode, Role, Violation};
