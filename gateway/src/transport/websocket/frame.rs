//! The frame header (RFC 6455 section 5.2): two to fourteen bytes before a payload.

use super::close;

/// Bytes of the longest header: two, eight of length, four of masking key.
pub const HEADER_BYTES: usize = 14;
/// Bytes of payload that a control frame may carry.
pub const CONTROL_BYTES: u64 = 125;

/// Which end of the connection reads or writes. A client masks its frames, a server does not; either refuses the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// How a peer broke the protocol. The connection is closed with [`Self::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame that RFC 6455 forbids, and why.
    Protocol(&'static str),
    /// Text, or the reason of a close, that is not UTF-8.
    InvalidText,
    /// A message over the limit, refused before memory is taken for it.
    TooLarge,
}

impl Violation {
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => close::PROTOCOL_ERROR,
            Self::InvalidText => close::INVALID_DATA,
            Self::TooLarge => close::TOO_LARGE,
        }
    }

    /// For the reason of the close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Protocol(why) => why,
            Self::InvalidText => "text is not UTF-8",
            Self::TooLarge => "message over the limit",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    pub opcode: Opcode,
    /// The masking key; present in frames of clients and only there.
    pub key: Option<[u8; 4]>,
    /// Bytes of payload.
    pub len: u64,
}

impl Header {
    /// Parses the header at the beginning of `bytes`, as read by `role`: the header and its length, or nothing while
    /// bytes are missing. What is wrong is found at the earliest byte that shows it.
    ///
    /// # Errors
    /// Reserved bits or opcodes, masked frames from a server or unmasked ones from a client, control frames that are
    /// fragmented or longer than 125 bytes, and lengths that are not in their shortest form.
    pub fn parse(bytes: &[u8], role: Role) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let (fin, opcode) = parse_first(first)?;
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match role {
            Role::Server if !masked => return Err(Violation::Protocol("frame of a client without mask")),
            Role::Client if masked => return Err(Violation::Protocol("masked frame of a server")),
            _ => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() && u64::from(short) > CONTROL_BYTES {
            return Err(Violation::Protocol("control frame over 125 bytes"));
        }
        let Some((len, mut used)) = parse_length(short, bytes)? else { return Ok(None) };
        let mut key = None;
        if masked {
            let Some(found) = bytes.get(used..).and_then(<[u8]>::first_chunk::<4>) else { return Ok(None) };
            key = Some(*found);
            used += 4;
        }
        Ok(Some((Self { fin, opcode, key, len }, used)))
    }

    /// The header as bytes.
    pub fn encode(&self) -> EncodedHeader {
        let mut header = EncodedHeader { bytes: [0; HEADER_BYTES], len: 0 };
        let mask = if self.key.is_some() { 0x80 } else { 0 };
        header.push(&[(u8::from(self.fin) << 7) | self.opcode as u8]);
        // The three conversions cannot truncate: each arm bounds its length.
        match self.len {
            len @ 0..=125 => header.push(&[mask | len as u8]),
            len @ 126..=0xffff => {
                header.push(&[mask | 126]);
                header.push(&(len as u16).to_be_bytes());
            }
            len => {
                header.push(&[mask | 127]);
                header.push(&len.to_be_bytes());
            }
        }
        header.push(self.key.as_ref().map_or(&[], |key| &key[..]));
        header
    }
}

/// An encoded header, without allocation: for a send of header and shared payload.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; HEADER_BYTES],
    len: u8,
}

impl EncodedHeader {
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(usize::from(self.len)).zip(bytes) {
            *slot = *byte;
            self.len += 1;
        }
    }
}

fn parse_first(byte: u8) -> Result<(bool, Opcode), Violation> {
    if byte & 0x70 != 0 {
        return Err(Violation::Protocol("reserved bit set"));
    }
    let fin = byte & 0x80 != 0;
    let opcode = Opcode::from_bits(byte & 0x0f).ok_or(Violation::Protocol("reserved opcode"))?;
    if opcode.is_control() && !fin {
        return Err(Violation::Protocol("fragmented control frame"));
    }
    Ok((fin, opcode))
}

/// The payload length and the bytes of header up to it.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let after = bytes.get(2..).unwrap_or_default();
    let (len, least, used) = match short {
        126 => {
            let Some(field) = after.first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*field)), 126, 4)
        }
        127 => {
            let Some(field) = after.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*field), 0x1_0000, 10)
        }
        short => (u64::from(short), 0, 2),
    };
    if len < least {
        return Err(Violation::Protocol("length not in its shortest form"));
    }
    if len > i64::MAX as u64 {
        return Err(Violation::Protocol("length with its highest bit set"));
    }
    Ok(Some((len, used)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(bytes: &[u8]) -> bool {
        matches!(Header::parse(bytes, Role::Server), Err(Violation::Protocol(_)))
    }

    #[test]
    fn what_the_protocol_forbids_is_refused_at_its_first_byte() {
        assert!(refused(&[0xc1]), "reserved bit");
        assert!(refused(&[0x83]), "reserved opcode");
        assert!(refused(&[0x8b]), "reserved control opcode");
        assert!(refused(&[0x09]), "fragmented ping");
        assert!(refused(&[0x89, 0xfe]), "long ping");
        assert!(refused(&[0x81, 0x05]), "no mask");
        assert!(refused(&[0x82, 0xfe, 0, 125]), "length that fits one byte in two");
        assert!(refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), "length that fits two bytes in eight");
        assert!(refused(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), "highest bit of the length");
        assert!(Header::parse(&[0x81, 0x80], Role::Client).is_err(), "masked frame of a server");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fin: bool,
            opcode in prop::sample::select(vec![Opcode::Continuation, Opcode::Text, Opcode::Binary]),
            key: Option<[u8; 4]>,
            len in prop_oneof![0u64..127, 120u64..70_000, 0u64..=i64::MAX as u64],
        ) {
            let header = Header { fin, opcode, key, len };
            let role = if key.is_some() { Role::Server } else { Role::Client };
            let encoded = header.encode();
            let bytes = encoded.as_slice();
            prop_assert_eq!(Header::parse(bytes, role), Ok(Some((header, bytes.len()))));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Header::parse(&bytes[..cut], role), Ok(None));
            }
        }
    }
}
