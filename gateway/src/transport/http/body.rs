//! The body of a request: where it ends, and its bytes without their framing (RFC 9112 sections 6 and 7).
//!
//! Holds a few words, never bytes: the pieces are slices of the chunk that arrived. Chunk extensions and trailers are
//! read over, within [`FRAMING_BYTES`]; line ends are CR LF or the body is refused.

use http::StatusCode;

use super::head::BodyLength;
use super::refusal::Refusal;

/// Bytes of chunk extensions and trailers in one body.
const FRAMING_BYTES: u16 = 4 << 10;
/// Digits of a chunk size that are read; more than any size has.
const SIZE_DIGITS: u8 = 16;

/// Reads one body.
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    state: State,
    /// Bytes of body that may still come.
    allowance: u64,
    /// Bytes of framing that may still come.
    framing: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Fixed { left: u64 },
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLineFeed { value: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
}

impl BodyReader {
    /// `limit`: bytes of the whole body.
    ///
    /// # Errors
    /// 413 for a body that announces more.
    pub fn new(length: BodyLength, limit: u64) -> Result<Self, Refusal> {
        let state = match length {
            BodyLength::None => State::Done,
            BodyLength::Bytes(left) if left > limit => return Err(TOO_LARGE),
            BodyLength::Bytes(left) => State::Fixed { left },
            BodyLength::Chunked => State::Size { value: 0, digits: 0 },
        };
        Ok(Self { state, allowance: limit, framing: FRAMING_BYTES })
    }

    /// Whether the body has ended. What is then left of a chunk belongs to the next request.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next piece of the body from the front of `chunk`, and the framing before it. `None`: the body is done, or
    /// the chunk is used up.
    ///
    /// # Errors
    /// 413 for a chunked body over the limit, 400 for broken framing: the connection cannot be used any further.
    pub fn read<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                State::Fixed { left } => {
                    let Some((piece, left)) = split(chunk, left) else { return Ok(None) };
                    self.state = if left == 0 { State::Done } else { State::Fixed { left } };
                    return Ok(Some(piece));
                }
                State::Data { left } => {
                    let Some((piece, left)) = split(chunk, left) else { return Ok(None) };
                    self.state = if left == 0 { State::DataReturn } else { State::Data { left } };
                    return Ok(Some(piece));
                }
                _ => {
                    let Some((&byte, rest)) = chunk.split_first() else { return Ok(None) };
                    *chunk = rest;
                    self.state = self.after(byte)?;
                }
            }
        }
    }

    /// The state after one byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, Refusal> {
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, byte) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                State::Size { value: (value << 4) | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { value },
            (State::Size { value, digits: 1.. }, b'\r') => State::SizeLineFeed { value },
            (State::Extension { value }, b'\r') => State::SizeLineFeed { value },
            (State::Extension { value }, byte) if is_text(byte) => {
                self.count_framing()?;
                State::Extension { value }
            }
            (State::SizeLineFeed { value: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLineFeed { value }, b'\n') => {
                self.allowance = self.allowance.checked_sub(value).ok_or(TOO_LARGE)?;
                State::Data { left: value }
            }
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerStart | State::Trailer, byte) if is_text(byte) => {
                self.count_framing()?;
                State::Trailer
            }
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            _ => return Err(Refusal::bad_request("broken chunked body")),
        })
    }

    fn count_framing(&mut self) -> Result<(), Refusal> {
        self.framing = self.framing.checked_sub(1).ok_or(Refusal::bad_request("chunk extensions over the limit"))?;
        Ok(())
    }
}

/// The front of `chunk`, at most `left` bytes, and what is left then; nothing of an empty chunk.
fn split<'a>(chunk: &mut &'a [u8], left: u64) -> Option<(&'a [u8], u64)> {
    let take = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    let (piece, rest) = chunk.split_at_checked(take).filter(|(piece, _)| !piece.is_empty())?;
    *chunk = rest;
    Some((piece, left - piece.len() as u64))
}

/// Bytes that may stand in extensions and trailers: no control characters but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

const TOO_LARGE: Refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request body over the limit");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body, what is left behind it, and whether it ended; read in pieces of `size` bytes.
    fn read(length: BodyLength, bytes: &[u8], size: usize, limit: u64) -> Result<(Vec<u8>, Vec<u8>, bool), Refusal> {
        let mut reader = BodyReader::new(length, limit)?;
        let (mut body, mut rest) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            let mut chunk = piece;
            while let Some(part) = reader.read(&mut chunk)? {
                body.extend_from_slice(part);
            }
            rest.extend_from_slice(chunk);
        }
        Ok((body, rest, reader.is_done()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        for size in 1..60 {
            let fixed = read(BodyLength::Bytes(5), b"helloGET /", size, 5).unwrap();
            assert_eq!(fixed, (b"hello".to_vec(), b"GET /".to_vec(), true));
            let bytes = b"3\r\nabc\r\n00A;x=\"y\" \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext";
            let chunked = read(BodyLength::Chunked, bytes, size, 13).unwrap();
            assert_eq!(chunked, (b"abc0123456789".to_vec(), b"next".to_vec(), true));
        }
        assert_eq!(read(BodyLength::None, b"GET /", 9, 0).unwrap(), (vec![], b"GET /".to_vec(), true));
        assert!(!read(BodyLength::Bytes(6), b"hello", 9, 9).unwrap().2);
    }

    #[test]
    fn broken_framing_is_refused() {
        for bytes in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"1\nabc",
            b"1\r\nabc",
            b"1\r\na\n",
            b"1\r\na\r\r",
            b"0\r\n\n",
            b"0\r\nA: b\n",
            b"00000000000000001\r\n",
            b"1;a\rb",
        ] {
            assert_eq!(read(BodyLength::Chunked, bytes, 3, 99).unwrap_err().status, 400, "{}", bytes.escape_ascii());
        }
        let long = [b"1;".to_vec(), vec![b'a'; 5000]].concat();
        assert_eq!(read(BodyLength::Chunked, &long, 100, 99).unwrap_err().status, 400);
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        assert_eq!(read(BodyLength::Bytes(10), b"", 1, 9).unwrap_err().status, 413);
        assert_eq!(read(BodyLength::Chunked, b"5\r\nhello\r\n5\r\n", 1, 9).unwrap_err().status, 413);
        assert_eq!(read(BodyLength::Chunked, b"ffffffffffffffff\r\n", 1, 9).unwrap_err().status, 413);
    }

    proptest! {
        #[test]
        fn random_framing_never_panics_and_any_chunking_gives_the_same(
            bytes in prop::collection::vec(prop::sample::select(b"0123af;\r\n\r\n x".to_vec()), 0..80),
            size in 1usize..9,
        ) {
            let whole = read(BodyLength::Chunked, &bytes, usize::MAX, 1000);
            prop_assert_eq!(read(BodyLength::Chunked, &bytes, size, 1000), whole);
        }
    }
}
