//! What an app sees, and what it does with it.

use super::{Held, Oracle, Verdict, ensure};
use ringpost_persist::faulty::FaultyStore;
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1;

impl Oracle {
    /// I5: the app gets what is addressed to its device in order, without a gap, each once.
    pub fn given(&mut self, store: &FaultyStore, device: usize, record: &v1::Record) -> Result<usize, String> {
        let peer = self.peer(&record.conversation)?;
        self.hears_of(device, peer)?;
        let Held { mut given, kept, floor, .. } = self.held[device][peer];
        if (1..=given).contains(&record.seq) && kept < self.begin(device, peer).max(floor) {
            // It does not know where it begins, and has asked for what was before; what it kept of that it has.
            given = if kept == 0 { record.seq - 1 } else { kept };
        }
        self.fold(store, self.devices[device].0, peer);
        let truth = store.log(&self.conversation(self.devices[device].0, peer)).get(record.seq as usize - 1);
        if truth.is_some_and(|it| !self.is_for(device, peer, it) && self.may_be_for(device, peer, it)) {
            // It had no slice of what was taken back, and sees as much of it as who had one.
            self.held[device][peer].given = given.max(record.seq);
            return Ok(peer);
        }
        ensure(record.seq > given, || format!("I5: device {device} gets {} of u{peer} after {given}", record.seq))?;
        self.fold(store, self.devices[device].0, peer);
        let log = store.log(&self.conversation(self.devices[device].0, peer));
        for seq in given + 1..record.seq {
            ensure(self.may_pass(store, device, peer, seq), || {
                format!("I5: device {device} got {} of u{peer} without {seq}", record.seq)
            })?;
        }
        let twice = log.get(record.seq as usize - 1).is_none_or(|record| !self.may_be_for(device, peer, record));
        ensure(!twice, || format!("I5: device {device} got its own record {} of u{peer}", record.seq))?;
        self.held[device][peer].given = record.seq;
        Ok(peer)
    }

    pub fn stored(&mut self, device: usize, peer: usize, seq: Seq) {
        if self.is_gone(device) {
            return;
        }
        let user = self.devices[device].0;
        let room = self.room(user, peer);
        self.received[room][user].insert(seq);
        let held = &mut self.held[device][peer];
        // What it had of a store that was put back since is nothing of this one.
        if !held.void {
            held.stored = held.stored.max(seq);
        }
        held.kept = held.kept.max(seq);
    }

    /// Up to where an app knows that it has everything: the last record that it has stored, and its own that follow. Of what
    /// the log holds beside that an app knows nothing.
    fn knows_of(&self, store: &FaultyStore, device: usize, peer: usize) -> Seq {
        let mut upto = self.held[device][peer].kept;
        let log = store.log(&self.conversation(self.devices[device].0, peer));
        // One that is not linked yet has nothing.
        while !self.is_group(peer)
            && !self.held[device][peer].void
            && !self.linked[device].fresh
            && log.get(upto as usize).is_some_and(|record| self.is_own(device, record))
        {
            upto += 1;
        }
        upto
    }

    /// The app's process died: it has what it had stored. Returns, for each peer, up to where that is.
    pub fn restarted(&mut self, store: &FaultyStore, device: usize) -> Vec<Seq> {
        for held in &mut self.held[device] {
            (held.given, held.known) = (held.stored, held.kept > 0);
            held.last_tick = (0, 0);
        }
        (0..self.peers()).map(|peer| self.knows_of(store, device, peer)).collect()
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
        let right = match code {
            _ if sending.expires => code == v1::code::Value::Expired,
            v1::code::Value::DeviceMismatch => self.mismatch_is_right(store, &sending, error),
            _ => self.may_be_refused(store, &sending, code),
        };
        ensure(right, || format!("refusal: {cmid:?} failed: {error:?}"))?;
        if !sending.expires {
            self.refused.insert(cmid, sending);
        }
        Ok(())
    }

    pub fn ticked(&mut self, device: usize, peer: usize, delivered: Seq, read: Seq) -> Verdict {
        self.hears_of(device, peer)?;
        let held = &mut self.held[device][peer];
        let last = std::mem::replace(&mut held.last_tick, (delivered, read));
        ensure(delivered >= last.0 && read >= last.1, || format!("tick: {delivered}, {read} after {last:?}"))?;
        (held.delivered_tick, held.read_tick) = (held.delivered_tick.max(delivered), held.read_tick.max(read));
        Ok(())
    }

    /// What the app may mark as read: what it has; and it does.
    pub fn reads(&mut self, store: &FaultyStore, device: usize, peer: usize) -> Option<Seq> {
        if self.held[device][peer].void {
            return None;
        }
        let seq = self.knows_of(store, device, peer);
        let user = self.devices[device].0;
        self.reads[user][peer] = self.reads[user][peer].max(seq);
        (seq > 0).then_some(seq)
    }

    /// A read after which nothing breaks.
    pub fn reads_for_good(&mut self, device: usize, peer: usize, seq: Seq) {
        let last = &mut self.last_reads[self.devices[device].0][peer];
        *last = (*last).max(seq);
    }
}
