//! Ticks: the senders hear how far the others are, at most once a second for each conversation.
//!
//! Guarantees: what a sender is told never goes back and is true of every member as of each of its records, ranges that are
//! kept from a member, or that had expired before it could have them, aside. In a group the progress of the others is the least one: for whoever is itself the least
//! advanced, the next one after it. What each member was told is a register of its own, raised before anything else is told
//! to it: so whoever comes, leaves, hides what it reads or shows it again, and wherever it is told (here, or at hello from
//! the store), it is told no less than before.

use super::Conversation;
use super::progress::Progress;
use crate::Router;
use crate::envelope::Envelope;
use crate::frozen::frozen;
use crate::slab::Key;
use ringpost_persist::{Member, MemberAt};
use ringpost_proto::id::{Seq, UserKey};

/// Between two ticks of a conversation.
const TICK_MS: u64 = 1_000;

/// The smallest position of a group's members, and the smallest of all but one that has it; `Seq::MAX`: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leasts {
    delivered: [Seq; 2],
    read: [Seq; 2],
}

impl Leasts {
    /// How far the others are, for a member who is there itself; 0 where there are none.
    fn others(&self, (delivered, read): (Seq, Seq)) -> (Seq, Seq) {
        let beyond = |own: Seq, [least, next]: [Seq; 2]| match if own <= least { next } else { least } {
            Seq::MAX => 0,
            others => others,
        };
        (beyond(delivered, self.delivered), beyond(read, self.read))
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

    /// The same in a group, among those who are counted: who hides what it reads is none of them. Whose records those beyond
    /// the head are, and who are members as of them, is not known yet.
    fn standing(&self, member: MemberAt) -> (Seq, Seq) {
        let (delivered, read) = self.position(member);
        let hides = self.progress.get(usize::from(member)).is_some_and(Progress::hides);
        (delivered.min(self.head), if hides { Seq::MAX } else { read.min(self.head) })
    }

    fn leasts(&self) -> Leasts {
        let (mut delivered, mut read) = ([Seq::MAX; 2], [Seq::MAX; 2]);
        for at in 0..self.roster.members().len() as MemberAt {
            if self.roster.get(at).is_some_and(|member| member.is_current()) {
                let (d, r) = self.standing(at);
                two_least(&mut delivered, d);
                two_least(&mut read, r);
            }
        }
        if self.roster.current_len() == 1 {
            // Alone, one has no others, and no one of them lacks what it has itself.
            (delivered[1], read[1]) = (delivered[0], read[0]);
        }
        Leasts { delivered, read }
    }

    /// Whether somebody is further than when it was told last.
    pub(super) fn has_moved(&self) -> bool {
        let untold = || self.progress.iter().any(|progress| progress.untold);
        if self.is_group() { self.leasts() != self.least } else { untold() }
    }

    /// How far any sender was told that all others have read.
    pub(super) fn told_read(&self) -> Seq {
        self.progress.iter().map(|progress| progress.heard.1).max().unwrap_or(0)
    }

    /// Whether `member` sent a record in (after, to]; if that is no longer in memory: whether it may have.
    fn has_own_record(&self, member: MemberAt, after: Seq, to: Seq) -> bool {
        let Some(sender) = self.roster.get(member).filter(|sender| sender.last_own > after) else { return false };
        if sender.last_own <= to {
            return true;
        }
        !self.tail.is_whole_after(after) || self.tail.between(after, to).any(|record| record.sender == sender.user)
    }

    /// Whom to tell what: (user, delivered, read).
    fn news_of_group(&mut self) -> Vec<(UserKey, Seq, Seq)> {
        let least = self.leasts();
        if std::mem::replace(&mut self.least, least) == least {
            return Vec::new();
        }
        let mut news = Vec::new();
        for at in 0..self.roster.members().len() as MemberAt {
            let member = self.roster.get(at).filter(|it| it.is_current() && it.last_own > 0);
            let Some(user) = member.map(|it| it.user.clone()) else { continue };
            let now = least.others(self.standing(at));
            let progress = self.member_progress(at);
            let before = progress.heard;
            // In between is none of its records where it is told nothing.
            let now = progress.hears(now);
            let moved = |before: Seq, now: Seq| now > before && self.has_own_record(at, before, now);
            if moved(before.0, now.0) || moved(before.1, now.1) {
                let progress = self.member_progress(at);
                (progress.told, progress.heard_dirty) = (true, true);
                self.dirty = true;
                news.push((user, now.0, now.1));
            }
        }
        news
    }

    /// The same for those of `members` who were told since it was written what they are told.
    fn news_again(&mut self, members: &[MemberAt]) -> Vec<(UserKey, Seq, Seq)> {
        let mut news = Vec::new();
        for &at in members {
            let progress = self.member_progress(at);
            // What moved since is told again when that is written.
            let (again, (delivered, read)) = (progress.told, progress.heard);
            progress.told = progress.heard_dirty;
            let member = self.roster.get(at).filter(|member| again && member.is_current());
            news.extend(member.map(|it| (it.user.clone(), delivered, read)));
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

    /// What these members of a group were told is in the store now: sessions that were opened in between have heard neither.
    pub(super) fn tell_group_again(&mut self, key: Key, members: &[MemberAt], opened_since_ms: u64) {
        let Some(room) = self.conversations.get_mut(key) else { return };
        let news = room.news_again(members);
        self.tell_group(key, news, opened_since_ms);
    }

    fn tell_group(&mut self, key: Key, news: Vec<(UserKey, Seq, Seq)>, opened_since_ms: u64) {
        let Some(room) = self.conversations.get(key) else { return };
        let (conversation, kind) = (room.id, room.kind.clone());
        let any_missed = room.has_anybody_missed();
        for (user, delivered, read) in news {
            let Some(room) = self.conversations.get(key) else { return };
            let member = room.member(&user).filter(|_| any_missed);
            let excluded = member.map(|member| room.excluded_of_others(member, delivered)).unwrap_or_default();
            let (kind, home) = (kind.clone(), user.clone());
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
        let excluded = room.excluded(member, delivered);
        let home = user.clone();
        let tick = Envelope::Tick { conversation, kind, user, delivered, read, excluded, opened_since_ms };
        self.post_to_user(&home, tick);
    }
}

frozen!(Leasts { delivered, read });
