//! Who is in a conversation, as the oracle reads it from the log: its own fold, which shares nothing with the product's.
//!
//! Owns: for each user the parts of the log that it may see, roles, epochs, each with the position at which it came to be,
//! so that any prefix can be asked. Judges: whether each record was allowed to follow those before it.

use super::oracle::{Verdict, ensure};
use ringpost_persist::Record;
use ringpost_proto::id::Seq;
use ringpost_proto::limits::{EDIT_MS, ERASE_MS};
use ringpost_proto::v1::change::Change;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::role::Value as Role;

/// A record is decided on and gets its time within so much.
const SLACK_MS: u64 = 2_000;

/// See the module. Users by their number.
#[derive(Debug, Default)]
pub struct Fold {
    group: bool,
    pub head: Seq,
    /// By user: first and last record of each part that is for it, ascending; one that goes on ends at `Seq::MAX`.
    parts: Vec<Vec<(Seq, Seq)>>,
    /// By user: from when on it was an admin, or not.
    admin: Vec<Vec<(Seq, bool)>>,
    /// The records that took somebody out.
    removals: Vec<Seq>,
    /// What there is to know of each record.
    facts: Vec<Fact>,
    /// The clock never jumps, so that times in the log say when something was decided.
    steady: bool,
    /// The first record that nothing allowed.
    pub wrong: Option<String>,
}

/// One record.
#[derive(Clone, Copy, Debug)]
struct Fact {
    sender: usize,
    kind: Kind,
    ref_seq: Seq,
    us: u64,
    /// The record that took it back; 0: none.
    erased: Seq,
}

impl Fact {
    /// TEXT, MEDIA and DATA are what somebody has or has not read.
    fn counts(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Media | Kind::Data)
    }
}

/// A message as its sender means it: what kind, about which record, of which epoch of a group (0: any).
#[derive(Clone, Copy, Debug)]
pub struct Meant {
    pub kind: Kind,
    pub ref_seq: Seq,
    pub epoch: u32,
}

impl Fold {
    /// Of a group, or of two users.
    pub fn new(users: usize, two: Option<[usize; 2]>, steady: bool) -> Self {
        let mut fold = Self {
            group: two.is_none(),
            steady,
            parts: vec![Vec::new(); users],
            admin: vec![Vec::new(); users],
            ..Self::default()
        };
        for user in two.into_iter().flatten() {
            fold.parts[user] = vec![(1, Seq::MAX)];
        }
        fold
    }

    pub fn apply(&mut self, record: &Record) {
        if let Err(why) = self.follow(record)
            && self.wrong.is_none()
        {
            self.wrong = Some(format!("record {} is against the rules: {why}", record.seq));
        }
        self.head = record.seq;
        let sender = number(record.sender.user()).unwrap_or(usize::MAX);
        self.facts.push(Fact { sender, kind: record.kind, ref_seq: record.ref_seq, us: record.us, erased: 0 });
        if record.kind == Kind::Erase
            && let Some(fact) = self.facts.get_mut((record.ref_seq as usize).wrapping_sub(1))
        {
            fact.erased = record.seq;
        }
    }

    fn follow(&mut self, record: &Record) -> Verdict {
        let (seq, before) = (record.seq, self.head);
        let sender = number(record.sender.user()).ok_or("of nobody")?;
        let change = record.change();
        if let Some(Change::Created(created)) = &change {
            ensure(self.group && before == 0, || "a second creation".into())?;
            self.begin(sender, seq);
            self.admin[sender].push((seq, true));
            return numbers(&created.members).try_for_each(|user| user.map(|user| self.begin(user, seq)));
        }
        let Some(change) = change else {
            let meant = Meant { kind: record.kind, ref_seq: record.ref_seq, epoch: 0 };
            let us = self.steady.then_some(record.us);
            let mut no = self.forbids(sender, meant, before, us);
            if let Some(edited) = self.edited(record) {
                // With a message its edits go, those too that whoever takes it back may not see.
                let meant = Meant { ref_seq: edited, ..meant };
                no.retain(|_| !self.forbids(sender, meant, before, us).is_empty());
            }
            return ensure(no.is_empty(), || format!("{meant:?} of u{sender} is {no:?}"));
        };
        ensure(!self.group || self.is_member(sender, before), || format!("u{sender} is no member"))?;
        let admin = self.is_admin(sender, before);
        match change {
            Change::Blocked(blocked) => self.block(sender, seq, blocked.on),
            Change::Left(_) => self.end(&[sender], record),
            _ if !admin => Err(format!("u{sender} is no admin")),
            Change::Added(added) => numbers(&added.users).try_for_each(|user| {
                let user = user?;
                ensure(!self.is_member(user, before), || format!("u{user} is added twice"))?;
                self.begin(user, seq);
                Ok(())
            }),
            Change::Removed(removed) => {
                let users = numbers(&removed.users).collect::<Result<Vec<_>, _>>()?;
                users.iter().try_for_each(|user| {
                    ensure(self.is_member(*user, before), || format!("u{user} is removed and is no member"))
                })?;
                self.end(&users, record)
            }
            Change::Role(role) => {
                let user = number(&role.user).ok_or("of nobody")?;
                ensure(self.is_member(user, before), || format!("a role for u{user}, who is no member"))?;
                self.admin[user].push((seq, role.role() == Role::Admin));
                ensure(self.members(seq).any(|user| self.is_admin(user, seq)), || "no admin is left".into())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, user: usize, seq: Seq) {
        self.parts[user].push((seq, Seq::MAX));
        self.admin[user].push((seq, false));
    }

    /// They are members no more; the oldest of the others is an admin, where no other is.
    fn end(&mut self, users: &[usize], record: &Record) -> Verdict {
        let seq = record.seq;
        for user in users {
            if let Some(part) = self.parts[*user].last_mut() {
                part.1 = seq;
            }
        }
        self.removals.push(seq);
        let promoted = told(record).map(|change| (number(&change.promoted), change.epoch));
        let (promoted, epoch) = promoted.ok_or("no change")?;
        ensure(epoch == self.epoch(seq), || format!("epoch {epoch} is said, is {}", self.epoch(seq)))?;
        let any = self.members(seq).any(|user| self.is_admin(user, seq));
        let first = |user: usize| self.parts[user].first().map(|part| part.0);
        let oldest = self.members(seq).filter(|_| !any).filter_map(first).min();
        ensure(promoted.and_then(first) == oldest, || format!("{promoted:?} is promoted"))?;
        if let Some(heir) = promoted {
            self.admin[heir].push((seq, true));
        }
        Ok(())
    }

    fn block(&mut self, user: usize, seq: Seq, on: bool) -> Verdict {
        ensure(!self.group, || "a block in a group".into())?;
        let open = self.parts[user].last_mut().filter(|(_, last)| *last == Seq::MAX);
        ensure(open.is_some() == on, || "a block that is there, or an end of none".into())?;
        match open {
            Some(part) => part.1 = seq,
            None => self.parts[user].push((seq, Seq::MAX)),
        }
        Ok(())
    }

    // ---- what is asked of it ----

    /// Every reason for which a message of `user` may not follow the records 1 ... `upto`. `us`: the time, if it is known.
    pub fn forbids(&self, user: usize, meant: Meant, upto: Seq, us: Option<u64>) -> Vec<Code> {
        let mut no = Vec::new();
        let mut unless = |holds: bool, code| {
            if !holds {
                no.push(code);
            }
        };
        if self.group {
            unless(upto > 0, Code::NotFound);
            unless(self.is_member(user, upto), Code::NotMember);
            unless(meant.epoch == 0 || meant.epoch >= self.epoch(upto), Code::StaleGroup);
        } else {
            unless(!self.blocks(user, upto), Code::Forbidden);
        }
        if !matches!(meant.kind, Kind::Edit | Kind::Erase | Kind::Reaction) {
            return no;
        }
        let Some(fact) = self.fact(meant.ref_seq).filter(|_| meant.ref_seq <= upto) else {
            unless(false, Code::NotFound);
            return no;
        };
        let named = fact.counts() || meant.kind == Kind::Erase && fact.kind == Kind::Edit;
        let seen = self.may_see(user, meant.ref_seq) && (fact.ref_seq == 0 || self.may_see(user, fact.ref_seq));
        let erased = fact.erased > 0 && fact.erased <= upto;
        unless(named && seen && !erased, Code::NotFound);
        let (own, admin) = (fact.sender == user, self.is_admin(user, upto));
        let age_ms = us.map_or(0, |us| us.saturating_sub(fact.us) / 1_000).saturating_sub(SLACK_MS);
        match meant.kind {
            Kind::Edit => unless(own && age_ms <= EDIT_MS, Code::Forbidden),
            Kind::Erase => unless(admin || own && age_ms <= ERASE_MS, Code::Forbidden),
            _ => {}
        }
        no
    }

    fn fact(&self, seq: Seq) -> Option<&Fact> {
        self.facts.get((seq as usize).checked_sub(1)?)
    }

    /// Which record took this one back; 0: none.
    pub fn erased(&self, seq: Seq) -> Seq {
        self.fact(seq).map_or(0, |fact| fact.erased)
    }

    /// Of an erasure of an edit: the message that the edit is of.
    pub fn edited(&self, record: &Record) -> Option<Seq> {
        let edit = self.fact(record.ref_seq).filter(|fact| record.kind == Kind::Erase && fact.kind == Kind::Edit);
        edit.map(|edit| edit.ref_seq)
    }

    /// The edits of a record.
    pub fn edits_of(&self, seq: Seq) -> impl Iterator<Item = Seq> + '_ {
        let edits = (1..).zip(&self.facts).filter(move |(_, fact)| fact.kind == Kind::Edit && fact.ref_seq == seq);
        edits.map(|(edit, _)| edit)
    }

    /// An edit whose text is there though the message was taken back.
    pub fn text_left(&self) -> Option<Seq> {
        let edits = (1..).zip(&self.facts).filter(|(_, fact)| fact.kind == Kind::Edit && fact.erased == 0);
        edits.into_iter().find(|(_, edit)| self.erased(edit.ref_seq) > 0).map(|(seq, _)| seq)
    }

    /// Whether the user sees nothing of what the other side sends.
    pub fn blocks(&self, user: usize, upto: Seq) -> bool {
        !self.group && upto > 0 && !self.is_member(user, upto)
    }

    /// How often somebody blocked the other one or ended that.
    pub fn turns(&self) -> usize {
        let turns = |parts: &Vec<(Seq, Seq)>| 2 * parts.len() - parts.iter().filter(|it| it.1 == Seq::MAX).count();
        self.parts.iter().map(turns).sum()
    }

    pub fn is_message(&self, seq: Seq) -> bool {
        self.fact(seq).is_some_and(|fact| fact.kind != Kind::Change)
    }

    /// Whether a user has ever sent a message.
    pub fn spoke(&self, user: usize) -> bool {
        self.facts.iter().any(|fact| fact.sender == user && fact.kind != Kind::Change)
    }

    /// What of (read, upto] counts for a user as unread.
    pub fn unread(&self, user: usize, read: Seq, upto: Seq) -> usize {
        let counts = |seq: &Seq| {
            self.fact(*seq).is_some_and(|fact| fact.counts() && fact.sender != user) && self.may_see(user, *seq)
        };
        (read + 1..=upto).filter(counts).count()
    }

    /// Who is concerned by a record, whoever sent it: those who may see it, and of two the one who does not see it as well.
    pub fn concerned(&self, seq: Seq) -> impl Iterator<Item = usize> + '_ {
        (0..self.parts.len())
            .filter(move |user| self.may_see(*user, seq) || !self.group && !self.parts[*user].is_empty())
    }

    pub fn sender(&self, seq: Seq) -> Option<usize> {
        self.fact(seq).map(|fact| fact.sender)
    }

    /// Whether the records 1 ... `upto` make the user a member.
    pub fn is_member(&self, user: usize, upto: Seq) -> bool {
        self.parts[user].iter().any(|(first, last)| *first <= upto && upto < *last)
    }

    /// The same for an admin.
    pub fn is_admin(&self, user: usize, upto: Seq) -> bool {
        let role = self.admin[user].iter().rev().find(|(from, _)| *from <= upto);
        self.is_member(user, upto) && role.is_some_and(|(_, admin)| *admin)
    }

    pub fn members(&self, upto: Seq) -> impl Iterator<Item = usize> + '_ {
        (0..self.parts.len()).filter(move |user| self.is_member(*user, upto))
    }

    pub fn epoch(&self, upto: Seq) -> u32 {
        let raised = self.removals.iter().filter(|seq| **seq <= upto).count();
        if upto == 0 { 0 } else { 1 + raised as u32 }
    }

    /// Where the part begins in which a user is now; `None`: it is no member.
    pub fn since(&self, user: usize) -> Option<Seq> {
        self.parts[user].last().filter(|(_, last)| *last == Seq::MAX).map(|(first, _)| *first)
    }

    /// The first record that was ever for the user.
    pub fn first(&self, user: usize) -> Seq {
        self.parts[user].first().map_or(0, |(first, _)| *first)
    }

    /// Whether a record at this position may be for the user.
    pub fn may_see(&self, user: usize, seq: Seq) -> bool {
        self.parts[user].iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// Whether a record is for this user.
    pub fn sees(&self, user: usize, record: &Record) -> bool {
        self.may_see(user, record.seq)
            && match record.kind {
                Kind::Edit | Kind::Erase | Kind::Reaction => self.may_see(user, record.ref_seq),
                Kind::Change if !self.group => number(record.sender.user()) == Some(user),
                _ => true,
            }
    }
}

/// The number of the user of this name.
fn number(name: &str) -> Option<usize> {
    name.strip_prefix('u')?.parse().ok()
}

fn numbers(names: &[String]) -> impl Iterator<Item = Result<usize, String>> + '_ {
    names.iter().map(|name| number(name).ok_or_else(|| format!("{name:?} is nobody")))
}

fn told(record: &Record) -> Option<ringpost_proto::v1::Change> {
    record.to_wire().change
}
