//! What a stored record is, how it is written down, and its versions.
//!
//! Version 1, little endian: version u8, kind u8, flags u8 (1: a trace follows the fixed part, 2: the body is a payload),
//! seq, id, us, ordinal, ref_seq u64 each, cmid, content hash, previous hash 16 bytes each, [trace 16 bytes],
//! sender and device with a length byte before them, body with a u32 length. Nothing may follow.
//! Version 2: after the flags (1: trace, 4: media) the kind of the body, u8 (0 text, 1 payload, 2 slices, 3 change,
//! 4 erased); before the body the media with a u32 length, where there is one. It is written only for what version 1
//! cannot say.
//!
//! The two hashes are XXH3-128, big endian (of builds before this one: the first 16 bytes of SHA-256): they find what is not the same, and nobody gains by making them equal. Who sends
//! other content with the hash of what it sent before is told of what it sent before; whoever can write to a store can write
//! hashes as well.
//!
//! Guarantees: whatever a build of the past wrote is read by this one (a golden file per version), and reading never
//! panics, whatever the bytes.

use bytes::Bytes;
use prost::Message;
use ringpost_proto::id::{ClientMessageId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::kind::Value as Kind;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The newest version that [`Record::encode`] writes.
pub const RECORD_VERSION: u8 = 2;

const HAS_TRACE: u8 = 1;
const IS_PAYLOAD: u8 = 2;
const HAS_MEDIA: u8 = 4;

/// The body of a record; its bytes are reference-counted, in a buffer of their own. A text or payload is at most 64 KiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// UTF-8, checked at the edge.
    Text(Bytes),
    Payload(Bytes),
    /// A ciphertext for each device of the recipients: [`v1::Slices`], encoded. 256 KiB and names.
    Slices(Bytes),
    /// What became of the conversation: [`v1::Change`], encoded.
    Change(Bytes),
    /// Taken back; the hash that the whole record had, so that the chain holds.
    Erased([u8; 16]),
}

impl Body {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(bytes) | Self::Payload(bytes) | Self::Slices(bytes) | Self::Change(bytes) => bytes,
            Self::Erased(hash) => hash,
        }
    }

    fn tag(&self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Payload(_) => 1,
            Self::Slices(_) => 2,
            Self::Change(_) => 3,
            Self::Erased(_) => 4,
        }
    }

    fn from_tag(tag: u8, bytes: &[u8]) -> Result<Self, RecordError> {
        let own = || Bytes::copy_from_slice(bytes);
        match tag {
            0 => Ok(Self::Text(own())),
            1 => Ok(Self::Payload(own())),
            2 => Ok(Self::Slices(own())),
            3 => Ok(Self::Change(own())),
            4 => bytes.try_into().map(Self::Erased).map_err(|_| RecordError::Field("body")),
            _ => Err(RecordError::Field("body")),
        }
    }
}

/// One entry of a conversation's log, as committed. Never changes, but for a body that is taken back.
#[derive(Debug)]
pub struct Record {
    pub seq: Seq,
    pub id: RecordId,
    /// max(clock, us(n-1)+1) in Unix microseconds.
    pub us: u64,
    /// How many records up to and including this one count as unread (TEXT, MEDIA, DATA).
    pub ordinal: u64,
    pub sender: UserKey,
    pub device: DeviceId,
    pub cmid: ClientMessageId,
    /// Over kind, ref_seq, body and media, see [`content_hash`]: the same cmid with another hash is a CONFLICT.
    pub content_hash: [u8; 16],
    /// Hash of the record before it: 16 bytes over its whole encoding; zero for the first.
    pub previous_hash: [u8; 16],
    pub kind: Kind,
    pub ref_seq: Seq,
    pub body: Body,
    /// [`v1::Media`], encoded: the file that the message is about.
    pub media: Option<Bytes>,
    pub trace: Option<[u8; 16]>,
}

impl Record {
    /// A record that is in no log yet: what its place gives it is 0, its content hash is right.
    pub fn new(sender: UserKey, device: DeviceId, cmid: ClientMessageId, kind: Kind, body: Body) -> Self {
        let content_hash = content_hash(kind, 0, &body, None);
        let (seq, id, us, ordinal, ref_seq, previous_hash) = Default::default();
        let (media, trace) = (None, None);
        Self {
            seq,
            id,
            us,
            ordinal,
            sender,
            device,
            cmid,
            content_hash,
            previous_hash,
            kind,
            ref_seq,
            body,
            media,
            trace,
        }
    }

    /// Whether it counts as unread.
    pub fn counts(&self) -> bool {
        counts(self.kind)
    }

    /// What became of the conversation, if the record says that.
    pub fn change(&self) -> Option<v1::change::Change> {
        let Body::Change(bytes) = &self.body else { return None };
        v1::Change::decode(bytes.clone()).ok()?.change
    }

    /// Whether somebody blocked, or no longer blocks, the other side: only who did it is told. A block is a few bytes, so the
    /// names that a long change holds are not read for it.
    pub fn is_block(&self) -> bool {
        matches!(&self.body, Body::Change(bytes) if bytes.len() < 16)
            && matches!(self.change(), Some(v1::change::Change::Blocked(_)))
    }

    /// The same record without its body: seq, id, sender, kind and hash stay.
    pub fn erased(&self) -> Self {
        let body = Body::Erased(self.hash());
        let (sender, device, cmid) = (self.sender.clone(), self.device, self.cmid);
        Self { sender, device, cmid, body, media: None, ..*self }
    }

    /// Unix milliseconds at which the record was committed.
    pub fn server_time_ms(&self) -> u64 {
        self.us / 1_000
    }

    /// What a record costs in memory and in windows: its body and 160 B for the rest.
    pub fn cost(&self) -> usize {
        self.body.bytes().len() + self.media.as_ref().map_or(0, Bytes::len) + 160
    }

    /// Of a sliced record, the record that this device of this user is sent; `None`: there is no slice for it.
    pub fn sliced(&self, user: &UserKey, device: &DeviceId) -> Option<Self> {
        let body = Body::Payload(self.slice_for(user, device)?);
        let (sender, media) = (self.sender.clone(), self.media.clone());
        Some(Self { sender, body, media, ..*self })
    }

    /// The slice for this device of this user; `None`: there is none.
    pub fn slice_for(&self, user: &UserKey, device: &DeviceId) -> Option<Bytes> {
        let Body::Slices(bytes) = &self.body else { return None };
        let slices = v1::Slices::decode(bytes.clone()).ok()?.slices;
        let mut slices = slices.into_iter();
        slices.find(|it| it.device == device.as_str() && it.user == user.user()).map(|slice| slice.bytes)
    }

    /// What a client is told, without the fields that depend on who it is (conversation, client message id, slice).
    pub fn to_wire(&self) -> v1::Record {
        v1::Record {
            conversation: None,
            client_message_id: Bytes::new(),
            seq: self.seq,
            id: self.id,
            from: self.sender.user().to_owned(),
            from_device: self.device.as_str().to_owned(),
            kind: self.kind as i32,
            body: match &self.body {
                Body::Text(text) => Some(v1::record::Body::Text(String::from_utf8_lossy(text).into_owned())),
                Body::Payload(bytes) => Some(v1::record::Body::Payload(bytes.clone())),
                Body::Slices(_) | Body::Change(_) | Body::Erased(_) => None,
            },
            ref_seq: self.ref_seq,
            server_time_ms: self.server_time_ms(),
            media: self.media.as_ref().and_then(|media| v1::Media::decode(media.clone()).ok()),
            change: match &self.body {
                Body::Change(bytes) => v1::Change::decode(bytes.clone()).ok(),
                _ => None,
            },
            erased: matches!(self.body, Body::Erased(_)),
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let trace = if self.trace.is_some() { HAS_TRACE } else { 0 };
        let (kind, body) = (self.kind as i32 as u8, self.body.tag());
        if body <= 1 && self.media.is_none() && self.kind != Kind::Change {
            // What an older build reads, too.
            out.extend_from_slice(&[1, kind, trace | if body == 1 { IS_PAYLOAD } else { 0 }]);
        } else {
            let media = if self.media.is_some() { HAS_MEDIA } else { 0 };
            out.extend_from_slice(&[RECORD_VERSION, kind, trace | media, body]);
        }
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
        for bytes in self.media.iter().map(Bytes::as_ref).chain([self.body.bytes()]) {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }

    /// Reads the stored form of any version up to [`RECORD_VERSION`]; the body is copied, so `stored` need not live on.
    pub fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = Cursor(stored);
        let [version, kind, flags] = from.array()?;
        let (known, tag) = match version {
            1 => (HAS_TRACE | IS_PAYLOAD, u8::from(flags & IS_PAYLOAD != 0)),
            2 => (HAS_TRACE | HAS_MEDIA, from.array::<1>()?[0]),
            _ => return Err(RecordError::Version(version)),
        };
        if flags & !known != 0 {
            return Err(RecordError::Field("flags"));
        }
        let kind = Kind::try_from(i32::from(kind)).map_err(|_| RecordError::Field("kind"))?;
        // Each record is written in one way only.
        let is_new = tag > 1 || flags & HAS_MEDIA != 0 && version > 1 || kind == Kind::Change;
        if is_new != (version > 1) {
            return Err(RecordError::Field("version"));
        }
        let [seq, id, us, ordinal, ref_seq] =
            [from.number()?, from.number()?, from.number()?, from.number()?, from.number()?];
        let (cmid, content_hash, previous_hash) = (from.array()?, from.array()?, from.array()?);
        let trace = if flags & HAS_TRACE != 0 { Some(from.array()?) } else { None };
        let sender = UserKey::from_bytes(from.short()?).ok_or(RecordError::Field("sender"))?;
        let device = from.device()?;
        let media = if flags & HAS_MEDIA != 0 { Some(Bytes::copy_from_slice(from.long()?)) } else { None };
        let body = Body::from_tag(tag, from.long()?)?;
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
            body,
            media,
            trace,
        })
    }

    /// What the next record of the log carries as `previous_hash`: over the stored form, as it was before the body was taken
    /// back.
    pub fn hash(&self) -> [u8; 16] {
        if let Body::Erased(hash) = &self.body {
            return *hash;
        }
        let mut stored = Vec::with_capacity(self.body.bytes().len() + 256);
        self.encode(&mut stored);
        xxh3_128(&stored).to_be_bytes()
    }
}

/// Whether a record of this kind counts as unread.
pub fn counts(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Media | Kind::Data)
}

/// What makes two sends with one client message id the same: a hash over a domain tag, kind, what the body is, ref_seq, the
/// body, and the media.
pub fn content_hash(kind: Kind, ref_seq: Seq, body: &Body, media: Option<&Bytes>) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(b"ringpost content v2");
    hash.update(&[kind as i32 as u8, body.tag()]);
    hash.update(&ref_seq.to_le_bytes());
    hash.update(body.bytes());
    if let Some(media) = media {
        // With its length behind it, no body ends in the same bytes.
        hash.update(media);
        hash.update(&(media.len() as u64).to_le_bytes());
    }
    hash.digest128().to_be_bytes()
}

/// The same as builds before [`content_hash`] have stored it: the first 16 bytes of SHA-256, which without instructions of the
/// processor's own took a tenth of a message's time. A message may be sent once to one build and again to the next.
pub fn content_hash_v1(kind: Kind, ref_seq: Seq, body: &Body, media: Option<&Bytes>) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"ringpost content v1");
    hash.update([kind as i32 as u8, body.tag()]);
    hash.update(ref_seq.to_le_bytes());
    hash.update(body.bytes());
    if let Some(media) = media {
        hash.update(media);
        hash.update((media.len() as u64).to_le_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
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

    /// Bytes with a u32 length before them.
    pub(crate) fn long(&mut self) -> Result<&'a [u8], RecordError> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(len as usize)
    }

    pub(crate) fn device(&mut self) -> Result<DeviceId, RecordError> {
        let name = std::str::from_utf8(self.short()?).map_err(|_| RecordError::Field("device"))?;
        DeviceId::new(name).map_err(|_| RecordError::Field("device"))
    }
}
