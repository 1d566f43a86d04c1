//! Records of a few users, and a store that flushes and merges all the time.

use bytes::Bytes;
use ringpost_persist::embedded::Options;
use ringpost_persist::embedded::committer::{Committer, Recovery};
use ringpost_persist::files::RealFiles;
use ringpost_persist::{Body, ConversationKind, Outcome, Record, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::path::Path;
use std::sync::Arc;

pub fn user(n: usize) -> UserKey {
    UserKey::new("default", &format!("user{n}")).unwrap()
}

pub fn device(n: usize) -> DeviceId {
    DeviceId::new(&format!("device{n}")).unwrap()
}

/// Number 0 is a user who talks to itself; all others are between user 0 and another.
pub fn conversation(n: usize) -> ConversationId {
    ConversationId([n as u8; 16])
}

pub fn kind(n: usize) -> Arc<ConversationKind> {
    Arc::new(if n == GROUP { ConversationKind::Group } else { ConversationKind::Direct([user(0), user(n)]) })
}

/// A group, whose records say who is in it.
pub const GROUP: usize = 9;

pub fn cmid(n: u64) -> ClientMessageId {
    let mut id = [0x70; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    ClientMessageId(id)
}

/// Its body tells conversation and seq.
pub fn record(n: usize, seq: Seq, us: u64) -> Record {
    let body = Body::Payload(Bytes::from(format!("{n} {seq} {}", "x".repeat(seq as usize * 37 % 400))));
    Record {
        seq,
        id: us / 3,
        us,
        ordinal: seq,
        previous_hash: [seq as u8; 16],
        ..Record::new(user(n * (seq as usize % 2)), device(0), cmid(seq), Value::Data, body)
    }
}

pub fn append(n: usize, expected_head: Seq, records: Vec<Record>) -> StoreRequest {
    let records = records.into_iter().map(Arc::new).collect();
    StoreRequest::Append { tag: 0, conversation: conversation(n), kind: kind(n), expected_head, records }
}

/// On a real disk, whose free space no test here is about.
pub fn options(dir: &Path, ports: usize) -> Options {
    Options { free_floor_percent: 0, ..Options::new(dir, ports) }
}

/// So small that there is always something to flush and to merge.
pub fn small(dir: &Path) -> Options {
    Options { segment_bytes: 64 << 10, memory_bytes: 24 << 10, cached_rows: 8, ..options(dir, 1) }
}

pub fn open(mut options: Options) -> Recovery {
    Committer::open(Arc::new(RealFiles), &mut options).unwrap()
}

pub fn ask(committer: &mut Committer, request: StoreRequest) -> Outcome {
    let mut answers = Vec::new();
    committer.stage(0, request);
    committer.commit(&mut answers).unwrap();
    answers.remove(0).1.outcome
}
