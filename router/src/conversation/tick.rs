//! Ticks: the senders hear how far the others are, at most once a second for each conversation.
//!
//! Guarantees: what a sender is told never goes back and is true of every member as of each of its records, ranges that are
//! kept from a member aside. In a group the progress of the others is the least one: for whoever is itself the least
//! advanced, the next one after it.

use super::Conversation;
use crate::Router;
use crate::envelope::{Envelope, Ranges};
use crate::frozen::frozen;
use crate::slab::Key;
use ringpost_persist::{Least, Member, MemberAt, Raise, RegisterKey};
use ringpost_proto::id::{Seq, UserKey};

/// Between two ticks of a conversation.
const TICK_MS: u64 = 1_000;

/// The smallest positions of a group's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leasts {
    delivered: Seq,
    next_delivered: Seq,
    read: Seq,
    next_read: Seq,
}

impl Leasts {
    pub fn set(&mut self, which: Least, value: Seq) {
        *match which {
            Least::Delivered => &mut self.delivered,
            Least::NextDelivered => &mut self.next_delivered,
            Least::Read => &mut self.read,
            Least::NextRead => &mut self.next_read,
        } = value;
    }

    /// Neither goes back, whoever joins.
    fn raised(self, to: Self) -> Self {
        Self {
            delivered: self.delivered.max(to.delivered),
            next_delivered: self.next_delivered.max(to.next_delivered),
            read: self.read.max(to.read),
            next_read: self.next_read.max(to.next_read),
        }
    }

    /// How far the others are, for a member who is there itself.
    fn others(&self, (delivered, read): (Seq, Seq)) -> (Seq, Seq) {
        let beyond = |own: Seq, least, next| if own <= least { next } else { least };
        (beyond(delivered, self.delivered, self.next_delivered), beyond(read, self.read, self.next_read))
    }
}

impl Conversation {
    /// How far a member is: delivered and what it shows of its reading, at least up to where its part of the log begins.
    fn position(&self, member: MemberAt) -> (Seq, Seq) {
        let of_group = self.is_group();
        let before = |it: &Member| if of_group { it.before() } else { it.join.saturating_sub(1) };
        let before = self.roster.get(member).map_or(0, before);
        let progress = self.progress.get(usize::from(member));
        progress.map_or((before, before), |it| (it.delivered().max(before), it.read_shown().max(before)))
    }

    /// How far any sender was told that all others have read.
    pub(super) fn least_read(&self) -> Seq {
        self.least.read.max(self.least.next_read)
    }

    fn is_reader(&self, member: MemberAt) -> bool {
        self.progress.get(usize::from(member)).is_none_or(|progress| !progress.hides())
    }

    /// The same, among those who are counted: who hides what it reads is none of them.
    fn standing(&self, member: MemberAt) -> (Seq, Seq) {
        let (delivered, read) = self.position(member);
        (delivered, if self.is_reader(member) { read } else { Seq::MAX })
    }

    fn leasts(&self) -> Leasts {
        let (mut delivered, mut read) = ([Seq::MAX; 2], [Seq::MAX; 2]);
        let (mut members, mut readers) = (0, 0);
        for at in 0..self.roster.members().len() as MemberAt {
            if self.roster.get(at).is_some_and(|member| member.is_current()) {
                let (d, r) = self.position(at);
                two_least(&mut delivered, d);
                members += 1;
                if self.is_reader(at) {
                    two_least(&mut read, r);
                    readers += 1;
                }
            }
        }
        // Alone, one has no others, and no one of them lacks what it has itself.
        let known = |[least, next]: [Seq; 2]| match (least, next) {
            (Seq::MAX, _) => [0, 0],
            (least, Seq::MAX) => [least, least],
            both => [both.0, both.1],
        };
        let [[delivered, next_delivered], [read, next_read]] = [delivered, read].map(known);
        let [read, next_read] = match readers {
            // Nobody is counted any more: whoever was itself the least has heard of the next one, and still has.
            0 => [self.least.read.max(self.least.next_read); 2],
            // The others hide what they read: there is nothing to show to who does not.
            1 if members > 1 => [read, 0],
            _ => [read, next_read],
        };
        Leasts { delivered, next_delivered, read, next_read }
    }

    /// Registers that say what the senders were told.
    pub(super) fn least_raises(&mut self, raises: &mut Vec<Raise>) {
        if !std::mem::take(&mut self.least_dirty) {
            return;
        }
        let Leasts { delivered, next_delivered, read, next_read } = self.least;
        let values = [
            (Least::Delivered, delivered),
            (Least::NextDelivered, next_delivered),
            (Least::Read, read),
            (Least::NextRead, next_read),
        ];
        for (which, value) in values.into_iter().filter(|(_, value)| *value > 0) {
            raises.push(Raise::new(RegisterKey::Least(self.id, which), value));
        }
    }

    /// Whether `member` sent a record in (after, to]; if that is no longer in memory: whether it may have.
    fn has_own_record(&self, member: MemberAt, after: Seq, to: Seq) -> bool {
        let Some(sender) = self.roster.get(member).filter(|sender| sender.last_own > after) else { return false };
        if sender.last_own <= to {
            return true;
        }
        let first = self.tail.front().map_or(Seq::MAX, |record| record.seq);
        if after + 1 < first {
            return true;
        }
        let records = self.tail.iter().skip((after + 1 - first) as usize).take((to - after) as usize);
        records.into_iter().any(|record| record.sender == sender.user)
    }

    /// Whom to tell what: (user, delivered, read).
    fn news_of_group(&mut self) -> Vec<(UserKey, Seq, Seq)> {
        let told = self.least;
        self.least = told.raised(self.leasts());
        if self.least == told {
            return Vec::new();
        }
        (self.least_dirty, self.dirty) = (true, true);
        let mut news = Vec::new();
        for at in 0..self.roster.members().len() as MemberAt {
            let member = self.roster.get(at).filter(|it| it.is_current() && it.last_own > 0);
            let Some(user) = member.map(|it| it.user.clone()) else { continue };
            let (before, now) = (told.others(self.standing(at)), self.least.others(self.standing(at)));
            let moved = |before: Seq, now: Seq| now > before && self.has_own_record(at, before, now);
            if moved(before.0, now.0) || moved(before.1, now.1) {
                let progress = self.member_progress(at);
                progress.told = true;
                let (delivered, read) = progress.hears(now);
                news.push((user, delivered, read));
            }
        }
        news
    }

    /// The same for those who were told since it was written what they are told.
    fn news_again(&mut self) -> Vec<(UserKey, Seq, Seq)> {
        // What moved since is told again when that is written.
        let more = self.least_dirty;
        let mut news = Vec::new();
        for at in 0..self.progress.len() as MemberAt {
            let told = std::mem::replace(&mut self.member_progress(at).told, false);
            let member = self.roster.get(at).filter(|member| told && member.is_current());
            if let Some(user) = member.map(|it| it.user.clone()) {
                let now = self.least.others(self.standing(at));
                let progress = self.member_progress(at);
                progress.told = more;
                let (delivered, read) = progress.hears(now);
                news.push((user, delivered, read));
            }
        }
        news
    }
}

fn two_least(both: &mut [Seq; 2], value: Seq) {
    if value < both[0] {
        *both = [value, both[0]];
    } else if value < both[1] {
        both[1] = value;
    }
}

impl Router {
    /// Somebody is further than before: the senders hear now, or when the second is over.
    pub(super) fn progress_moved(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get_mut(key) else { return };
        if room.tick_ms.is_some() {
            return;
        }
        if room.ticked_ms > 0 && now_ms < room.ticked_ms + TICK_MS {
            room.tick_ms = Some(room.ticked_ms + TICK_MS);
            return self.arm_conversation(key);
        }
        self.tell_progress(key);
    }

    pub(super) fn tell_progress(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(room) = self.conversations.get_mut(key) else { return };
        (room.tick_ms, room.ticked_ms) = (None, now_ms);
        if !room.is_group() {
            for member in 0..room.progress.len() as MemberAt {
                self.tell_if_untold(key, member);
            }
            return;
        }
        let news = room.news_of_group();
        self.tell_group(key, news, 0);
        self.note_dirty(key);
    }

    /// What a group was told is in the store now: sessions that were opened in between have heard neither.
    pub(super) fn tell_group_again(&mut self, key: Key, opened_since_ms: u64) {
        // Who has moved meanwhile has other others: what they are told must not go back for that.
        self.tell_progress(key);
        let Some(room) = self.conversations.get_mut(key) else { return };
        let news = room.news_again();
        self.tell_group(key, news, opened_since_ms);
    }

    fn tell_group(&mut self, key: Key, news: Vec<(UserKey, Seq, Seq)>, opened_since_ms: u64) {
        let Some(room) = self.conversations.get(key) else { return };
        let (conversation, kind) = (room.id, room.kind.clone());
        for (user, delivered, read) in news {
            let (kind, excluded, home) = (kind.clone(), Ranges::new(), user.clone());
            let tick = Envelope::Tick { conversation, kind, user, delivered, read, excluded, opened_since_ms };
            self.post_to_user(&home, tick);
        }
    }

    fn tell_if_untold(&mut self, key: Key, member: MemberAt) {
        let Some(progress) = self.conversations.get_mut(key).and_then(|room| room.existing(member)) else { return };
        if std::mem::take(&mut progress.untold) {
            progress.told = true;
            self.tell(key, member, 0);
        }
    }

    /// The other side of a direct conversation hears how far this one is.
    pub(super) fn tell(&mut self, key: Key, member: MemberAt, opened_since_ms: u64) {
        let Some(room) = self.conversations.get(key) else { return };
        let (delivered, read) = room.position(member);
        let (conversation, kind) = (room.id, room.kind.clone());
        let other = kind.members().iter().enumerate().find(|(at, _)| *at != usize::from(member));
        let Some(user) = other.map(|(_, user)| user.clone()) else { return };
        let excluded = room.roster.get(member).map(|it| it.excluded(delivered)).unwrap_or_default();
        let home = user.clone();
        let tick = Envelope::Tick { conversation, kind, user, delivered, read, excluded, opened_since_ms };
        self.post_to_user(&home, tick);
    }
}

frozen!(Leasts { delivered, next_delivered, read, next_read });
