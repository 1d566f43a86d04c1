//! What a store knows, in memory: logs, registers, each user's conversations. The embedded store keeps it over its
//! write-ahead log, the store of the simulator keeps it alone.
//!
//! Owns: the state, and what each request means for it. Guarantees: logs are dense and never change; registers only grow;
//! the same requests in the same order give the same state and the same answers in every process.
//! Never does: I/O, clocks, randomness; it never decides when something is durable.

mod conversation;

use crate::view;
use crate::{
    ConversationKind, DOCUMENT_BYTES, DocumentKey, ItemKey, Member, Outcome, Raise, Ranges, ReadRange, Record,
    RegisterKey, StoreRequest, UserPage,
};
use bytes::Bytes;
use conversation::Conversation;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringpost_proto::id::{ConversationId, RecordId, Seq, UserKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Records of one append at most.
pub const APPEND_RECORDS: usize = 64;

/// Everything that is stored. About 300 B a record beside its body, 400 B a conversation, 16 B for each of a user's
/// conversations.
#[derive(Clone, Debug)]
pub struct Index {
    conversations: HashMap<ConversationId, Conversation, FixedState>,
    /// The conversations of each user, in the order in which it came to them.
    users: HashMap<UserKey, Vec<ConversationId>, FixedState>,
    documents: BTreeMap<DocumentKey, (u64, Bytes)>,
    items: BTreeMap<ItemKey, Bytes>,
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
            documents: BTreeMap::new(),
            items: BTreeMap::new(),
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
    pub fn judge_append(head: Seq, expected_head: Seq, records: impl ExactSizeIterator<Item = Seq>) -> Outcome {
        let len = records.len();
        let numbered = records.zip(expected_head + 1..).all(|(seq, expected)| seq == expected);
        if len == 0 || len > APPEND_RECORDS || !numbered {
            return Outcome::Unimplemented;
        }
        if expected_head != head {
            return Outcome::Conflict { head };
        }
        Outcome::Appended { head: head + len as Seq }
    }

    /// `Appended`, or `Conflict`, or `Unimplemented` where the request has not the form that the contract asks for.
    pub fn append(
        &mut self,
        id: ConversationId,
        kind: &Arc<ConversationKind>,
        expected_head: Seq,
        records: &[Arc<Record>],
    ) -> Outcome {
        let outcome = Self::judge_append(self.head(&id), expected_head, records.iter().map(|record| record.seq));
        if !matches!(outcome, Outcome::Appended { .. }) {
            return outcome;
        }
        let joined = self.conversations.entry(id).or_default().append(kind, records, &self.hasher);
        self.records += records.len() as u64;
        for user in joined {
            self.users.entry(user).or_default().push(id);
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

    /// Records of this log up to `upto` are kept no longer: no answer shows them. [`Index::log`] does, for those who judge.
    pub fn expire(&mut self, id: &ConversationId, upto: Seq) {
        if let Some(conversation) = self.conversations.get_mut(id) {
            conversation.expire(upto);
        }
    }

    /// What of a log is no longer kept.
    pub fn gone(&self, id: &ConversationId) -> Ranges {
        self.conversations.get(id).map(Conversation::gone).unwrap_or_default()
    }

    /// Writes a document, keeps an item, or hands one out; `None` for other requests.
    pub fn write_small(&mut self, request: &StoreRequest) -> Option<Outcome> {
        Some(match request {
            StoreRequest::Cas { key, expected, bytes, .. } => match self.judge_cas(key, *expected, bytes) {
                Outcome::Stored { version } => {
                    self.documents.insert(key.clone(), (version, bytes.clone()));
                    Outcome::Stored { version }
                }
                refused => refused,
            },
            StoreRequest::Put { bytes, .. } if bytes.len() > DOCUMENT_BYTES => Outcome::Unimplemented,
            StoreRequest::Put { key, bytes, .. } => {
                self.items.insert(ItemKey::clone(key), bytes.clone());
                Outcome::Stored { version: 0 }
            }
            StoreRequest::Take { key, .. } => Outcome::Taken(self.items.remove(key)),
            _ => return None,
        })
    }

    /// What a `Cas` would answer; nothing changes.
    pub fn judge_cas(&self, key: &DocumentKey, expected: u64, bytes: &Bytes) -> Outcome {
        let found = self.documents.get(key);
        if bytes.len() > DOCUMENT_BYTES {
            return Outcome::Unimplemented;
        }
        if found.map_or(0, |(version, _)| *version) != expected {
            return Outcome::Stale(found.cloned());
        }
        Outcome::Stored { version: expected + 1 }
    }

    /// The answer to a request that changes nothing; `None` for those that do.
    pub fn read(&self, request: &StoreRequest) -> Option<Outcome> {
        Some(match request {
            StoreRequest::Append { .. }
            | StoreRequest::Raise { .. }
            | StoreRequest::Cas { .. }
            | StoreRequest::Put { .. }
            | StoreRequest::Take { .. } => return None,
            StoreRequest::ReadLog { conversation, viewer, range, records, bytes, .. } => {
                self.read_log(conversation, viewer.as_ref(), *range, *records, *bytes)
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
            StoreRequest::CountRead { conversation, user, upto, .. } => {
                let found = self.conversations.get(conversation);
                let counted = found.and_then(|c| Some(c.count_read(c.member(user)?, *upto)));
                Outcome::Counted(counted.unwrap_or(0))
            }
            StoreRequest::ReadDocument { key, .. } => Outcome::Document(self.documents.get(key).cloned()),
            StoreRequest::ListItems { user, device, limit, .. } => {
                let key = |number| ItemKey { user: user.clone(), device: *device, number };
                let items = self.items.range(key(0)..=key(u64::MAX)).take(*limit as usize);
                Outcome::Items(items.map(|(key, _)| key.number).collect())
            }
            StoreRequest::Sweep { .. } => Outcome::Unimplemented,
        })
    }

    fn read_log(
        &self,
        id: &ConversationId,
        viewer: Option<&UserKey>,
        range: ReadRange,
        records: u32,
        bytes: u32,
    ) -> Outcome {
        let Some(conversation) = self.conversations.get(id).filter(|found| found.kind().is_some()) else {
            return view::nothing(range);
        };
        let member: Option<&Member> = viewer.and_then(|viewer| conversation.member(viewer));
        if viewer.is_some() && member.is_none() {
            return Outcome::NotMember;
        }
        let (records, reached) = conversation.slice(range, member, records, bytes);
        let head = member.map_or(self.head(id), |member| member.end(self.head(id)));
        let gone = view::gone_of(&conversation.gone(), range, reached);
        Outcome::LogSlice { head, reached, records, gone }
    }

    fn user_page(&self, user: &UserKey, after: Option<(RecordId, ConversationId)>, limit: u32) -> UserPage {
        let own = self.users.get(user).map(Vec::as_slice).unwrap_or_default();
        let place = |id: &ConversationId| Some((self.conversations.get(id)?.place(user)?, *id));
        let mut newest_first: Vec<_> = own.iter().filter_map(place).collect();
        newest_first.retain(|place| after.is_none_or(|after| *place < after));
        newest_first.sort_unstable_by(|a, b| b.cmp(a));
        let page = newest_first.iter().take(limit as usize);
        let entry = |id: &ConversationId| self.conversations.get(id)?.entry_of(user, *id);
        UserPage { entries: page.filter_map(|(_, id)| entry(id)).collect(), more: newest_first.len() > limit as usize }
    }
}
