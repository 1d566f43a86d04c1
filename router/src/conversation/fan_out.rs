//! Whom a committed record is sent to: one envelope for each shard, whatever the number of members; and, on that shard,
//! its sessions, some at a time.
//!
//! A fan-out goes round its members, and a record that is committed meanwhile is taken along from where it is, once round: so one
//! send carries what there is for a session, and nobody waits for others to have what came before.
//!
//! Guarantees: the members are those as of the record, and who was removed by it; records of a conversation reach a session
//! in their order; a shard goes on with its other work after [`TURN`] pushes, and with other fan-outs after a round; where
//! [`LIVE`] records wait, none is held for the fan-outs that follow: the sessions fall behind, and the log is the buffer.

use super::Conversation;
use crate::Router;
use crate::boundary::ShardId;
use crate::envelope::Envelope;
use crate::frozen::{frozen, frozen_enum};
use crate::shard::home_of_user;
use crate::slab::Key;
use ringpost_persist::{Body, ConversationKind, Member, Record};
use ringpost_proto::id::{ConversationId, RecordId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pushes before other work has its turn; the records of one session are not torn apart.
const TURN: usize = 16;
/// Records that a fan-out takes along: a push by itself costs its send, 5 of 7 us.
pub const TOGETHER: usize = 16;
/// What they may cost together, unless it is one alone: each is to be encoded once for all members, so all have to be kept
/// encoded meanwhile; and a long one is worth a send of its own.
pub const TOGETHER_BYTES: usize = 32 << 10;
/// Records that wait with their fan-outs.
const LIVE: usize = 64;

/// The members by the shard on which they live.
pub(super) type Fans = Vec<(ShardId, Arc<[UserKey]>)>;

/// A fan-out that is under way on the shard of some members.
#[derive(Debug)]
pub(crate) struct FanOut {
    pub conversation: ConversationId,
    pub kind: Arc<ConversationKind>,
    pub users: Arc<[UserKey]>,
    /// Whose turn is next.
    pub next: u32,
    /// Members whose turn comes before other fan-outs have theirs.
    pub left: u32,
    pub news: News,
}

/// What the sessions are told.
#[derive(Debug)]
pub(crate) enum News {
    /// These, at most [`TOGETHER`], in their order, each with how many members' turn is to come.
    Records(SmallVec<[(Arc<Record>, u32); 1]>),
    /// There are records from first to last, to be read from the log.
    Behind { first: Seq, last: Seq, last_id: RecordId },
}

/// How a fan-out stands after some pushes.
enum Stand {
    Over,
    /// Others have their turn.
    Waits(FanOut),
    /// It has been round once, and has taken records along meanwhile.
    GivesWay(FanOut),
}

impl FanOut {
    /// One member's turn is over: whether everybody has everything.
    fn is_over_after_turn(&mut self) -> bool {
        self.next = if self.next + 1 < self.users.len() as u32 { self.next + 1 } else { 0 };
        self.left -= 1;
        match &mut self.news {
            News::Behind { .. } => self.left == 0,
            News::Records(records) => {
                records.iter_mut().for_each(|(_, left)| *left -= 1);
                // The first that came along is the first that has been round.
                records.retain(|(_, left)| *left > 0);
                records.is_empty()
            }
        }
    }

    /// Records that it holds.
    fn held(&self) -> usize {
        match &self.news {
            News::Records(records) => records.len(),
            News::Behind { .. } => 1,
        }
    }
}

/// Whether one more can be taken along with these.
fn has_room(records: &[(Arc<Record>, u32)], more: &Record) -> bool {
    let cost = records.iter().map(|(record, _)| record.cost()).sum::<usize>();
    records.len() < TOGETHER && cost + more.cost() <= TOGETHER_BYTES
}

impl Conversation {
    /// Whom `record`, the last one of the log, is for.
    fn fans_of(&mut self, record: &Record, shards: ShardId) -> Fans {
        let plain = !matches!(record.kind, Kind::Change | Kind::Edit | Kind::Erase | Kind::Reaction);
        // A block hides what follows from one of two.
        let same = plain && (self.is_group() || self.roster.members().iter().all(|member| member.hidden.is_empty()));
        if same {
            return self.current_fans(shards);
        }
        let here = |leave| leave == 0 || leave == record.seq;
        let members = self.roster.members().iter().filter(|member| here(member.leave) && member.sees(record));
        by_shard(members, shards)
    }

    /// All members now.
    pub(super) fn current_fans(&mut self, shards: ShardId) -> Fans {
        let roster = &self.roster;
        self.fans.get_or_insert_with(|| by_shard(roster.current(), shards)).clone()
    }
}

fn by_shard<'a>(members: impl Iterator<Item = &'a Member>, shards: ShardId) -> Fans {
    let mut by_shard: BTreeMap<ShardId, Vec<UserKey>> = BTreeMap::new();
    for member in members {
        by_shard.entry(home_of_user(&member.user, shards)).or_default().push(member.user.clone());
    }
    by_shard.into_iter().map(|(shard, users)| (shard, users.into())).collect()
}

impl Router {
    /// A record is in the log: takes it into the prefix and tells the members' homes.
    pub(super) fn take_in(&mut self, key: Key, record: Arc<Record>) {
        let shards = self.settings.shards;
        if record.kind == Kind::Change || matches!(record.body, Body::Slices(_)) {
            // Who is told nothing from here on would believe for ever that somebody writes.
            self.stop_typing(key, |_| true);
        }
        let Some(room) = self.conversations.get_mut(key) else { return };
        let relates = room.relates_anew(&record);
        let answered = room.answers(&record).filter(|_| self.settings.new_conversations > 0);
        self.counters.expired_undelivered += room.apply(&record);
        if record.kind == Kind::Erase {
            room.forget_read(record.ref_seq);
        }
        let (conversation, kind) = (room.id, room.kind.clone());
        for (shard, users) in room.fans_of(&record, shards) {
            let (kind, record) = (kind.clone(), record.clone());
            self.post(shard, Envelope::Committed { conversation, kind, users, record });
        }
        let sender = self.conversations.get(key).and_then(|room| room.member(&record.sender));
        self.stop_typing(key, |member| Some(member) == sender);
        if relates {
            self.tell_relations(key);
        }
        if let Some(user) = answered {
            let home = user.clone();
            self.post_to_user(&home, Envelope::Answered { user });
        }
        let known = self.conversations.get(key).is_some_and(|room| room.is_group() && room.ahead >= record.seq);
        let sliced = matches!(record.body, Body::Slices(_));
        if record.kind == Kind::Change || known || sliced {
            // Who has left keeps nobody back, nor does a device for which there is nothing; and what was acknowledged before
            // it was known whose it is counts now.
            self.progress_moved(key);
        }
        self.note_dirty(key);
    }

    /// A record was committed that is for these users of this shard.
    pub(crate) fn committed(
        &mut self,
        conversation: ConversationId,
        kind: Arc<ConversationKind>,
        users: Arc<[UserKey]>,
        record: Arc<Record>,
    ) {
        let (seq, id) = (record.seq, record.id);
        let last = self.fan_outs.iter().rposition(|earlier| earlier.conversation == conversation);
        let waits = last.is_some();
        let full = waits && self.fan_outs.iter().map(FanOut::held).sum::<usize>() >= LIVE;
        if let Some(FanOut { news, users: of, left, .. }) = last.and_then(|at| self.fan_outs.get_mut(at))
            && Arc::ptr_eq(of, &users)
        {
            let all = of.len() as u32;
            match news {
                News::Behind { last, last_id, .. } if *left == all => {
                    (*last, *last_id) = (seq, id);
                    return;
                }
                News::Records(records) if has_room(records, &record) && !full => return records.push((record, all)),
                News::Behind { .. } | News::Records(_) => {}
            }
        }
        let all = users.len() as u32;
        let news = match full {
            true => News::Behind { first: seq, last: seq, last_id: id },
            false => News::Records(smallvec![(record, all)]),
        };
        let fan_out = FanOut { conversation, kind, users, next: 0, left: all, news };
        // Small ones are done at once, before larger ones of other conversations.
        if !waits && fan_out.users.len() <= TURN {
            self.fan_out(fan_out, usize::MAX);
        } else {
            self.fan_outs.push_back(fan_out);
        }
    }

    /// Goes on with what is under way.
    pub(crate) fn go_on_fanning_out(&mut self) {
        let Some(fan_out) = self.fan_outs.pop_front() else { return };
        match self.fan_out(fan_out, TURN) {
            Stand::Over => {}
            Stand::Waits(rest) => self.fan_outs.push_front(rest),
            // What is for other members of the same conversation comes after it.
            Stand::GivesWay(rest) => match self.fan_outs.iter().any(|other| other.conversation == rest.conversation) {
                true => self.fan_outs.push_front(rest),
                false => self.fan_outs.push_back(rest),
            },
        }
    }

    /// Every live session of the users gets the records, now or from the log, until `turn` pushes were made.
    fn fan_out(&mut self, mut fan_out: FanOut, turn: usize) -> Stand {
        if fan_out.users.is_empty() {
            return Stand::Over;
        }
        let mut pushed = 0;
        while fan_out.left > 0 {
            if pushed >= turn {
                return Stand::Waits(fan_out);
            }
            let Some(user) = fan_out.users.get(fan_out.next as usize) else { return Stand::Over };
            let sessions = self.users.get(user).map(|entry| entry.sessions.list());
            for key in sessions.into_iter().flatten() {
                pushed += self.tell_news(key, &fan_out);
            }
            if fan_out.is_over_after_turn() {
                return Stand::Over;
            }
        }
        fan_out.left = fan_out.users.len() as u32;
        Stand::GivesWay(fan_out)
    }

    /// Tells one session; how many pushes that was, or was like.
    fn tell_news(&mut self, key: Key, fan_out: &FanOut) -> usize {
        let FanOut { conversation, kind, .. } = fan_out;
        let pushes = match &fan_out.news {
            News::Records(records) => {
                records.iter().for_each(|(record, _)| self.head_moved(key, *conversation, kind, record));
                records.len()
            }
            News::Behind { first, last, last_id } => {
                self.fall_behind(key, *conversation, kind, *first, (*last, *last_id));
                1
            }
        };
        self.settle_session(key);
        pushes
    }
}

frozen!(FanOut { conversation, kind, users, next, left, news });
frozen_enum!(News {
    0 = Records { 0: records },
    1 = Behind { first: first, last: last, last_id: last_id },
});
