//! What the operator of a server asks of the shards for a user: erase what it sent, leave its groups, forget it.
//!
//! Owns: the envelopes of these, and who answers to whom: the operator stands in the place of a session on a shard that does
//! not exist, [`OPERATOR`]. Guarantees: all of it is done as the user would have done it, by records of the log, so that it
//! has its place in the order and every device hears of it; asked again, what is done already changes nothing. What the
//! operator may and the user may not: erase messages of any age and kind, also of groups that it left.

use crate::boundary::{Proposal, ShardId, Wants};
use crate::envelope::{Envelope, SessionRef};
use bytes::Bytes;
use ringpost_persist::record::content_hash;
use ringpost_persist::roster::change_body;
use ringpost_persist::{Body, ConversationKind, Record};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1::change::{Change, Left};
use ringpost_proto::v1::kind::Value as Kind;
use std::sync::Arc;

/// No shard of any process: envelopes to it are the operator's.
pub const OPERATOR: ShardId = ShardId::MAX;

/// The device of records that the operator made for a user.
const DEVICE: &str = "operator";

impl SessionRef {
    /// Where the answer to the operator goes.
    pub const fn operator() -> Self {
        Self { shard: OPERATOR, slot: 0, generation: 0 }
    }

    pub(crate) fn is_operator(&self) -> bool {
        self.shard == OPERATOR
    }
}

/// Whether there is something of the user in this record that can be taken out of it: what it said, in whatever form.
/// Changes of a group stay, and erasures say nothing.
pub fn is_erasable(record: &Record, user: &UserKey) -> bool {
    record.sender == *user
        && !matches!(record.kind, Kind::Change | Kind::Erase)
        && !matches!(record.body, Body::Erased(_))
}

/// To the conversation's home: erase this record of the user. Answered SENT; with seq 0 where it was erased already.
/// `made`: an id that nothing else has.
pub fn erase(
    conversation: ConversationId,
    kind: Arc<ConversationKind>,
    user: &UserKey,
    seq: Seq,
    made: ClientMessageId,
    re: u64,
) -> Option<Envelope> {
    let proposal = proposal(kind, user, Kind::Erase, seq, Body::Text(Bytes::new()), made)?;
    Some(Envelope::Propose { conversation, from: SessionRef::operator(), re, proposal })
}

/// To the group's home: the user leaves. Refused with NOT_MEMBER where it did already.
pub fn leave(group: ConversationId, user: &UserKey, made: ClientMessageId, re: u64) -> Option<Envelope> {
    let body = change_body(Change::Left(Left {}), None, 0);
    let proposal = proposal(Arc::new(ConversationKind::Group), user, Kind::Change, 0, body, made)?;
    Some(Envelope::Propose { conversation: group, from: SessionRef::operator(), re, proposal })
}

/// To the user's home: its sessions end, what it has set and which devices it has is forgotten. Answered OK.
pub fn forget(user: UserKey, re: u64) -> Envelope {
    Envelope::Forget { user, from: SessionRef::operator(), re }
}

fn proposal(
    kind: Arc<ConversationKind>,
    user: &UserKey,
    message_kind: Kind,
    ref_seq: Seq,
    body: Body,
    cmid: ClientMessageId,
) -> Option<Proposal> {
    Some(Proposal {
        kind,
        sender: user.clone(),
        device: DeviceId::new(DEVICE).ok()?,
        cmid,
        content_hash: content_hash(message_kind, ref_seq, &body, None),
        message_kind,
        ref_seq,
        body,
        media: None,
        trace: None,
        group_epoch: 0,
        wants: Wants::Sent,
    })
}
