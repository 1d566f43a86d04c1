//! The first message of a direct conversation: appended only after its sender's home has counted it, where that is limited.

use super::allow::No;
use super::{Conversation, Waiting};
use crate::Router;
use crate::envelope::Envelope;
use crate::frozen::frozen_enum;
use crate::refusal;
use ringpost_persist::Record;
use ringpost_proto::id::{ConversationId, UserKey};
use ringpost_proto::v1::kind::Value as Kind;

/// Whether the sender of a proposal may begin the conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Beginning {
    #[default]
    No,
    /// Its home was asked, with this ticket.
    Asked(u64),
    Counted,
}

impl Conversation {
    pub(super) fn allows_beginning(&self, waiting: &Waiting, limited: bool) -> Result<(), No> {
        // Whoever only blocked the other one, and no longer does, has begun nothing.
        let said = self.roster.members().iter().any(|member| member.last_own > 0);
        let first = !said && !self.is_group() && self.batch.iter().all(|(_, record)| record.kind == Kind::Change);
        // One may always talk to oneself.
        let alone = self.kind.members().len() < 2;
        if !limited || !first || alone || waiting.beginning == Beginning::Counted { Ok(()) } else { Err(No::Begin) }
    }

    /// Who is answered by the record that comes next, for the first time here.
    pub(super) fn answers(&self, record: &Record) -> Option<UserKey> {
        let own = self.roster.member(&record.sender)?;
        let other = self.roster.members().iter().find(|member| member.user != record.sender)?;
        let answers = !self.is_group() && record.kind != Kind::Change && own.last_own == 0 && other.last_own > 0;
        answers.then(|| other.user.clone())
    }
}

impl Router {
    pub(super) fn ask_beginning(&mut self, conversation: ConversationId, ticket: u64, user: UserKey) {
        let home = user.clone();
        self.post_to_user(&home, Envelope::MayBegin { conversation, user, ticket });
    }

    /// The sender's home has counted the conversation, or will not for so long.
    pub(crate) fn begin(&mut self, id: ConversationId, ticket: u64, wait_ms: u64) {
        let Some(&key) = self.by_conversation.get(&id) else { return };
        let Some(room) = self.conversations.get_mut(key) else { return };
        let asked = |waiting: &Waiting| waiting.beginning == Beginning::Asked(ticket);
        let Some(at) = room.queue.iter().position(asked) else { return };
        if wait_ms == 0 {
            room.queue[at].beginning = Beginning::Counted;
        } else if let Some(waiting) = room.queue.remove(at) {
            self.refuse(&waiting, refusal::too_many_beginnings(wait_ms));
        }
        self.append_next(key);
        self.forget_if_empty(key);
    }
}

frozen_enum!(Beginning { 0 = No {}, 1 = Asked { 0: ticket }, 2 = Counted {} });
