//! One connection between coordinator and worker.
//!
//! Owns: the socket. Guarantees: neither reading nor writing blocks for longer than its bound, and a side that says nothing is
//! given up. Never does: knowing what is said.

use super::FleetError;
use super::frame::{Frames, encode};
use super::secret::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A side that says nothing for so long has vanished. Each says something every [`BEAT`].
pub const SILENCE: Duration = Duration::from_secs(15);
pub const BEAT: Duration = Duration::from_millis(200);
/// How long one look for something new takes.
const LOOK: Duration = Duration::from_millis(10);
/// For connecting, and for what is written to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's page.
pub struct Link {
    stream: TcpStream,
    frames: Frames,
    heard: Instant,
    buffer: Vec<u8>,
}

impl Link {
    /// To a worker at `HOST:PORT`; on this host where there is no secret, for a worker is told the key that signs tokens.
    pub fn connect(worker: &str, secret: &Secret) -> Result<Self, FleetError> {
        let mut addresses = worker.to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| std::io::Error::from(ErrorKind::AddrNotAvailable))?;
        if secret.is_none() && !address.ip().is_loopback() {
            return Err(FleetError::NoSecret);
        }
        Self::new(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    pub fn new(stream: TcpStream) -> Result<Self, FleetError> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, frames: Frames::default(), heard: Instant::now(), buffer: vec![0; 64 << 10] })
    }

    pub fn send<T: Serialize>(&mut self, word: &T) -> Result<(), FleetError> {
        self.stream.write_all(&encode(word)?).map_err(FleetError::of)
    }

    /// The next word, of `most` bytes; `None` where none has come for a few milliseconds. A side that has said nothing for longer
    /// than `silence` is an error.
    pub fn poll<T: DeserializeOwned>(&mut self, most: usize, silence: Duration) -> Result<Option<T>, FleetError> {
        if let Some(word) = self.frames.next(most)? {
            return Ok(Some(word));
        }
        match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(FleetError::Ended),
            Ok(count) => {
                self.heard = Instant::now();
                self.frames.push(self.buffer.get(..count).unwrap_or_default());
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                if self.heard.elapsed() >= silence {
                    return Err(FleetError::Silent(silence));
                }
            }
            Err(error) => return Err(FleetError::of(error)),
        }
        Ok(self.frames.next(most)?)
    }

    /// The next word, which must come within `limit`.
    pub fn wait<T: DeserializeOwned>(&mut self, most: usize, limit: Duration) -> Result<T, FleetError> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if let Some(word) = self.poll(most, limit)? {
                return Ok(word);
            }
        }
        Err(FleetError::Silent(limit))
    }
}
