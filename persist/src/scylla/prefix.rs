//! What follows from the records 1 ... n of a log: who is in it, and what its last record says. Pure.
//!
//! Written down as a snapshot it spares reading the log from its beginning; it can always be made again from the log.

use super::failure::Failed;
use crate::embedded::{Group, MemberRow, decode_kind, encode_kind};
use crate::record::{Cursor, RecordError};
use crate::{ConversationKind, Record, Roster};
use ringpost_proto::id::{RecordId, Seq, UserKey};
use std::sync::Arc;

/// Of the snapshot: version u8, kind, head, id, us, ordinal and latest time of a client message id u64 each, what a group
/// knows beside its members, how many of them u32, and the members in their order, each with its name before it, with lengths.
const VERSION: u8 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) kind: Arc<ConversationKind>,
    /// The last record: where it is, and what it says.
    pub(super) head: Seq,
    pub(super) id: RecordId,
    pub(super) us: u64,
    pub(super) ordinal: u64,
    /// The latest time that a client message id names.
    pub(super) latest_cmid_ms: u64,
    pub(super) roster: Roster,
}

impl Prefix {
    /// Before the first record.
    pub(super) fn new(kind: ConversationKind) -> Self {
        let roster = Roster::new(&kind);
        Self { kind: Arc::new(kind), head: 0, id: 0, us: 0, ordinal: 0, latest_cmid_ms: 0, roster }
    }

    /// The next record of the log; of a change, with its body.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), Failed> {
        if record.seq != self.head + 1 {
            return Err(Failed::unreadable(format!("record {} comes after {}", record.seq, self.head)));
        }
        self.roster.apply(record);
        (self.head, self.id, self.us, self.ordinal) = (record.seq, record.id, record.us, record.ordinal);
        self.latest_cmid_ms = self.latest_cmid_ms.max(record.cmid.uuid_v7_ms().unwrap_or(0));
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        encode_kind(&self.kind, &mut out);
        for number in [self.head, self.id, self.us, self.ordinal, self.latest_cmid_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        encode_long(&Group::of(&self.roster).encode(), &mut out);
        out.extend_from_slice(&(self.roster.members().len() as u32).to_le_bytes());
        for (at, member) in (0..).zip(self.roster.members()) {
            encode_long(member.user.as_bytes(), &mut out);
            encode_long(&MemberRow::encode(at, member), &mut out);
        }
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = Cursor(stored);
        let [version] = from.array()?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let kind = Arc::new(decode_kind(&mut from)?);
        let [head, id, us, ordinal, latest_cmid_ms] =
            [from.number()?, from.number()?, from.number()?, from.number()?, from.number()?];
        let group = Group::decode(from.long()?)?;
        let mut members = Vec::new();
        for _ in 0..u32::from_le_bytes(from.array()?) {
            let user = UserKey::from_bytes(from.long()?).ok_or(RecordError::Field("user"))?;
            members.push(MemberRow::decode(user, from.long()?)?.1);
        }
        if !from.0.is_empty() {
            return Err(RecordError::Trailing(from.0.len()));
        }
        let roster = Roster::restore(members, group.epoch, group.texts);
        Ok(Self { kind, head, id, us, ordinal, latest_cmid_ms, roster })
    }
}

fn encode_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;
    use crate::roster::change_body;
    use proptest::prelude::*;
    use ringpost_proto::id::{ClientMessageId, DeviceId};
    use ringpost_proto::v1::change::{Blocked, Change, Created, Users};
    use ringpost_proto::v1::kind::Value;

    fn user(name: &str) -> UserKey {
        UserKey::new("t", name).unwrap()
    }

    fn record(seq: Seq, sender: &str, kind: Value, body: Body) -> Record {
        let phone = DeviceId::new("phone").unwrap();
        let record = Record::new(user(sender), phone, ClientMessageId([3; 16]), kind, body);
        Record { seq, id: 100 + seq, us: 1_000 + seq, ordinal: seq, ..record }
    }

    fn group() -> Prefix {
        let change = |seq, change| record(seq, "ann", Value::Change, change_body(change, None, 0));
        let mut prefix = Prefix::new(ConversationKind::Group);
        let members = (0..40).map(|n| format!("user{n}")).collect();
        prefix.apply(&change(1, Change::Created(Created { name: "climbing".into(), members }))).unwrap();
        prefix.apply(&change(2, Change::Removed(Users { users: vec!["user7".into()] }))).unwrap();
        prefix.apply(&record(3, "user3", Value::Text, Body::Text("x".into()))).unwrap();
        prefix
    }

    fn direct() -> Prefix {
        let mut prefix = Prefix::new(ConversationKind::Direct([user("ann"), user("bob")]));
        let blocked = change_body(Change::Blocked(Blocked { on: true }), None, 0);
        prefix.apply(&record(1, "bob", Value::Change, blocked)).unwrap();
        prefix.apply(&record(2, "ann", Value::Text, Body::Text("x".into()))).unwrap();
        prefix
    }

    #[test]
    fn a_snapshot_is_read_back_as_it_was_and_goes_on_alike() {
        for mut prefix in [group(), direct(), Prefix::new(ConversationKind::Group)] {
            let mut again = Prefix::decode(&prefix.encode()).unwrap();
            assert_eq!(again, prefix);
            let next = record(prefix.head + 1, "ann", Value::Text, Body::Text("y".into()));
            prefix.apply(&next).unwrap();
            again.apply(&next).unwrap();
            assert_eq!(again, prefix);
        }
    }

    #[test]
    fn every_cut_of_a_snapshot_is_refused() {
        let whole = direct().encode();
        assert!((0..whole.len()).all(|len| Prefix::decode(&whole[..len]).is_err()));
        assert!(Prefix::decode(&[whole.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn a_record_that_is_not_the_next_is_refused() {
        let mut prefix = direct();
        for seq in [0, 2, 4] {
            assert!(prefix.apply(&record(seq, "ann", Value::Text, Body::Text("y".into()))).is_err());
        }
        assert_eq!(prefix, direct());
    }

    proptest! {
        #[test]
        fn any_snapshot_is_read_or_refused(mut stored in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(version) = stored.first_mut() {
                *version = VERSION;
            }
            let _ = Prefix::decode(&stored);
        }
    }
}
