//! Who is writing: told to the other members, never stored, and over by itself.
//!
//! Guarantees: COMPOSING is followed by PAUSED after [`TYPING_MS`] without news at the latest; who is blocked is neither
//! told nor heard; whoever leaves, or blocks, or is blocked, is told PAUSED before that; a session without room in its window
//! is not told. Never does: wait, retry, load a conversation for it twice.

use super::{Conversation, Phase};
use crate::Router;
use crate::envelope::Envelope;
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Member, MemberAt};
use ringpost_proto::id::{ConversationId, UserKey};
use ringpost_proto::limits::TYPING_MS;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_proto::v1::typing::state::Value as State;
use std::sync::Arc;

/// Larger groups are not told: there it is noise, and a thousand frames for every key pressed.
const MEMBERS: usize = 256;

impl Conversation {
    /// Takes in what a member says. Returns whether that is news.
    fn types(&mut self, member: MemberAt, composing: bool, now_ms: u64) -> bool {
        let at = self.typing.iter().position(|(typist, _)| *typist == member);
        match (at, composing) {
            (Some(at), true) => self.typing[at].1 = now_ms + TYPING_MS,
            (Some(at), false) => drop(self.typing.remove(at)),
            (None, true) => self.typing.push((member, now_ms + TYPING_MS)),
            (None, false) => {}
        }
        at.is_some() != composing
    }

    /// When the first of them has been silent for too long.
    pub(super) fn typing_ms(&self) -> Option<u64> {
        self.typing.iter().map(|(_, until_ms)| *until_ms).min()
    }

    /// Whether a member blocks what comes now.
    fn is_blocking(&self, member: MemberAt) -> bool {
        self.roster.get(member).is_some_and(Member::is_blocking)
    }
}

impl Router {
    pub(crate) fn conversation_typing(
        &mut self,
        id: ConversationId,
        kind: &Arc<ConversationKind>,
        user: &UserKey,
        composing: bool,
    ) {
        let (key, now_ms) = (self.conversation(id, kind), self.now.mono_ms);
        let Some(room) = self.conversations.get_mut(key) else { return };
        // What comes while it is loaded is said again, or was not worth it.
        // To whom nothing was ever said, a stranger is not writing.
        let ready = room.phase != Phase::Loading && room.head > 0 && room.roster.current_len() <= MEMBERS;
        let member = room.member(user).filter(|_| ready && room.roster.is_member(user));
        if let Some(member) = member
            && room.types(member, composing, now_ms)
        {
            self.tell_typing(key, member, composing);
        }
        self.arm_conversation(key);
        self.forget_if_empty(key);
    }

    /// Those who have been silent for too long are no longer writing, nor are those of whom `is_over` says so.
    pub(super) fn stop_typing(&mut self, key: Key, is_over: impl Fn(MemberAt) -> bool) {
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get_mut(key).filter(|room| !room.typing.is_empty()) else { return };
        let over = |(typist, until_ms): &(MemberAt, u64)| is_over(*typist) || *until_ms <= now_ms;
        let stopped: Vec<MemberAt> =
            room.typing.iter().filter(|entry| over(entry)).map(|(typist, _)| *typist).collect();
        room.typing.retain(|entry| !over(entry));
        for member in stopped {
            self.tell_typing(key, member, false);
        }
    }

    fn tell_typing(&mut self, key: Key, member: MemberAt, composing: bool) {
        let shards = self.settings.shards;
        let Some(room) = self.conversations.get_mut(key) else { return };
        let Some(by) = room.roster.get(member).map(|it| it.user.clone()) else { return };
        let blocked = (0..room.roster.members().len() as MemberAt).any(|at| room.is_blocking(at));
        if blocked && !room.is_group() {
            return;
        }
        let (conversation, kind) = (room.id, room.kind.clone());
        for (shard, users) in room.current_fans(shards) {
            let (kind, by) = (kind.clone(), by.clone());
            self.post(shard, Envelope::Typing { conversation, kind, users, by, composing });
        }
    }

    /// Tells the sessions of these users.
    pub(crate) fn typing(
        &mut self,
        conversation: ConversationId,
        kind: &ConversationKind,
        users: &[UserKey],
        by: &UserKey,
        composing: bool,
    ) {
        let state = if composing { State::Composing } else { State::Paused };
        for user in users.iter().filter(|user| *user != by) {
            let Some(sessions) = self.users.get(user).map(|entry| entry.sessions.list()) else { continue };
            let peer = kind.peer_of(conversation, user).to_wire();
            for key in sessions {
                let Some(conn) = self.sessions.get(key).filter(|it| it.hears_ephemera()).map(|it| it.conn) else {
                    continue;
                };
                let event = v1::TypingEvent {
                    conversation: Some(peer.clone()),
                    user: by.user().to_owned(),
                    state: state as i32,
                };
                self.counters.ephemeral += 1;
                self.frame(conn, 0, Answer::TypingEvent(event));
            }
        }
    }
}
