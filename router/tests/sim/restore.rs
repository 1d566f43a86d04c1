//! A store that is put back to an earlier backup: what is lost then, and what must still hold.
//!
//! What was committed after the backup is gone, for everybody and for good; whoever has no outcome yet asks again. Devices are
//! told that the store is another one and drop what they know of every conversation before they hear anything of it.

use super::fold::Fold;
use super::node::Node;
use super::oracle::{Held, Oracle, Verdict, ensure};
use super::plan::Ask;
use super::world::{Event, World};
use ringpost_persist::Body;
use ringpost_persist::faulty::FaultyStore;
use ringpost_proto::client::Peer;
use ringpost_proto::id::Seq;
use ringpost_proto::v1;

impl World {
    pub fn back_up(&mut self) -> Verdict {
        self.backup = Some(self.store.backup());
        Ok(())
    }

    /// The node ends, its store is put back, and another node begins with it.
    pub fn restore(&mut self, down: u64) -> Verdict {
        let Some(backup) = self.backup.clone() else { return Ok(()) };
        self.coverage.mark("store restored");
        self.node_dies(down)?;
        self.store.restore(&backup);
        self.restored += 1;
        let epoch = self.node.epoch + 1;
        self.node = Node::new(&self.plan, epoch, self.clocks(), self.restored);
        self.node.up = false;
        self.at(self.now + down, Event::NodeUp { epoch });
        // Restoring takes longer than anything is under way.
        self.links.iter_mut().for_each(|link| link.down.sever());
        self.look_at_lists();
        for asked in &mut self.changes {
            asked.is_restored(self.store.log(&self.oracle.groups[asked.group].id).len() as Seq);
        }
        let lost = self.oracle.restored(&self.store)?;
        if lost > 0 {
            self.coverage.mark("restored: sent and lost");
        }
        Ok(())
    }

    /// A device is told that what it has of a conversation is void: it drops that, and asks what there is.
    pub fn is_reset(&mut self, device: usize, peer: Peer, head: Seq) -> Verdict {
        let peer = self.oracle.peer(&Some(v1::Peer { peer: Some(peer) }))?;
        self.oracle.reset(device, peer, head)?;
        self.coverage.mark("restored: reset");
        let it = &mut self.devices[device];
        it.reads[peer] = 0;
        it.unstored.retain(|(_, of, _)| *of != peer);
        self.app_asks(device, peer, Ask::History { before: false })
    }
}

impl Held {
    /// What the device knows of the conversation is of another store.
    fn knows_void(&self) -> bool {
        self.void && self.known
    }

    /// It begins anew, somewhere in or right behind what it had of this log.
    fn begin_anew(&mut self) {
        (self.void, self.kept, self.given, self.floor) = (false, 0, self.stored, self.stored);
        (self.known, self.last_tick) = (false, (0, 0));
    }
}

impl Oracle {
    /// The store is what it was. Returns how many messages are lost that were SENT.
    fn restored(&mut self, store: &FaultyStore) -> Result<usize, String> {
        let users = self.users.len();
        for at in 0..self.rooms.len() {
            let id = self.rooms[at].id;
            if self.rooms[at].fold.head > store.log(&id).len() as Seq {
                self.rooms[at].fold = Fold::new(users, self.two_of(at), self.steady);
            }
            self.rooms[at].forget_known();
            // What is written there from now on are other records.
            let head = store.log(&id).len() as Seq;
            self.received[at].iter_mut().for_each(|received| received.retain(|seq| *seq <= head));
        }
        self.heads.clear();
        self.raised.clear();
        self.erasures.retain(|(room, seq), _| {
            let record = store.log(room).get(*seq as usize - 1);
            record.is_some_and(|record| matches!(record.body, Body::Erased(_)))
        });
        for user in 0..users {
            // What it was promised is undone with what it had set.
            self.shown[user].answered = None;
            for peer in 0..self.peers() {
                let head = store.log(&self.conversation(user, peer)).len() as Seq;
                let shown = &mut self.shown[user].reads[peer];
                *shown = head.min(*shown);
                self.had[user][peer] = head.min(self.had[user][peer]);
                self.reads[user][peer] = head.min(self.reads[user][peer]);
            }
        }
        for device in 0..self.devices.len() {
            for peer in 0..self.peers() {
                let head = store.log(&self.conversation(self.devices[device].0, peer)).len() as Seq;
                let held = &mut self.held[device][peer];
                held.void = true;
                self.told[device][peer].clear();
                held.stored = head.min(held.stored);
                held.delivered_tick = head.min(held.delivered_tick);
                held.read_tick = head.min(held.read_tick);
            }
        }
        Ok(self.lose(store))
    }

    fn lose(&mut self, store: &FaultyStore) -> usize {
        let mut lost = Vec::new();
        for (cmid, sending) in &mut self.sends {
            let id = self.rooms[self.room_of[self.devices[sending.device].0][sending.to]].id;
            let log = store.log(&id);
            sending.made = sending.made.min(log.len() as Seq);
            if sending.seq.is_some_and(|seq| log.get(seq as usize - 1).is_none_or(|record| record.cmid != *cmid)) {
                lost.push(*cmid);
            }
        }
        for cmid in &lost {
            self.sends.remove(cmid);
        }
        self.lost.extend(lost.iter().copied());
        lost.len()
    }

    fn reset(&mut self, device: usize, peer: usize, head: Seq) -> Verdict {
        let held = &mut self.held[device][peer];
        ensure(held.void, || format!("device {device} is reset to {head} of {peer}: nothing was lost"))?;
        held.begin_anew();
        Ok(())
    }

    /// Before a device hears anything of a conversation it was told that what it has is void.
    pub fn hears_of(&mut self, device: usize, peer: usize) -> Verdict {
        let held = &mut self.held[device][peer];
        ensure(!held.knows_void(), || format!("restored: device {device} hears of {peer} and was not reset"))?;
        if held.void {
            held.begin_anew();
        }
        held.known = true;
        Ok(())
    }

    /// Something that a device never dropped.
    pub fn still_void(&self) -> Option<String> {
        let void = |device: &usize| self.held[*device].iter().any(Held::knows_void);
        (0..self.devices.len())
            .find(|device| !self.is_gone(*device) && void(device))
            .map(|device| format!("device {device} was never told that the store is another one"))
    }
}
