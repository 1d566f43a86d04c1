//! Frames to bytes. Every message is one frame; each function appends to `out` and never reads it.

use super::frame::{Header, Opcode};
use super::{close, mask};

/// A server's frame: a whole message, ping or pong.
pub fn message(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let header = Header { fin: true, opcode, key: None, len: payload.len() as u64 };
    out.extend_from_slice(header.encode().as_slice());
    out.extend_from_slice(payload);
}

/// A client's frame. `key` should be unpredictable (RFC 6455 section 10.3) unless the client is a test.
pub fn masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    let header = Header { fin: true, opcode, key: Some(key), len: payload.len() as u64 };
    out.extend_from_slice(header.encode().as_slice());
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(key, 0, out.get_mut(start..).unwrap_or_default());
}

/// A server's close frame. A reason over 123 bytes is cut.
pub fn close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = close::clip(reason);
    let header = Header { fin: true, opcode: Opcode::Close, key: None, len: 2 + reason.len() as u64 };
    out.extend_from_slice(header.encode().as_slice());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The server's answer to a close frame that it did not ask for: the same code, or none if there was none.
pub fn close_reply(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => close(out, code, ""),
        None => message(out, Opcode::Close, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_never_passes_125_bytes() {
        let mut out = Vec::new();
        close(&mut out, 4505, &"x".repeat(500));
        assert_eq!(out.len(), 127);
        assert_eq!(out[..4], [0x88, 125, 0x11, 0x99]);
    }

    #[test]
    fn a_close_is_answered_with_its_own_code() {
        let mut out = Vec::new();
        close_reply(&mut out, Some(1001));
        close_reply(&mut out, None);
        assert_eq!(out, [0x88, 2, 0x03, 0xe9, 0x88, 0]);
    }

    #[test]
    fn the_masked_hello_of_the_rfc() {
        let mut out = Vec::new();
        masked(&mut out, Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }
}
