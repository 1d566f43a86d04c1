//! What must hold, judged from what clients were told and from what is committed; nothing here asks a router.
//!
//! The truth: what each app sent, what it was given and has stored, and the committed logs. Checked at the moment a frame
//! leaves the node: SENT (I2), pushes, ticks, pages. Checked at the app: order and completeness (I5). Checked at every
//! crash and at the end: the logs (I1, I3), the registers (I4, I6).

use super::fold::Fold;
use super::plan::Plan;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Body, Record, RegisterKey};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, Seq, UserKey};
use ringpost_proto::v1;
use std::collections::BTreeMap;

pub type Verdict = Result<(), String>;

pub struct Oracle {
    pub users: Vec<UserKey>,
    /// (user, name) of each device.
    pub devices: Vec<(usize, DeviceId)>,
    pub groups: Vec<Group>,
    pub rooms: Vec<Room>,
    /// By user and peer: a user, or behind the users a group.
    room_of: Vec<Vec<usize>>,
    /// By device and peer.
    pub(super) held: Vec<Vec<Held>>,
    pub sends: BTreeMap<ClientMessageId, Sending>,
    /// Sends that were refused. A refusal is no promise: the same send, asked for once more before the answer came, may be
    /// allowed meanwhile.
    pub refused: BTreeMap<ClientMessageId, Sending>,
    /// Changes of groups that were asked for: device and group.
    pub changes: BTreeMap<ClientMessageId, (usize, usize)>,
    /// The highest head seen of each conversation, and the id of that record.
    heads: BTreeMap<ConversationId, (Seq, u64)>,
    /// The furthest read that each user asked for, by user and peer.
    pub(super) reads: Vec<Vec<Seq>>,
    /// The same since faults ended: these must come to be.
    pub(super) last_reads: Vec<Vec<Seq>>,
}

/// A group that somebody is going to create.
pub struct Group {
    pub cmid: ClientMessageId,
    pub id: ConversationId,
    pub members: Vec<usize>,
}

/// One conversation, and what its log says of its members.
pub struct Room {
    pub id: ConversationId,
    pub fold: Fold,
}

/// What a device has of one conversation.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    /// The last record that the app has stored.
    kept: Seq,
    /// Given to the app in this life of its process.
    given: Seq,
    /// Stored by the app; and everything before it, but for own records.
    stored: Seq,
    /// The furthest that the app has heard.
    pub delivered_tick: Seq,
    pub read_tick: Seq,
    /// The last that it heard in this life of its process.
    last_tick: (Seq, Seq),
}

pub struct Sending {
    pub device: usize,
    pub to: usize,
    pub body: v1::send::Body,
    pub seq: Option<Seq>,
    /// To a group: the epoch that it names, and the head when it was made.
    pub epoch: u32,
    pub made: Seq,
    /// It is too old to be stored, and must be refused for that.
    pub expires: bool,
}

impl Oracle {
    pub fn new(plan: &Plan) -> Self {
        let devices_of = &plan.users;
        let user = |at: usize| UserKey::new("default", &format!("u{at}")).unwrap();
        let users: Vec<UserKey> = (0..devices_of.len()).map(user).collect();
        let devices: Vec<(usize, DeviceId)> = devices_of
            .iter()
            .enumerate()
            .flat_map(|(user, &n)| (0..n).map(move |d| (user, DeviceId::new(&format!("d{d}")).unwrap())))
            .collect();
        let groups: Vec<Group> =
            plan.groups.iter().enumerate().map(|(at, group)| group.named(at, &users, &devices)).collect();
        let peers = users.len() + groups.len();
        let (mut rooms, mut room_of) = (Vec::new(), vec![vec![0; peers]; users.len()]);
        for a in 0..users.len() {
            for b in a..users.len() {
                (room_of[a][b], room_of[b][a]) = (rooms.len(), rooms.len());
                let id = users[a].direct_with(&users[b]);
                rooms.push(Room { id, fold: Fold::new(users.len(), Some([a, b])) });
            }
        }
        for (at, group) in groups.iter().enumerate() {
            room_of.iter_mut().for_each(|rooms_of| rooms_of[users.len() + at] = rooms.len());
            rooms.push(Room { id: group.id, fold: Fold::new(users.len(), None) });
        }
        Self {
            held: vec![vec![Held::default(); peers]; devices.len()],
            reads: vec![vec![0; peers]; users.len()],
            last_reads: vec![vec![0; peers]; users.len()],
            groups,
            rooms,
            room_of,
            changes: BTreeMap::new(),
            refused: BTreeMap::new(),
            sends: BTreeMap::new(),
            heads: BTreeMap::new(),
            users,
            devices,
        }
    }

    pub fn conversation(&self, a: usize, b: usize) -> ConversationId {
        self.rooms[self.room_of[a][b]].id
    }

    /// Users, and behind them groups.
    pub fn peers(&self) -> usize {
        self.users.len() + self.groups.len()
    }

    pub fn is_group(&self, peer: usize) -> bool {
        peer >= self.users.len()
    }

    /// What the log of a conversation says by now.
    pub fn fold(&mut self, store: &FaultyStore, user: usize, peer: usize) -> &Fold {
        let room = &mut self.rooms[self.room_of[user][peer]];
        for record in &store.log(&room.id)[room.fold.head as usize..] {
            room.fold.apply(record);
        }
        &room.fold
    }

    /// What was read of it before.
    pub fn folded(&self, user: usize, peer: usize) -> &Fold {
        &self.rooms[self.room_of[user][peer]].fold
    }

    /// The newest record that is for this user; 0: none.
    pub fn newest(&mut self, store: &FaultyStore, user: usize, peer: usize) -> Seq {
        self.fold(store, user, peer);
        let (log, fold) = (store.log(&self.conversation(user, peer)), self.folded(user, peer));
        log.iter().rev().find(|record| fold.sees(user, record)).map_or(0, |record| record.seq)
    }

    /// Whether a record of what was folded is to be sent to this device.
    fn is_for(&self, device: usize, peer: usize, record: &Record) -> bool {
        let user = self.devices[device].0;
        !self.is_own(device, record) && self.folded(user, peer).sees(user, record)
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<usize> {
        let at: usize = name.strip_prefix('u')?.parse().ok()?;
        (at < self.users.len()).then_some(at)
    }

    pub fn peer(&self, peer: &Option<v1::Peer>) -> Result<usize, String> {
        match peer.as_ref().and_then(|peer| peer.peer.as_ref()) {
            Some(v1::peer::Peer::User(name)) => self.user(name).ok_or(format!("peer {name:?} does not exist")),
            Some(v1::peer::Peer::Group(id)) => {
                let at = self.groups.iter().position(|group| group.id.0[..] == id[..]);
                at.map(|at| self.users.len() + at).ok_or(format!("group {id:?} does not exist"))
            }
            other => Err(format!("{other:?} is no peer")),
        }
    }

    pub fn is_own(&self, device: usize, record: &Record) -> bool {
        let (user, name) = self.devices[device];
        record.device == name && record.sender == self.users[user]
    }

    // ---- what leaves the node ----

    /// I2: SENT leaves only for what is durable, at that position, under that id.
    pub fn sent_leaves(
        &self,
        store: &FaultyStore,
        device: usize,
        to: usize,
        cmid: ClientMessageId,
        sent: &v1::Sent,
    ) -> Verdict {
        let log = store.log(&self.conversation(self.devices[device].0, to));
        match log.get((sent.seq as usize).wrapping_sub(1)) {
            Some(record) if record.cmid == cmid && self.is_own(device, record) => {
                ensure(record.id == sent.id, || format!("SENT names id {}, the log has {}", sent.id, record.id))
            }
            Some(record) => Err(format!("I2: SENT {cmid:?} at {}, which is {:?}", sent.seq, record.cmid)),
            None => Err(format!("I2: SENT {cmid:?} at {} before it is durable (head {})", sent.seq, log.len())),
        }
    }

    /// A record that a device is shown is the committed one, whole, and carries its client id only for its own user.
    pub fn record_leaves(&mut self, store: &FaultyStore, device: usize, record: &v1::Record) -> Verdict {
        let user = self.devices[device].0;
        let peer = self.peer(&record.conversation)?;
        let log = store.log(&self.conversation(user, peer));
        let at = (record.seq as usize).wrapping_sub(1);
        let truth = log.get(at).ok_or_else(|| format!("record {} shown before it is durable", record.seq))?;
        let seen = self.fold(store, user, peer).sees(user, truth);
        ensure(seen, || format!("view: u{user} is shown record {} of peer {peer}, which is not for it", record.seq))?;
        let own = truth.sender == self.users[user];
        let cmid = if own { truth.cmid.to_bytes() } else { bytes::Bytes::new() };
        let mut expected = truth.to_wire();
        expected.conversation = record.conversation.clone();
        expected.client_message_id = cmid;
        if matches!(truth.body, Body::Erased(_)) && !record.erased {
            // It was on its way when it was taken back.
            (expected.erased, expected.body) = (false, record.body.clone());
        }
        ensure(*record == expected, || format!("I1: record {} shown as {record:?}, committed {expected:?}", record.seq))
    }

    /// I5 at the node: a session is pushed a conversation in order, from what its device has on, without leaving out a
    /// record, and never its own. `last`: the highest seq pushed before; a record may come again (it was read from the log
    /// before its commit was known).
    pub fn push_leaves(&mut self, store: &FaultyStore, device: usize, record: &v1::Record, last: Seq) -> Verdict {
        self.record_leaves(store, device, record)?;
        let peer = self.peer(&record.conversation)?;
        let has = self.prefix(store, device, peer).max(last);
        let log = store.log(&self.conversation(self.devices[device].0, peer));
        for seq in has + 1..record.seq {
            let passed = log.get(seq as usize - 1).is_some_and(|record| !self.is_for(device, peer, record));
            ensure(passed, || format!("I5: device {device} is pushed {} of u{peer} without {seq}", record.seq))?;
        }
        let own = log.get(record.seq as usize - 1).is_some_and(|record| self.is_own(device, record));
        ensure(!own, || format!("I5: device {device} is pushed its own {} of u{peer}", record.seq))
    }

    /// A tick never tells more than is true.
    pub fn tick_leaves(&mut self, store: &FaultyStore, device: usize, tick: &v1::Tick) -> Verdict {
        let user = self.devices[device].0;
        let peer = self.peer(&tick.conversation)?;
        if self.is_group(peer) {
            return self.group_tick_leaves(store, device, peer, tick);
        }
        let delivered = self.delivered(store, peer, user);
        let read = self.reads[peer][user];
        ensure(tick.delivered_seq <= delivered, || {
            format!("tick: u{peer} is told to have {} of u{user}'s, has {delivered}", tick.delivered_seq)
        })?;
        ensure(tick.read_seq <= read, || {
            format!("tick: u{peer} is told to have read {} of u{user}'s, read {read}", tick.read_seq)
        })
    }

    /// The furthest that any device of `user` has of the conversation with `peer`.
    pub(super) fn delivered(&mut self, store: &FaultyStore, user: usize, peer: usize) -> Seq {
        let devices: Vec<usize> = (0..self.devices.len()).filter(|d| self.devices[*d].0 == user).collect();
        devices.into_iter().map(|device| self.prefix(store, device, peer)).max().unwrap_or(0)
    }

    /// What the device has stored of the conversation, and what follows that is not for it.
    pub(super) fn prefix(&mut self, store: &FaultyStore, device: usize, peer: usize) -> Seq {
        self.fold(store, self.devices[device].0, peer);
        let log = store.log(&self.conversation(self.devices[device].0, peer));
        let mut upto = self.held[device][peer].stored;
        while log.get(upto as usize).is_some_and(|record| !self.is_for(device, peer, record)) {
            upto += 1;
        }
        self.held[device][peer].stored = upto;
        upto
    }

    // ---- what an app sees ----

    /// I5: the app gets what is addressed to its device in order, without a gap, each once.
    pub fn given(&mut self, store: &FaultyStore, device: usize, record: &v1::Record) -> Result<usize, String> {
        let peer = self.peer(&record.conversation)?;
        let given = self.held[device][peer].given;
        ensure(record.seq > given, || format!("I5: record {} after {given}", record.seq))?;
        self.fold(store, self.devices[device].0, peer);
        let log = store.log(&self.conversation(self.devices[device].0, peer));
        for seq in given + 1..record.seq {
            let passed = log.get(seq as usize - 1).is_some_and(|record| !self.is_for(device, peer, record));
            ensure(passed, || format!("I5: device {device} got {} of u{peer} without {seq}", record.seq))?;
        }
        let twice = log.get(record.seq as usize - 1).is_none_or(|record| !self.is_for(device, peer, record));
        ensure(!twice, || format!("I5: device {device} got its own record {} of u{peer}", record.seq))?;
        self.held[device][peer].given = record.seq;
        Ok(peer)
    }

    pub fn stored(&mut self, device: usize, peer: usize, seq: Seq) {
        let held = &mut self.held[device][peer];
        (held.stored, held.kept) = (held.stored.max(seq), held.kept.max(seq));
    }

    /// The app's process died: it has what it had stored. Returns, for each peer, up to where that is.
    pub fn restarted(&mut self, device: usize) -> Vec<Seq> {
        let upto = |held: &mut Held| {
            held.given = held.stored;
            held.last_tick = (0, 0);
            held.stored
        };
        let users = self.users.len();
        let held = self.held[device].iter_mut().enumerate();
        // Of what a group's log has beside its records for this user, an app knows nothing.
        held.map(|(peer, held)| (peer < users, upto(held), held.kept))
            .map(|(all, seq, kept)| if all { seq } else { kept })
            .collect()
    }

    pub fn outcome(&mut self, cmid: ClientMessageId, sent: &v1::Sent) -> Verdict {
        let sending = self.sends.get_mut(&cmid).ok_or("an outcome for what was never sent")?;
        ensure(sending.seq.is_none(), || format!("two outcomes for {cmid:?}"))?;
        ensure(!sending.expires, || format!("{cmid:?} is too old and was SENT"))?;
        sending.seq = Some(sent.seq);
        Ok(())
    }

    /// A send failed for good: one that is too old, or what the log forbade meanwhile.
    pub fn failed(&mut self, store: &FaultyStore, cmid: ClientMessageId, error: &v1::Error) -> Verdict {
        let sending = self.sends.remove(&cmid).ok_or("an outcome for what was never sent")?;
        let code = error.code();
        let right =
            if sending.expires { code == v1::code::Value::Expired } else { self.may_be_refused(store, &sending, code) };
        ensure(right, || format!("refusal: {cmid:?} failed: {error:?}"))?;
        if !sending.expires {
            self.refused.insert(cmid, sending);
        }
        Ok(())
    }

    pub fn ticked(&mut self, device: usize, peer: usize, delivered: Seq, read: Seq) -> Verdict {
        let held = &mut self.held[device][peer];
        let last = std::mem::replace(&mut held.last_tick, (delivered, read));
        ensure(delivered >= last.0 && read >= last.1, || format!("tick: {delivered}, {read} after {last:?}"))?;
        (held.delivered_tick, held.read_tick) = (held.delivered_tick.max(delivered), held.read_tick.max(read));
        Ok(())
    }

    /// What the app may mark as read: what it has; and it does.
    pub fn reads(&mut self, device: usize, peer: usize) -> Option<Seq> {
        let held = &self.held[device][peer];
        let seq = if self.is_group(peer) { held.kept } else { held.stored };
        let user = self.devices[device].0;
        self.reads[user][peer] = self.reads[user][peer].max(seq);
        (seq > 0).then_some(seq)
    }

    /// A read after which nothing breaks.
    pub fn reads_for_good(&mut self, device: usize, peer: usize, seq: Seq) {
        let last = &mut self.last_reads[self.devices[device].0][peer];
        *last = (*last).max(seq);
    }

    // ---- at every crash, and at the end ----

    /// I1 and I3: logs only grow, are dense and in order, hold each message once and as it was sent.
    pub fn logs_hold(&mut self, store: &FaultyStore) -> Verdict {
        for conversation in store.conversations() {
            let log = store.log(&conversation);
            let (head, id) = self.heads.get(&conversation).copied().unwrap_or((0, 0));
            ensure(log.len() as u64 >= head, || format!("I1: {conversation:?} shrank from {head} to {}", log.len()))?;
            if head > 0 {
                ensure(log[head as usize - 1].id == id, || format!("I1: {conversation:?} changed at {head}"))?;
            }
            let mut before: Option<&Record> = None;
            for (at, record) in log.iter().enumerate() {
                ensure(record.seq == at as u64 + 1, || format!("I1: seq {} at {at}", record.seq))?;
                if let Some(before) = before.filter(|_| at as u64 >= head) {
                    ensure(record.id > before.id && record.us > before.us, || format!("I1: order at {at}"))?;
                    ensure(record.previous_hash == before.hash(), || format!("I1: the chain breaks at {at}"))?;
                }
                before = Some(record);
            }
            self.heads.insert(conversation, (log.len() as u64, log.last().map_or(0, |record| record.id)));
        }
        for room in &mut self.rooms {
            store.log(&room.id)[room.fold.head as usize..].iter().for_each(|record| room.fold.apply(record));
            ensure(room.fold.wrong.is_none(), || format!("rules: {:?} of {:?}", room.fold.wrong, room.id))?;
        }
        self.each_once(store)
    }

    fn each_once(&self, store: &FaultyStore) -> Verdict {
        let mut found: BTreeMap<ClientMessageId, (ConversationId, Seq)> = BTreeMap::new();
        for conversation in store.conversations() {
            for record in store.log(&conversation) {
                let at = (conversation, record.seq);
                let twice = found.insert(record.cmid, at);
                ensure(twice.is_none(), || format!("I3: {:?} stored at {twice:?} and {at:?}", record.cmid))?;
                if record.kind == v1::kind::Value::Change {
                    self.change_was_asked(conversation, record)?;
                    continue;
                }
                let sending = self.sends.get(&record.cmid).or_else(|| self.refused.get(&record.cmid));
                let sending = sending.ok_or_else(|| format!("{:?} was never sent", record.cmid))?;
                let body = match &sending.body {
                    v1::send::Body::Text(text) => text.as_bytes(),
                    v1::send::Body::Payload(bytes) => bytes,
                };
                let same = body == record.body.bytes() || matches!(record.body, Body::Erased(_));
                let whole = same && self.is_own(sending.device, record);
                ensure(whole, || format!("{:?} was stored otherwise than it was sent", record.cmid))?;
                let epoch = self.folded(self.devices[sending.device].0, sending.to).epoch(record.seq - 1);
                ensure(sending.epoch == 0 || sending.epoch >= epoch, || {
                    format!("rules: {:?} names epoch {}, is stored in {epoch}", record.cmid, sending.epoch)
                })?;
            }
        }
        for (cmid, sending) in &self.sends {
            let Some(seq) = sending.seq else { continue };
            let conversation = self.conversation(self.devices[sending.device].0, sending.to);
            let there = found.get(cmid) == Some(&(conversation, seq));
            ensure(there, || format!("I2: {cmid:?} was SENT at {seq} and is at {:?}", found.get(cmid)))?;
        }
        Ok(())
    }

    /// I4: no register is ahead of what its device has stored, nor a read ahead of what was read.
    pub fn registers_hold(&mut self, store: &FaultyStore) -> Verdict {
        for device in 0..self.devices.len() {
            let (user, name) = self.devices[device];
            for peer in 0..self.peers() {
                let conversation = self.conversation(user, peer);
                let key = RegisterKey::Delivered(conversation, self.users[user].clone(), name);
                let (register, truth) = (store.register(&key), self.prefix(store, device, peer));
                ensure(register <= truth, || {
                    format!("I4: device {device} is marked to have {register} of u{peer}, has {truth}")
                })?;
                let read = store.register(&RegisterKey::Read(conversation, self.users[user].clone()));
                let asked = self.reads[user][peer];
                ensure(read <= asked, || format!("u{user} is marked to have read {read} of u{peer}, read {asked}"))?;
            }
        }
        Ok(())
    }

    /// Liveness and I6: what is still missing, if anything.
    pub fn missing(&mut self, store: &FaultyStore) -> Option<String> {
        if let Some((cmid, sending)) = self.sends.iter().find(|(_, sending)| sending.seq.is_none()) {
            return Some(format!("{cmid:?} of device {} has no outcome", sending.device));
        }
        for device in 0..self.devices.len() {
            let (user, name) = self.devices[device];
            for peer in 0..self.peers() {
                let conversation = self.conversation(user, peer);
                let (head, has) = (store.log(&conversation).len() as u64, self.prefix(store, device, peer));
                if has < head {
                    return Some(format!("device {device} (u{user}) has {has} of {head} with u{peer}"));
                }
                let key = RegisterKey::Delivered(conversation, self.users[user].clone(), name);
                let register = store.register(&key);
                let log = store.log(&conversation);
                if log.iter().skip(register as usize).any(|record| self.is_for(device, peer, record)) {
                    return Some(format!("I6: the register of device {device} with u{peer} is {register} of {head}"));
                }
                if let Some(missing) = self.missing_tick(store, device, peer) {
                    return Some(missing);
                }
            }
        }
        None
    }

    /// What the senders have not heard of their newest record's progress.
    fn missing_tick(&self, store: &FaultyStore, device: usize, peer: usize) -> Option<String> {
        let user = self.devices[device].0;
        if self.is_group(peer) {
            return self.missing_group_tick(store, device, peer);
        }
        if user == peer {
            return None;
        }
        let log = store.log(&self.conversation(user, peer));
        let last = log.iter().rev().find(|record| record.sender == self.users[user])?.seq;
        let held = &self.held[device][peer];
        if held.delivered_tick < last {
            return Some(format!(
                "device {device} (u{user}) heard {} delivered to u{peer}, {last} was",
                held.delivered_tick
            ));
        }
        // An answered read is durable 2 s later: a crash before that takes it back, until the user reads again.
        let read = store.register(&RegisterKey::Read(self.conversation(user, peer), self.users[peer].clone()));
        if read < self.last_reads[peer][user] {
            return Some(format!("u{peer} read {} of u{user}'s, {read} is marked", self.last_reads[peer][user]));
        }
        let read_own = log.iter().take(read as usize).rev().find(|record| record.sender == self.users[user])?.seq;
        (held.read_tick < read_own)
            .then(|| format!("device {device} (u{user}) heard {} read by u{peer}, {read_own} was", held.read_tick))
    }
}

pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(why()) }
}
