//! Questions that a room answers from what it holds: the group as it is, and how far each member is with a record.

use super::{Conversation, Early, Phase};
use crate::Router;
use crate::envelope::{Envelope, RoomAsk, SendOutcome, SessionRef};
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::ConversationKind;
use ringpost_proto::id::{ConversationId, Seq, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::member_state::state::Value as State;
use ringpost_proto::v1::server_frame::Answer;
use std::sync::Arc;

/// Requests held while a conversation is loaded; beyond that they are refused.
pub(super) const EARLY: usize = 256;

impl Conversation {
    /// The group as its members see it.
    pub(super) fn wire_group(&self) -> v1::Group {
        let roster = &self.roster;
        let member = |member: &ringpost_persist::Member| v1::GroupMember {
            user: member.user.user().to_owned(),
            role: member.role.to_wire() as i32,
            join_seq: member.join,
        };
        v1::Group {
            group: self.id.0.to_vec().into(),
            name: roster.name.clone(),
            description: roster.description.clone(),
            avatar: roster.avatar.clone(),
            epoch: roster.epoch,
            members: roster.current().map(member).collect(),
        }
    }

    /// How far each member as of `seq` is with that record, its sender aside.
    fn record_info(&self, user: &UserKey, seq: Seq) -> Result<v1::RecordInfoResult, v1::Error> {
        // Who has left does not learn how those who stayed are getting on.
        let asker = self.roster.member(user).filter(|it| it.is_current()).ok_or_else(refusal::not_member)?;
        let unknown = || refusal::not_found("seq", "there is no such record for you");
        let record = self.record(seq).cloned();
        let seen = asker.sees_seq(seq) && record.as_ref().is_none_or(|record| asker.sees(record));
        if seq == 0 || seq > self.head || !seen {
            return Err(unknown());
        }
        let mut members = Vec::new();
        for (at, member) in self.roster.members().iter().enumerate() {
            // What is hidden from a member of a group was said while it was away.
            let here = !self.is_group() || member.sees_seq(seq);
            if !here || record.as_ref().is_some_and(|record| record.sender == member.user) {
                continue;
            }
            let progress = self.progress.get(at);
            let hidden = member.hidden_at(seq).is_some();
            let (delivered, read) = progress.map_or((0, 0), |it| (it.delivered(), it.read_shown()));
            let hides = progress.is_some_and(|it| it.hides());
            let (state, at_ms) = match () {
                // Whoever is blocked is not told so.
                () if hidden => (State::Sent, 0),
                () if read >= seq => (State::Read, progress.map_or(0, |it| it.read_move.covering(seq))),
                () if delivered >= seq && hides => (State::Hidden, 0),
                () if delivered >= seq => (State::Delivered, progress.map_or(0, |it| it.delivered_move.covering(seq))),
                () => (State::Sent, 0),
            };
            members.push(v1::MemberState { user: member.user.user().to_owned(), state: state as i32, at_ms });
        }
        Ok(v1::RecordInfoResult { members })
    }
}

impl Router {
    pub(crate) fn conversation_asked(
        &mut self,
        id: ConversationId,
        kind: &Arc<ConversationKind>,
        user: UserKey,
        from: SessionRef,
        re: u64,
        ask: RoomAsk,
    ) {
        let key = self.conversation(id, kind);
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.phase != Phase::Loading {
            self.ask_room(key, &user, from, re, ask);
            return self.forget_if_empty(key);
        }
        if room.early.len() < EARLY {
            return room.early.push(Early::Ask { user, from, re, ask });
        }
        self.refuse_request(from, re, refusal::overloaded());
    }

    pub(super) fn ask_room(&mut self, key: Key, user: &UserKey, to: SessionRef, re: u64, ask: RoomAsk) {
        let Some(room) = self.conversations.get(key) else { return };
        let answer = match ask {
            RoomAsk::Group if room.head == 0 || !room.is_group() => {
                Err(refusal::not_found("group", "there is no such group"))
            }
            RoomAsk::Group if !room.roster.is_member(user) => Err(refusal::not_member()),
            RoomAsk::Group => Ok(Answer::Group(room.wire_group())),
            RoomAsk::RecordInfo(seq) => room.record_info(user, seq).map(Answer::RecordInfo),
        };
        let outcome = match answer {
            Ok(answer) => SendOutcome::Answer(Box::new(answer)),
            Err(error) => SendOutcome::Refused(Box::new(error)),
        };
        self.post(to.shard, Envelope::Outcome { to, re, outcome });
    }
}
