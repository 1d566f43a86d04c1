//! How many new direct conversations a user who was never answered begins in a day: who writes to everybody is a stranger to
//! everybody.
//!
//! Owns: on the user's home shard, what it began within a day, and whether anybody ever answered it. Guarantees: a room appends
//! the first message of a direct conversation only after this shard has counted it; who was answered once is not limited any
//! more, which is kept with the user's devices. A restart forgets what was begun, so it gives another day's worth. Never does:
//! count a conversation twice, or one that the other side began.

use super::linking::DeviceChange;
use crate::Router;
use crate::envelope::Envelope;
use crate::frozen::frozen;
use crate::pending::Pending;
use ringpost_persist::{DocumentKey, Outcome, StoreRequest};
use ringpost_proto::id::{ConversationId, UserKey};

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// After which time it may be asked again what could not be read, milliseconds.
const RETRY_MS: u64 = 1_000;

/// Of one user.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// With the time, monotonic milliseconds; the oldest first, as many as a day allows at most.
    conversations: Vec<(ConversationId, u64)>,
    /// Somebody answered the user once.
    answered: bool,
}

impl Begun {
    pub const fn new() -> Self {
        Self { conversations: Vec::new(), answered: false }
    }

    /// Whether nothing is known of the user.
    pub fn is_blank(&self) -> bool {
        self.conversations.is_empty() && !self.answered
    }

    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    /// Counts one, unless it need not be or was (`false`); `Err`: after how many milliseconds there is room.
    fn take(&mut self, conversation: ConversationId, most: usize, now_ms: u64) -> Result<bool, u64> {
        self.conversations.retain(|(_, at_ms)| at_ms + DAY_MS > now_ms);
        if self.answered || self.conversations.iter().any(|(begun, _)| *begun == conversation) {
            return Ok(false);
        }
        match self.conversations.first() {
            Some((_, oldest_ms)) if self.conversations.len() >= most => Err(oldest_ms + DAY_MS - now_ms),
            _ => {
                self.conversations.push((conversation, now_ms));
                Ok(true)
            }
        }
    }
}

impl Router {
    /// A room asks whether a user may begin this conversation.
    pub(crate) fn may_begin(&mut self, user: UserKey, conversation: ConversationId, ticket: u64) {
        if self.count_begun(&user, conversation).is_ok() {
            self.forget_user(&user);
            return self.tell_begin(conversation, ticket, 0);
        }
        let key = DocumentKey::Devices(user.clone());
        let pending = Pending::Answered { user, conversation, ticket };
        self.ask(pending, |tag| StoreRequest::ReadDocument { tag, key });
    }

    /// The user has begun as much as a day allows: unless it was answered.
    pub(crate) fn answered_read(
        &mut self,
        user: &UserKey,
        conversation: ConversationId,
        ticket: u64,
        outcome: Outcome,
    ) {
        if !matches!(outcome, Outcome::Document(_)) {
            return self.tell_begin(conversation, ticket, RETRY_MS);
        }
        let list = self.devices_in(outcome).unwrap_or_default();
        self.users.enter(user).rare.begun.answered |= list.was_answered();
        let wait_ms = self.count_begun(user, conversation).err().unwrap_or(0);
        self.counters.beginnings_refused += u64::from(wait_ms > 0);
        self.forget_user(user);
        self.tell_begin(conversation, ticket, wait_ms);
    }

    /// What is counted is forgotten a day later; what was counted before is not remembered twice, however often it is asked for.
    fn count_begun(&mut self, user: &UserKey, conversation: ConversationId) -> Result<(), u64> {
        let (now_ms, most) = (self.now.mono_ms, self.settings.new_conversations as usize);
        let entry = self.users.enter(user);
        if entry.rare.begun.take(conversation, most, now_ms)? {
            // The same day for all, so they are over in this order.
            self.beginners.push_back((now_ms + DAY_MS, user.clone()));
        }
        Ok(())
    }

    fn tell_begin(&mut self, conversation: ConversationId, ticket: u64, wait_ms: u64) {
        self.post_to_conversation(conversation, Envelope::Begin { conversation, ticket, wait_ms });
    }

    /// Somebody to whom the user had written wrote back, for the first time.
    pub(crate) fn answered(&mut self, user: &UserKey) {
        if let Some(entry) = self.users.get_mut(user) {
            if std::mem::replace(&mut entry.rare.begun.answered, true) {
                return;
            }
            entry.rare.begun.conversations.clear();
            self.forget_user(user);
        }
        self.edit_devices(user, DeviceChange::Answered);
    }

    /// What was begun a day ago is forgotten.
    pub(crate) fn forget_beginners(&mut self) {
        let now_ms = self.now.mono_ms;
        while let Some((_, user)) = self.beginners.pop_front_if(|(until_ms, _)| *until_ms <= now_ms) {
            if let Some(entry) = self.users.get_mut(&user) {
                entry.rare.begun.conversations.retain(|(_, at_ms)| at_ms + DAY_MS > now_ms);
                entry.rare.settle();
                self.forget_user(&user);
            }
        }
    }

    /// After a snapshot was read.
    pub(crate) fn derive_beginners(&mut self) {
        let mut all = Vec::new();
        for (user, entry) in self.users.iter() {
            let begun = entry.rare.begun.conversations.iter().map(|(_, at_ms)| at_ms + DAY_MS);
            all.extend(begun.map(|until_ms| (until_ms, user.clone())));
        }
        all.sort();
        self.beginners = all.into();
    }
}

frozen!(Begun { conversations, answered });
