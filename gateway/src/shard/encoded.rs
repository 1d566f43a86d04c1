//! Records as their receivers get them, but for what is another for each.
//!
//! Owns: the encodings of the records that were pushed last. Guarantees: what the router fans out together is encoded once for all
//! who get it, also with other records between its turns; bounded, in bytes too. Never does: keeping an encoding with its record;
//! that would double what the store holds.

use bytes::Bytes;
use ringpost_persist::Record;
use ringpost_proto::wire::{self, Encoding};
use ringpost_router::{TOGETHER, TOGETHER_BYTES};
use std::collections::VecDeque;
use std::sync::Arc;

/// Those that go round together, and as many that come between: where one of a round has to go, each would be encoded anew for
/// every member.
const MOST: usize = 2 * TOGETHER;
/// Of all encodings; the newest is kept, however long it is. JSON is longer by a third (base64) and names, and both may be wanted.
const MOST_BYTES: usize = 4 * TOGETHER_BYTES;

#[derive(Default)]
pub(super) struct Encoded {
    /// The newest first.
    records: VecDeque<OfRecord>,
    /// Of all encodings.
    bytes: usize,
}

struct OfRecord {
    record: Arc<Record>,
    protobuf: Option<Bytes>,
    json: Option<Bytes>,
}

impl Encoded {
    pub fn of(&mut self, encoding: Encoding, record: &Arc<Record>) -> Bytes {
        let at = self.records.iter().position(|of| Arc::ptr_eq(&of.record, record));
        if let Some(encoded) = at.and_then(|at| self.records.get(at)?.encoded(encoding)) {
            return encoded.clone();
        }
        let encoded = shared(encoding, record);
        let known = at.and_then(|at| self.records.remove(at));
        let mut of = known.unwrap_or_else(|| OfRecord { record: Arc::clone(record), protobuf: None, json: None });
        *of.encoded_mut(encoding) = Some(encoded.clone());
        self.bytes += encoded.len();
        self.records.push_front(of);
        while self.records.len() > MOST || (self.records.len() > 1 && self.bytes > MOST_BYTES) {
            self.bytes -= self.records.pop_back().map_or(0, |of| of.bytes());
        }
        encoded
    }
}

impl OfRecord {
    fn encoded(&self, encoding: Encoding) -> Option<&Bytes> {
        match encoding {
            Encoding::Protobuf => self.protobuf.as_ref(),
            Encoding::Json => self.json.as_ref(),
        }
    }

    fn encoded_mut(&mut self, encoding: Encoding) -> &mut Option<Bytes> {
        match encoding {
            Encoding::Protobuf => &mut self.protobuf,
            Encoding::Json => &mut self.json,
        }
    }

    fn bytes(&self) -> usize {
        [&self.protobuf, &self.json].into_iter().flatten().map(Bytes::len).sum()
    }
}

/// The part of a record's encoding that does not depend on the receiver.
pub(super) fn shared(encoding: Encoding, record: &Record) -> Bytes {
    wire::shared_record(encoding, &record.to_wire())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringpost_persist::Body;
    use ringpost_proto::id::{ClientMessageId, DeviceId, UserKey};
    use ringpost_proto::v1::kind::Value as Kind;

    fn record(cost: usize) -> Arc<Record> {
        let (sender, device) = (UserKey::new("default", "alice").unwrap(), DeviceId::new("phone").unwrap());
        let mut record = Record::new(sender, device, ClientMessageId([7; 16]), Kind::Data, Body::Payload(Bytes::new()));
        record.body = Body::Payload(vec![7u8; cost - record.cost()].into());
        Arc::new(record)
    }

    #[test]
    fn what_goes_round_together_is_encoded_once_with_others_between() {
        let together: Vec<_> = (0..TOGETHER).map(|_| record(TOGETHER_BYTES / TOGETHER)).collect();
        let mut encoded = Encoded::default();
        let mut turn = |others: usize| -> Vec<Bytes> {
            (0..others).for_each(|_| drop(encoded.of(Encoding::Protobuf, &record(200))));
            let both = |record| [Encoding::Protobuf, Encoding::Json].map(|encoding| (encoding, record));
            together.iter().flat_map(both).map(|(encoding, record)| encoded.of(encoding, record)).collect()
        };
        let first = turn(0);
        for _ in 0..3 {
            let again = turn(TOGETHER / 4);
            assert!(first.iter().zip(&again).all(|(first, again)| first.as_ptr() == again.as_ptr()));
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut encoded = Encoded::default();
        for cost in [200, 1 << 10, 64 << 10, 300 << 10, 200] {
            for _ in 0..2 * MOST {
                let record = record(cost);
                assert_eq!(encoded.of(Encoding::Json, &record), encoded.of(Encoding::Json, &record));
                encoded.of(Encoding::Protobuf, &record);
                let sum: usize = encoded.records.iter().map(OfRecord::bytes).sum();
                assert_eq!(encoded.bytes, sum);
                assert!(encoded.records.len() <= MOST && (sum <= MOST_BYTES || encoded.records.len() == 1), "{cost}");
            }
        }
    }
}
