//! Liveness: what is still missing once nothing breaks any more.

use super::{Oracle, Sending};
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Record, RegisterKey};
use std::sync::Arc;

impl Oracle {
    /// Liveness and I6: what is still missing, if anything.
    pub fn missing(&mut self, store: &FaultyStore, now: u64) -> Option<String> {
        let waits = |sending: &Sending| {
            sending.seq.is_none() && sending.limited_us < now && !self.is_unlinked(store, sending.device)
        };
        if let Some((cmid, sending)) = self.sends.iter().find(|(_, sending)| waits(sending)) {
            return Some(format!("{cmid:?} of device {} has no outcome", sending.device));
        }
        if let Some(void) = self.still_void() {
            return Some(void);
        }
        for device in 0..self.devices.len() {
            if self.is_unlinked(store, device) {
                continue;
            }
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
        // Of what is kept from the other side nobody hears.
        let fold = self.folded(user, peer);
        // Nor where there is nothing in it for any device there.
        let anybody = |record: &Record| {
            let devices = self.devices.iter().enumerate().filter(|(_, (of, _))| *of == peer);
            devices
                .into_iter()
                .any(|(device, _)| !self.has_no_slice(device, record) && !self.is_unlinked(store, device))
        };
        let told =
            |record: &&Arc<Record>| record.sender == self.users[user] && fold.sees(peer, record) && anybody(record);
        let last = log.iter().rev().find(told).filter(|it| it.seq > self.begin(device, peer))?.seq;
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
        if self.shown[peer].hid {
            return None;
        }
        let read_own =
            log.iter().take(read as usize).rev().find(told).filter(|it| it.seq > self.begin(device, peer))?.seq;
        (held.read_tick < read_own)
            .then(|| format!("device {device} (u{user}) heard {} read by u{peer}, {read_own} was", held.read_tick))
    }
}
