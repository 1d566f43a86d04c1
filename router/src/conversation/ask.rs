//! Questions that a room answers from what it holds: the group as it is, and how far each member is with a record.

use super::tail::Brief;
use super::{Conversation, Early, Phase};
use crate::Router;
use crate::envelope::{Envelope, RoomAsk, SendOutcome, SessionRef};
use crate::frozen::frozen;
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Member, MemberAt, Outcome, ReadRange, StoreRequest};
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
        let member = |member: &Member| v1::GroupMember {
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

    /// Whether this user may be told of a record at `seq`, if there is one.
    fn may_ask(&self, user: &UserKey, seq: Seq) -> Result<&Member, v1::Error> {
        // Who has left does not learn how those who stayed are getting on.
        let asker = self.roster.member(user).filter(|it| it.is_current()).ok_or_else(refusal::not_member)?;
        let may = seq > 0 && seq <= self.head && asker.sees_seq(seq);
        if may { Ok(asker) } else { Err(no_record()) }
    }

    /// How far each member as of a record is with it, its sender aside.
    fn record_info(&self, user: &UserKey, record: &Brief) -> Result<v1::RecordInfoResult, v1::Error> {
        let seq = record.seq;
        if !record.is_for(self.may_ask(user, seq)?) {
            return Err(no_record());
        }
        let mut members = Vec::new();
        for (at, member) in self.roster.members().iter().enumerate() {
            // What is hidden from a member of a group was said while it was away.
            let here = !self.is_group() || member.sees_seq(seq);
            if !here || record.sender == member.user {
                continue;
            }
            let progress = self.progress.get(at);
            let hidden = member.hidden_at(seq).is_some() || self.has_missed(at as MemberAt, seq);
            let (delivered, read) = progress.map_or((0, 0), |it| (it.delivered(), it.read_shown()));
            let hides = progress.is_some_and(|it| it.hides());
            let (state, at_ms) = match () {
                // Whoever is blocked is not told so; what expired before it was received was sent, and no more.
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

fn no_record() -> v1::Error {
    refusal::not_found("seq", "there is no such record for you")
}

/// A question about a record that is no longer in memory: the log says whose it is.
#[derive(Debug)]
pub(crate) struct InfoRead {
    room: Key,
    user: UserKey,
    to: SessionRef,
    re: u64,
    seq: Seq,
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
            RoomAsk::RecordInfo(seq) => match (room.may_ask(user, seq), room.tail.get(seq)) {
                (Err(error), _) => Err(error),
                (_, Some(record)) => room.record_info(user, record).map(Answer::RecordInfo),
                (_, None) => return self.read_info(InfoRead { room: key, user: user.clone(), to, re, seq }),
            },
            RoomAsk::Group if room.head == 0 || !room.is_group() => {
                Err(refusal::not_found("group", "there is no such group"))
            }
            RoomAsk::Group if !room.roster.is_member(user) => Err(refusal::not_member()),
            RoomAsk::Group => Ok(Answer::Group(room.wire_group())),
        };
        self.answer_asker(to, re, answer);
    }

    fn answer_asker(&mut self, to: SessionRef, re: u64, answer: Result<Answer, v1::Error>) {
        let outcome = match answer {
            Ok(answer) => SendOutcome::Answer(Box::new(answer)),
            Err(error) => SendOutcome::Refused(Box::new(error)),
        };
        self.post(to.shard, Envelope::Outcome { to, re, outcome });
    }

    fn read_info(&mut self, read: InfoRead) {
        let Some(conversation) = self.conversations.get(read.room).map(|room| room.id) else { return };
        let range = ReadRange::From { from: read.seq, to: read.seq };
        let (records, bytes) = (1, u32::MAX);
        self.ask(Pending::Info(Box::new(read)), |tag| StoreRequest::ReadLog {
            tag,
            conversation,
            viewer: None,
            range,
            records,
            bytes,
        });
    }

    /// The record that was asked about; the group is as it is now.
    pub(crate) fn info_read(&mut self, read: InfoRead, outcome: Outcome) {
        let InfoRead { room, user, to, re, seq } = read;
        let answer = match (self.conversations.get(room), outcome) {
            (Some(room), Outcome::LogSlice { records, .. }) => {
                let record = records.first().filter(|record| record.seq == seq).ok_or_else(no_record);
                record.and_then(|it| room.record_info(&user, &Brief::of(it, &room.roster))).map(Answer::RecordInfo)
            }
            _ => Err(refusal::unavailable()),
        };
        self.answer_asker(to, re, answer);
    }
}

frozen!(InfoRead { room, user, to, re, seq });
