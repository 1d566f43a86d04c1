//! The keys of the state tree: how they are made and what they name. The table of all rows is in [`state`](super::state).

use super::bucket::{Bucket, Class};
use crate::record::{Cursor, RecordError};
use crate::{DocumentKey, ItemKey};
use ringpost_proto::id::{ConversationId, DeviceId, UserKey};
use smallvec::SmallVec;

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

pub(super) fn group_key(conversation: &ConversationId) -> Key {
    key(b'g', &[&conversation.0])
}

/// Of all progress rows of a conversation.
pub(super) fn progress_prefix(conversation: &ConversationId) -> Key {
    key(b'p', &[&conversation.0])
}

pub(super) fn progress_key(conversation: &ConversationId, user: &UserKey) -> Key {
    key(b'p', &[&conversation.0, &[user.as_bytes().len() as u8], user.as_bytes()])
}

pub(super) fn document_key(document: &DocumentKey) -> Key {
    let (which, user) = match document {
        DocumentKey::Devices(user) => (0, user),
        DocumentKey::Settings(user) => (1, user),
    };
    key(b'f', &[&[which, user.as_bytes().len() as u8], user.as_bytes()])
}

/// Of all items of a device.
pub(super) fn items_prefix(user: &UserKey, device: &DeviceId) -> Key {
    let device = device.as_str().as_bytes();
    key(b'i', &[&[user.as_bytes().len() as u8], user.as_bytes(), &[device.len() as u8], device])
}

pub(super) fn item_key(item: &ItemKey) -> Key {
    let mut key = items_prefix(&item.user, &item.device);
    key.extend_from_slice(&item.number.to_be_bytes());
    key
}

/// The number that a key below [`items_prefix`] names.
pub(super) fn number_of_item_key(stored: &[u8]) -> Result<u64, RecordError> {
    stored.last_chunk().map(|number| u64::from_be_bytes(*number)).ok_or(RecordError::Truncated)
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

/// Of all rows of a conversation that say what somebody missed.
pub(super) fn missed_prefix(conversation: &ConversationId) -> Key {
    key(b'x', &[&conversation.0])
}

pub(super) fn missed_key(conversation: &ConversationId, user: &UserKey) -> Key {
    key(b'x', &[&conversation.0, &[user.as_bytes().len() as u8], user.as_bytes()])
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

/// The user that a key below [`members_prefix`], [`progress_prefix`] or [`missed_prefix`] names.
pub(super) fn user_of_key(stored: &[u8]) -> Result<UserKey, RecordError> {
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
