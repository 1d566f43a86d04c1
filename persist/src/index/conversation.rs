//! One conversation: its log, its registers, and where a client message id is found.

use crate::{ConversationKind, ConversationState, ReadRange, Record, RegisterKey, UserEntry};
use hashbrown::HashTable;
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::limits::DEDUPE_MS;
use smallvec::SmallVec;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The tail that a room is given: at least so many records ...
const TAIL: usize = 256;
/// ... and those of the last 24 h, up to so many.
const TAIL_MOST: usize = 4_096;
/// Logs up to this length are searched for a client message id; longer ones have a table (4 B a record and its slack).
const SCANNED: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Conversation {
    kind: Option<Arc<ConversationKind>>,
    log: Vec<Arc<Record>>,
    members: SmallVec<[Member; 2]>,
    devices: Vec<Device>,
    /// The latest time that a client message id names.
    latest_cmid_ms: u64,
    /// Positions in `log` by (sender, device, client message id); empty while the log is short. Of two records with one
    /// id (a day apart at least) it holds the newer.
    cmids: HashTable<u32>,
}

/// What is known of a user here; users appear with their first record or register.
#[derive(Debug)]
struct Member {
    user: UserKey,
    last_own: Seq,
    read: Seq,
}

#[derive(Debug)]
struct Device {
    /// Position in `members`.
    member: u16,
    id: DeviceId,
    delivered: Seq,
    tick_delivered: Seq,
    tick_read: Seq,
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

    /// The records are numbered from head + 1, as the caller has checked.
    pub(super) fn append(&mut self, kind: &Arc<ConversationKind>, records: &[Arc<Record>], hasher: &impl BuildHasher) {
        self.kind.get_or_insert_with(|| Arc::clone(kind));
        let fresh = self.log.len();
        self.log.extend(records.iter().cloned());
        for record in records {
            let sender = self.member_or_new(&record.sender);
            self.members[sender].last_own = record.seq;
            self.latest_cmid_ms = self.latest_cmid_ms.max(record.cmid.uuid_v7_ms().unwrap_or(0));
        }
        if self.log.len() > SCANNED {
            let unlisted = if self.cmids.is_empty() { 0 } else { fresh };
            for at in unlisted..self.log.len() {
                self.list_cmid(at, hasher);
            }
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
        if self.cmids.is_empty() {
            return self.log.iter().rev().find(|record| cmid_key(record) == wanted);
        }
        let found = |at: &u32| cmid_key(&self.log[*at as usize]) == wanted;
        self.cmids.find(hasher.hash_one(wanted), found).map(|at| &self.log[*at as usize])
    }

    pub(super) fn register(&self, key: &RegisterKey) -> Seq {
        match key {
            RegisterKey::Read(_, user) => self.member(user).map_or(0, |member| self.members[member].read),
            RegisterKey::Delivered(_, user, device) => self.device(user, device).map_or(0, |d| d.delivered),
            RegisterKey::TickDelivered(_, user, device) => self.device(user, device).map_or(0, |d| d.tick_delivered),
            RegisterKey::TickRead(_, user, device) => self.device(user, device).map_or(0, |d| d.tick_read),
        }
    }

    /// Sets the register; the caller has checked that it grows.
    pub(super) fn raise(&mut self, key: &RegisterKey, value: Seq) {
        match key {
            RegisterKey::Read(_, user) => {
                let member = self.member_or_new(user);
                self.members[member].read = value;
            }
            RegisterKey::Delivered(_, user, device) => self.device_or_new(user, device).delivered = value,
            RegisterKey::TickDelivered(_, user, device) => self.device_or_new(user, device).tick_delivered = value,
            RegisterKey::TickRead(_, user, device) => self.device_or_new(user, device).tick_read = value,
        }
    }

    pub(super) fn slice(&self, range: ReadRange, most: u32, bytes: u32) -> Vec<Arc<Record>> {
        let head = self.log.len() as Seq;
        match range {
            ReadRange::From { from, to } => {
                let first = from.max(1).min(head + 1) - 1;
                let end = to.min(head).max(first);
                bounded(self.log[first as usize..end as usize].iter(), most, bytes)
            }
            ReadRange::Before(seq) => {
                let end = seq.saturating_sub(1).min(head);
                bounded(self.log[..end as usize].iter().rev(), most, bytes)
            }
        }
    }

    /// `None` before the first record.
    pub(super) fn state(&self, id: ConversationId) -> Option<ConversationState> {
        let kind = Arc::clone(self.kind.as_ref()?);
        let newest = self.last()?.us;
        // "The last 24 h" end at the newest record, not now: never fewer records than by the clock, and no clock here.
        let day = self.log.partition_point(|record| record.us < newest.saturating_sub(DEDUPE_MS * 1_000));
        let head = self.log.len();
        let first = day.min(head.saturating_sub(TAIL)).max(head.saturating_sub(TAIL_MOST));
        let delivered = self.devices.iter().filter(|device| device.delivered > 0).map(|device| {
            let user = self.members[usize::from(device.member)].user.clone();
            (RegisterKey::Delivered(id, user, device.id), device.delivered)
        });
        let read = self.members.iter().filter(|member| member.read > 0);
        let read = read.map(|member| (RegisterKey::Read(id, member.user.clone()), member.read));
        Some(ConversationState {
            kind,
            head: head as Seq,
            latest_cmid_ms: self.latest_cmid_ms,
            tail: self.log[first..].to_vec(),
            registers: delivered.chain(read).collect(),
        })
    }

    /// `None` before the first record.
    pub(super) fn entry_of(&self, user: &UserKey, id: ConversationId) -> Option<UserEntry> {
        let kind = Arc::clone(self.kind.as_ref()?);
        let last = Arc::clone(self.last()?);
        let own = self.member(user);
        let devices = || self.devices.iter().filter(|device| own == Some(usize::from(device.member)));
        let peers = || kind.members().iter().filter(|member| *member != user).map(|peer| self.member(peer));
        let peer_delivered = peers().map(|peer| peer.map_or(0, |peer| self.most_delivered(peer))).min();
        let peer_read = peers().map(|peer| peer.map_or(0, |peer| self.members[peer].read)).min();
        Some(UserEntry {
            conversation: id,
            head: last.seq,
            last_own: own.map_or(0, |own| self.members[own].last_own),
            delivered: devices().filter(|d| d.delivered > 0).map(|d| (d.id, d.delivered)).collect(),
            read: own.map_or(0, |own| self.members[own].read),
            peer_delivered: peer_delivered.unwrap_or(0),
            peer_read: peer_read.unwrap_or(0),
            ticks: devices()
                .filter(|d| d.tick_delivered > 0 || d.tick_read > 0)
                .map(|d| (d.id, d.tick_delivered, d.tick_read))
                .collect(),
            last,
            kind,
        })
    }

    fn most_delivered(&self, member: usize) -> Seq {
        let own = self.devices.iter().filter(|device| usize::from(device.member) == member);
        own.map(|device| device.delivered).max().unwrap_or(0)
    }

    fn member(&self, user: &UserKey) -> Option<usize> {
        self.members.iter().position(|member| member.user == *user)
    }

    fn member_or_new(&mut self, user: &UserKey) -> usize {
        self.member(user).unwrap_or_else(|| {
            self.members.push(Member { user: user.clone(), last_own: 0, read: 0 });
            self.members.len() - 1
        })
    }

    fn device(&self, user: &UserKey, id: &DeviceId) -> Option<&Device> {
        let member = self.member(user)?;
        self.devices.iter().find(|device| usize::from(device.member) == member && device.id == *id)
    }

    fn device_or_new(&mut self, user: &UserKey, id: &DeviceId) -> &mut Device {
        let member = self.member_or_new(user) as u16;
        let known = self.devices.iter().position(|device| device.member == member && device.id == *id);
        let at = known.unwrap_or_else(|| {
            self.devices.push(Device { member, id: *id, delivered: 0, tick_delivered: 0, tick_read: 0 });
            self.devices.len() - 1
        });
        &mut self.devices[at]
    }
}

/// The scope of a client message id, in the order that tells records apart soonest.
fn cmid_key(record: &Record) -> (&ClientMessageId, &DeviceId, &UserKey) {
    (&record.cmid, &record.device, &record.sender)
}

/// As many as fit into both limits, and one if there is one.
fn bounded<'a>(records: impl Iterator<Item = &'a Arc<Record>>, most: u32, bytes: u32) -> Vec<Arc<Record>> {
    let mut room = bytes as usize;
    let mut taken = Vec::new();
    for record in records.take(most.max(1) as usize) {
        let cost = record.cost();
        if cost > room && !taken.is_empty() {
            break;
        }
        room = room.saturating_sub(cost);
        taken.push(Arc::clone(record));
    }
    taken
}
