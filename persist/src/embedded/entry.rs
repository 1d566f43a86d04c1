//! What a batch holds: entries, one after the other.
//!
//! Version 1, little endian:
//! append: 1, conversation 16 bytes, expected head u64, [kind: only where the expected head is 0], records u8, each record
//! with a u32 length; kind: 1, two user keys with a length byte each, or 2 for a group;
//! raise: 2, register u8 (0 Delivered, 1 Read, 2 TickDelivered, 3 TickRead, 4 ReadCounted, 9 ReadShown, 10 ToldDelivered,
//! 11 ToldRead), conversation 16 bytes, user, [device: of Delivered and ticks], value u64, stamp u64; 5 to 8, which have
//! no user, were of earlier builds: they are read and dropped;
//! document: 3, which u8 (0 Devices, 1 Settings), user, version u64, bytes with a u32 length;
//! item: 4, user, device, number u64, bytes with a u32 length; item handed out: 5, user, device, number u64.

use super::stored::Stored;
use crate::record::{Cursor, RecordError};
use crate::{ConversationKind, DocumentKey, ItemKey, Raise, RegisterKey};
use bytes::Bytes;
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};

const APPEND: u8 = 1;
const RAISE: u8 = 2;
const DOCUMENT: u8 = 3;
const ITEM: u8 = 4;
const TAKEN: u8 = 5;
const DIRECT: u8 = 1;
const GROUP: u8 = 2;

/// One entry, as read back.
pub(super) enum Entry {
    Append {
        conversation: ConversationId,
        /// With the first record only.
        kind: Option<ConversationKind>,
        expected_head: Seq,
        records: Vec<Stored>,
    },
    Raise(Raise),
    Document {
        key: DocumentKey,
        version: u64,
        bytes: Bytes,
    },
    Item(ItemKey, Bytes),
    Taken(ItemKey),
}

/// At most 64 records, as the index has checked.
pub(super) fn encode_append(
    conversation: ConversationId,
    kind: &ConversationKind,
    expected_head: Seq,
    records: &[Stored],
    out: &mut Vec<u8>,
) {
    out.push(APPEND);
    out.extend_from_slice(&conversation.0);
    out.extend_from_slice(&expected_head.to_le_bytes());
    if expected_head == 0 {
        encode_kind(kind, out);
    }
    out.push(records.len() as u8);
    records.iter().for_each(|record| encode_long(&record.form, out));
}

pub(crate) fn encode_kind(kind: &ConversationKind, out: &mut Vec<u8>) {
    match kind {
        ConversationKind::Direct(both) => {
            out.push(DIRECT);
            both.iter().for_each(|user| encode_name(user.as_bytes(), out));
        }
        ConversationKind::Group => out.push(GROUP),
    }
}

pub(super) fn encode_raise(raise: &Raise, out: &mut Vec<u8>) {
    let (register, user, device): (u8, &UserKey, Option<&DeviceId>) = match &raise.key {
        RegisterKey::Delivered(_, user, device) => (0, user, Some(device)),
        RegisterKey::Read(_, user) => (1, user, None),
        RegisterKey::TickDelivered(_, user, device) => (2, user, Some(device)),
        RegisterKey::TickRead(_, user, device) => (3, user, Some(device)),
        RegisterKey::ReadCounted(_, user) => (4, user, None),
        RegisterKey::ReadShown(_, user) => (9, user, None),
        RegisterKey::ToldDelivered(_, user) => (10, user, None),
        RegisterKey::ToldRead(_, user) => (11, user, None),
        RegisterKey::Missed(_, user, _) => (12, user, None),
    };
    out.extend_from_slice(&[RAISE, register]);
    out.extend_from_slice(&raise.key.conversation().0);
    encode_name(user.as_bytes(), out);
    if let Some(device) = device {
        encode_name(device.as_str().as_bytes(), out);
    }
    if let RegisterKey::Missed(.., from) = &raise.key {
        out.extend_from_slice(&from.to_le_bytes());
    }
    out.extend_from_slice(&raise.value.to_le_bytes());
    out.extend_from_slice(&raise.stamp.to_le_bytes());
}

pub(super) fn encode_document(key: &DocumentKey, version: u64, bytes: &[u8], out: &mut Vec<u8>) {
    let (which, user) = match key {
        DocumentKey::Devices(user) => (0, user),
        DocumentKey::Settings(user) => (1, user),
    };
    out.extend_from_slice(&[DOCUMENT, which]);
    encode_name(user.as_bytes(), out);
    out.extend_from_slice(&version.to_le_bytes());
    encode_long(bytes, out);
}

pub(super) fn encode_item(key: &ItemKey, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(ITEM);
    encode_item_key(key, out);
    encode_long(bytes, out);
}

pub(super) fn encode_taken(key: &ItemKey, out: &mut Vec<u8>) {
    out.push(TAKEN);
    encode_item_key(key, out);
}

fn encode_item_key(key: &ItemKey, out: &mut Vec<u8>) {
    encode_name(key.user.as_bytes(), out);
    encode_name(key.device.as_str().as_bytes(), out);
    out.extend_from_slice(&key.number.to_le_bytes());
}

fn encode_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// User keys are at most 97 bytes, device ids 32.
fn encode_name(name: &[u8], out: &mut Vec<u8>) {
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

/// Gives each entry of a payload to `each`, in order.
pub(super) fn decode<E: From<RecordError>>(
    payload: &[u8],
    mut each: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = Cursor(payload);
    while !from.0.is_empty() {
        each(match from.array()? {
            [APPEND] => decode_append(&mut from)?,
            [RAISE] => match decode_raise(&mut from)? {
                Some(raise) => Entry::Raise(raise),
                None => continue,
            },
            [DOCUMENT] => decode_document(&mut from)?,
            [ITEM] => Entry::Item(decode_item_key(&mut from)?, Bytes::copy_from_slice(from.long()?)),
            [TAKEN] => Entry::Taken(decode_item_key(&mut from)?),
            _ => return Err(RecordError::Field("entry").into()),
        })?;
    }
    Ok(())
}

fn decode_append(from: &mut Cursor<'_>) -> Result<Entry, RecordError> {
    let conversation = ConversationId(from.array()?);
    let expected_head = from.number()?;
    let kind = if expected_head == 0 { Some(decode_kind(from)?) } else { None };
    let [count] = from.array()?;
    let mut records = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        records.push(Stored::read(from.long()?)?);
    }
    Ok(Entry::Append { conversation, kind, expected_head, records })
}

pub(crate) fn decode_kind(from: &mut Cursor<'_>) -> Result<ConversationKind, RecordError> {
    match from.array()? {
        [DIRECT] => Ok(ConversationKind::Direct([decode_user(from)?, decode_user(from)?])),
        [GROUP] => Ok(ConversationKind::Group),
        _ => Err(RecordError::Field("conversation kind")),
    }
}

/// `None`: a register that is no more.
fn decode_raise(from: &mut Cursor<'_>) -> Result<Option<Raise>, RecordError> {
    let [register] = from.array()?;
    let conversation = ConversationId(from.array()?);
    let key = match register {
        0 => RegisterKey::Delivered(conversation, decode_user(from)?, from.device()?),
        1 => RegisterKey::Read(conversation, decode_user(from)?),
        2 => RegisterKey::TickDelivered(conversation, decode_user(from)?, from.device()?),
        3 => RegisterKey::TickRead(conversation, decode_user(from)?, from.device()?),
        4 => RegisterKey::ReadCounted(conversation, decode_user(from)?),
        5..=8 => {
            let _ = (from.number()?, from.number()?);
            return Ok(None);
        }
        9 => RegisterKey::ReadShown(conversation, decode_user(from)?),
        10 => RegisterKey::ToldDelivered(conversation, decode_user(from)?),
        11 => RegisterKey::ToldRead(conversation, decode_user(from)?),
        12 => RegisterKey::Missed(conversation, decode_user(from)?, from.number()?),
        _ => return Err(RecordError::Field("register")),
    };
    Ok(Some(Raise { key, value: from.number()?, stamp: from.number()? }))
}

fn decode_document(from: &mut Cursor<'_>) -> Result<Entry, RecordError> {
    let [which] = from.array()?;
    let user = decode_user(from)?;
    let key = match which {
        0 => DocumentKey::Devices(user),
        1 => DocumentKey::Settings(user),
        _ => return Err(RecordError::Field("document")),
    };
    Ok(Entry::Document { key, version: from.number()?, bytes: Bytes::copy_from_slice(from.long()?) })
}

fn decode_item_key(from: &mut Cursor<'_>) -> Result<ItemKey, RecordError> {
    Ok(ItemKey { user: decode_user(from)?, device: from.device()?, number: from.number()? })
}

fn decode_user(from: &mut Cursor<'_>) -> Result<UserKey, RecordError> {
    UserKey::from_bytes(from.short()?).ok_or(RecordError::Field("user"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A batch whose checksum is right may still come from another version: it is refused, whatever it holds.
        #[test]
        fn any_payload_is_read_or_refused(mut payload in proptest::collection::vec(any::<u8>(), 0..300), entry in 0u8..7) {
            if let Some(first) = payload.first_mut() {
                *first = entry;
            }
            let mut read = 0;
            if decode(&payload, |_| { read += 1; Ok::<_, RecordError>(()) }).is_ok() {
                // Registers of earlier builds alone are read and give nothing.
                prop_assert!(payload.is_empty() || read > 0 || matches!(payload[..], [RAISE, 5..=8, ..]));
            }
        }
    }

    #[test]
    fn every_cut_of_an_entry_is_refused() {
        let user = |name: &str| UserKey::new("t", name).unwrap();
        let kind = ConversationKind::Direct([user("ann"), user("bob")]);
        let mut append = Vec::new();
        encode_append(ConversationId([1; 16]), &kind, 0, &[], &mut append);
        let mut raise = Vec::new();
        let key = RegisterKey::Delivered(ConversationId([1; 16]), user("ann"), DeviceId::new("phone").unwrap());
        encode_raise(&Raise { key, value: 3, stamp: 4 }, &mut raise);
        let mut missed = Vec::new();
        let key = RegisterKey::Missed(ConversationId([1; 16]), user("ann"), 2);
        encode_raise(&Raise { key, value: 3, stamp: 3 }, &mut missed);
        let mut small = Vec::new();
        encode_document(&DocumentKey::Settings(user("ann")), 7, b"x", &mut small);
        let item = ItemKey { user: user("ann"), device: DeviceId::new("phone").unwrap(), number: 9 };
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        encode_item(&item, b"key", &mut kept);
        encode_taken(&item, &mut taken);
        let mut dropped = vec![RAISE, 5];
        dropped.extend_from_slice(&[1; 16 + 8 + 8]);
        for whole in [append, raise, missed, dropped, small, kept, taken] {
            assert!(decode(&whole, |_| Ok::<_, RecordError>(())).is_ok());
            for len in 1..whole.len() {
                assert!(decode(&whole[..len], |_| Ok::<_, RecordError>(())).is_err(), "{len} of {}", whole.len());
            }
        }
    }
}
