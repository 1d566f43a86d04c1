//! One conversation: its log, its roster, its registers, and where a client message id is found.

use crate::ranges::{self, Ranges};
use crate::view::{self, LOOKED};
use crate::{
    ConversationKind, ConversationState, LastRecord, MISSED_RANGES, Member, ReadRange, Record, RegisterKey, Roster,
    Shown, UserEntry,
};
use hashbrown::HashTable;
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, RecordId, Seq, UserKey};
use ringpost_proto::v1::kind::Value as Kind;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Logs up to this length are searched for a client message id; longer ones have a table (4 B a record and its slack).
const SCANNED: usize = 32;

#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    kind: Option<Arc<ConversationKind>>,
    log: Vec<Arc<Record>>,
    /// Records up to here are no longer kept, as far as any answer goes.
    gone: Seq,
    roster: Roster,
    registers: BTreeMap<Register, Seq>,
    /// What each member never received.
    missed: BTreeMap<UserKey, Ranges>,
    /// The latest time that a client message id names.
    latest_cmid_ms: u64,
    /// Positions in `log` by (sender, device, client message id); empty while the log is short. Of two records with one
    /// id (a day apart at least) it holds the newer.
    cmids: HashTable<u32>,
}

/// A register of this conversation, in an order that keeps those of a user together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Register {
    Delivered(UserKey, DeviceId),
    Read(UserKey),
    ReadCounted(UserKey),
    ReadShown(UserKey),
    TickDelivered(UserKey, DeviceId),
    TickRead(UserKey, DeviceId),
    ToldDelivered(UserKey),
    ToldRead(UserKey),
}

impl Register {
    /// `None` for what a member missed, which is kept apart.
    fn of(key: &RegisterKey) -> Option<Self> {
        Some(match key.clone() {
            RegisterKey::Delivered(_, user, device) => Self::Delivered(user, device),
            RegisterKey::Read(_, user) => Self::Read(user),
            RegisterKey::ReadCounted(_, user) => Self::ReadCounted(user),
            RegisterKey::ReadShown(_, user) => Self::ReadShown(user),
            RegisterKey::TickDelivered(_, user, device) => Self::TickDelivered(user, device),
            RegisterKey::TickRead(_, user, device) => Self::TickRead(user, device),
            RegisterKey::ToldDelivered(_, user) => Self::ToldDelivered(user),
            RegisterKey::ToldRead(_, user) => Self::ToldRead(user),
            RegisterKey::Missed(..) => return None,
        })
    }

    /// As a room is told; `None` for ticks, which are the sessions' own.
    fn key(&self, id: ConversationId) -> Option<RegisterKey> {
        match self.clone() {
            Self::Delivered(user, device) => Some(RegisterKey::Delivered(id, user, device)),
            Self::Read(user) => Some(RegisterKey::Read(id, user)),
            Self::ReadCounted(user) => Some(RegisterKey::ReadCounted(id, user)),
            Self::ReadShown(user) => Some(RegisterKey::ReadShown(id, user)),
            Self::ToldDelivered(user) => Some(RegisterKey::ToldDelivered(id, user)),
            Self::ToldRead(user) => Some(RegisterKey::ToldRead(id, user)),
            Self::TickDelivered(..) | Self::TickRead(..) => None,
        }
    }
}

impl Conversation {
    pub(super) fn log(&self) -> &[Arc<Record>] {
        &self.log
    }

    pub(super) fn last(&self) -> Option<&Arc<Record>> {
        self.log.last()
    }

    pub(super) fn kind(&self) -> Option<&Arc<ConversationKind>> {
        self.kind.as_ref()
    }

    /// The records are numbered from head + 1, as the caller has checked. Returns who is in the conversation since then.
    pub(super) fn append(
        &mut self,
        kind: &Arc<ConversationKind>,
        records: &[Arc<Record>],
        hasher: &impl BuildHasher,
    ) -> Vec<UserKey> {
        let mut joined = Vec::new();
        if self.kind.is_none() {
            self.kind = Some(Arc::clone(kind));
            self.roster = Roster::new(kind);
            joined.extend(kind.members().iter().cloned());
        }
        let fresh = self.log.len();
        for record in records {
            let known = self.roster.members().len();
            self.roster.apply(record);
            joined.extend(self.roster.members()[known..].iter().map(|member| member.user.clone()));
            self.latest_cmid_ms = self.latest_cmid_ms.max(record.cmid.uuid_v7_ms().unwrap_or(0));
            self.log.push(Arc::clone(record));
            if record.kind == Kind::Erase {
                self.erase(record.ref_seq);
            }
        }
        if self.log.len() > SCANNED {
            let unlisted = if self.cmids.is_empty() { 0 } else { fresh };
            for at in unlisted..self.log.len() {
                self.list_cmid(at, hasher);
            }
        }
        joined
    }

    fn erase(&mut self, seq: Seq) {
        let at = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        if let Some(record) = at.and_then(|at| self.log.get_mut(at)) {
            *record = Arc::new(record.erased());
        }
    }

    fn list_cmid(&mut self, at: usize, hasher: &impl BuildHasher) {
        let log = &self.log;
        let key = |at: &u32| cmid_key(&log[*at as usize]);
        let own = cmid_key(&log[at]);
        // 2^32 records of one conversation do not fit into memory.
        let place = at as u32;
        let entry = self.cmids.entry(hasher.hash_one(own), |at| key(at) == own, |at| hasher.hash_one(key(at)));
        entry.and_modify(|older| *older = place).or_insert(place);
    }

    pub(super) fn find(
        &self,
        sender: &UserKey,
        device: &DeviceId,
        cmid: &ClientMessageId,
        hasher: &impl BuildHasher,
    ) -> Option<&Arc<Record>> {
        let wanted = (cmid, device, sender);
        let record = if self.cmids.is_empty() {
            self.log.iter().rev().find(|record| cmid_key(record) == wanted)
        } else {
            let found = |at: &u32| cmid_key(&self.log[*at as usize]) == wanted;
            self.cmids.find(hasher.hash_one(wanted), found).map(|at| &self.log[*at as usize])
        };
        record.filter(|record| record.seq > self.gone)
    }

    pub(super) fn register(&self, key: &RegisterKey) -> Seq {
        match (key, Register::of(key)) {
            (_, Some(register)) => self.value(&register),
            (RegisterKey::Missed(_, user, from), _) => ranges::end_of(self.missed_by(user), *from).unwrap_or(0),
            _ => 0,
        }
    }

    fn value(&self, register: &Register) -> Seq {
        self.registers.get(register).copied().unwrap_or(0)
    }

    /// Sets the register; the caller has checked that it grows.
    pub(super) fn raise(&mut self, key: &RegisterKey, value: Seq) {
        if let Some(register) = Register::of(key) {
            self.registers.insert(register, value);
        } else if let RegisterKey::Missed(_, user, from) = key {
            let missed = self.missed.entry(user.clone()).or_default();
            ranges::add(missed, *from, value);
            ranges::bound(missed, MISSED_RANGES);
        }
    }

    fn missed_by(&self, user: &UserKey) -> &[(Seq, Seq)] {
        self.missed.get(user).map_or(&[], |missed| missed)
    }

    /// Records up to `upto` are kept no longer.
    pub(super) fn expire(&mut self, upto: Seq) {
        self.gone = self.gone.max(upto.min(self.log.len() as Seq));
    }

    /// What is no longer kept of the log.
    pub(super) fn gone(&self) -> Ranges {
        let mut gone = Ranges::new();
        ranges::add(&mut gone, 1, self.gone);
        gone
    }

    pub(super) fn member(&self, user: &UserKey) -> Option<&Member> {
        self.roster.member(user)
    }

    /// What of the range a viewer may see (`None`: everything), and how far was looked.
    pub(super) fn slice(
        &self,
        range: ReadRange,
        viewer: Option<&Member>,
        most: u32,
        bytes: u32,
    ) -> (Vec<Arc<Record>>, Seq) {
        let head = self.log.len() as Seq;
        let mut taken = Taken {
            records: Vec::new(),
            most: most.max(1),
            room: bytes as usize,
            looks: LOOKED * most.max(1) as usize,
        };
        let up = |seq: Seq| match viewer.and_then(|viewer| viewer.hidden_at(seq)) {
            Some((_, to)) => to.saturating_add(1),
            None => seq,
        };
        let down = |seq: Seq| match viewer.and_then(|viewer| viewer.hidden_at(seq)) {
            Some((from, _)) => from - 1,
            None => seq,
        };
        match range {
            ReadRange::From { from, to } => {
                let end = to.min(viewer.map_or(head, |viewer| viewer.end(head)));
                let mut seq = up(from.max(1).max(viewer.map_or(1, |it| it.join)));
                if seq <= self.gone {
                    seq = up(self.gone + 1);
                }
                while seq <= end && taken.take(&self.log[seq as usize - 1], viewer) {
                    seq = up(seq + 1);
                }
                // Of what comes after its part of the log a member does not even learn that it is there.
                let reached = if seq <= end { seq - 1 } else { end.max(from.max(1) - 1) };
                (taken.records, reached)
            }
            ReadRange::Before(before) => {
                let end = before.saturating_sub(1).min(viewer.map_or(head, |viewer| viewer.end(head)));
                let first = viewer.map_or(1, |viewer| viewer.join);
                let mut seq = down(end);
                while seq >= first.max(self.gone + 1) && taken.take(&self.log[seq as usize - 1], viewer) {
                    seq = down(seq - 1);
                }
                // Of what is gone nothing is to be looked at.
                let reached = if seq <= self.gone { first } else { seq + 1 };
                (taken.records, reached.min(end + 1))
            }
        }
    }

    /// Records up to `upto` that count for a member and are none of its own: all but those after it.
    pub(super) fn count_read(&self, member: &Member, upto: Seq) -> u64 {
        let ordinal = self.log.last().map_or(0, |last| last.ordinal);
        member.counted(ordinal).saturating_sub(self.unread_after(member, upto))
    }

    /// Kept records after `read` that a member has to read.
    fn unread_after(&self, member: &Member, read: Seq) -> u64 {
        let end = member.end(self.log.len() as Seq) as usize;
        let from = read.max(member.join.saturating_sub(1)).max(self.gone) as usize;
        let after = self.log[..end].get(from..).unwrap_or_default();
        after.iter().filter(|record| view::is_unread(record, member)).count() as u64
    }

    /// `None` before the first record.
    pub(super) fn state(&self, id: ConversationId) -> Option<ConversationState> {
        let kind = Arc::clone(self.kind.as_ref()?);
        let last = self.last()?;
        let kept = self.log.get(self.gone as usize..).unwrap_or_default();
        let mut limits = view::Tail::new(last.us);
        let taken = kept.iter().rev().take_while(|record| limits.take(record.us, record.cost())).count();
        let registers = self.registers.iter().filter_map(|(register, value)| Some((register.key(id)?, *value)));
        let missed = self.missed.iter().flat_map(|(user, missed)| missed.iter().map(move |range| (user, range)));
        let missed = missed.map(|(user, (from, to))| (RegisterKey::Missed(id, user.clone(), *from), *to));
        Some(ConversationState {
            kind,
            head: self.log.len() as Seq,
            last: LastRecord { id: last.id, us: last.us, ordinal: last.ordinal },
            latest_cmid_ms: self.latest_cmid_ms,
            tail: kept[kept.len() - taken..].to_vec(),
            roster: self.roster.clone(),
            registers: registers.chain(missed).collect(),
        })
    }

    /// Where it stands in this user's list: for who has left it moves no more.
    pub(super) fn place(&self, user: &UserKey) -> Option<RecordId> {
        let head = self.roster.member(user)?.end(self.log.len() as Seq);
        self.log.get((head as usize).checked_sub(1)?).map(|record| record.id)
    }

    /// `None` before the first record, and for who never was a member.
    pub(super) fn entry_of(&self, user: &UserKey, id: ConversationId) -> Option<UserEntry> {
        let kind = Arc::clone(self.kind.as_ref()?);
        let (newest, member) = (self.last()?, self.roster.member(user)?);
        let head = member.end(newest.seq);
        let (newest_seen, _) = self.slice(ReadRange::Before(Seq::MAX), Some(member), 1, 0);
        let delivered: Vec<_> = self.devices_of(user, Register::Delivered).collect();
        let counted = self.value(&Register::ReadCounted(user.clone()));
        let (peer_delivered, peer_read) = self.others(&kind, user);
        let (read, gone) = (self.value(&Register::Read(user.clone())), ranges::within(&self.gone(), 1, head));
        let unread = match ranges::within(&gone, read + 1, head).is_empty() {
            true => member.counted(newest.ordinal).saturating_sub(counted),
            false => self.unread_after(member, read),
        };
        Some(UserEntry {
            conversation: id,
            head,
            last_id: self.place(user)?,
            last: newest_seen.into_iter().next(),
            join: member.join,
            // Who has left does not learn of a new name.
            title: if member.is_current() { self.roster.name.clone() } else { String::new() },
            last_own: member.last_own,
            delivered,
            read,
            unread,
            peer_delivered,
            peer_read,
            peer_excluded: self.excluded(&kind, user, peer_delivered),
            gone,
            ticks: self.ticks_of(user),
            kind,
        })
    }

    /// How far the others have received and read, as this user is told.
    fn others(&self, kind: &ConversationKind, user: &UserKey) -> (Seq, Seq) {
        let shown = |user: &UserKey| Shown(self.value(&Register::ReadShown(user.clone())));
        let value = |register: fn(UserKey) -> Register, user: &UserKey| self.value(&register(user.clone()));
        match (kind, view::peer_of(kind, user)) {
            (ConversationKind::Group, _) => (value(Register::ToldDelivered, user), value(Register::ToldRead, user)),
            (ConversationKind::Direct(_), None) => (0, 0),
            (ConversationKind::Direct(_), Some(peer)) => {
                (self.most_delivered(peer), shown(peer).of(value(Register::Read, peer)))
            }
        }
    }

    /// What of it up to `upto` the others did not get and will not.
    fn excluded(&self, kind: &ConversationKind, user: &UserKey, upto: Seq) -> Ranges {
        let peer = view::peer_of(kind, user).and_then(|peer| self.roster.member(peer));
        let missed = self.missed.iter().filter(|(other, _)| *other != user).filter_map(|(other, missed)| {
            let member = self.roster.member(other)?;
            match kind {
                ConversationKind::Group => Some(member.keeps_back(missed, upto)),
                ConversationKind::Direct(_) => Some(missed.clone()).filter(|_| peer == Some(member)),
            }
        });
        view::excluded(peer, missed, upto)
    }

    fn ticks_of(&self, user: &UserKey) -> Vec<(DeviceId, Seq, Seq)> {
        let mut ticks: BTreeMap<DeviceId, (Seq, Seq)> = BTreeMap::new();
        for (device, seq) in self.devices_of(user, Register::TickDelivered) {
            ticks.entry(device).or_default().0 = seq;
        }
        for (device, seq) in self.devices_of(user, Register::TickRead) {
            ticks.entry(device).or_default().1 = seq;
        }
        ticks.into_iter().map(|(device, (delivered, read))| (device, delivered, read)).collect()
    }

    fn most_delivered(&self, user: &UserKey) -> Seq {
        self.devices_of(user, Register::Delivered).map(|(_, seq)| seq).max().unwrap_or(0)
    }

    /// The registers of one kind that a user's devices have.
    fn devices_of(
        &self,
        user: &UserKey,
        kind: fn(UserKey, DeviceId) -> Register,
    ) -> impl Iterator<Item = (DeviceId, Seq)> {
        let range = kind(user.clone(), DeviceId::FIRST)..=kind(user.clone(), DeviceId::LAST);
        self.registers.range(range).filter_map(|(register, value)| match register {
            Register::Delivered(_, device) | Register::TickDelivered(_, device) | Register::TickRead(_, device) => {
                Some((*device, *value))
            }
            _ => None,
        })
    }
}

/// Records for one answer, within its limits.
struct Taken {
    records: Vec<Arc<Record>>,
    most: u32,
    room: usize,
    looks: usize,
}

impl Taken {
    /// Looks at the next record; `false`: it is beyond the limits, and was not looked at.
    fn take(&mut self, record: &Arc<Record>, viewer: Option<&Member>) -> bool {
        let first = self.records.is_empty();
        if self.looks == 0 || self.records.len() as u32 >= self.most {
            return false;
        }
        if viewer.is_none_or(|viewer| viewer.sees(record)) {
            let cost = record.cost();
            if cost > self.room && !first {
                return false;
            }
            self.room = self.room.saturating_sub(cost);
            self.records.push(Arc::clone(record));
        }
        self.looks -= 1;
        true
    }
}

/// The scope of a client message id, in the order that tells records apart soonest.
fn cmid_key(record: &Record) -> (&ClientMessageId, &DeviceId, &UserKey) {
    (&record.cmid, &record.device, &record.sender)
}
