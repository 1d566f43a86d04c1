//! The rows of the state tree: what is known of conversations, members, devices and users beside their records.
//!
//! Each key begins with a letter, each value with a version byte (2); numbers are little endian, in keys big endian. Names
//! have a length byte before them, texts and bytes a u32.
//!
//! | key | value |
//! |---|---|
//! | `s` | the checkpoint: lsn u64, incarnation of the store 16 bytes, class of the records after it u8, the month before which relayed ones have expired u32, if there is one |
//! | `b` bucket | a tree of records that must be there: nothing |
//! | `k` conversation | its kind, as in the log |
//! | `c` conversation | head, id, us and ordinal of the last record, latest time of a client message id, u64 each; spans: class u8, month u32, first seq u64 each |
//! | `m` conversation, user | a member, as in the roster: see [`MemberRow`] |
//! | `g` conversation | epoch u32, name, description, avatar; of a group only |
//! | `p` conversation, user | read, read counted, read shown, told delivered, told read |
//! | `d` conversation, user, device | delivered, tick delivered, tick read |
//! | `x` conversation, user | what the user missed: first and last position u64 of each range |
//! | `l` conversation | of earlier builds; not read |
//! | `u` user, conversation | the user's list: id of the record with which it left, or 0 |
//! | `f` which u8, user | a document: version u64, bytes |
//! | `i` user, device, number | an item: bytes |
//!
//! A bucket is class u8, month u32 big endian. The keys are made and read in [`keys`](super::keys), the values here.

use super::bucket::{Bucket, Class};
use crate::embedded::entry;
use crate::ranges::{self, Ranges};
use crate::record::{Cursor, RecordError};
use crate::{ConversationKind, Member, MemberAt, Role, Roster};
use ringpost_proto::id::{RecordId, Seq, UserKey};
use smallvec::SmallVec;

const VERSION: u8 = 2;

/// A value without content: the key says it all.
pub(super) const PRESENT: &[u8] = &[VERSION];

/// The row of a conversation in a user's list. `left_id`: id of the record with which the user left; 0: it is a member.
pub(super) fn encode_listed(left_id: RecordId) -> Vec<u8> {
    numbers(&[left_id])
}

/// The same; `None`: a row of an earlier build, which does not say.
pub(super) fn decode_listed(stored: &[u8]) -> Result<Option<RecordId>, RecordError> {
    let mut from = versioned(stored)?;
    let left_id = if from.0.is_empty() { None } else { Some(from.number()?) };
    ended(left_id, &from)
}

/// How far the trees have got on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckpointRow {
    /// The last batch of the log that they hold.
    pub(super) lsn: u64,
    pub(super) incarnation: [u8; 16],
    /// Of the records of later batches: whoever replays them puts them where they were.
    pub(super) class: Class,
    /// Every month before this one has expired, and no record goes there any more; 0: none has.
    pub(super) kept_from: u32,
}

impl CheckpointRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = numbers(&[self.lsn]);
        out.extend_from_slice(&self.incarnation);
        out.push(self.class as u8);
        // Where nothing ever expires an earlier build reads it as well.
        if self.kept_from > 0 {
            out.extend_from_slice(&self.kept_from.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let (lsn, incarnation, [class]) = (from.number()?, from.array()?, from.array()?);
        let class = Class::from_byte(class).ok_or(RecordError::Field("class"))?;
        // Rows of stores in which nothing has expired end here, and those of earlier builds.
        let kept_from = if from.0.is_empty() { 0 } else { u32::from_le_bytes(from.array()?) };
        ended(Self { lsn, incarnation, class, kept_from }, &from)
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
    pub(super) ordinal: u64,
    pub(super) latest_cmid_ms: u64,
    /// Ascending; those of trees that have expired are among them, one for those that follow each other.
    pub(super) spans: SmallVec<[Span; 2]>,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = numbers(&[self.seq, self.id, self.us, self.ordinal, self.latest_cmid_ms]);
        for Span { bucket, first } in &self.spans {
            out.push(bucket.class as u8);
            out.extend_from_slice(&bucket.month.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let [seq, id, us, ordinal, latest_cmid_ms] =
            [from.number()?, from.number()?, from.number()?, from.number()?, from.number()?];
        let mut spans = SmallVec::new();
        while !from.0.is_empty() {
            let [class] = from.array()?;
            let class = Class::from_byte(class).ok_or(RecordError::Field("class"))?;
            let month = u32::from_le_bytes(from.array()?);
            spans.push(Span { bucket: Bucket { month, class }, first: from.number()? });
        }
        Ok(Self { seq, id, us, ordinal, latest_cmid_ms, spans })
    }

    /// Where the next record, committed at `us`, goes. Within a conversation months never go back, nor before `kept_from`:
    /// what has expired once never comes back under the same name, wherever the clock goes.
    pub(super) fn bucket_for(&self, class: Class, us: u64, kept_from: u32) -> Bucket {
        let bucket = Bucket::of(class, us);
        let month = self.spans.last().map_or(bucket.month, |last| last.bucket.month.max(bucket.month));
        let least = if class == Class::Relay { kept_from } else { 0 };
        Bucket { month: month.max(least), ..bucket }
    }

    /// What of the log is no longer kept, where `is_kept` says which months are.
    pub(super) fn gone(&self, is_kept: impl Fn(Bucket) -> bool) -> Ranges {
        // Earlier builds forgot the months at the beginning.
        let first = self.spans.first().map_or(self.seq + 1, |span| span.first);
        let mut gone = Ranges::new();
        ranges::add(&mut gone, 1, first.saturating_sub(1));
        for (n, span) in self.spans.iter().enumerate().filter(|(_, span)| !is_kept(span.bucket)) {
            let to = self.spans.get(n + 1).map_or(self.seq, |next| next.first.saturating_sub(1));
            ranges::add(&mut gone, span.first, to);
        }
        gone
    }
}

/// A member and where it stands in its roster: position u16, role u8 (1: admin), join and leave u64, join and leave epoch
/// u32, aside, ordinal when it left, last own record u64, and the hidden ranges, two u64 each. The user is in the key.
pub(crate) struct MemberRow;

impl MemberRow {
    pub(crate) fn encode(at: MemberAt, member: &Member) -> Vec<u8> {
        // Written with every message, so it is allocated once, at its size.
        let mut out = Vec::with_capacity(1 + 2 + 1 + 2 * 8 + 2 * 4 + 3 * 8 + 16 * member.hidden.len());
        out.push(VERSION);
        out.extend_from_slice(&at.to_le_bytes());
        out.push(u8::from(member.role == Role::Admin));
        out.extend_from_slice(&member.join.to_le_bytes());
        out.extend_from_slice(&member.leave.to_le_bytes());
        out.extend_from_slice(&member.join_epoch.to_le_bytes());
        out.extend_from_slice(&member.leave_epoch.to_le_bytes());
        for number in [member.aside, member.left_ordinal, member.last_own] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for seq in member.hidden.iter().flat_map(|(from, to)| [from, to]) {
            out.extend_from_slice(&seq.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(user: UserKey, stored: &[u8]) -> Result<(MemberAt, Member), RecordError> {
        let mut from = versioned(stored)?;
        let (at, [admin]) = (u16::from_le_bytes(from.array()?), from.array()?);
        let (join, leave) = (from.number()?, from.number()?);
        let (join_epoch, leave_epoch) = (u32::from_le_bytes(from.array()?), u32::from_le_bytes(from.array()?));
        let (aside, left_ordinal, last_own) = (from.number()?, from.number()?, from.number()?);
        let mut hidden = SmallVec::new();
        while !from.0.is_empty() {
            hidden.push((from.number()?, from.number()?));
        }
        let role = if admin == 1 { Role::Admin } else { Role::Member };
        let member = Member { user, role, join, leave, join_epoch, leave_epoch, hidden, aside, left_ordinal, last_own };
        Ok((at, member))
    }
}

/// What a group's roster knows beside its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) epoch: u32,
    /// Name, description, avatar.
    pub(crate) texts: [String; 3],
}

impl Group {
    pub(crate) fn of(roster: &Roster) -> Self {
        let texts = [roster.name.clone(), roster.description.clone(), roster.avatar.clone()];
        Self { epoch: roster.epoch, texts }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.epoch.to_le_bytes());
        for text in &self.texts {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    pub(crate) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let epoch = u32::from_le_bytes(from.array()?);
        let mut text = || String::from_utf8(from.long()?.to_vec()).map_err(|_| RecordError::Field("text"));
        let texts = [text()?, text()?, text()?];
        ended(Self { epoch, texts }, &from)
    }
}

/// Of a user in a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) read: Seq,
    pub(super) counted: u64,
    pub(super) shown: u64,
    pub(super) told_delivered: Seq,
    pub(super) told_read: Seq,
}

impl Progress {
    pub(super) fn encode(&self) -> Vec<u8> {
        numbers(&[self.read, self.counted, self.shown, self.told_delivered, self.told_read])
    }

    pub(super) fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let mut from = versioned(stored)?;
        let (read, counted) = (from.number()?, from.number()?);
        // Rows of earlier builds end here, or after the next.
        let shown = if from.0.is_empty() { 0 } else { from.number()? };
        let ends = from.0.is_empty();
        let (told_delivered, told_read) = if ends { (0, 0) } else { (from.number()?, from.number()?) };
        ended(Self { read, counted, shown, told_delivered, told_read }, &from)
    }
}

/// What a user missed of a conversation.
pub(super) fn encode_missed(missed: &Ranges) -> Vec<u8> {
    let numbers_of: SmallVec<[u64; 8]> = missed.iter().flat_map(|(from, to)| [*from, *to]).collect();
    numbers(&numbers_of)
}

pub(super) fn decode_missed(stored: &[u8]) -> Result<Ranges, RecordError> {
    let mut from = versioned(stored)?;
    let mut missed = Ranges::new();
    while !from.0.is_empty() {
        let range = (from.number()?, from.number()?);
        if range.0 > range.1 {
            return Err(RecordError::Field("range"));
        }
        missed.push(range);
    }
    Ok(missed)
}

pub(super) fn encode_document(version: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = numbers(&[version]);
    out.extend_from_slice(bytes);
    out
}

pub(super) fn decode_document(stored: &[u8]) -> Result<(u64, bytes::Bytes), RecordError> {
    let mut from = versioned(stored)?;
    Ok((from.number()?, bytes::Bytes::copy_from_slice(from.0)))
}

pub(super) fn encode_item(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(bytes);
    out
}

pub(super) fn decode_item(stored: &[u8]) -> Result<bytes::Bytes, RecordError> {
    Ok(bytes::Bytes::copy_from_slice(versioned(stored)?.0))
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
    use super::super::keys::*;
    use super::*;
    use proptest::prelude::*;
    use ringpost_proto::id::{ConversationId, DeviceId};

    #[test]
    fn rows_are_read_back_as_they_were_and_never_cut() {
        let spans = [Span { bucket: Bucket { month: 671, class: Class::Relay }, first: 9 }; 2];
        let head = Head { seq: 1, id: 2, us: 3, ordinal: 5, latest_cmid_ms: 4, spans: spans.into_iter().collect() };
        assert_eq!(Head::decode(&head.encode()), Ok(head.clone()));
        let row = CheckpointRow { lsn: 7, incarnation: [3; 16], class: Class::Relay, kept_from: 671 };
        assert_eq!(CheckpointRow::decode(&row.encode()), Ok(row));
        let earlier = CheckpointRow { kept_from: 0, ..row };
        assert_eq!(CheckpointRow::decode(&row.encode()[..26]), Ok(earlier));
        let missed: Ranges = [(4, 6), (9, 9)].into_iter().collect();
        assert_eq!(decode_missed(&encode_missed(&missed)), Ok(missed));
        let user = UserKey::new("t", "ann").unwrap();
        let member = Member {
            user: user.clone(),
            role: Role::Admin,
            join: 1,
            leave: 2,
            join_epoch: 3,
            leave_epoch: 4,
            hidden: [(5, 6), (7, u64::MAX)].into_iter().collect(),
            aside: 8,
            left_ordinal: 9,
            last_own: 10,
        };
        assert_eq!(decode_listed(&encode_listed(11)), Ok(Some(11)));
        assert_eq!(decode_listed(PRESENT), Ok(None));
        let row = MemberRow::encode(11, &member);
        assert_eq!(MemberRow::decode(user.clone(), &row), Ok((11, member)));
        let group = Group { epoch: 3, texts: ["a", "", "c"].map(str::to_owned) };
        assert_eq!(Group::decode(&group.encode()), Ok(group));
        let progress = Progress { read: 1, counted: u64::MAX, shown: 2, told_delivered: 3, told_read: 4 };
        assert_eq!(Progress::decode(&progress.encode()), Ok(progress));
        let earlier = Progress { told_delivered: 0, told_read: 0, ..progress };
        assert_eq!(Progress::decode(&progress.encode()[..25]), Ok(earlier));
        assert_eq!(decode_document(&encode_document(3, b"x")), Ok((3, "x".into())));
        assert_eq!(decode_item(&encode_item(b"x")), Ok("x".into()));
        let device = Device { delivered: 1, tick_delivered: 2, tick_read: 3 };
        assert_eq!(Device::decode(&device.encode()), Ok(device));
        let kind = ConversationKind::Direct([user.clone(), user.clone()]);
        assert_eq!(decode_kind(&encode_kind(&kind)), Ok(kind));
        assert!(Progress::decode(&progress.encode()[..16]).is_err() && Device::decode(&progress.encode()).is_err());
        assert_eq!(Head::decode(&[9]), Err(RecordError::Version(9)));
        let (id, phone) = (ConversationId([7; 16]), DeviceId::new("phone").unwrap());
        assert_eq!(device_of_key(&device_key(&id, &user, &phone)), Ok((user.clone(), phone)));
        assert_eq!(user_of_key(&member_key(&id, &user)), Ok(user.clone()));
        assert_eq!(conversation_of_user_key(&user_key(&user, &id)), Ok(id));
        let bucket = Bucket { month: 671, class: Class::History };
        assert_eq!(bucket_of_key(&bucket_key(bucket)), Ok(bucket));
    }

    proptest! {
        /// A checksum may be right and the row from another version: it is read or refused, whatever it holds.
        #[test]
        fn any_bytes_are_read_or_refused(stored in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Head::decode(&stored), Progress::decode(&stored), Device::decode(&stored), decode_kind(&stored));
            let user = UserKey::new("t", "ann").unwrap();
            let _ = (MemberRow::decode(user, &stored), Group::decode(&stored));
            let _ = (decode_missed(&stored), decode_listed(&stored), decode_document(&stored), decode_item(&stored), number_of_item_key(&stored));
            let _ = (CheckpointRow::decode(&stored), device_of_key(&stored), user_of_key(&stored));
            let _ = (bucket_of_key(&stored), conversation_of_user_key(&stored));
        }
    }
}
