//! Frames to bytes and back, in the two encodings of the wire.
//!
//! Owns: which bytes stand for a frame. Guarantees: what a peer can send costs at most its own size again and ends in a
//! frame or a [`DecodeError`] that names the field. Never does: framing, size limits (the transport has checked them).

mod decode;
mod encode;
mod splice;

pub use decode::{decode_client, decode_server};
pub use encode::{encode_client, encode_server};
pub use splice::{PeerRef, page, push_record, shared_record};

/// How a session's frames are written: chosen by its subprotocol, for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One binary message, one protobuf frame.
    Protobuf,
    /// One text message, one frame in proto3 JSON.
    Json,
}

/// The peer's fault: bytes that are no frame. The text names the field and fits a close reason (at most 123 bytes,
/// RFC 6455 section 5.5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    const MOST_BYTES: usize = 123;

    fn new(mut text: String) -> Self {
        if text.len() > Self::MOST_BYTES {
            let cut = (0..=Self::MOST_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(cut);
        }
        Self(text)
    }

    pub fn reason(&self) -> &str {
        &self.0
    }
}
