//! What goes over a connection: four bytes of length (big-endian), then so many bytes of JSON.
//!
//! Owns: bytes that are no whole frame yet. Guarantees: a frame that says that it is too long is refused when its length is
//! known, and nothing is allocated for what has not come. Never does: I/O.

use serde::Serialize;
use serde::de::DeserializeOwned;

const HEAD: usize = 4;

/// What is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(
        "a frame of {bytes} bytes where at most {most} are allowed: no worker of flood is there, or no coordinator"
    )]
    TooLong { bytes: usize, most: usize },
    #[error("a frame that is none: {0}")]
    Json(#[from] serde_json::Error),
}

/// A whole frame.
pub fn encode<T: Serialize>(word: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, word)?;
    let bytes = frame.len() - HEAD;
    let length = u32::try_from(bytes).map_err(|_| FrameError::TooLong { bytes, most: u32::MAX as usize })?;
    if let Some(head) = frame.first_chunk_mut() {
        *head = length.to_be_bytes();
    }
    Ok(frame)
}

/// Frames as they come, in pieces.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next frame, if all of it has come. `most`: bytes of JSON.
    pub fn next<T: DeserializeOwned>(&mut self, most: usize) -> Result<Option<T>, FrameError> {
        let Some((head, rest)) = self.0.split_first_chunk::<HEAD>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*head) as usize;
        if bytes > most {
            return Err(FrameError::TooLong { bytes, most });
        }
        let Some(json) = rest.get(..bytes) else { return Ok(None) };
        let word = serde_json::from_slice(json)?;
        self.0.drain(..HEAD + bytes);
        Ok(Some(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::words::{Opening, Order};
    use crate::load::Stage;

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_pieces() {
        let bytes = [encode(&Order::Stage(Stage::Load)).unwrap(), encode(&Order::Beat).unwrap()].concat();
        for piece in 1..bytes.len() {
            let (mut frames, mut orders) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(piece) {
                frames.push(piece);
                while let Some(order) = frames.next::<Order>(64).unwrap() {
                    orders.push(order);
                }
            }
            assert_eq!(orders, [Order::Stage(Stage::Load), Order::Beat]);
        }
    }

    #[test]
    fn a_frame_that_says_it_is_too_long_is_refused_before_it_comes() {
        let mut frames = Frames::default();
        frames.push(&[0xff; 4]);
        assert!(matches!(frames.next::<Order>(64), Err(FrameError::TooLong { bytes: 0xffff_ffff, most: 64 })));
        let mut frames = Frames::default();
        frames.push(b"GET / HTTP/1.1\r\n\r\n");
        assert!(frames.next::<Order>(1 << 20).unwrap_err().to_string().contains("no worker of flood is there"));
        let mut frames = Frames::default();
        frames.push(&encode(&"x".repeat(62)).unwrap());
        assert_eq!(frames.next::<String>(64).unwrap().map(|text| text.len()), Some(62), "its quotes count");
        frames.push(&encode(&"x".repeat(63)).unwrap());
        assert!(frames.next::<String>(64).is_err());
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        for garbage in
            [&b""[..], b"null", b"{", b"\xff\xff", b"[[[[", b"\"Stage\"", b"{\"stage\":\"Nothing\"}", b"1e999"]
        {
            let mut frames = Frames::default();
            frames.push(&(garbage.len() as u32).to_be_bytes());
            frames.push(garbage);
            assert!(frames.next::<Order>(64).is_err(), "{garbage:?}");
            let mut frames = Frames::default();
            frames.push(&(garbage.len() as u32).to_be_bytes());
            frames.push(garbage);
            assert!(frames.next::<Opening>(64).is_err(), "{garbage:?}");
        }
        let deep = "[".repeat(100_000);
        let mut frames = Frames::default();
        frames.push(&(deep.len() as u32).to_be_bytes());
        frames.push(deep.as_bytes());
        assert!(frames.next::<serde_json::Value>(1 << 20).is_err(), "its depth is bounded");
    }
}
