//! What a store knows, in memory: logs, registers, each user's conversations. The embedded store keeps it over its
//! write-ahead log, the store of the simulator keeps it alone.
//!
//! Owns: the state, and what each request means for it. Guarantees: logs are dense and never change; registers only grow;
//! the same requests in the same order give the same state and the same answers in every process.
//! Never does: I/O, clocks, randomness; it never decides when something is durable.

mod conversation;
mod user_list;

use crate::{ConversationKind, Outcome, Raise, Record, RegisterKey, StoreRequest, UserEntry, UserPage};
use conversation::Conversation;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringpost_proto::id::{ConversationId, RecordId, Seq, UserKey};
use std::sync::Arc;
use user_list::UserList;

/// Records of one append at most.
pub const APPEND_RECORDS: usize = 64;

/// Everything that is stored. About 300 B a record beside its body, 250 B a conversation, 24 B for each of a user's
/// conversations.
#[derive(Debug)]
pub struct Index {
    conversations: HashMap<ConversationId, Conversation, FixedState>,
    users: HashMap<UserKey, UserList, FixedState>,
    hasher: FixedState,
    records: u64,
}

impl Index {
    /// `seed` keys the hash tables: a secret where clients choose names and ids, any fixed number in a simulation.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            conversations: HashMap::with_hasher(hasher.clone()),
            users: HashMap::with_hasher(hasher.clone()),
            hasher,
            records: 0,
        }
    }

    /// Records in all logs.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Conversations with at least one record or register.
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// Every conversation with a record or a register, in no particular order (the same in every run).
    pub fn conversation_ids(&self) -> impl Iterator<Item = ConversationId> + '_ {
        self.conversations.keys().copied()
    }

    /// The records 1..=head, the index's own: not to be encoded.
    pub fn log(&self, conversation: &ConversationId) -> &[Arc<Record>] {
        self.conversations.get(conversation).map_or(&[], Conversation::log)
    }

    pub fn head(&self, conversation: &ConversationId) -> Seq {
        self.log(conversation).len() as Seq
    }

    /// What the log is about; `None` before its first record.
    pub fn kind(&self, conversation: &ConversationId) -> Option<&Arc<ConversationKind>> {
        self.conversations.get(conversation)?.kind()
    }

    /// 0: no such register.
    pub fn register(&self, key: &RegisterKey) -> Seq {
        self.conversations.get(&key.conversation()).map_or(0, |conversation| conversation.register(key))
    }

    /// What [`Index::append`] would answer, were the head of the log `head`; nothing changes.
    pub fn judge_append(head: Seq, expected_head: Seq, records: &[Arc<Record>]) -> Outcome {
        let numbered = records.iter().zip(expected_head + 1..).all(|(record, seq)| record.seq == seq);
        if records.is_empty() || records.len() > APPEND_RECORDS || !numbered {
            return Outcome::Unimplemented;
        }
        if expected_head != head {
            return Outcome::Conflict { head };
        }
        Outcome::Appended { head: head + records.len() as Seq }
    }

    /// `Appended`, or `Conflict`, or `Unimplemented` where the request has not the form that the contract asks for.
    pub fn append(
        &mut self,
        id: ConversationId,
        kind: &Arc<ConversationKind>,
        expected_head: Seq,
        records: &[Arc<Record>],
    ) -> Outcome {
        let outcome = Self::judge_append(self.head(&id), expected_head, records);
        let (Outcome::Appended { .. }, Some(last)) = (&outcome, records.last()) else {
            return outcome;
        };
        let conversation = self.conversations.entry(id).or_default();
        let before = conversation.last().map(|record| record.id);
        conversation.append(kind, records, &self.hasher);
        self.records += records.len() as u64;
        for member in kind.members() {
            self.users.entry_ref(member).or_default().moved(id, before, last.id);
        }
        outcome
    }

    /// Whether the register is higher now; a lower or equal value changes nothing.
    pub fn raise(&mut self, raise: &Raise) -> bool {
        if raise.value <= self.register(&raise.key) {
            return false;
        }
        self.conversations.entry(raise.key.conversation()).or_default().raise(&raise.key, raise.value);
        true
    }

    /// The answer to a request that changes nothing; `None` for `Append` and `Raise`.
    pub fn read(&self, request: &StoreRequest) -> Option<Outcome> {
        Some(match request {
            StoreRequest::Append { .. } | StoreRequest::Raise { .. } => return None,
            StoreRequest::ReadLog { conversation, range, records, bytes, .. } => {
                let slice = self.conversations.get(conversation).map(|c| c.slice(*range, *records, *bytes));
                Outcome::LogSlice { head: self.head(conversation), records: slice.unwrap_or_default() }
            }
            StoreRequest::LoadConversation { conversation, .. } => {
                let state = self.conversations.get(conversation).and_then(|c| c.state(*conversation));
                Outcome::Conversation(state.map(Box::new))
            }
            StoreRequest::LoadUser { user, after, limit, .. } => {
                Outcome::User(Box::new(self.user_page(user, *after, *limit)))
            }
            StoreRequest::FindCmid { conversation, sender, device, cmid, .. } => {
                let found = self.conversations.get(conversation);
                Outcome::Found(found.and_then(|c| c.find(sender, device, cmid, &self.hasher)).cloned())
            }
            StoreRequest::Cas { .. } | StoreRequest::Take { .. } | StoreRequest::Sweep { .. } => Outcome::Unimplemented,
        })
    }

    fn user_page(&self, user: &UserKey, after: Option<(RecordId, ConversationId)>, limit: u32) -> UserPage {
        let Some(list) = self.users.get(user) else {
            return UserPage { entries: Vec::new(), more: false };
        };
        let mut rest = list.newest_first(after);
        let entries = rest.by_ref().take(limit as usize).filter_map(|id| self.user_entry(user, id)).collect();
        UserPage { entries, more: rest.next().is_some() }
    }

    fn user_entry(&self, user: &UserKey, id: ConversationId) -> Option<UserEntry> {
        self.conversations.get(&id)?.entry_of(user, id)
    }
}
