//! The rooms in memory: read from the store on first use, dropped when they rest, and their deadlines.
//!
//! Guarantees: a room that is dropped knew nothing that the store does not; who waits for one that cannot be read is refused,
//! and acks, which may have no successor, are kept until it can.

use super::{Conversation, Early, IDLE_MS, LOAD_RETRY_MS, LOOKS, Phase, ReadBy, Waiting};
use crate::Router;
use crate::envelope::{Envelope, SendOutcome, SessionRef};
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Outcome, StoreRequest};
use ringpost_proto::id::ConversationId;
use ringpost_proto::v1;
use std::sync::Arc;

impl Router {
    /// The room of a conversation, read from the store on first use.
    pub(super) fn conversation(&mut self, id: ConversationId, kind: &Arc<ConversationKind>) -> Key {
        if let Some(&key) = self.by_conversation.get(&id) {
            return key;
        }
        if self.conversations.len() >= self.settings.conversations as usize {
            self.make_room();
        }
        let room = Conversation::new(id, kind.clone(), self.now.mono_ms);
        let key = self.conversations.insert(Box::new(room));
        self.by_conversation.insert(id, key);
        self.load_conversation(key);
        self.arm_conversation(key);
        key
    }

    /// The next few rooms in a circle over all: those at rest go. The store has everything that they knew.
    fn make_room(&mut self) {
        for _ in 0..LOOKS {
            let slot = self.conversation_hand;
            self.conversation_hand = if slot + 1 < self.conversations.slots() { slot + 1 } else { 0 };
            let Some(key) = self.conversations.key_at(slot) else { continue };
            let Some(room) = self.conversations.get(key) else { continue };
            if room.is_at_rest(self.now.mono_ms) {
                self.forget_conversation(key);
            }
        }
    }

    /// A conversation without records is only a name that somebody asked for: it is not kept. One that had an append is: that
    /// may land late, and only who knows the head before it sees that it did.
    pub(super) fn forget_if_empty(&mut self, key: Key) {
        if self.conversations.get(key).is_some_and(|room| room.is_idle() && room.head == 0) {
            self.forget_conversation(key);
        }
    }

    fn forget_conversation(&mut self, key: Key) {
        if let Some(mut room) = self.conversations.remove(key) {
            room.counted.become_bytes(0, &mut self.room_bytes);
            self.by_conversation.remove(&room.id);
            self.conversation_wheel.cancel(key.slot);
        }
    }

    fn load_conversation(&mut self, key: Key) {
        let Some(conversation) = self.conversations.get(key).map(|room| room.id) else { return };
        let pending = Pending::LoadConversation { conversation: key };
        self.ask(pending, |tag| StoreRequest::LoadConversation { tag, conversation });
    }

    pub(crate) fn conversation_loaded(&mut self, key: Key, outcome: Outcome) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let Outcome::Conversation(state) = outcome else {
            return self.load_failed(key);
        };
        if let Some(state) = state {
            room.load(*state);
        }
        room.phase = Phase::Ready;
        let (id, kind) = (room.id, room.kind.clone());
        // Nobody writes here: it was only to be asked what the two are to each other.
        let only_asked = room.queue.is_empty() && room.early.iter().all(|it| matches!(it, Early::Relate { .. }));
        for early in std::mem::take(&mut room.early) {
            match early {
                Early::Delivered { user, device, seq, gone, receipts } => {
                    self.conversation_delivered(id, kind.clone(), (user, device), (seq, gone), receipts);
                }
                Early::Read { by, seq, receipts } => self.conversation_read(id, kind.clone(), by, seq, receipts),
                Early::Ask { user, from, re, ask } => self.ask_room(key, &user, from, re, ask),
                Early::Relate { user, watched } => self.tell_relation(key, user, watched),
            }
        }
        self.append_next(key);
        self.forget_if_empty(key);
        if only_asked && self.conversations.get(key).is_some_and(|room| room.is_idle()) {
            self.forget_conversation(key);
        }
    }

    /// Nobody is kept waiting: sends and reads are refused. Acks may have no successor, so for them it is tried again.
    fn load_failed(&mut self, key: Key) {
        let retry_ms = self.now.mono_ms + LOAD_RETRY_MS;
        let Some(room) = self.conversations.get_mut(key) else { return };
        let queue = std::mem::take(&mut room.queue);
        let (acks, reads) = std::mem::take(&mut room.early).into_iter().partition(Early::is_ack);
        room.early = acks;
        if room.early.is_empty() {
            self.forget_conversation(key);
        } else {
            room.retry_ms = Some(retry_ms);
            self.arm_conversation(key);
        }
        for waiting in queue {
            self.refuse(&waiting, refusal::unavailable());
        }
        for early in reads {
            match early {
                Early::Read { by: ReadBy { from, re, .. }, .. } | Early::Ask { from, re, .. } => {
                    self.refuse_request(from, re, refusal::unavailable());
                }
                Early::Relate { user, watched } => self.relation_unknown(user, watched),
                Early::Delivered { .. } => {}
            }
        }
    }

    pub(super) fn refuse_request(&mut self, to: SessionRef, re: u64, error: v1::Error) {
        let outcome = SendOutcome::Refused(Box::new(error));
        self.post(to.shard, Envelope::Outcome { to, re, outcome });
    }

    pub(crate) fn arm_conversation(&mut self, key: Key) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let bytes = room.heap_bytes();
        room.counted.become_bytes(bytes, &mut self.room_bytes);
        let flush_ms = room.flush_ms.filter(|_| room.raising == 0);
        let at_ms = [flush_ms, room.tick_ms, room.retry_ms, room.typing_ms()]
            .into_iter()
            .flatten()
            .fold(room.used_ms + IDLE_MS, u64::min);
        if self.conversation_wheel.deadline_ms(key.slot).is_none_or(|armed| armed > at_ms) {
            self.conversation_wheel.arm(key.slot, at_ms);
        }
    }

    pub(crate) fn conversation_deadline(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get(key) else { return };
        let (flush, tick) = (room.flush_ms, room.tick_ms);
        if tick.is_some_and(|at| now_ms >= at) {
            self.tell_progress(key);
        }
        if flush.is_some_and(|at| now_ms >= at) {
            self.flush(key);
        }
        self.stop_typing(key, |_| false);
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.retry_ms.is_some_and(|at| now_ms >= at) {
            room.retry_ms = None;
            if room.phase == Phase::Loading { self.load_conversation(key) } else { self.read_slot(key) }
        }
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.is_idle() && now_ms >= room.used_ms + IDLE_MS {
            return self.forget_conversation(key);
        }
        if !room.is_idle() {
            room.used_ms = now_ms;
        }
        self.arm_conversation(key);
    }

    pub(super) fn refuse(&mut self, waiting: &Waiting, error: v1::Error) {
        let outcome = SendOutcome::Refused(Box::new(error));
        self.post(waiting.from.shard, Envelope::Outcome { to: waiting.from, re: waiting.re, outcome });
    }
}
