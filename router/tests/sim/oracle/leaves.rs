//! What leaves the node: judged at that moment, against what is committed then.

use super::{Oracle, Verdict, ensure};
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Body, MISSED_RANGES};
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1;

/// Longer than registers are on their way to the store, some of them one after the other.
const TOLD_US: u64 = 30_000_000;

impl Oracle {
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
    pub fn record_leaves(&mut self, store: &FaultyStore, device: usize, record: &v1::Record, now: u64) -> Verdict {
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
        if let (Ok(slice), false) = (self.slice_for(device, truth), self.is_own(device, truth) || record.erased) {
            let slice =
                slice.ok_or_else(|| format!("sliced: device {device} has no slice of record {}", record.seq))?;
            expected.body = Some(v1::record::Body::Payload(slice.bytes.clone()));
        }
        expected.conversation = record.conversation.clone();
        expected.client_message_id = cmid;
        if matches!(truth.body, Body::Erased(_)) && !record.erased {
            // It was on its way when it was taken back.
            self.may_show_erased(user, peer, record.seq, now)?;
            (expected.erased, expected.body) = (false, record.body.clone());
        }
        ensure(*record == expected, || format!("I1: record {} shown as {record:?}, committed {expected:?}", record.seq))
    }

    /// I5 at the node: a session is pushed a conversation in order, from what its device has on, without leaving out a
    /// record, and never its own. `last`: the highest seq pushed before; a record may come again (it was read from the log
    /// before its commit was known).
    pub fn push_leaves(
        &mut self,
        store: &FaultyStore,
        device: usize,
        record: &v1::Record,
        last: Seq,
        now: u64,
    ) -> Verdict {
        self.record_leaves(store, device, record, now)?;
        let peer = self.peer(&record.conversation)?;
        let has = self.prefix(store, device, peer).max(last);
        let log = store.log(&self.conversation(self.devices[device].0, peer));
        for seq in has + 1..record.seq {
            ensure(self.may_pass(store, device, peer, seq), || {
                format!("I5: device {device} is pushed {} of u{peer} without {seq}", record.seq)
            })?;
        }
        let own = log.get(record.seq as usize - 1).is_some_and(|record| self.is_own(device, record));
        ensure(!own, || format!("I5: device {device} is pushed its own {} of u{peer}", record.seq))
    }

    /// A tick never tells more than is true, and takes nothing back.
    pub fn tick_leaves(&mut self, store: &FaultyStore, device: usize, tick: &v1::Tick, now: u64) -> Verdict {
        let user = self.devices[device].0;
        let peer = self.peer(&tick.conversation)?;
        self.fold(store, user, peer);
        self.tells(store, device, peer, tick, now)?;
        if self.is_group(peer) {
            return self.group_tick_leaves(store, device, peer, tick, now);
        }
        let delivered = self.delivered(store, peer, user);
        let read = self.shown[peer].reads[user];
        ensure(tick.delivered_seq <= delivered, || {
            format!("tick: u{peer} is told to have {} of u{user}'s, has {delivered}", tick.delivered_seq)
        })?;
        ensure(tick.read_seq <= read, || {
            format!("tick: u{peer} is told to have read {} of u{user}'s, read {read}", tick.read_seq)
        })?;
        // What is kept from the other side was not delivered, however far its ticks are.
        let fold = self.fold(store, user, peer);
        let hidden =
            (1..=tick.delivered_seq).filter(|seq| fold.sender(*seq) == Some(user) && !fold.may_see(peer, *seq));
        let told = |seq: &Seq| tick.excluded.iter().any(|range| (range.from_seq..=range.to_seq).contains(seq));
        let shown = hidden.into_iter().find(|seq| !told(seq));
        ensure(shown.is_none(), || format!("tick: u{user} hears {tick:?}, {shown:?} is kept from u{peer}"))?;
        self.misses_are_told(store, [user, peer], peer, tick)
    }

    /// What a device was told to be delivered no later tick takes out. But for what expires before the registers of it are
    /// written: that is as good as never acknowledged; and where the node crashes meanwhile they never are.
    fn tells(&mut self, store: &FaultyStore, device: usize, peer: usize, tick: &v1::Tick, now: u64) -> Verdict {
        let user = self.devices[device].0;
        let lost = if self.crashed { store.gone(&self.conversation(user, peer)) } else { 0 };
        // The last of as many ranges as there may be has no end.
        let bounded = tick.excluded.get(MISSED_RANGES - 1).map_or(Seq::MAX, |range| range.from_seq);
        let own = |seq: &Seq| self.folded(user, peer).sender(*seq) == Some(user);
        let own: Vec<Seq> = (1..=tick.delivered_seq.min(bounded)).filter(own).collect();
        for seq in own {
            let told = self.told[device][peer].entry(seq).or_insert(None);
            let is_excluded = tick.excluded.iter().any(|range| (range.from_seq..=range.to_seq).contains(&seq));
            let is_known = told.is_some_and(|since| since + TOLD_US <= now) && seq > lost;
            ensure(!is_excluded || !is_known, || {
                format!("tick: device {device} was told that {seq} was delivered, and hears now {tick:?}")
            })?;
            if !is_excluded {
                told.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// The node crashed: what it told lately may not be in the store yet.
    pub fn forget_told(&mut self, now: u64) {
        self.crashed = true;
        for since in self.told.iter_mut().flatten().flat_map(|told| told.values_mut()) {
            *since = since.filter(|since| *since + TOLD_US <= now);
        }
    }

    /// The furthest that any device of `user` has of the conversation with `peer`.
    pub(in super::super) fn delivered(&mut self, store: &FaultyStore, user: usize, peer: usize) -> Seq {
        let devices: Vec<usize> = (0..self.devices.len()).filter(|d| self.devices[*d].0 == user).collect();
        let had = self.had[user][peer];
        devices.into_iter().map(|device| self.prefix(store, device, peer)).fold(had, Seq::max)
    }

    /// What the device has stored of the conversation, and what follows that is not for it or has expired.
    pub(in super::super) fn prefix(&mut self, store: &FaultyStore, device: usize, peer: usize) -> Seq {
        self.fold(store, self.devices[device].0, peer);
        let mut upto = self.held[device][peer].stored;
        while self.may_pass(store, device, peer, upto + 1) {
            upto += 1;
        }
        self.held[device][peer].stored = upto;
        upto
    }

    /// The conversation of `user` and `peer` as `other` names it.
    fn peer_of(&self, other: usize, user: usize, peer: usize) -> usize {
        if self.is_group(peer) || other == user { peer } else { user }
    }

    /// Counts for every member of a conversation what is not for it.
    pub fn catch_up(&mut self, store: &FaultyStore, user: usize, peer: usize) {
        for device in 0..self.devices.len() {
            let own = self.peer_of(self.devices[device].0, user, peer);
            self.prefix(store, device, own);
        }
    }

    /// What `other` has said there to have read while others might be shown it.
    pub fn read_shown(&self, other: usize, user: usize, peer: usize) -> Seq {
        self.shown[other].reads[self.peer_of(other, user, peer)]
    }

    /// How far `other` is in the conversation of `user` and `peer`, as was last counted: what it has and what it read.
    pub fn has(&self, other: usize, user: usize, peer: usize) -> (Seq, Seq) {
        let own = self.peer_of(other, user, peer);
        let devices = (0..self.devices.len()).filter(|device| self.devices[*device].0 == other);
        let delivered = devices.map(|device| self.held[device][own].stored).fold(self.had[other][own], Seq::max);
        (delivered, self.reads[other][own])
    }
}
