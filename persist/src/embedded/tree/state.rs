//! The rows of the state tree: what is known of conversations, members, devices and users beside their records.
//!
//! Each key begins with a letter, each value with a version byte (1); numbers are little endian, keys of records big
//! endian. Names have a length byte before them.
//!
//! | key | value |
//! |---|---|
//! | `s` | the checkpoint: lsn u64, incarnation of the store 16 bytes, class of the records after it u8 |
//! | `b` bucket | a tree of records that must be there: nothing |
//! | `k` conversation | its kind, as in the log |
//! | `c` conversation | head, id and us of the last record, latest time of a client message id, u64 each; spans: class u8, month u32, first seq u64 each |
//! | `m` conversation, user | last own record, read |
//! | `d` conversation, user, device | delivered, tick delivered, tick read |
//! | `u` user, conversation | the user's list: nothing |
//!
//! A bucket is class u8, month u32 big endian.

use super::bucket::{Bucket, Class};
use crate::ConversationKind;
use crate::embedded::entry;
use crate::record::{Cursor, RecordError};
use ringpost_proto::id::{ConversationId, DeviceId, RecordId, Seq, UserKey};
use smallvec::SmallVec;

const VERSION: u8 = 1;

/// A key of the state tree.
pub(super) type Key = SmallVec<[u8; 64]>;

pub(super) const CHECKPOINT: &[u8] = b"s";
pub(super) const BUCKETS: &[u8] = b"b";

pub(super) fn bucket_key(bucket: Bucket) -> Key {
    key(b'b', &[&[bucket.class as u8], &bucket.month.to_be_bytes()])
}

pub(super) fn kind_key(conversation: &ConversationId) -> Key {
    key(b'k', &[&conversation.0])
}

pub(super) fn head_key(conversation: &ConversationId) -> Key {
    key(b'c', &[&conversation.0])
}

/// Of all member rows of a conversation.
pub(super) fn members_prefix(conversation: &ConversationId) -> Key {
    key(b'm', &[&conversation.0])
}

pub(super) fn member_key(conversation: &ConversationId, user: &UserKey) -> Key {
    key(b'm', &[&conversation.0, &[user.as_bytes().len() as u8], user.as_bytes()])
}

/// Of all device rows of a conversation.
pub(super) fn devices_prefix(conversation: &ConversationId) -> Key {
    key(b'd', &[&conversation.0])
}

/// Of the rows of a user's devices in a conversation.
pub(super) fn devices_of_prefix(conversation: &ConversationId, user: &UserKey) -> Key {
    key(b'd', &[&conversation.0, &[user.as_bytes().len() as u8], user.as_bytes()])
}

pub(super) fn device_key(conversation: &ConversationId, user: &UserKey, device: &DeviceId) -> Key {
    let mut key = devices_of_prefix(conversation, user);
    key.push(device.as_str().len() as u8);
    key.extend_from_slice(device.as_str().as_bytes());
    key
}

/// Of all conversations of a user.
pub(super) fn user_prefix(user: &UserKey) -> Key {
    key(b'u', &[&[user.as_bytes().len() as u8], user.as_bytes()])
}

pub(super) fn user_key(user: &UserKey, conversation: &ConversationId) -> Key {
    let mut key = user_prefix(user);
    key.extend_from_slice(&conversation.0);
    key
}

fn key(letter: u8, parts: &[&[u8]]) -> Key {
    let mut key = Key::new();
    key.push(letter);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The bucket that a key of [`BUCKETS`] names.
pub(super) fn bucket_of_key(stored: &[u8]) -> Result<Bucket, RecordError> {
    let mut from = Cursor(stored);
    let [_, class] = from.array()?;
    let month = u32::from_be_bytes(from.array()?);
    let class = Class::from_byte(class).ok_or(RecordError::Field("class"))?;
    Ok(Bucket { month, class })
}

/// The conversation that a key below [`user_prefix`] names.
pub(super) fn conversation_of_user_key(stored: &[u8]) -> Result<ConversationId, RecordError> {
    stored.last_chunk().map(|id| ConversationId(*id)).ok_or(RecordError::Truncated)
}

/// The user that a key below [`members_prefix`] names.
pub(super) fn user_of_member_key(stored: &[u8]) -> Result<UserKey, RecordError> {
    user_and_rest(stored).map(|(user, _)| user)
}

/// User and device that a key below [`devices_prefix`] names.
pub(super) fn device_of_key(stored: &[u8]) -> Result<(UserKey, DeviceId), RecordError> {
    let (user, mut rest) = user_and_rest(stored)?;
    Ok((user, rest.device()?))
}

fn user_and_rest(stored: &[u8]) -> Result<(UserKey, Cursor<'_>), RecordError> {
    let mut from = Cursor(stored);
    from.take(17)?;
    let user = UserKey::from_bytes(from.short()?).ok_or(RecordError::Field("user"))?;
    Ok((user, from))
}

/// A value without content: the key says it all.
pub(super) const PRESENT: &[u8] = &[VERSION];

/// How far the trees have got on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckpointRow {
    /// The last batch of the log that they hold.
    pub(super) lsn: u64,
    pub(super) incarnation: [u8; 16],
    /// Of the records of later batches: whoever replays them puts them where they were.
    pub(super) class: Class,
}

impl CheckpointRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = numbers(&[self.lsn]);
        out.extend_from_slice(&self.incarnation);
        out.push(self.class as u8);
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let (lsn, incarnation, [class]) = (from.number()?, from.array()?, from.array()?);
        let class = Class::from_byte(class).ok_or(RecordError::Field("class"))?;
        ended(Self { lsn, incarnation, class }, &from)
    }
}

/// From `first` on, up to the next span, the records of a conversation lie in `bucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) bucket: Bucket,
    pub(super) first: Seq,
}

/// What changes with every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: Seq,
    /// Of the last record.
    pub(super) id: RecordId,
    pub(super) us: u64,
    pub(super) latest_cmid_ms: u64,
    /// Ascending; those of trees that have expired may be among them.
    pub(super) spans: SmallVec<[Span; 2]>,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = numbers(&[self.seq, self.id, self.us, self.latest_cmid_ms]);
        for Span { bucket, first } in &self.spans {
            out.push(bucket.class as u8);
            out.extend_from_slice(&bucket.month.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let [seq, id, us, latest_cmid_ms] = [from.number()?, from.number()?, from.number()?, from.number()?];
        let mut spans = SmallVec::new();
        while !from.0.is_empty() {
            let [class] = from.array()?;
            let class = Class::from_byte(class).ok_or(RecordError::Field("class"))?;
            let month = u32::from_le_bytes(from.array()?);
            spans.push(Span { bucket: Bucket { month, class }, first: from.number()? });
        }
        Ok(Self { seq, id, us, latest_cmid_ms, spans })
    }

    /// Where the next record, committed at `us`, goes. Within a conversation months never go back.
    pub(super) fn bucket_for(&self, class: Class, us: u64) -> Bucket {
        let bucket = Bucket::of(class, us);
        let month = self.spans.last().map_or(bucket.month, |last| last.bucket.month.max(bucket.month));
        Bucket { month, ..bucket }
    }
}

/// A user in a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) last_own: Seq,
    pub(super) read: Seq,
}

impl Member {
    pub(super) fn encode(&self) -> Vec<u8> {
        numbers(&[self.last_own, self.read])
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        ended(Self { last_own: from.number()?, read: from.number()? }, &from)
    }
}

/// A user's device in a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) delivered: Seq,
    pub(super) tick_delivered: Seq,
    pub(super) tick_read: Seq,
}

impl Device {
    pub(super) fn encode(&self) -> Vec<u8> {
        numbers(&[self.delivered, self.tick_delivered, self.tick_read])
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let row = Self { delivered: from.number()?, tick_delivered: from.number()?, tick_read: from.number()? };
        ended(row, &from)
    }
}

pub(super) fn encode_kind(kind: &ConversationKind) -> Vec<u8> {
    let mut out = vec![VERSION];
    entry::encode_kind(kind, &mut out);
    out
}

pub(super) fn decode_kind(stored: &[u8]) -> Result<ConversationKind, RecordError> {
    let mut from = versioned(stored)?;
    let kind = entry::decode_kind(&mut from)?;
    ended(kind, &from)
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + numbers.len() * 8 + 16);
    out.push(VERSION);
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    out
}

fn versioned(stored: &[u8]) -> Result<Cursor<'_>, RecordError> {
    let mut from = Cursor(stored);
    match from.array()? {
        [VERSION] => Ok(from),
        [other] => Err(RecordError::Version(other)),
    }
}

fn ended<T>(row: T, from: &Cursor<'_>) -> Result<T, RecordError> {
    if from.0.is_empty() { Ok(row) } else { Err(RecordError::Trailing(from.0.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_read_back_as_they_were_and_never_cut() {
        let spans = [Span { bucket: Bucket { month: 671, class: Class::Relay }, first: 9 }; 2];
        let head = Head { seq: 1, id: 2, us: 3, latest_cmid_ms: 4, spans: spans.into_iter().collect() };
        assert_eq!(Head::decode(&head.encode()), Ok(head.clone()));
        let row = CheckpointRow { lsn: 7, incarnation: [3; 16], class: Class::Relay };
        assert_eq!(CheckpointRow::decode(&row.encode()), Ok(row));
        let member = Member { last_own: 1, read: u64::MAX };
        assert_eq!(Member::decode(&member.encode()), Ok(member));
        let device = Device { delivered: 1, tick_delivered: 2, tick_read: 3 };
        assert_eq!(Device::decode(&device.encode()), Ok(device));
        let user = UserKey::new("t", "ann").unwrap();
        let kind = ConversationKind::Direct([user.clone(), user.clone()]);
        assert_eq!(decode_kind(&encode_kind(&kind)), Ok(kind));
        assert!(Member::decode(&member.encode()[..16]).is_err() && Device::decode(&member.encode()).is_err());
        assert_eq!(Head::decode(&[9]), Err(RecordError::Version(9)));
        let (id, phone) = (ConversationId([7; 16]), DeviceId::new("phone").unwrap());
        assert_eq!(device_of_key(&device_key(&id, &user, &phone)), Ok((user.clone(), phone)));
        assert_eq!(user_of_member_key(&member_key(&id, &user)), Ok(user.clone()));
        assert_eq!(conversation_of_user_key(&user_key(&user, &id)), Ok(id));
        let bucket = Bucket { month: 671, class: Class::History };
        assert_eq!(bucket_of_key(&bucket_key(bucket)), Ok(bucket));
    }

    proptest! {
        /// A checksum may be right and the row from another version: it is read or refused, whatever it holds.
        #[test]
        fn any_bytes_are_read_or_refused(stored in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Head::decode(&stored), Member::decode(&stored), Device::decode(&stored), decode_kind(&stored));
            let _ = (CheckpointRow::decode(&stored), device_of_key(&stored), user_of_member_key(&stored));
            let _ = (bucket_of_key(&stored), conversation_of_user_key(&stored));
        }
    }
}
