//! What devices have acknowledged in the last moments. Registers are written together, up to 2 s after the first of them
//! moved: a device that is back sooner would be pushed what it has.
//!
//! Owns: the late acks of each session, and of each user's sessions that have ended. Guarantees: nothing is older than
//! twice [`LINGER_MS`] for long, and there is no more of it than was pushed in that time. Nothing depends on it: what is missing
//! here comes again, and clients drop it by position.

use crate::Router;
use crate::frozen::frozen;
use crate::slab::Key;
use crate::user::User;
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use std::collections::{BTreeMap, VecDeque};

/// By then registers are in the store, milliseconds.
pub(crate) const LINGER_MS: u64 = 4_000;

/// Of one session, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct LateAcks {
    acks: VecDeque<LateAck>,
}

#[derive(Debug)]
struct LateAck {
    conversation: ConversationId,
    seq: Seq,
    at_ms: u64,
}

impl LateAcks {
    pub fn is_empty(&self) -> bool {
        self.acks.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.acks.capacity() * size_of::<LateAck>()
    }

    pub fn push(&mut self, conversation: ConversationId, seq: Seq, now_ms: u64) {
        self.forget(now_ms);
        // Acks of a backlog go through one conversation after the other.
        match self.acks.back_mut().filter(|last| last.conversation == conversation) {
            Some(last) => (last.seq, last.at_ms) = (seq.max(last.seq), now_ms),
            None => self.acks.push_back(LateAck { conversation, seq, at_ms: now_ms }),
        }
    }

    /// The last position of this conversation; 0: there is none.
    pub fn upto(&self, conversation: ConversationId) -> Seq {
        let of = self.acks.iter().filter(|ack| ack.conversation == conversation);
        of.map(|ack| ack.seq).max().unwrap_or(0)
    }

    pub fn forget(&mut self, now_ms: u64) {
        while self.acks.front().is_some_and(|oldest| oldest.at_ms + LINGER_MS <= now_ms) {
            self.acks.pop_front();
        }
    }
}

/// Of a user's sessions that have ended: the position, and until when it may be unwritten.
pub(crate) type Lingering = BTreeMap<(ConversationId, DeviceId), (Seq, u64)>;

impl Router {
    /// A session ends: its late acks stay for the one that comes after it.
    pub(crate) fn linger(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(work) = &mut session.work else { return };
        let acks = std::mem::take(&mut work.acked).acks;
        let (name, device) = (session.user.clone(), session.device);
        let until_ms = self.now.mono_ms + LINGER_MS;
        if acks.is_empty() {
            return;
        }
        let user = self.users.enter(&name);
        for LateAck { conversation, seq, .. } in acks {
            let known = user.rare.acked.entry((conversation, device)).or_default();
            *known = (known.0.max(seq), until_ms);
        }
        self.look_again(&name);
    }

    /// What a device has used of its rates is looked at until it does not matter any more, whether its session has ended or not.
    pub(crate) fn linger_while_rated(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(name) = self.sessions.get(key).map(|session| session.user.clone()) else { return };
        if self.users.get(&name).is_some_and(|user| user.is_rated(now_ms)) {
            self.look_again(&name);
        }
    }

    /// Looks at a user once its acks are written, the ones that linger already included: one entry a user, however often its
    /// sessions end.
    fn look_again(&mut self, name: &UserKey) {
        let Some(user) = self.users.get_mut(name) else { return };
        if !std::mem::replace(&mut user.lingers, true) {
            self.lingering.push_back((self.now.mono_ms + LINGER_MS, name.clone()));
        }
    }

    /// What the devices of a user have acknowledged lately, whether their sessions have ended or not.
    pub(crate) fn late_acks(&self, name: &UserKey) -> Lingering {
        let Some(user) = self.users.get(name) else { return Lingering::new() };
        let mut acked = Lingering::clone(&user.rare.acked);
        for session in user.sessions.iter().filter_map(|key| self.sessions.get(key)) {
            let acks = session.work.as_ref().map(|work| work.acked.acks.iter());
            for LateAck { conversation, seq, at_ms } in acks.into_iter().flatten() {
                let known = acked.entry((*conversation, session.device)).or_default();
                *known = (known.0.max(*seq), known.1.max(at_ms + LINGER_MS));
            }
        }
        acked
    }

    /// What has been written by now is forgotten.
    pub(crate) fn forget_lingering(&mut self) {
        let now_ms = self.now.mono_ms;
        while let Some((_, name)) = self.lingering.pop_front_if(|(until_ms, _)| *until_ms <= now_ms) {
            let Some(user) = self.users.get_mut(&name) else { continue };
            user.lingers = false;
            if !user.rare.acked.is_empty() {
                user.rare.acked.retain(|_, (_, until_ms)| *until_ms > now_ms);
            }
            user.cool(now_ms);
            if user.is_rated(now_ms) || !user.rare.acked.is_empty() {
                self.look_again(&name);
            } else {
                self.forget_user(&name);
            }
        }
    }

    /// Removes a user of whom nothing is left to know.
    pub(crate) fn forget_user(&mut self, name: &UserKey) {
        let now_ms = self.now.mono_ms;
        let waits = |user: &User| user.lingers || user.is_watched() || user.is_leaving(now_ms);
        let knows = |user: &User| !user.rare.acked.is_empty() || !user.rare.begun.is_empty() || user.is_rated(now_ms);
        let is_empty = |user: &User| user.sessions.is_empty() && !knows(user) && !waits(user);
        let Some(user) = self.users.get_mut(name) else { return };
        if is_empty(user) {
            self.users.remove(name);
        } else {
            user.rare.settle();
        }
    }
}

frozen!(LateAcks { acks });
frozen!(LateAck { conversation, seq, at_ms });
