//! The binary header of the PROXY protocol, version 2 (haproxy, doc/proxy-protocol.txt, section 2.2), from the first bytes
//! of a connection. At most 52 bytes are kept; what follows the addresses (TLVs, of them the CRC32C) is skipped unread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;
/// The fixed part and two addresses and ports of IPv6.
const KEPT: usize = FIXED + 36;

/// Not a header of version 2, or one whose parts do not fit. Version 1 is refused, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PROXY protocol version 2 header")]
pub struct Malformed;

/// Collects a header from chunks however they are cut.
#[derive(Debug)]
pub struct Reader {
    kept: [u8; KEPT],
    /// Bytes taken, the skipped ones included.
    taken: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self { kept: [0; KEPT], taken: 0 }
    }
}

impl Reader {
    /// Takes the header's bytes from the front of `chunk` and leaves what follows. `None`: more is needed. `Some(None)`: the
    /// proxy speaks for itself (LOCAL), or of addresses that are not of TCP or UDP.
    ///
    /// # Errors
    /// With the first byte that no header has; nothing more can be read from the connection.
    pub fn read(&mut self, chunk: &mut &[u8]) -> Result<Option<Option<IpAddr>>, Malformed> {
        loop {
            let end = self.end()?;
            if self.taken == end && self.taken >= FIXED {
                return Ok(Some(self.source()));
            }
            let Some((byte, rest)) = chunk.split_first() else { return Ok(None) };
            if let Some(place) = self.kept.get_mut(self.taken) {
                *place = *byte;
                *chunk = rest;
                self.taken += 1;
            } else {
                let skipped = chunk.len().min(end - self.taken);
                *chunk = chunk.get(skipped..).unwrap_or_default();
                self.taken += skipped;
            }
        }
    }

    /// Where the header ends as far as is known, after a check of what has come.
    fn end(&self) -> Result<usize, Malformed> {
        let known = self.taken.min(SIGNATURE.len());
        if self.kept.get(..known) != SIGNATURE.get(..known) {
            return Err(Malformed);
        }
        if self.taken > 12 && !matches!(self.kept[12], 0x20 | 0x21) {
            return Err(Malformed);
        }
        if self.taken < FIXED {
            return Ok(FIXED);
        }
        let length = usize::from(u16::from_be_bytes([self.kept[14], self.kept[15]]));
        let needed = match (self.kept[12], self.kept[13]) {
            (0x20, _) => 0,
            (_, 0x11 | 0x12) => 12,
            (_, 0x21 | 0x22) => 36,
            _ => 0,
        };
        if length < needed { Err(Malformed) } else { Ok(FIXED + length) }
    }

    fn source(&self) -> Option<IpAddr> {
        match (self.kept[12], self.kept[13]) {
            (0x21, 0x11 | 0x12) => {
                let octets: [u8; 4] = self.kept.get(FIXED..FIXED + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            }
            (0x21, 0x21 | 0x22) => {
                let octets: [u8; 16] = self.kept.get(FIXED..FIXED + 16)?.try_into().ok()?;
                Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn whole(bytes: &[u8]) -> (Result<Option<Option<IpAddr>>, Malformed>, usize) {
        let mut rest = bytes;
        let read = Reader::default().read(&mut rest);
        (read, rest.len())
    }

    #[test]
    fn the_source_is_the_client_and_what_follows_stays() {
        let v4 = [&[198, 51, 100, 7, 10, 0, 0, 1, 0, 1, 0, 2][..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        let bytes = [header(0x21, 0x11, &v4), b"GET".to_vec()].concat();
        assert_eq!(whole(&bytes), (Ok(Some(Some("198.51.100.7".parse().unwrap()))), 3));
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(whole(&header(0x21, 0x21, &v6)).0, Ok(Some(Some("2001:db8::7".parse().unwrap()))));
        let long = [&v6[..], &[4; 60_000]].concat();
        assert_eq!(whole(&header(0x21, 0x21, &long)), (Ok(Some(Some("2001:db8::7".parse().unwrap()))), 0));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_names_nobody() {
        assert_eq!(whole(&header(0x20, 0, b"")), (Ok(Some(None)), 0));
        assert_eq!(whole(&header(0x20, 0x11, &[1; 12])), (Ok(Some(None)), 0));
        assert_eq!(whole(&header(0x21, 0x31, &[1; 216])), (Ok(Some(None)), 0));
    }

    #[test]
    fn anything_else_is_refused_at_its_first_wrong_byte() {
        for bytes in [&b"PROXY TCP4"[..], b"GET / HTTP", b"\r\n\r\nX"] {
            assert_eq!(whole(bytes).0, Err(Malformed));
        }
        for bytes in [header(0x11, 0x11, &[0; 12]), header(0x22, 0x11, &[0; 12]), header(0x21, 0x11, &[0; 11])] {
            assert_eq!(whole(&bytes).0, Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same(body in proptest::collection::vec(any::<u8>(), 12..90), cut in 0..110_usize) {
            let bytes = [header(0x21, 0x11, &body), b"rest".to_vec()].concat();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut reader = Reader::default();
            let (mut one, mut two) = (first, second);
            let mut read = reader.read(&mut one);
            if read == Ok(None) {
                prop_assert!(one.is_empty());
                read = reader.read(&mut two);
            }
            let rest = [one, two].concat();
            prop_assert_eq!((read, rest.len()), whole(&bytes));
            prop_assert_eq!(rest, b"rest");
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), signed in any::<bool>()) {
            let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            let _ = whole(&bytes);
        }
    }
}
