//! The registers of a conversation: what is written of its members' progress, and when.
//!
//! Guarantees: registers that move together are written soon after the first of them, in requests that keep nobody waiting
//! for long, each when the one before it is written; what could not be written is written with the next; whoever came
//! between a tick and its registers is told once more. Nothing waits for it: after a crash devices acknowledge again.

use super::Conversation;
use super::tail::Brief;
use crate::Router;
use crate::pending::Pending;
use crate::shard::CLOCKS_MS;
use crate::slab::Key;
use ringpost_persist::{MemberAt, Outcome, Raise, RegisterKey, StoreRequest};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use smallvec::SmallVec;

/// Registers of a conversation are written together, this long after the first of them moved.
const FLUSH_MS: u64 = 2_000;

/// Raises of a conversation on their way into requests of about so many.
struct Requests {
    each: usize,
    full: Vec<Vec<Raise>>,
    open: Vec<Raise>,
}

impl Requests {
    /// What comes now may go into another request than what came before.
    fn part(&mut self) {
        if self.open.len() >= self.each {
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    fn all(mut self) -> Vec<Vec<Raise>> {
        self.full.push(self.open);
        self.full
    }
}

impl Conversation {
    /// How many records up to `seq` count for a member; `None`: what comes after it is not all in memory.
    fn counted(&self, member: MemberAt, seq: Seq) -> Option<u64> {
        let member = self.roster.get(member)?;
        let end = member.end(self.head);
        if !self.tail.is_whole_after(seq) && end > seq {
            return None;
        }
        let counts = |record: &&Brief| record.counts() && record.sender != member.user && record.is_for(member);
        let unread = self.tail.between(seq, end).filter(counts).count();
        Some(member.counted(self.last.ordinal).saturating_sub(unread as u64))
    }

    /// Registers to write, in requests of about `each`, of which a crash may leave the first ones: what was missed, for it takes
    /// away from what senders were told; that, for where all have acknowledged nobody would tell it again; then what each member
    /// has; all of a member in one request. And the reads whose count the log must tell first, with their members.
    fn dirty_registers(&mut self, each: usize) -> (Vec<Vec<Raise>>, Vec<(UserKey, Seq)>) {
        let mut requests = Requests { each, full: Vec::new(), open: Vec::new() };
        let (mut told, mut of_members) = (Vec::<SmallVec<[Raise; 2]>>::new(), Vec::<SmallVec<[Raise; 2]>>::new());
        let mut uncounted = Vec::new();
        self.dirty = false;
        for at in 0..self.progress.len() {
            let member = at as MemberAt;
            let Some(user) = self.roster.get(member).map(|it| it.user.clone()) else { continue };
            self.missed_raises(member, &user, &mut requests.open);
            requests.part();
            let progress = &mut self.progress[at];
            let moved: SmallVec<[(DeviceId, Seq); 1]> = progress
                .devices
                .iter_mut()
                .filter_map(|it| std::mem::take(&mut it.dirty).then_some((it.device, it.delivered)))
                .collect();
            let (read, read_dirty) = (progress.read, std::mem::take(&mut progress.read_dirty));
            let heard = std::mem::take(&mut progress.heard_dirty).then_some(progress.heard);
            let delivered = |(device, value)| Raise::new(RegisterKey::Delivered(self.id, user.clone(), device), value);
            let mut raises: SmallVec<[Raise; 2]> = moved.into_iter().map(delivered).collect();
            match self.counted(member, read).filter(|_| read_dirty) {
                Some(counted) => raises.extend(self.read_raises(member, read, counted)),
                None if read_dirty => uncounted.push((user.clone(), read)),
                None => {}
            }
            if let Some((delivered, read)) = heard {
                let heard = [
                    Raise::new(RegisterKey::ToldDelivered(self.id, user.clone()), delivered),
                    Raise::new(RegisterKey::ToldRead(self.id, user), read),
                ];
                told.push(heard.into_iter().filter(|raise| raise.value > 0).collect());
            }
            if !raises.is_empty() {
                of_members.push(raises);
            }
        }
        for raises in told.into_iter().chain(of_members) {
            requests.open.extend(raises);
            requests.part();
        }
        (requests.all(), uncounted)
    }

    fn read_raises(&self, member: MemberAt, read: Seq, counted: u64) -> SmallVec<[Raise; 3]> {
        let Some(user) = self.roster.get(member).map(|it| &it.user) else { return SmallVec::new() };
        let shown = self.progress.get(usize::from(member)).map_or(0, |it| it.shown.0);
        let raise = |key: fn(ConversationId, UserKey) -> RegisterKey, value| {
            Some(Raise::new(key(self.id, user.clone()), value)).filter(|_| value > 0)
        };
        // What is hidden is hidden before it counts as read.
        let raises = [
            raise(RegisterKey::ReadShown, shown),
            raise(RegisterKey::Read, read),
            raise(RegisterKey::ReadCounted, counted),
        ];
        raises.into_iter().flatten().collect()
    }

    /// What was not written is written with what moves next.
    fn mark_dirty(&mut self, key: RegisterKey) {
        let member = match &key {
            RegisterKey::Delivered(_, user, _)
            | RegisterKey::Read(_, user)
            | RegisterKey::ReadShown(_, user)
            | RegisterKey::ToldDelivered(_, user)
            | RegisterKey::ToldRead(_, user)
            | RegisterKey::Missed(_, user, _) => self.member(user),
            _ => None,
        };
        match (key, member) {
            (RegisterKey::Delivered(_, _, device), Some(member)) => self.device(member, device).dirty = true,
            (RegisterKey::Read(..) | RegisterKey::ReadShown(..), Some(member)) => {
                self.member_progress(member).read_dirty = true
            }
            (RegisterKey::ToldDelivered(..) | RegisterKey::ToldRead(..), Some(member)) => {
                self.member_progress(member).heard_dirty = true
            }
            (RegisterKey::Missed(..), Some(member)) => self.member_progress(member).missed_dirty = true,
            _ => return,
        }
        self.dirty = true;
    }
}

impl Router {
    /// A session that was opened after a tick and before its registers were in the store has heard neither.
    fn tell_newcomers(&mut self, key: Key, raises: &[Raise], since_ms: u64) {
        let Some(room) = self.conversations.get(key) else { return };
        // The clocks of two shards are read at different times.
        let opened_since_ms = since_ms.saturating_sub(CLOCKS_MS);
        let is_group = room.is_group();
        let moved = |raise: &Raise| match &raise.key {
            RegisterKey::ToldDelivered(_, user) | RegisterKey::ToldRead(_, user) if is_group => room.member(user),
            RegisterKey::Delivered(_, user, _) | RegisterKey::Read(_, user) if !is_group => room.member(user),
            _ => None,
        };
        let mut members: SmallVec<[MemberAt; 2]> = raises.iter().filter_map(moved).collect();
        members.sort_unstable();
        members.dedup();
        if is_group {
            return self.tell_group_again(key, &members, opened_since_ms);
        }
        for member in members {
            let Some(room) = self.conversations.get_mut(key) else { return };
            let progress = room.member_progress(member);
            // What moved since is told again when that is written.
            if progress.told {
                progress.told = progress.is_dirty();
                self.tell(key, member, opened_since_ms);
            }
        }
    }

    /// Registers moved: they are written soon, together.
    pub(super) fn note_dirty(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.used_ms = now_ms;
        if room.dirty {
            room.ahead_ms.get_or_insert(now_ms);
        }
        if room.dirty && room.flush_ms.is_none() {
            room.flush_ms = Some(now_ms + FLUSH_MS);
            self.arm_conversation(key);
        }
    }

    /// The dirty registers are due. What a group is told of them is told before, and written before them: after a crash nobody
    /// would tell it.
    pub(super) fn flush(&mut self, key: Key) {
        if self.conversations.get(key).is_some_and(|room| room.has_moved()) {
            // A member's own records move it as well.
            self.progress_moved(key);
        }
        let Some(room) = self.conversations.get_mut(key) else { return };
        match room.tick_ms.filter(|_| room.is_group()) {
            Some(tick_ms) => {
                room.flush_ms = Some(tick_ms);
                self.arm_conversation(key);
            }
            None => self.flush_when_written(key),
        }
    }

    /// At once, or when what is on its way has its answer: the order in which registers are written is kept.
    fn flush_when_written(&mut self, key: Key) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.raising > 0 {
            room.flush_ms = Some(self.now.mono_ms);
        } else {
            self.flush_now(key);
        }
    }

    /// A request has its answer. If it was the last one, what has become due meanwhile is written.
    fn written(&mut self, key: Key) {
        let Some(room) = self.conversations.get(key).filter(|room| room.raising == 0) else { return };
        if room.flush_ms.is_some_and(|at| at <= self.now.mono_ms) {
            self.flush(key);
        } else {
            self.arm_conversation(key);
        }
    }

    fn flush_now(&mut self, key: Key) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.flush_ms = None;
        let (requests, uncounted) = room.dirty_registers(self.settings.raises);
        let (since_ms, conversation) = (room.ahead_ms.take().unwrap_or(0), room.id);
        room.raising += uncounted.len() as u32;
        for (user, read) in uncounted {
            let pending = Pending::CountRead { conversation, user: user.clone(), read, since_ms };
            self.ask(pending, |tag| StoreRequest::CountRead { tag, conversation, user, upto: read });
        }
        self.write_registers(key, requests, since_ms);
    }

    /// One request after the other: what is refused takes those behind it along.
    fn write_registers(&mut self, key: Key, mut requests: Vec<Vec<Raise>>, since_ms: u64) {
        requests.reverse();
        self.write_next(key, requests, since_ms);
    }

    fn write_next(&mut self, key: Key, mut requests: Vec<Vec<Raise>>, since_ms: u64) {
        let Some(raises) = requests.pop().filter(|raises| !raises.is_empty()) else { return };
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.raising += 1;
        let pending = Pending::Raise { raises: raises.clone(), behind: requests, since_ms };
        self.ask(pending, |tag| StoreRequest::Raise { tag, raises });
    }

    pub(crate) fn flush_all(&mut self) {
        let keys: Vec<Key> = self.conversations.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.tell_progress(key);
            self.flush_when_written(key);
        }
    }

    /// What a reader has read is counted: both are written together.
    pub(crate) fn read_counted(
        &mut self,
        id: ConversationId,
        user: UserKey,
        read: Seq,
        since_ms: u64,
        outcome: Outcome,
    ) {
        let Some(&key) = self.by_conversation.get(&id) else { return };
        let Some(room) = self.conversations.get_mut(key) else { return };
        room.raising = room.raising.saturating_sub(1);
        if let Outcome::Counted(counted) = outcome {
            let raises = room.member(&user).map(|member| room.read_raises(member, read, counted).into_vec());
            self.write_registers(key, vec![raises.unwrap_or_default()], since_ms);
        } else {
            room.mark_dirty(RegisterKey::Read(id, user));
            self.ahead_since(key, since_ms);
        }
        self.written(key);
    }

    /// Registers that could not be written are written with the next ones, and so is what was to be written behind them.
    pub(crate) fn raised(&mut self, raises: Vec<Raise>, behind: Vec<Vec<Raise>>, since_ms: u64, outcome: Outcome) {
        let Some(id) = raises.first().map(|raise| raise.key.conversation()) else { return };
        let Some(&key) = self.by_conversation.get(&id) else { return };
        if let Some(room) = self.conversations.get_mut(key) {
            room.raising = room.raising.saturating_sub(1);
        }
        if matches!(outcome, Outcome::Raised) {
            self.tell_newcomers(key, &raises, since_ms);
            self.write_next(key, behind, since_ms);
        } else if let Some(room) = self.conversations.get_mut(key) {
            raises.into_iter().chain(behind.into_iter().flatten()).for_each(|raise| room.mark_dirty(raise.key));
            self.ahead_since(key, since_ms);
        }
        self.written(key);
    }

    fn ahead_since(&mut self, key: Key, since_ms: u64) {
        if let Some(room) = self.conversations.get_mut(key) {
            room.ahead_ms = Some(room.ahead_ms.map_or(since_ms, |at| at.min(since_ms)));
        }
        self.note_dirty(key);
    }
}
