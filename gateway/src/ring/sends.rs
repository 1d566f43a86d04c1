//! Sends in flight: the bytes belong to the kernel until the completion.
//!
//! Owns: every payload that was handed to a send and has not completed. Guarantees: the bytes neither move nor go before the
//! completion. Never does: copy.

use bytes::Bytes;

/// Bytes for one send: a buffer that comes back for the next use, or shared ones.
#[derive(Debug)]
pub enum Payload {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Payload {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

/// No send.
pub(super) const NONE: u32 = u32::MAX;

/// Bytes of one operation at most, so that the progress of a long payload shows.
const OPERATION_BYTES: usize = 64 << 10;

struct Entry {
    payload: Payload,
    sent: usize,
}

/// Sends in flight, by an index that the connection's slot keeps.
#[derive(Default)]
pub(super) struct Sends {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Of all payloads.
    bytes: u64,
}

impl Sends {
    pub fn insert(&mut self, payload: Payload) -> u32 {
        self.bytes += payload.as_slice().len() as u64;
        let entry = Some(Entry { payload, sent: 0 });
        match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        }
    }

    /// What is still to be sent, at most one operation's worth.
    pub fn rest(&self, at: u32) -> &[u8] {
        let Some(Some(entry)) = self.entries.get(at as usize) else { return &[] };
        let rest = &entry.payload.as_slice()[entry.sent..];
        &rest[..rest.len().min(OPERATION_BYTES)]
    }

    /// `bytes` more were taken by the socket. Whether all are.
    pub fn advance(&mut self, at: u32, bytes: usize) -> bool {
        let Some(Some(entry)) = self.entries.get_mut(at as usize) else { return true };
        entry.sent = (entry.sent + bytes).min(entry.payload.as_slice().len());
        entry.sent == entry.payload.as_slice().len()
    }

    pub fn sent(&self, at: u32) -> usize {
        self.entries.get(at as usize).and_then(Option::as_ref).map_or(0, |entry| entry.sent)
    }

    pub fn remove(&mut self, at: u32) -> Option<Payload> {
        let entry = self.entries.get_mut(at as usize)?.take()?;
        self.free.push(at);
        self.bytes -= entry.payload.as_slice().len() as u64;
        Some(entry.payload)
    }

    /// Bytes of all payloads in flight, those that the sockets have taken included: they are kept until the completion.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
