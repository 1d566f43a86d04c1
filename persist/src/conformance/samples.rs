//! Users, records and requests for the cases.
#![allow(clippy::expect_used, clippy::panic)] // a suite of tests: whoever runs it wants the panic

use super::{Driver, ask};
use crate::{
    Body, ConversationKind, ConversationState, Outcome, Raise, ReadRange, Record, RegisterKey, StoreRequest, UserPage,
};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::v1::kind::Value;
use std::sync::Arc;

pub(super) fn user(name: &str) -> UserKey {
    UserKey::new("default", name).expect("a valid name")
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a valid name")
}

/// A direct conversation and who is in it.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) id: ConversationId,
    pub(super) kind: Arc<ConversationKind>,
}

pub(super) fn room(a: &str, b: &str) -> Room {
    let (a, b) = if a <= b { (user(a), user(b)) } else { (user(b), user(a)) };
    Room { id: a.direct_with(&b), kind: Arc::new(ConversationKind::Direct([a, b])) }
}

pub(super) fn cmid(seq: Seq) -> ClientMessageId {
    let mut id = [0x70; 16];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    ClientMessageId(id)
}

/// An id that names this time.
pub(super) fn uuid_v7(ms: u64) -> ClientMessageId {
    ClientMessageId::uuid_v7(ms, 0)
}

/// A text of `sender`'s phone at `seq`, with an id and a stamp (seconds) that grow with it.
pub(super) fn text(sender: &str, seq: Seq) -> Record {
    let body = Body::Text(format!("message {seq} of {sender}").into());
    Record {
        seq,
        id: 1_000 + seq,
        us: 1_764_000_000_000_000 + seq * 1_000_000,
        ordinal: seq,
        ..Record::new(user(sender), device("phone"), cmid(seq), Value::Text, body)
    }
}

pub(super) fn texts(sender: &str, seqs: impl Iterator<Item = Seq>) -> Vec<Arc<Record>> {
    seqs.map(|seq| Arc::new(text(sender, seq))).collect()
}

pub(super) fn append(room: &Room, expected_head: Seq, records: Vec<Arc<Record>>) -> StoreRequest {
    StoreRequest::Append { tag: 77, conversation: room.id, kind: Arc::clone(&room.kind), expected_head, records }
}

/// Appends `sender`'s texts from..=to in batches of the most that an append takes.
pub(super) fn fill(store: &mut dyn Driver, room: &Room, sender: &str, from: Seq, to: Seq) {
    let mut head = from - 1;
    while head < to {
        let next = to.min(head + 64);
        appended(store, append(room, head, texts(sender, head + 1..=next)), next);
        head = next;
    }
}

pub(super) fn appended(store: &mut dyn Driver, request: StoreRequest, expected: Seq) {
    match ask(store, request) {
        Outcome::Appended { head } => assert_eq!(head, expected),
        other => panic!("not appended: {other:?}"),
    }
}

pub(super) fn read(
    store: &mut dyn Driver,
    room: &Room,
    range: ReadRange,
    records: u32,
    bytes: u32,
) -> (Seq, Vec<Arc<Record>>) {
    match ask(store, StoreRequest::ReadLog { tag: 5, conversation: room.id, viewer: None, range, records, bytes }) {
        Outcome::LogSlice { head, records, .. } => (head, records),
        other => panic!("no slice: {other:?}"),
    }
}

/// The whole log, upwards.
pub(super) fn whole(store: &mut dyn Driver, room: &Room) -> Vec<Arc<Record>> {
    read(store, room, ReadRange::From { from: 1, to: Seq::MAX }, u32::MAX, u32::MAX).1
}

pub(super) fn load(store: &mut dyn Driver, room: &Room) -> Option<Box<ConversationState>> {
    match ask(store, StoreRequest::LoadConversation { tag: 6, conversation: room.id }) {
        Outcome::Conversation(state) => state,
        other => panic!("no conversation: {other:?}"),
    }
}

pub(super) fn load_user(
    store: &mut dyn Driver,
    name: &str,
    after: Option<(RecordId, ConversationId)>,
    limit: u32,
) -> UserPage {
    match ask(store, StoreRequest::LoadUser { tag: 7, user: user(name), after, limit, shown: true }) {
        Outcome::User(page) => *page,
        other => panic!("no page: {other:?}"),
    }
}

pub(super) fn find(
    store: &mut dyn Driver,
    room: &Room,
    sender: &str,
    from: &str,
    id: ClientMessageId,
) -> Option<Arc<Record>> {
    let request =
        StoreRequest::FindCmid { tag: 8, conversation: room.id, sender: user(sender), device: device(from), cmid: id };
    match ask(store, request) {
        Outcome::Found(record) => record,
        other => panic!("no search: {other:?}"),
    }
}

pub(super) fn raise(store: &mut dyn Driver, raises: Vec<(RegisterKey, Seq)>) {
    let raises = raises.into_iter().map(|(key, value)| Raise { key, value, stamp: 1_764_000_000_000_000 + value });
    match ask(store, StoreRequest::Raise { tag: 9, raises: raises.collect() }) {
        Outcome::Raised => {}
        other => panic!("not raised: {other:?}"),
    }
}

/// Two logs hold the same, byte for byte.
pub(super) fn assert_same(found: &[Arc<Record>], expected: &[Arc<Record>]) {
    let stored = |record: &Arc<Record>| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    };
    assert_eq!(seqs(found), seqs(expected));
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(stored(found), stored(expected), "record {}", expected.seq);
    }
}

pub(super) fn seqs(records: &[Arc<Record>]) -> Vec<Seq> {
    records.iter().map(|record| record.seq).collect()
}
