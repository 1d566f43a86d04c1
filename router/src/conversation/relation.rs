//! What the two of a direct conversation are to each other, for whoever wants to see whether the other one is there.
//!
//! Guarantees: asked and told in the order of the log, so that the last word is the true one.

use super::ask::EARLY;
use super::{Conversation, Early, Phase};
use crate::Router;
use crate::envelope::{Envelope, Relation, SessionRef};
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Member, Record};
use ringpost_proto::id::{ConversationId, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use std::sync::Arc;

impl Conversation {
    /// Whether the record that comes next changes what the two are to each other.
    pub(super) fn relates_anew(&self, record: &Record) -> bool {
        let is_first = || self.roster.member(&record.sender).is_none_or(|sender| sender.last_own == 0);
        !self.is_group() && (record.kind == Kind::Change || is_first())
    }

    fn relation_of(&self, user: &UserKey) -> Relation {
        let blocked = self.roster.members().iter().any(Member::is_blocking);
        let sent = self.roster.member(user).is_some_and(|member| member.last_own > 0);
        match (blocked, sent) {
            (true, _) => Relation::Blocked,
            (false, true) => Relation::Contact,
            (false, false) => Relation::Stranger,
        }
    }
}

impl Router {
    pub(crate) fn conversation_relates(
        &mut self,
        id: ConversationId,
        kind: &Arc<ConversationKind>,
        user: UserKey,
        watched: (UserKey, SessionRef),
    ) {
        let key = self.conversation(id, kind);
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.phase != Phase::Loading {
            self.tell_relation(key, user, watched);
            return self.forget_if_empty(key);
        }
        if room.early.len() < EARLY {
            return room.early.push(Early::Relate { user, watched });
        }
        self.relation_unknown(user, watched);
    }

    pub(super) fn tell_relation(&mut self, key: Key, user: UserKey, (watcher, by): (UserKey, SessionRef)) {
        let Some(room) = self.conversations.get(key) else { return };
        let (relation, home) = (Some(room.relation_of(&user)), user.clone());
        self.post_to_user(&home, Envelope::Related { user, watcher, by, relation });
    }

    pub(super) fn relation_unknown(&mut self, user: UserKey, (watcher, by): (UserKey, SessionRef)) {
        let home = user.clone();
        self.post_to_user(&home, Envelope::Related { user, watcher, by, relation: None });
    }

    /// A block came or went, or somebody's first record: what both are to each other may be something else now.
    pub(super) fn tell_relations(&mut self, key: Key) {
        let Some(room) = self.conversations.get(key) else { return };
        let members = room.kind.members();
        let [one, other] = [members.first(), members.get(1)].map(|user| user.cloned());
        let (Some(one), Some(other)) = (one, other) else { return };
        let relations = [room.relation_of(&one), room.relation_of(&other)];
        for ((user, other), relation) in [(one.clone(), other.clone()), (other, one)].into_iter().zip(relations) {
            let home = user.clone();
            self.post_to_user(&home, Envelope::Relates { user, other, relation });
        }
    }
}
