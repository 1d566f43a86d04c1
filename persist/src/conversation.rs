//! What a conversation is about and how a member names it. No state: who is in a group, its [`roster`](crate::roster) says.

use bytes::Bytes;
use ringpost_proto::id::{ConversationId, UserKey};
use ringpost_proto::v1;
use ringpost_proto::wire::PeerRef;

/// What a log is about; stored with its first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConversationKind {
    /// The two users, in the order of their names; the same twice where a user talks to itself.
    Direct([UserKey; 2]),
    /// Who is in it, its records say: see [`Roster`](crate::Roster).
    Group,
}

impl ConversationKind {
    /// Of a direct conversation.
    pub fn members(&self) -> &[UserKey] {
        match self {
            Self::Direct(both) if both[0] == both[1] => &both[..1],
            Self::Direct(both) => both,
            Self::Group => &[],
        }
    }

    /// The conversation as `user` names it: the other side of a direct one (oneself where a user talks to itself), or the
    /// group.
    pub fn peer_of(&self, id: ConversationId, user: &UserKey) -> Peer {
        match self {
            Self::Direct([a, b]) => Peer::User(if a == user { b.clone() } else { a.clone() }),
            Self::Group => Peer::Group(id),
        }
    }
}

/// A conversation from one's own side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    User(UserKey),
    Group(ConversationId),
}

impl Peer {
    /// As it is written before a record.
    pub fn wire_ref(&self) -> PeerRef<'_> {
        match self {
            Self::User(user) => PeerRef::User(user.user()),
            Self::Group(id) => PeerRef::Group(&id.0),
        }
    }

    pub fn to_wire(&self) -> v1::Peer {
        let peer = match self {
            Self::User(user) => v1::peer::Peer::User(user.user().to_owned()),
            Self::Group(id) => v1::peer::Peer::Group(Bytes::copy_from_slice(&id.0)),
        };
        v1::Peer { peer: Some(peer) }
    }
}

/// What a member of a group may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Member,
    Admin,
}

impl Role {
    pub fn from_wire(role: v1::role::Value) -> Self {
        match role {
            v1::role::Value::Member => Self::Member,
            v1::role::Value::Admin => Self::Admin,
        }
    }

    pub fn to_wire(self) -> v1::role::Value {
        match self {
            Self::Member => v1::role::Value::Member,
            Self::Admin => v1::role::Value::Admin,
        }
    }
}
