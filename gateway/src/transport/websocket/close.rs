//! Close codes of the protocol itself (RFC 6455 section 7.4). Those of the application are in
//! [`ringpost_proto::close`].

use super::frame::Violation;

pub const NORMAL: u16 = 1000;
pub const PROTOCOL_ERROR: u16 = 1002;
pub const INVALID_DATA: u16 = 1007;
pub const TOO_LARGE: u16 = 1009;

/// Bytes of a reason: a control frame's 125 without the code.
pub const REASON_BYTES: usize = 123;

/// Whether a peer may send this code: those defined for use on the wire by RFC 6455 and its registry, the registered
/// ones (3000-3999) and the private ones (4000-4999).
pub fn is_valid(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// What a close frame's payload says: the code (none if the payload is empty) and the reason.
///
/// # Errors
/// A single byte or a code that must not be sent is a protocol error; a reason that is not UTF-8 is invalid data.
pub fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    match payload {
        [] => Ok((None, "")),
        [_] => Err(Violation::Protocol("close payload of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_valid(code) {
                return Err(Violation::Protocol("close code not allowed"));
            }
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::InvalidText)?;
            Ok((Some(code), reason))
        }
    }
}

/// The longest prefix of `reason` that fits a close frame and ends between characters.
pub fn clip(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_must_not_be_sent_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(parse(&u16::to_be_bytes(code)), Err(Violation::Protocol("close code not allowed")), "{code}");
        }
        for code in [1000, 1001, 1003, 1007, 1011, 3000, 4999] {
            assert_eq!(parse(&u16::to_be_bytes(code)), Ok((Some(code), "")));
        }
    }

    #[test]
    fn a_payload_is_nothing_or_a_code_and_text() {
        assert_eq!(parse(b""), Ok((None, "")));
        assert!(matches!(parse(b"\x03"), Err(Violation::Protocol(_))));
        assert_eq!(parse(b"\x03\xe8bye"), Ok((Some(1000), "bye")));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(Violation::InvalidText));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "\u{e9}".repeat(100);
        assert_eq!(clip(&reason).len(), 122);
        assert_eq!(clip("short"), "short");
    }
}
