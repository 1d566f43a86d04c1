//! How far each device and each reader is: registers that only grow, ticks that tell the other side.

use super::{Conversation, DeviceProgress, Early, Phase};
use crate::Router;
use crate::envelope::{Envelope, SessionRef};
use crate::pending::Pending;
use crate::shard::CLOCKS_MS;
use crate::slab::Key;
use ringpost_persist::{ConversationKind, Outcome, Raise, RegisterKey, StoreRequest};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use smallvec::SmallVec;
use std::sync::Arc;

/// Registers of a conversation are written together, this long after the first of them moved.
const FLUSH_MS: u64 = 2_000;
/// Read positions held while a conversation is loaded; beyond that they are refused.
const EARLY: usize = 256;

impl Conversation {
    /// What the most advanced device of a member has.
    fn delivered_to(&self, member: u8) -> Seq {
        let devices = self.delivered.iter().filter(|progress| progress.member == member);
        devices.map(|progress| progress.delivered).max().unwrap_or(0)
    }

    /// Moves a device's register; its own records that follow are skipped. Returns whether it moved. A record may have been
    /// read from the log, pushed and acknowledged before the answer to its append is here: `seq` may be beyond the head.
    fn deliver(&mut self, member: u8, device: DeviceId, seq: Seq) -> bool {
        let mut seq = seq;
        let first = self.tail.front().map_or(Seq::MAX, |record| record.seq);
        while let Some(at) = (seq + 1).checked_sub(first)
            && let Some(record) = self.tail.get(at as usize)
            && record.device == device
            && self.member(&record.sender) == Some(member)
        {
            seq += 1;
        }
        let progress = self.progress(member, device);
        if seq <= progress.delivered {
            return false;
        }
        progress.delivered = seq;
        progress.dirty = true;
        true
    }

    /// Read implies delivered, so it moves as far as was asked for and delivered. Returns whether it moved.
    pub(super) fn advance_read(&mut self, member: u8) -> bool {
        let at = usize::from(member);
        let read = self.read_asked[at].min(self.delivered_to(member));
        let moved = read > self.read[at];
        if moved {
            self.read[at] = read;
            self.read_dirty[at] = true;
        }
        moved
    }

    /// Whether a record in (after, to] was sent by someone else than `member`; if that is no longer in memory: yes.
    fn has_others_records(&self, member: u8, after: Seq, to: Seq) -> bool {
        let first = self.tail.front().map_or(Seq::MAX, |record| record.seq);
        if after + 1 < first || to > self.head {
            return true;
        }
        let records = self.tail.iter().skip((after + 1 - first) as usize).take((to - after) as usize);
        records.into_iter().any(|record| self.member(&record.sender) != Some(member))
    }

    /// The write stamp of a register that refers to `seq`: that record's, or the nearest one in memory.
    fn stamp(&self, seq: Seq) -> u64 {
        let first = self.tail.front().map_or(0, |record| record.seq);
        let nearest = if seq > self.head { self.tail.back() } else { self.tail.front() };
        self.tail.get(seq.saturating_sub(first) as usize).or(nearest).map_or(0, |record| record.us)
    }

    /// Keeps an ack until the conversation is loaded: for each device the highest counts.
    fn hold_delivered(&mut self, user: UserKey, device: DeviceId, seq: Seq) {
        for early in &mut self.early {
            if let Early::Delivered { user: u, device: d, seq: held } = early
                && (&*u, *d) == (&user, device)
            {
                *held = seq.max(*held);
                return;
            }
        }
        self.early.push(Early::Delivered { user, device, seq });
    }

    fn dirty_registers(&mut self) -> Vec<Raise> {
        let mut raises = Vec::new();
        let members = self.kind.members().to_vec();
        for at in 0..self.delivered.len() {
            let DeviceProgress { member, device, delivered, dirty } = &mut self.delivered[at];
            if let Some(user) = members.get(usize::from(*member)).filter(|_| std::mem::take(dirty)) {
                let key = RegisterKey::Delivered(self.id, user.clone(), *device);
                let value = *delivered;
                raises.push(Raise { key, value, stamp: self.stamp(value) });
            }
        }
        for (at, user) in members.into_iter().enumerate() {
            if std::mem::take(&mut self.read_dirty[at]) {
                let value = self.read[at];
                raises.push(Raise { key: RegisterKey::Read(self.id, user), value, stamp: self.stamp(value) });
            }
        }
        raises
    }
}

impl Router {
    pub(crate) fn conversation_delivered(
        &mut self,
        id: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        device: DeviceId,
        seq: Seq,
    ) {
        let key = self.conversation(id, &kind);
        let Some(room) = self.conversations.get_mut(key) else { return };
        let Some(member) = room.member(&user) else { return };
        if room.phase == Phase::Loading {
            return room.hold_delivered(user, device, seq);
        }
        let before = room.delivered_to(member);
        if !room.deliver(member, device, seq) {
            return;
        }
        let after = room.delivered_to(member);
        let read = room.advance_read(member);
        let tells = read || after > before && room.has_others_records(member, before, after);
        let seq = room.read[usize::from(member)];
        self.note_dirty(key);
        if read {
            let (conversation, home) = (id, user.clone());
            self.post_to_user(&home, Envelope::Marked { conversation, kind, user, seq });
        }
        if tells {
            self.tell_peer(key, member);
        }
    }

    pub(crate) fn conversation_read(
        &mut self,
        id: ConversationId,
        kind: Arc<ConversationKind>,
        user: UserKey,
        from: SessionRef,
        re: u64,
        seq: Seq,
    ) {
        let key = self.conversation(id, &kind);
        let Some(room) = self.conversations.get_mut(key) else { return };
        let Some(member) = room.member(&user) else { return };
        if room.phase == Phase::Loading {
            if room.early.len() < EARLY {
                return room.early.push(Early::Read { user, from, re, seq });
            }
            return self.refuse_read(from, re);
        }
        // Beyond the log there is nothing to have read, and what comes later is not read by it. What is being appended may
        // have landed, and have been read, before the answer is here.
        let seq = seq.min(room.head + room.batch.len() as Seq);
        let asked = &mut room.read_asked[usize::from(member)];
        *asked = seq.max(*asked);
        let before = room.read[usize::from(member)];
        let moved = room.advance_read(member);
        let seq = room.read[usize::from(member)];
        let tells = moved && room.has_others_records(member, before, seq);
        self.note_dirty(key);
        self.post(from.shard, Envelope::ReadDone { conversation: id, kind, user, to: from, re, seq, moved });
        if tells {
            self.tell_peer(key, member);
        }
    }

    /// A session that was opened after a tick and before its registers were in the store has heard neither.
    fn tell_newcomers(&mut self, key: Key, raises: &[Raise], since_ms: u64) {
        let Some(room) = self.conversations.get(key) else { return };
        let moved = |raise: &Raise| match &raise.key {
            RegisterKey::Delivered(_, user, _) | RegisterKey::Read(_, user) => room.member(user),
            _ => None,
        };
        let mut members: SmallVec<[u8; 2]> = raises.iter().filter_map(moved).collect();
        members.sort_unstable();
        members.dedup();
        // The clocks of two shards are read at different times.
        let opened_since_ms = since_ms.saturating_sub(CLOCKS_MS);
        for member in members {
            let Some(room) = self.conversations.get_mut(key) else { return };
            let at = usize::from(member);
            // What moved since is told again when that is written.
            let dirty = room.read_dirty[at] || room.delivered.iter().any(|it| it.member == member && it.dirty);
            if room.told[at] {
                room.told[at] = dirty;
                self.tell(key, member, opened_since_ms);
            }
        }
    }

    /// The other member hears how far this one is.
    fn tell_peer(&mut self, key: Key, member: u8) {
        if let Some(room) = self.conversations.get_mut(key) {
            room.told[usize::from(member)] = true;
        }
        self.tell(key, member, 0);
    }

    fn tell(&mut self, key: Key, member: u8, opened_since_ms: u64) {
        let Some(room) = self.conversations.get(key) else { return };
        let (delivered, read) = (room.delivered_to(member), room.read[usize::from(member)]);
        let (conversation, kind) = (room.id, room.kind.clone());
        let peer = kind.members().iter().enumerate().find(|(at, _)| *at != usize::from(member));
        let Some(user) = peer.map(|(_, user)| user.clone()) else { return };
        self.post_to_user(&user.clone(), Envelope::Tick { conversation, kind, user, delivered, read, opened_since_ms });
    }

    /// Registers moved: they are written soon, together.
    pub(super) fn note_dirty(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.used_ms = now_ms;
        let dirty = room.delivered.iter().any(|progress| progress.dirty) || room.read_dirty.contains(&true);
        if dirty {
            room.ahead_ms.get_or_insert(now_ms);
        }
        if dirty && room.flush_ms.is_none() {
            room.flush_ms = Some(now_ms + FLUSH_MS);
            self.arm_conversation(key);
        }
    }

    pub(super) fn flush(&mut self, key: Key) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.flush_ms = None;
        let raises = room.dirty_registers();
        if !raises.is_empty() {
            room.raising += 1;
            let since_ms = room.ahead_ms.take().unwrap_or(0);
            let pending = Pending::Raise { raises: raises.clone(), since_ms };
            self.ask(pending, |tag| StoreRequest::Raise { tag, raises });
        }
    }

    pub(crate) fn flush_all(&mut self) {
        let keys: Vec<Key> = self.conversations.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.flush(key));
    }

    /// Registers that could not be written are written with the next ones.
    pub(crate) fn raised(&mut self, raises: Vec<Raise>, since_ms: u64, outcome: Outcome) {
        let Some(id) = raises.first().map(|raise| raise.key.conversation()) else { return };
        let Some(&key) = self.by_conversation.get(&id) else { return };
        if let Some(room) = self.conversations.get_mut(key) {
            room.raising = room.raising.saturating_sub(1);
        }
        if matches!(outcome, Outcome::Raised) {
            return self.tell_newcomers(key, &raises, since_ms);
        }
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.ahead_ms = Some(room.ahead_ms.map_or(since_ms, |at| at.min(since_ms)));
        for raise in raises {
            match raise.key {
                RegisterKey::Delivered(_, user, device) => {
                    if let Some(member) = room.member(&user) {
                        room.progress(member, device).dirty = true;
                    }
                }
                RegisterKey::Read(_, user) => {
                    if let Some(member) = room.member(&user) {
                        room.read_dirty[usize::from(member)] = true;
                    }
                }
                _ => {}
            }
        }
        self.note_dirty(key);
    }
}
