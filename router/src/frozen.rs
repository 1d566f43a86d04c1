//! How the state machines are written out and read back: little endian, lengths before what they count, a number before a
//! choice. Reading never panics, whatever the bytes, and takes no more memory than they stand for.

use bytes::Bytes;
use ringpost_persist::{
    Body, ConversationKind, DocumentKey, Member, Peer, Raise, Record, RegisterKey, Role, Roster, Shown,
};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame;
use smallvec::{Array, SmallVec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The bytes are no snapshot of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot of a router that this version can read: {0}")]
pub struct RestoreError(pub(crate) &'static str);

pub(crate) type Read<T> = Result<T, RestoreError>;

pub(crate) trait Frozen: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Read<Self>;
}

pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(RestoreError("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let len = u32::read(self)?;
        self.take(len as usize)
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u32).write(out);
    out.extend_from_slice(bytes);
}

/// A struct: its fields in the order given.
macro_rules! frozen {
    ($name:ty { $($field:ident),* $(,)? }) => {
        impl $crate::frozen::Frozen for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $( $crate::frozen::Frozen::write(&self.$field, out); )*
            }
            fn read(from: &mut $crate::frozen::Reader<'_>) -> $crate::frozen::Read<Self> {
                $( let $field = $crate::frozen::Frozen::read(from)?; )*
                Ok(Self { $($field),* })
            }
        }
    };
}

/// An enum: the number of the variant, then its fields (`0: name` for those without a name).
macro_rules! frozen_enum {
    ($name:ty { $($number:literal = $variant:ident { $($field:tt: $bind:ident),* }),* $(,)? }) => {
        impl $crate::frozen::Frozen for $name {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$variant { $($field: $bind),* } => {
                        out.push($number);
                        $( $crate::frozen::Frozen::write($bind, out); )*
                    } )*
                }
            }
            fn read(from: &mut $crate::frozen::Reader<'_>) -> $crate::frozen::Read<Self> {
                Ok(match <u8 as $crate::frozen::Frozen>::read(from)? {
                    $( $number => {
                        $( let $bind = $crate::frozen::Frozen::read(from)?; )*
                        Self::$variant { $($field: $bind),* }
                    } )*
                    _ => return Err($crate::frozen::RestoreError("a choice that is not known")),
                })
            }
        }
    };
}

/// A message of the wire: protobuf with its length.
macro_rules! frozen_message {
    ($($name:ty),*) => { $(
        impl $crate::frozen::Frozen for $name {
            fn write(&self, out: &mut Vec<u8>) {
                write_bytes(&prost::Message::encode_to_vec(self), out);
            }
            fn read(from: &mut $crate::frozen::Reader<'_>) -> $crate::frozen::Read<Self> {
                prost::Message::decode(from.bytes()?).map_err(|_| RestoreError("a frame that cannot be decoded"))
            }
        }
    )* };
}

pub(crate) use {frozen, frozen_enum};

frozen_message!(v1::ClientFrame, v1::Send, v1::Lookup, v1::Read, v1::Fetch, v1::History, v1::Conversations, v1::Found);
frozen_message!(v1::Settings, v1::settings::Profile, v1::PresenceState, v1::UserDevices);

macro_rules! frozen_number {
    ($($name:ty),*) => { $(
        impl Frozen for $name {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(from: &mut Reader<'_>) -> Read<Self> {
                let bytes = from.take(size_of::<Self>())?;
                Ok(Self::from_le_bytes(bytes.try_into().map_err(|_| RestoreError("it ends early"))?))
            }
        }
    )* };
}

frozen_number!(u8, u16, u32, u64, i32);

impl Frozen for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Ok(u8::read(from)? != 0)
    }
}

impl Frozen for [u8; 16] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        from.take(16)?.try_into().map_err(|_| RestoreError("it ends early"))
    }
}

impl<T: Frozen> Frozen for [T; 2] {
    fn write(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|part| part.write(out));
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Ok([T::read(from)?, T::read(from)?])
    }
}

impl Frozen for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self, out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        from.bytes().map(Bytes::copy_from_slice)
    }
}

impl<T: Frozen> Frozen for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        self.iter().for_each(|value| value.write(out));
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Ok(if bool::read(from)? { Some(T::read(from)?) } else { None })
    }
}

impl<T: Frozen> Frozen for Box<T> {
    fn write(&self, out: &mut Vec<u8>) {
        T::write(self, out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        T::read(from).map(Box::new)
    }
}

/// What was shared is so no longer.
impl<T: Frozen> Frozen for Arc<T> {
    fn write(&self, out: &mut Vec<u8>) {
        T::write(self, out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        T::read(from).map(Arc::new)
    }
}

impl<A: Frozen, B: Frozen> Frozen for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

fn write_all<'a, T: Frozen + 'a>(all: impl ExactSizeIterator<Item = &'a T>, out: &mut Vec<u8>) {
    (all.len() as u32).write(out);
    all.for_each(|one| one.write(out));
}

fn read_all<T: Frozen, C: FromIterator<T>>(from: &mut Reader<'_>) -> Read<C> {
    let count = u32::read(from)?;
    (0..count).map(|_| T::read(from)).collect()
}

impl<T: Frozen> Frozen for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        write_all(self.iter(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        read_all(from)
    }
}

impl<T: Frozen> Frozen for VecDeque<T> {
    fn write(&self, out: &mut Vec<u8>) {
        write_all(self.iter(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        read_all(from)
    }
}

impl<A: Array> Frozen for SmallVec<A>
where
    A::Item: Frozen,
{
    fn write(&self, out: &mut Vec<u8>) {
        write_all(self.iter(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        read_all(from)
    }
}

impl<K: Frozen + Ord, V: Frozen> Frozen for BTreeMap<K, V> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        for (key, value) in self {
            key.write(out);
            value.write(out);
        }
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        read_all::<(K, V), Self>(from)
    }
}

impl<T: Frozen + Ord> Frozen for BTreeSet<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u32).write(out);
        self.iter().for_each(|item| item.write(out));
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        (0..u32::read(from)?).map(|_| T::read(from)).collect()
    }
}

impl Frozen for UserKey {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Self::from_bytes(from.bytes()?).ok_or(RestoreError("a user's name"))
    }
}

impl Frozen for DeviceId {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_str().as_bytes(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let name = std::str::from_utf8(from.bytes()?).map_err(|_| RestoreError("a device's name"))?;
        Self::new(name).map_err(|_| RestoreError("a device's name"))
    }
}

impl Frozen for ConversationId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Frozen::read(from).map(Self)
    }
}

impl Frozen for ClientMessageId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Frozen::read(from).map(Self)
    }
}

impl Frozen for Roster {
    fn write(&self, out: &mut Vec<u8>) {
        write_all(self.members().iter(), out);
        self.epoch.write(out);
        for text in [&self.name, &self.description, &self.avatar] {
            text.write(out);
        }
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let (members, epoch): (Vec<Member>, u32) = (Frozen::read(from)?, Frozen::read(from)?);
        Ok(Self::restore(members, epoch, [Frozen::read(from)?, Frozen::read(from)?, Frozen::read(from)?]))
    }
}

impl Frozen for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        String::from_utf8(from.bytes()?.to_vec()).map_err(|_| RestoreError("a text"))
    }
}

impl<T: Frozen> Frozen for Arc<[T]> {
    fn write(&self, out: &mut Vec<u8>) {
        write_all(self.iter(), out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Vec::read(from).map(Into::into)
    }
}

/// Written as the frame that would carry it.
impl Frozen for client_frame::Request {
    fn write(&self, out: &mut Vec<u8>) {
        v1::ClientFrame { id: 0, request: Some(self.clone()) }.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        v1::ClientFrame::read(from)?.request.ok_or(RestoreError("a request"))
    }
}

impl Frozen for v1::kind::Value {
    fn write(&self, out: &mut Vec<u8>) {
        (*self as i32).write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Self::try_from(i32::read(from)?).map_err(|_| RestoreError("a message's kind"))
    }
}

impl Frozen for Record {
    fn write(&self, out: &mut Vec<u8>) {
        let mut stored = Vec::with_capacity(self.body.bytes().len() + 256);
        self.encode(&mut stored);
        write_bytes(&stored, out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        Self::decode(from.bytes()?).map_err(|_| RestoreError("a record"))
    }
}

frozen_enum!(ConversationKind { 0 = Direct { 0: both }, 1 = Group {} });
frozen_enum!(Peer { 0 = User { 0: user }, 1 = Group { 0: id } });
frozen_enum!(Role { 0 = Member {}, 1 = Admin {} });
frozen_enum!(Body {
    0 = Text { 0: bytes },
    1 = Payload { 0: bytes },
    2 = Slices { 0: bytes },
    3 = Change { 0: bytes },
    4 = Erased { 0: hash },
});
frozen!(Member { user, role, join, leave, join_epoch, leave_epoch, hidden, aside, left_ordinal, last_own });

impl Frozen for DocumentKey {
    fn write(&self, out: &mut Vec<u8>) {
        let (number, user): (u8, _) = match self {
            Self::Devices(user) => (0, user),
            Self::Settings(user) => (1, user),
        };
        number.write(out);
        user.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        match (u8::read(from)?, UserKey::read(from)?) {
            (0, user) => Ok(Self::Devices(user)),
            (1, user) => Ok(Self::Settings(user)),
            _ => Err(RestoreError("a document")),
        }
    }
}

impl Frozen for Shown {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        u64::read(from).map(Self)
    }
}

frozen!(Raise { key, value, stamp });

impl Frozen for RegisterKey {
    fn write(&self, out: &mut Vec<u8>) {
        let (number, conversation, user, device) = match self {
            Self::Delivered(conversation, user, device) => (0, conversation, user, Some(*device)),
            Self::Read(conversation, user) => (1, conversation, user, None),
            Self::TickDelivered(conversation, user, device) => (2, conversation, user, Some(*device)),
            Self::TickRead(conversation, user, device) => (3, conversation, user, Some(*device)),
            Self::ReadCounted(conversation, user) => (4, conversation, user, None),
            Self::ReadShown(conversation, user) => (6, conversation, user, None),
            Self::ToldDelivered(conversation, user) => (5, conversation, user, None),
            Self::ToldRead(conversation, user) => (7, conversation, user, None),
            Self::Missed(conversation, user, _) => (8, conversation, user, None),
        };
        u8::write(&number, out);
        conversation.write(out);
        user.write(out);
        device.write(out);
        if let Self::Missed(.., from) = self {
            from.write(out);
        }
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let (number, conversation) = (u8::read(from)?, ConversationId::read(from)?);
        let user = UserKey::read(from)?;
        match (number, Option::<DeviceId>::read(from)?) {
            (0, Some(device)) => Ok(Self::Delivered(conversation, user, device)),
            (1, None) => Ok(Self::Read(conversation, user)),
            (4, None) => Ok(Self::ReadCounted(conversation, user)),
            (6, None) => Ok(Self::ReadShown(conversation, user)),
            (5, None) => Ok(Self::ToldDelivered(conversation, user)),
            (7, None) => Ok(Self::ToldRead(conversation, user)),
            (8, None) => Ok(Self::Missed(conversation, user, u64::read(from)?)),
            (2, Some(device)) => Ok(Self::TickDelivered(conversation, user, device)),
            (3, Some(device)) => Ok(Self::TickRead(conversation, user, device)),
            _ => Err(RestoreError("a register")),
        }
    }
}
