//! What happened before a world began: a conversation with more behind it than a router holds in memory, over a day old,
//! and messages of that time whose senders never heard what became of them.

use super::fold::Meant;
use super::oracle::{Oracle, Sending};
use super::world::World;
use bytes::Bytes;
use ringpost_persist::faulty::{Faults, FaultyStore};
use ringpost_persist::{Body, ConversationKind, Outcome, Record, StoreRequest, record};
use ringpost_proto::id::{ClientMessageId, record_id};
use ringpost_proto::v1::{self, kind::Value as Kind};
use std::sync::Arc;

/// How long ago the last of it was written, microseconds.
const AGO_US: u64 = 30 * 3_600 * 1_000_000;

pub const TEXT: Meant = Meant { kind: Kind::Text, ref_seq: 0, epoch: 0 };

/// Two users and how many records their conversation has.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    pub a: usize,
    pub b: usize,
    pub records: usize,
}

impl World {
    pub fn remember(&mut self, past: Past) {
        let begun_us = self.clocks().unix_us - AGO_US;
        let Past { a, b, records } = past;
        let oracle = &mut self.oracle;
        let (lo, hi) = if a <= b { (a, b) } else { (b, a) };
        let kind = Arc::new(ConversationKind::Direct([oracle.users[lo].clone(), oracle.users[hi].clone()]));
        let senders: Vec<usize> =
            (0..oracle.devices.len()).filter(|device| [a, b].contains(&oracle.devices[*device].0)).collect();
        let mut log: Vec<Arc<Record>> = Vec::new();
        for at in 0..records {
            let device = senders[self.dice.pick(senders.len())];
            let to = if oracle.devices[device].0 == a { b } else { a };
            let cmid = old_id(at as u64, begun_us / 1_000, at % 2 == 0);
            let next = next_record(oracle, device, cmid, begun_us, log.last().map(|record| &**record));
            let meant = TEXT;
            let body = v1::send::Body::Text(String::from_utf8_lossy(next.body.bytes()).into_owned());
            oracle.sends.insert(cmid, Sending { seq: Some(next.seq), ..Sending::new(device, to, meant, Some(body)) });
            log.push(Arc::new(next));
        }
        append(&mut self.store, oracle.conversation(a, b), &kind, &log);
        self.store.set_faults(self.plan.store.clone());
        self.ask_again(&log, &senders);
        let device = senders[0];
        let to = if self.oracle.devices[device].0 == a { b } else { a };
        self.send_too_late(device, to, old_id(u64::MAX, begun_us / 1_000, true));
    }

    /// Some senders never heard SENT: they still ask, with the same id and bytes.
    fn ask_again(&mut self, log: &[Arc<Record>], senders: &[usize]) {
        for record in log.iter().filter(|record| record.seq % 37 == 1) {
            let Some(sending) = self.oracle.sends.get_mut(&record.cmid) else { continue };
            sending.seq = None;
            let (device, to, body) = (sending.device, sending.to, sending.body.clone());
            debug_assert!(senders.contains(&device));
            let send = self.message(to, record.cmid, body, TEXT);
            self.devices[device].client.send(send.clone()).unwrap();
            self.devices[device].unsent.push(send);
        }
    }

    /// One was made then and never reached anybody: it is refused as too old, and is in no log.
    fn send_too_late(&mut self, device: usize, to: usize, cmid: ClientMessageId) {
        let body = Some(v1::send::Body::Text("too late".into()));
        let sending = Sending { expires: true, ..Sending::new(device, to, TEXT, body.clone()) };
        self.oracle.sends.insert(cmid, sending);
        let send = self.message(to, cmid, body, TEXT);
        self.devices[device].client.send(send.clone()).unwrap();
        self.devices[device].unsent.push(send);
    }

    pub fn message(&self, to: usize, cmid: ClientMessageId, body: Option<v1::send::Body>, meant: Meant) -> v1::Send {
        v1::Send {
            to: Some(self.wire_peer(to)),
            client_message_id: cmid.to_bytes(),
            kind: meant.kind as i32,
            ref_seq: meant.ref_seq,
            group_epoch: meant.epoch,
            body,
            ..Default::default()
        }
    }
}

/// A UUID of version 7 with its time, or of version 4.
fn old_id(number: u64, unix_ms: u64, timed: bool) -> ClientMessageId {
    let mut id = [0xee; 16];
    id[..8].copy_from_slice(&(unix_ms << 16).to_be_bytes());
    id[8..].copy_from_slice(&(number & 0x3fff_ffff_ffff_ffff | 1 << 63).to_be_bytes());
    id[6] = if timed { 0x70 } else { 0x40 };
    ClientMessageId(id)
}

fn next_record(oracle: &Oracle, device: usize, cmid: ClientMessageId, begun_us: u64, last: Option<&Record>) -> Record {
    let seq = last.map_or(1, |last| last.seq + 1);
    let us = begun_us + seq;
    let body = Body::Text(Bytes::from(format!("long ago {seq}")));
    let (user, name) = oracle.devices[device];
    Record {
        seq,
        id: record_id(us / 1_000, 0, last.map_or(0, |last| last.id)),
        us,
        ordinal: seq,
        sender: oracle.users[user].clone(),
        device: name,
        cmid,
        content_hash: record::content_hash(Kind::Text, 0, &body, None),
        previous_hash: last.map_or([0; 16], Record::hash),
        kind: Kind::Text,
        ref_seq: 0,
        body,
        media: None,
        trace: None,
    }
}

fn append(
    store: &mut FaultyStore,
    conversation: ringpost_proto::id::ConversationId,
    kind: &Arc<ConversationKind>,
    log: &[Arc<Record>],
) {
    store.set_faults(Faults::none());
    for batch in log.chunks(64) {
        let (expected_head, kind, records) = (batch[0].seq - 1, kind.clone(), batch.to_vec());
        store.submit(StoreRequest::Append { tag: 0, conversation, kind, expected_head, records }, 0);
    }
    while let Some(at_us) = store.next_ready_us() {
        while let Some(answer) = store.poll(at_us) {
            assert!(matches!(answer.outcome, Outcome::Appended { .. }), "{:?}", answer.outcome);
        }
    }
}
