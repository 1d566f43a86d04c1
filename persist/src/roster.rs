//! Who is, and was, in a conversation: a fold over its log, the same for the room that decides and the store that keeps it.
//!
//! Owns: members with the part of the log that each may see, roles, a group's name and epoch. Guarantees: a function of
//! the records 1 ... n and nothing else; no more than [`GROUP_MEMBERS`] are members at a time, and a group keeps the names
//! of at most [`EVER_MEMBERS`]. Never does: decide whether a change is allowed (the room does, before the append).

use crate::ranges::{self, Ranges};
use crate::record::{Body, Record};
use crate::{ConversationKind, Role};
use ringpost_proto::id::{Seq, UserKey};
use ringpost_proto::v1::change::Change;
use ringpost_proto::v1::kind::Value as Kind;
use smallvec::SmallVec;
use std::collections::BTreeMap;

pub use ringpost_proto::limits::GROUP_MEMBERS;

/// Users that a group may have had in all: beyond that nobody new is added.
pub const EVER_MEMBERS: usize = 16_384;
/// Ranges that are kept apart for a member; beyond that the two oldest become one, which hides more, never less.
pub const HIDDEN_RANGES: usize = 16;
/// Members that are searched one by one; above that there is a table.
const SCANNED: usize = 8;
/// A name of a member, with its header, about.
const NAME_BYTES: usize = 48;

/// Position of a member in its roster; for ever the same.
pub type MemberAt = u16;

/// One user, while a member and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user: UserKey,
    pub role: Role,
    /// The first record that it may see.
    pub join: Seq,
    /// The last one; 0: it is a member.
    pub leave: Seq,
    /// The group's epoch when it joined, and when it left.
    pub join_epoch: u32,
    pub leave_epoch: u32,
    /// Ranges in between that it may not see, ascending; an open one ends at `Seq::MAX`.
    pub hidden: SmallVec<[(Seq, Seq); 1]>,
    /// Of the records that count as unread, those that do not for this member: before it joined, its own, hidden ones.
    pub aside: u64,
    /// `ordinal` of the record with which it left.
    pub left_ordinal: u64,
    /// The newest record that it sent, blocks aside; 0: none.
    pub last_own: Seq,
}

impl Member {
    fn new(user: UserKey, role: Role, join: Seq, epoch: u32, aside: u64) -> Self {
        let hidden = SmallVec::new();
        let (leave, leave_epoch, left_ordinal, last_own) = (0, 0, 0, 0);
        Self { user, role, join, leave, join_epoch: epoch, leave_epoch, hidden, aside, left_ordinal, last_own }
    }

    pub fn is_current(&self) -> bool {
        self.leave == 0
    }

    /// The last record of a log of this length that may be for it.
    pub fn end(&self, head: Seq) -> Seq {
        if self.is_current() { head } else { self.leave.min(head) }
    }

    /// Of a member of a group: the last record before the part of the log that it is in now. Whoever comes back counts for
    /// the records since, not for those of before that it never got.
    pub fn before(&self) -> Seq {
        let away = self.hidden.last().map_or(0, |(_, to)| *to);
        self.join.saturating_sub(1).max(if away == Seq::MAX { 0 } else { away })
    }

    /// The range that hides `seq` from it.
    pub fn hidden_at(&self, seq: Seq) -> Option<(Seq, Seq)> {
        self.hidden.iter().find(|(from, to)| (*from..=*to).contains(&seq)).copied()
    }

    /// Whether it sees nothing of what comes now: it blocks the other side.
    pub fn is_blocking(&self) -> bool {
        self.hidden.last().is_some_and(|(_, to)| *to == Seq::MAX)
    }

    /// What of the log up to `upto` is hidden from it.
    pub fn excluded(&self, upto: Seq) -> Ranges {
        self.hidden.iter().filter(|(from, _)| *from <= upto).map(|(from, to)| (*from, (*to).min(upto))).collect()
    }

    /// Of a member of a group: what of all that it missed its senders are told. Who has left keeps nobody back, and who comes
    /// back does not as to what was before, for that was told meanwhile.
    pub fn keeps_back(&self, missed: &[(Seq, Seq)], upto: Seq) -> Ranges {
        let from = if self.is_current() { self.before().saturating_add(1) } else { Seq::MAX };
        ranges::within(missed, from, upto)
    }

    /// Whether there may be a record for it at this position.
    pub fn sees_seq(&self, seq: Seq) -> bool {
        seq >= self.join && (self.is_current() || seq <= self.leave) && self.hidden_at(seq).is_none()
    }

    /// Whether the record is for this user. What is said about a record that it may not see, it may not see either: an edit
    /// would show what was written before it came. That somebody blocked somebody only the one who did it sees.
    pub fn sees(&self, record: &Record) -> bool {
        self.sees_what(record.seq, record.kind, record.ref_seq, record.is_block() && record.sender != self.user)
    }

    /// The same of a record that is told by its place, its kind and the place of what it is about; `secret`: it says that
    /// somebody else blocked somebody.
    pub fn sees_what(&self, seq: Seq, kind: Kind, about: Seq, secret: bool) -> bool {
        let is_about = matches!(kind, Kind::Edit | Kind::Erase | Kind::Reaction);
        !secret && self.sees_seq(seq) && (!is_about || self.sees_seq(about))
    }

    /// Records that count for this member in a log that ends with `ordinal`.
    pub fn counted(&self, ordinal: u64) -> u64 {
        let end = if self.is_current() { ordinal } else { self.left_ordinal };
        end.saturating_sub(self.aside)
    }

    fn hide_from(&mut self, seq: Seq) {
        if !self.is_blocking() {
            self.hide(seq, Seq::MAX);
        }
    }

    fn hide(&mut self, from: Seq, to: Seq) {
        if self.hidden.len() == HIDDEN_RANGES {
            let (from, _) = self.hidden.remove(0);
            self.hidden[0].0 = from;
        }
        self.hidden.push((from, to));
    }

    /// `seq` and what follows is seen again.
    fn hide_until(&mut self, seq: Seq) {
        match self.hidden.last_mut() {
            Some((from, to)) if *to == Seq::MAX && *from < seq => *to = seq - 1,
            Some((_, to)) if *to == Seq::MAX => drop(self.hidden.pop()),
            _ => {}
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    members: Vec<Member>,
    /// Where each is, once there are more than a few.
    at: BTreeMap<UserKey, MemberAt>,
    current: usize,
    /// Of a group: raised by every removal; 1 from its creation on.
    pub epoch: u32,
    pub name: String,
    pub description: String,
    pub avatar: String,
}

impl Roster {
    /// Before the first record.
    pub fn new(kind: &ConversationKind) -> Self {
        let mut roster = Self::default();
        for user in kind.members() {
            roster.push(Member::new(user.clone(), Role::Member, 1, 0, 0));
        }
        roster
    }

    /// As it was kept: members in their order, and of a group what else is known.
    pub fn restore(members: Vec<Member>, epoch: u32, [name, description, avatar]: [String; 3]) -> Self {
        let mut roster = Self { epoch, name, description, avatar, ..Self::default() };
        for member in members {
            roster.push(member);
        }
        roster
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Bytes on the heap, about: with each name, of which others may have a part.
    pub fn heap_bytes(&self) -> usize {
        let members = self.members.capacity() * size_of::<Member>() + self.members.len() * NAME_BYTES;
        members + self.at.len() * 3 * size_of::<(UserKey, MemberAt)>() / 2
    }

    /// Members now.
    pub fn current(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_current())
    }

    pub fn current_len(&self) -> usize {
        self.current
    }

    /// Where a user is that is or was a member.
    pub fn find(&self, user: &UserKey) -> Option<MemberAt> {
        if self.members.len() <= SCANNED {
            return self.members.iter().position(|member| member.user == *user).map(|at| at as MemberAt);
        }
        self.at.get(user).copied()
    }

    pub fn member(&self, user: &UserKey) -> Option<&Member> {
        self.get(self.find(user)?)
    }

    pub fn get(&self, at: MemberAt) -> Option<&Member> {
        self.members.get(usize::from(at))
    }

    pub fn is_member(&self, user: &UserKey) -> bool {
        self.member(user).is_some_and(Member::is_current)
    }

    pub fn is_admin(&self, user: &UserKey) -> bool {
        self.member(user).is_some_and(|member| member.is_current() && member.role == Role::Admin)
    }

    /// Who becomes an admin when `leaving` are gone: the oldest member, if no admin would be left.
    pub fn heir(&self, leaving: &[UserKey]) -> Option<&UserKey> {
        let staying = || self.current().filter(|member| !leaving.contains(&member.user));
        if staying().any(|member| member.role == Role::Admin) {
            return None;
        }
        // In the order of the roster for those who joined with the same record.
        staying().min_by_key(|member| member.join).map(|member| &member.user)
    }

    /// Takes in the next record of the log. Returns which members are not as they were, each once.
    pub fn apply(&mut self, record: &Record) -> SmallVec<[MemberAt; 2]> {
        let mut changed = SmallVec::new();
        self.count(record, &mut changed);
        if let Some(change) = record.change() {
            self.change(record, change, &mut changed);
            changed.sort_unstable();
            changed.dedup();
        }
        changed
    }

    fn count(&mut self, record: &Record, changed: &mut SmallVec<[MemberAt; 2]>) {
        let counts = u64::from(record.counts());
        if let Some(at) = self.find(&record.sender) {
            let sender = &mut self.members[usize::from(at)];
            // Whoever only blocked the other one has sent nothing.
            if !record.is_block() {
                sender.last_own = record.seq;
            }
            sender.aside += counts;
            changed.push(at);
        }
        // Blocks are between two; a member of a group who sees nothing now has left it.
        if counts > 0 && self.members.len() == 2 {
            for (at, member) in self.members.iter_mut().enumerate() {
                if member.user != record.sender && member.hidden_at(record.seq).is_some() {
                    member.aside += counts;
                    changed.push(at as MemberAt);
                }
            }
        }
    }

    fn change(&mut self, record: &Record, change: Change, changed: &mut SmallVec<[MemberAt; 2]>) {
        let named = |names: &[String]| -> Vec<UserKey> {
            names.iter().filter_map(|name| record.sender.sibling(name).ok()).collect()
        };
        match change {
            Change::Created(created) => {
                self.epoch = 1;
                self.name = created.name;
                changed.extend(self.add(record, record.sender.clone(), Role::Admin));
                if let Some(at) = self.find(&record.sender) {
                    self.members[usize::from(at)].last_own = record.seq;
                }
                for user in named(&created.members) {
                    changed.extend(self.add(record, user, Role::Member));
                }
            }
            Change::Updated(updated) => {
                let fields = [&mut self.name, &mut self.description, &mut self.avatar];
                for (field, new) in fields.into_iter().zip([updated.name, updated.description, updated.avatar]) {
                    *field = new.unwrap_or_else(|| std::mem::take(field));
                }
            }
            Change::Added(added) => {
                for user in named(&added.users) {
                    changed.extend(self.add(record, user, Role::Member));
                }
            }
            Change::Removed(removed) => self.remove(record, named(&removed.users), changed),
            Change::Left(_) => self.remove(record, vec![record.sender.clone()], changed),
            Change::Role(change) => {
                let role = Role::from_wire(change.role());
                changed.extend(self.set_role(&named(&[change.user]), role));
            }
            Change::Blocked(blocked) => {
                if let Some(at) = self.find(&record.sender) {
                    let member = &mut self.members[usize::from(at)];
                    if blocked.on {
                        member.hide_from(record.seq + 1)
                    } else {
                        member.hide_until(record.seq)
                    }
                    changed.push(at);
                }
            }
        }
    }

    /// `None`: it is a member already, or the group is full.
    fn add(&mut self, record: &Record, user: UserKey, role: Role) -> Option<MemberAt> {
        if self.current >= GROUP_MEMBERS {
            return None;
        }
        let Some(at) = self.find(&user) else {
            let room = self.members.len() < EVER_MEMBERS;
            return room.then(|| self.push(Member::new(user, role, record.seq, self.epoch, record.ordinal)));
        };
        let member = self.members.get_mut(usize::from(at)).filter(|member| !member.is_current())?;
        // It comes back: what was said meanwhile stays hidden, if only nothing was.
        member.hide(member.leave + 1, record.seq - 1);
        member.aside += record.ordinal.saturating_sub(member.left_ordinal);
        (member.leave, member.role, member.join_epoch) = (0, role, self.epoch);
        self.current += 1;
        Some(at)
    }

    fn remove(&mut self, record: &Record, users: Vec<UserKey>, changed: &mut SmallVec<[MemberAt; 2]>) {
        let heir = self.heir(&users).cloned();
        self.epoch += 1;
        for user in &users {
            let Some(at) = self.find(user) else { continue };
            let member = &mut self.members[usize::from(at)];
            if !member.is_current() {
                continue;
            }
            member.leave = record.seq;
            member.left_ordinal = record.ordinal;
            member.leave_epoch = self.epoch;
            self.current -= 1;
            changed.push(at);
        }
        changed.extend(self.set_role(heir.as_slice(), Role::Admin));
    }

    fn set_role(&mut self, users: &[UserKey], role: Role) -> Option<MemberAt> {
        let at = self.find(users.first()?)?;
        self.members[usize::from(at)].role = role;
        Some(at)
    }

    fn push(&mut self, member: Member) -> MemberAt {
        let at = self.members.len() as MemberAt;
        self.current += usize::from(member.is_current());
        if self.members.len() >= SCANNED {
            if self.at.is_empty() {
                let known = self.members.iter().enumerate();
                self.at.extend(known.map(|(at, member)| (member.user.clone(), at as MemberAt)));
            }
            self.at.insert(member.user.clone(), at);
        }
        self.members.push(member);
        at
    }
}

/// The change that a record would carry, as its body.
pub fn change_body(change: Change, promoted: Option<&UserKey>, epoch: u32) -> Body {
    let promoted = promoted.map_or(String::new(), |user| user.user().to_owned());
    let change = ringpost_proto::v1::Change { change: Some(change), promoted, epoch };
    Body::Change(prost::Message::encode_to_vec(&change).into())
}
