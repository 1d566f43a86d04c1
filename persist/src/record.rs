//! What a stored record is, how it is written down, and its versions.
//!
//! Version 1, little endian: version u8, kind u8, flags u8 (1: a trace follows the fixed part, 2: the body is a payload),
//! seq, id, us, ordinal, ref_seq u64 each, cmid, content hash, previous hash 16 bytes each, [trace 16 bytes],
//! sender and device with a length byte before them, body with a u32 length. Nothing may follow.
//!
//! Guarantees: whatever a build of the past wrote is read by this one (a golden file per version), and reading never
//! panics, whatever the bytes.

use bytes::Bytes;
use ringpost_proto::id::{ClientMessageId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::v1;
use sha2::{Digest, Sha256};

/// The version that [`Record::encode`] writes.
pub const RECORD_VERSION: u8 = 1;

const HAS_TRACE: u8 = 1;
const IS_PAYLOAD: u8 = 2;

/// The body of a record; its bytes are reference-counted, in a buffer of their own. At most 64 KiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// UTF-8, checked at the edge.
    Text(Bytes),
    Payload(Bytes),
}

impl Body {
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Payload(bytes) => bytes,
        }
    }
}

/// One entry of a conversation's log, as committed. Never changes.
#[derive(Debug)]
pub struct Record {
    pub seq: Seq,
    pub id: RecordId,
    /// max(clock, us(n-1)+1) in Unix microseconds: the write stamp of registers that refer to this record.
    pub us: u64,
    /// How many records up to and including this one count as unread (TEXT, MEDIA, DATA).
    pub ordinal: u64,
    pub sender: UserKey,
    pub device: DeviceId,
    pub cmid: ClientMessageId,
    /// First 16 bytes of SHA-256 over kind, ref_seq and body: the same cmid with another hash is a CONFLICT.
    pub content_hash: [u8; 16],
    /// Hash of the record before it: 16 bytes over its whole encoding; zero for the first.
    pub previous_hash: [u8; 16],
    pub kind: v1::kind::Value,
    pub ref_seq: Seq,
    pub body: Body,
    pub trace: Option<[u8; 16]>,
}

impl Record {
    /// Unix milliseconds at which the record was committed.
    pub fn server_time_ms(&self) -> u64 {
        self.us / 1_000
    }

    /// What a record costs in memory and in windows: its body and 160 B for the rest.
    pub fn cost(&self) -> usize {
        self.body.bytes().len() + 160
    }

    /// What a client is told, without the fields that depend on who it is (conversation, client message id).
    pub fn to_wire(&self) -> v1::Record {
        v1::Record {
            conversation: None,
            client_message_id: Bytes::new(),
            seq: self.seq,
            id: self.id,
            from: self.sender.user().to_owned(),
            from_device: self.device.as_str().to_owned(),
            kind: self.kind as i32,
            body: Some(match &self.body {
                Body::Text(text) => v1::record::Body::Text(String::from_utf8_lossy(text).into_owned()),
                Body::Payload(bytes) => v1::record::Body::Payload(bytes.clone()),
            }),
            ref_seq: self.ref_seq,
            server_time_ms: self.server_time_ms(),
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let trace = if self.trace.is_some() { HAS_TRACE } else { 0 };
        let payload = if matches!(self.body, Body::Payload(_)) { IS_PAYLOAD } else { 0 };
        out.extend_from_slice(&[RECORD_VERSION, self.kind as i32 as u8, trace | payload]);
        for number in [self.seq, self.id, self.us, self.ordinal, self.ref_seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for id in [&self.cmid.0, &self.content_hash, &self.previous_hash].into_iter().chain(&self.trace) {
            out.extend_from_slice(id);
        }
        for name in [self.sender.as_bytes(), self.device.as_str().as_bytes()] {
            // A user key is at most 97 bytes, a device id at most 32.
            out.push(name.len() as u8);
            out.extend_from_slice(name);
        }
        out.extend_from_slice(&(self.body.bytes().len() as u32).to_le_bytes());
        out.extend_from_slice(self.body.bytes());
    }

    /// Reads the stored form of any version up to [`RECORD_VERSION`]; the body is copied, so `stored` need not live on.
    pub fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = Cursor(stored);
        let [version, kind, flags] = from.array()?;
        if version != RECORD_VERSION {
            return Err(RecordError::Version(version));
        }
        if flags & !(HAS_TRACE | IS_PAYLOAD) != 0 {
            return Err(RecordError::Field("flags"));
        }
        let kind = v1::kind::Value::try_from(i32::from(kind)).map_err(|_| RecordError::Field("kind"))?;
        let [seq, id, us, ordinal, ref_seq] =
            [from.number()?, from.number()?, from.number()?, from.number()?, from.number()?];
        let (cmid, content_hash, previous_hash) = (from.array()?, from.array()?, from.array()?);
        let trace = if flags & HAS_TRACE != 0 { Some(from.array()?) } else { None };
        let sender = UserKey::from_bytes(from.short()?).ok_or(RecordError::Field("sender"))?;
        let device = from.device()?;
        let len = u32::from_le_bytes(from.array()?);
        let body = Bytes::copy_from_slice(from.take(len as usize)?);
        if !from.0.is_empty() {
            return Err(RecordError::Trailing(from.0.len()));
        }
        Ok(Self {
            seq,
            id,
            us,
            ordinal,
            sender,
            device,
            cmid: ClientMessageId(cmid),
            content_hash,
            previous_hash,
            kind,
            ref_seq,
            body: if flags & IS_PAYLOAD != 0 { Body::Payload(body) } else { Body::Text(body) },
            trace,
        })
    }

    /// What the next record of the log carries as `previous_hash`: the first 16 bytes of SHA-256 over the stored form.
    pub fn hash(&self) -> [u8; 16] {
        let mut stored = Vec::with_capacity(self.body.bytes().len() + 256);
        self.encode(&mut stored);
        first_16(Sha256::digest(&stored).as_slice())
    }
}

/// What makes two sends with one client message id the same: the first 16 bytes of SHA-256 over a domain tag, kind,
/// ref_seq, whether the body is text or payload, and the body.
pub fn content_hash(kind: v1::kind::Value, ref_seq: Seq, body: &Body) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"ringpost content v1");
    hash.update([kind as i32 as u8, u8::from(matches!(body, Body::Payload(_)))]);
    hash.update(ref_seq.to_le_bytes());
    hash.update(body.bytes());
    first_16(hash.finalize().as_slice())
}

fn first_16(digest: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    first
}

/// Why stored bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("ends early")]
    Truncated,
    #[error("version {0} is not known")]
    Version(u8),
    #[error("{0} is not valid")]
    Field(&'static str),
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// Reads stored bytes from the front.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn number(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes with a length byte before them.
    pub(crate) fn short(&mut self) -> Result<&'a [u8], RecordError> {
        let [len] = self.array()?;
        self.take(usize::from(len))
    }

    pub(crate) fn device(&mut self) -> Result<DeviceId, RecordError> {
        let name = std::str::from_utf8(self.short()?).map_err(|_| RecordError::Field("device"))?;
        DeviceId::new(name).map_err(|_| RecordError::Field("device"))
    }
}
