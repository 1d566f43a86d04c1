//! What the cells of the tables mean: where a record lies, how it is cut in two, how numbers are written. Pure.
//!
//! A record is written as [`Record::encode`] says. A body of more than [`INLINE_BYTES`], which is the end of that form, is
//! cut off and lies in the table `body`; what is left, its shell, says how long it is.

use super::failure::Failed;
use crate::Record;
use crate::record::{Body, RecordError};
use ringpost_proto::id::{ConversationId, Seq};
use scylla::value::CqlValue;
use sha2::{Digest, Sha256};

/// Records of a bucket, a partition of the log. It may end with up to [`OVERHANG`] more: the records of one append lie in one
/// bucket, that of the first of them, because only what lies in one partition is written as a whole or not at all.
pub(super) const BUCKET: u64 = 4_096;
/// See [`BUCKET`]: one less than an append may have.
const OVERHANG: u64 = crate::index::APPEND_RECORDS as u64 - 1;
/// Bodies up to this size lie in the log itself.
pub(super) const INLINE_BYTES: usize = 4 << 10;
/// Parts of the sweep; fixed for ever, they are in the keys of `recent`.
const VNODES: u16 = 1_024;

/// The bucket into which an append on this head is written.
pub(super) fn bucket_after(head: Seq) -> i64 {
    (head / BUCKET) as i64
}

/// Whether the append on this head may be the first of its bucket: the last record may lie in the bucket before, and only
/// the heads of both buckets tell.
pub(super) fn may_start_bucket(head: Seq) -> bool {
    head >= BUCKET && head % BUCKET <= OVERHANG
}

/// The buckets that records from..=to lie in, ascending.
pub(super) fn buckets(from: Seq, to: Seq) -> std::ops::Range<i64> {
    let first = from.saturating_sub(1);
    // The first records of a bucket's share may be the overhang of the one before.
    let earliest = if may_start_bucket(first) { first / BUCKET - 1 } else { first / BUCKET };
    let last = if from <= to { to.saturating_sub(1) / BUCKET + 1 } else { earliest };
    earliest as i64..last as i64
}

/// The part of the sweep that a conversation belongs to: the first bits of its id, which is a hash.
pub(super) fn vnode(conversation: &ConversationId) -> i32 {
    let [first, second, ..] = conversation.0;
    i32::from(u16::from_be_bytes([first, second]) % VNODES)
}

/// A position or a count. None that exists is beyond 2^63.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number that [`number`] wrote; one below 0 was not.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Any number, so that signed cells have the order of unsigned numbers.
pub(super) fn ordered(value: u64) -> i64 {
    (value ^ (1 << 63)) as i64
}

pub(super) fn from_ordered(cell: i64) -> u64 {
    cell as u64 ^ (1 << 63)
}

pub(super) fn blob(bytes: &[u8]) -> CqlValue {
    CqlValue::Blob(bytes.to_vec())
}

pub(super) fn bigint(value: u64) -> CqlValue {
    CqlValue::BigInt(number(value))
}

/// A record as it is written: its shell or all of it, and the body that was cut off with its id.
pub(super) struct Written {
    pub(super) seq: Seq,
    pub(super) record: Vec<u8>,
    pub(super) body: Option<([u8; 16], Vec<u8>)>,
}

impl Written {
    pub(super) fn new(conversation: &ConversationId, record: &Record) -> Self {
        let mut encoded = Vec::with_capacity(record.cost() + 128);
        record.encode(&mut encoded);
        let len = record.body.bytes().len();
        if len <= INLINE_BYTES {
            return Self { seq: record.seq, record: encoded, body: None };
        }
        let body = encoded.split_off(encoded.len() - len);
        Self { seq: record.seq, record: encoded, body: Some((body_id(conversation, record), body)) }
    }
}

/// The same for every try of one message, so that a repeated one writes no second body; another for other content under the
/// same client message id.
fn body_id(conversation: &ConversationId, record: &Record) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"ringpost body v1");
    hash.update(conversation.0);
    for name in [record.sender.as_bytes(), record.device.as_str().as_bytes()] {
        hash.update((name.len() as u32).to_le_bytes());
        hash.update(name);
    }
    hash.update(record.cmid.0);
    hash.update(record.content_hash);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) bucket: i64,
    pub(super) seq: Seq,
    pub(super) record: Vec<u8>,
    /// Of the body that was cut off.
    pub(super) body: Option<Vec<u8>>,
}

impl Row {
    /// The record; of one whose body was cut off, with an empty body.
    pub(super) fn shell(&self) -> Result<Record, Failed> {
        let record = if self.is_cut() {
            let mut empty = self.record[..self.record.len() - 4].to_vec();
            empty.extend_from_slice(&[0; 4]);
            Record::decode(&empty)?
        } else {
            Record::decode(&self.record)?
        };
        if record.seq == self.seq { Ok(record) } else { Err(RecordError::Field("seq").into()) }
    }

    /// Whether a part of the record is in the other table. Not so where the body was taken back a moment ago and is still to
    /// be removed there: then the record is whole.
    pub(super) fn is_cut(&self) -> bool {
        self.body.is_some() && self.record.len() >= 4 && Record::decode(&self.record).is_err()
    }

    /// What the record costs, whole.
    pub(super) fn cost(&self, shell: &Record) -> usize {
        let cut = match self.record.last_chunk() {
            Some(len) if self.is_cut() => u32::from_le_bytes(*len) as usize,
            _ => 0,
        };
        shell.cost() + cut
    }

    /// The record with the body that was cut off.
    pub(super) fn whole(&self, body: &[u8]) -> Result<Record, Failed> {
        Ok(Record::decode(&[self.record.as_slice(), body].concat())?)
    }

    pub(super) fn is(&self, written: &Written) -> bool {
        let body = written.body.as_ref().map(|(id, _)| id.as_slice());
        (self.seq, self.record.as_slice(), self.body.as_deref()) == (written.seq, written.record.as_slice(), body)
    }
}

/// Whether the body of a record was taken back.
pub(super) fn is_erased(record: &Record) -> bool {
    matches!(record.body, Body::Erased(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use ringpost_proto::id::{ClientMessageId, DeviceId, UserKey};
    use ringpost_proto::v1::kind::Value;

    fn record(seq: Seq, body: Body) -> Record {
        let (ann, phone) = (UserKey::new("t", "ann").unwrap(), DeviceId::new("phone").unwrap());
        let record = Record::new(ann, phone, ClientMessageId([3; 16]), Value::Data, body);
        Record { seq, media: Some(Bytes::from_static(b"media")), ..record }
    }

    #[test]
    fn a_long_body_is_cut_off_and_put_back() {
        let id = ConversationId([1; 16]);
        for len in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 300 << 10] {
            let original = record(5, Body::Payload(vec![7; len].into()));
            let written = Written::new(&id, &original);
            assert_eq!(written.body.is_some(), len > INLINE_BYTES);
            let body = written.body.as_ref().map(|(id, _)| id.to_vec());
            let row = Row { bucket: 0, seq: 5, record: written.record.clone(), body };
            assert!(row.is(&written));
            let shell = row.shell().unwrap();
            assert_eq!(row.cost(&shell), original.cost());
            assert_eq!(
                (shell.cmid, shell.content_hash, shell.kind),
                (original.cmid, original.content_hash, Value::Data)
            );
            let whole = match &written.body {
                Some((_, body)) => row.whole(body).unwrap(),
                None => shell,
            };
            assert_eq!((whole.hash(), whole.body), (original.hash(), original.body));
        }
    }

    #[test]
    fn a_body_that_was_taken_back_is_not_looked_for() {
        let id = ConversationId([1; 16]);
        let original = record(5, Body::Payload(vec![7; 9_000].into()));
        let body = Written::new(&id, &original).body.map(|(id, _)| id.to_vec());
        let row = Row { bucket: 0, seq: 5, record: Written::new(&id, &original.erased()).record, body };
        assert!(!row.is_cut() && is_erased(&row.shell().unwrap()));
    }

    #[test]
    fn a_body_has_one_name_for_one_content() {
        let id = ConversationId([1; 16]);
        let name =
            |conversation: &ConversationId, record: &Record| Written::new(conversation, record).body.map(|(id, _)| id);
        let long = || Body::Payload(vec![7; 5_000].into());
        let first = name(&id, &record(5, long()));
        // Tried again at another position: the same.
        assert_eq!(first, name(&id, &record(6, long())));
        assert_ne!(first, name(&id, &Record { content_hash: [5; 16], ..record(5, long()) }));
        assert_ne!(first, name(&id, &Record { cmid: ClientMessageId([4; 16]), ..record(5, long()) }));
        assert_ne!(first, name(&ConversationId([2; 16]), &record(5, long())));
    }

    #[test]
    fn a_row_that_is_no_record_is_refused() {
        for record in [Vec::new(), vec![1], vec![9; 300]] {
            for body in [None, Some(vec![1])] {
                assert!(Row { bucket: 0, seq: 1, record: record.clone(), body }.shell().is_err());
            }
        }
        let written = Written::new(&ConversationId([1; 16]), &record(5, Body::Text("x".into())));
        assert!(Row { bucket: 0, seq: 6, record: written.record, body: None }.shell().is_err(), "at another place");
    }

    #[test]
    fn the_part_of_the_sweep_is_fixed_for_ever() {
        let vnode_of = |first, second| {
            let mut id = [0xff; 16];
            (id[0], id[1]) = (first, second);
            vnode(&ConversationId(id))
        };
        assert_eq!([vnode_of(0, 0), vnode_of(1, 2), vnode_of(0xff, 0xff), vnode_of(0xfc, 7)], [0, 258, 1_023, 7]);
    }

    #[test]
    fn buckets_follow_each_other() {
        assert_eq!([0, 1, 4_095, 4_096, 4_159, 8_191].map(bucket_after), [0, 0, 0, 1, 1, 1]);
        assert!(![0, 1, 63, 4_095, 4_160, 8_191].iter().any(|head| may_start_bucket(*head)));
        assert!([4_096, 4_097, 4_159, 8_192].iter().all(|head| may_start_bucket(*head)));
        assert_eq!(buckets(1, 4_096), 0..1);
        assert_eq!(buckets(1, 4_097), 0..2);
        assert_eq!(buckets(4_097, 4_097), 0..2, "the overhang of the first");
        assert_eq!(buckets(4_160, 5_000), 0..2);
        assert_eq!(buckets(4_161, 5_000), 1..2);
        assert!(buckets(9, 8).is_empty() && buckets(0, 0).contains(&0));
    }

    proptest! {
        /// Whatever appends a log is made of, each record lies where it is looked for.
        #[test]
        fn a_record_is_in_one_of_its_buckets(heads in proptest::collection::vec(1u64..=64, 1..400)) {
            let mut head = 0;
            for count in heads {
                let bucket = bucket_after(head);
                for seq in head + 1..=head + count {
                    prop_assert!(buckets(seq, seq).contains(&bucket), "{seq} in {bucket}");
                }
                // The last record of one append and the first of the next: the same bucket, or it may be a fresh one.
                let next = bucket_after(head + count);
                prop_assert!(next == bucket || (next == bucket + 1 && may_start_bucket(head + count)));
                head += count;
            }
        }

        #[test]
        fn signed_cells_keep_the_order(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), ordered(a).cmp(&ordered(b)));
            prop_assert_eq!(from_ordered(ordered(a)), a);
            prop_assert_eq!(unsigned(number(a)), a.min(i64::MAX as u64));
        }
    }
}
