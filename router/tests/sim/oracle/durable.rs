//! What is durable: the logs and the registers, at every crash and at the end.

use super::{Oracle, Verdict, ensure};
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Body, Record, RegisterKey, StoreRequest};
use ringpost_proto::id::{ClientMessageId, ConversationId, Seq};
use ringpost_proto::v1;
use std::collections::BTreeMap;

impl Oracle {
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
                    // It begins anew behind what is no longer kept.
                    let anew = before.seq <= store.gone(&conversation) && record.previous_hash == [0; 16];
                    ensure(anew || record.previous_hash == before.hash(), || format!("I1: the chain breaks at {at}"))?;
                }
                before = Some(record);
            }
            self.heads.insert(conversation, (log.len() as u64, log.last().map_or(0, |record| record.id)));
        }
        for room in &mut self.rooms {
            store.log(&room.id)[room.fold.head as usize..].iter().for_each(|record| room.fold.apply(record));
            ensure(room.fold.wrong.is_none(), || format!("rules: {:?} of {:?}", room.fold.wrong, room.id))?;
            let left = room.fold.text_left();
            ensure(left.is_none(), || format!("I1: the text of edit {left:?} of {:?} is there", room.id))?;
            for record in store.log(&room.id) {
                let (erased, by) = (matches!(record.body, Body::Erased(_)), room.fold.erased(record.seq));
                ensure(erased == (by > 0), || {
                    format!("I1: the body of {} of {:?} is there: {}, erased by {by}", record.seq, room.id, !erased)
                })?;
            }
        }
        self.each_once(store)
    }

    /// Where the last write of a register stays, whichever arrives last, that is the one with the highest value: the stamps
    /// of all writes ever, before and after every crash and reload, have the order of the values.
    pub fn stamps_order(&mut self, request: &StoreRequest) -> Verdict {
        let StoreRequest::Raise { raises, .. } = request else { return Ok(()) };
        for raise in raises {
            let highest = self.raised.entry(raise.key.clone()).or_default();
            let (value, stamp) = *highest;
            ensure(raise.value.cmp(&value) == raise.stamp.cmp(&stamp), || {
                format!("stamps: {raise:?} after {value} with {stamp}")
            })?;
            *highest = (*highest).max((raise.value, raise.stamp));
        }
        Ok(())
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
                if self.goes_with_a_message(conversation, record) {
                    continue;
                }
                let refused = self.refused.get(&record.cmid);
                let sending = self.sends.get(&record.cmid).or(refused);
                let sending = sending.ok_or_else(|| format!("{:?} was never sent", record.cmid))?;
                ensure(refused.is_none_or(|it| it.asked != 1), || {
                    format!("refusal: {:?} is in the log, asked for once and refused", record.cmid)
                })?;
                let sliced = super::super::slices::body_of(&sending.slices);
                let body = match &sending.body {
                    None if !sending.slices.is_empty() => sliced.as_slice(),
                    Some(v1::send::Body::Text(text)) => text.as_bytes(),
                    Some(v1::send::Body::Payload(bytes)) => bytes,
                    None => &[],
                };
                let same = body == record.body.bytes() || matches!(record.body, Body::Erased(_));
                let meant = (record.kind, record.ref_seq) == (sending.meant.kind, sending.meant.ref_seq);
                let whole = same && meant && self.is_own(sending.device, record);
                ensure(whole, || format!("{:?} was stored otherwise than it was sent", record.cmid))?;
                let epoch = self.folded(self.devices[sending.device].0, sending.to).epoch(record.seq - 1);
                let names = sending.meant.epoch;
                ensure(names == 0 || names >= epoch, || {
                    format!("rules: {:?} names epoch {names}, is stored in {epoch}", record.cmid)
                })?;
                self.slices_agree(sending, record.seq)?;
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

    /// Whether a record that no app sent takes back an edit of what its device asked to take back.
    fn goes_with_a_message(&self, conversation: ConversationId, record: &Record) -> bool {
        if self.sends.contains_key(&record.cmid) || self.refused.contains_key(&record.cmid) {
            return false;
        }
        let room = self.rooms.iter().find(|room| room.id == conversation);
        let Some(edited) = room.and_then(|room| room.fold.edited(record)) else { return false };
        self.sends.values().chain(self.refused.values()).any(|sending| {
            let asked = (sending.meant.kind, sending.meant.ref_seq) == (v1::kind::Value::Erase, edited);
            let here = self.conversation(self.devices[sending.device].0, sending.to) == conversation;
            asked && here && self.is_own(sending.device, record)
        })
    }

    /// I4: no register is ahead of what its device has stored, nor a read ahead of what was read.
    pub fn registers_hold(&mut self, store: &FaultyStore) -> Verdict {
        // Where one begins that is about to be linked is judged when it is.
        for device in (0..self.devices.len()).filter(|device| !self.linked[*device].fresh).collect::<Vec<_>>() {
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
                self.misses_are_marked(store, user, peer)?;
            }
        }
        Ok(())
    }
}
