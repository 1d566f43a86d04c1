//! What a stored record is.

use bytes::Bytes;
use ringpost_proto::id::{ClientMessageId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::v1;
use std::sync::OnceLock;

/// The body of a record; its bytes are reference-counted. At most 64 KiB.
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
    /// The part of the wire encodings that is the same for every receiver, made at most once each.
    pub shared: SharedEncodings,
}

/// Wire encodings of a record without the fields that depend on the receiver (see `ringpost_proto::encode`).
#[derive(Debug, Default)]
pub struct SharedEncodings {
    pub protobuf: OnceLock<Bytes>,
    pub json: OnceLock<Bytes>,
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
}
