//! Devices that are linked later, and those that are unlinked: where the ones begin, and that the others get nothing more.

use super::clients::client;
use super::network::LinkId;
use super::oracle::{Held, Oracle, Sending, Verdict, ensure};
use super::plan::MS;
use super::world::{EPOCH_US, Event, World};
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{DocumentKey, Outcome, RegisterKey, StoreRequest};
use ringpost_proto::id::{ClientMessageId, Seq};
use ringpost_proto::v1;
use ringpost_router::envelope::{Envelope, SendOutcome, SessionRef};
use ringpost_router::{DeviceList, Input, home_of_user};

/// Of one device.
#[derive(Clone, Default)]
pub struct Linked {
    /// It is to be linked when it comes: where it begins is not known yet.
    pub fresh: bool,
    /// By peer: where it began, if it was linked later than the others.
    begins: Vec<Seq>,
    /// By peer: what its user's devices were marked to have when it said hello.
    marked: Vec<Seq>,
    /// Somebody asked that it be unlinked.
    pub unlinking: bool,
    /// The same, whatever became of it: what it said to have read last nobody says again.
    pub unlinked_once: bool,
    /// Since when whoever asked knows that it is, and which of the connections were made before.
    gone: Option<(u64, LinkId)>,
}

impl World {
    /// Where a user has several devices they are linked from the start, but for those that come later. An only device is
    /// linked by its first hello.
    pub fn link_devices(&mut self) {
        for user in 0..self.oracle.users.len() {
            let mut list = DeviceList::default();
            let devices: Vec<usize> = (0..self.devices.len()).filter(|it| self.devices[*it].user == user).collect();
            for device in devices.iter().filter(|device| !self.plan.late.contains(device)) {
                list.link(self.oracle.devices[*device].1, None, EPOCH_US / 1_000);
            }
            if devices.len() > 1 {
                let (key, bytes) = (DocumentKey::Devices(self.oracle.users[user].clone()), list.encode());
                self.store.set_up(&StoreRequest::Cas { tag: 0, key, expected: 0, bytes });
            }
        }
        for device in self.plan.late.clone() {
            self.coverage.mark("device: comes later");
            self.oracle.linked[device].fresh = true;
            let later = self.dice.between(0, self.plan.faults_end / 2);
            let it = &mut self.devices[device];
            it.client = client(later / MS, it.seed | 2, it.auto_store);
        }
    }

    /// A device says hello.
    pub fn device_comes(&mut self, link: LinkId) {
        let device = self.links[link].device;
        // It may be linked by this hello although only a later one is welcome.
        if self.oracle.linked[device].fresh && self.oracle.linked[device].marked.is_empty() {
            let marked = (0..self.oracle.peers()).map(|peer| self.oracle.most_marked(&self.store, device, peer));
            self.oracle.linked[device].marked = marked.collect();
        }
    }

    /// A device is welcome: if it is new, it begins behind what its user has, and before nothing that the user lacks.
    pub fn device_is_welcome(&mut self, link: LinkId) -> Verdict {
        let device = self.links[link].device;
        if std::mem::take(&mut self.oracle.linked[device].fresh) {
            self.coverage.mark("device: begins later");
            (0..self.oracle.peers()).try_for_each(|peer| self.oracle.begins(&self.store, device, peer))?;
        }
        Ok(())
    }

    /// The operator unlinks a device, if there is a node that it could ask.
    pub fn revoke(&mut self, target: usize) -> Verdict {
        if !self.node.up {
            return Ok(());
        }
        (self.oracle.linked[target].unlinking, self.oracle.linked[target].unlinked_once) = (true, true);
        let (user, device) = self.oracle.devices[target];
        let user = self.oracle.users[user].clone();
        let home = home_of_user(&user, self.plan.shards);
        let (from, re) = (SessionRef::operator(), target as u64);
        self.feed(home, Input::Envelope(Box::new(Envelope::Revoke { user, device, from, re })))
    }

    /// What is said to the operator: the device is none any more, or it was none yet.
    pub fn operator_hears(&mut self, envelope: &Envelope) -> Verdict {
        let Envelope::Outcome { re, outcome, .. } = envelope else { return Err(format!("to nobody: {envelope:?}")) };
        let (target, before) = (*re as usize, self.links.len());
        match outcome {
            SendOutcome::Answer(_) => {
                let linked = &self.oracle.linked[target];
                if linked.unlinked_once && !linked.unlinking {
                    // It has heard so first, and has come back as another one.
                    return Ok(());
                }
                ensure(self.oracle.is_unlinked(&self.store, target), || {
                    format!("device: the operator is told that {target} is unlinked, and it is linked")
                })?;
                self.coverage.mark("device: revoked");
                self.oracle.linked[target].gone.get_or_insert((self.now, before));
                Ok(())
            }
            SendOutcome::Refused(error) if error.retryable => Ok(()),
            refused => {
                let linked = &mut self.oracle.linked[target];
                linked.unlinking = !linked.fresh;
                ensure(linked.fresh, || format!("device: the operator unlinks {target} and gets {refused:?}"))
            }
        }
    }

    /// A list of devices leaves: who asked knows that those are unlinked which it asked for.
    pub fn devices_leave(&mut self, link: LinkId, target: usize, list: &v1::DeviceList) -> Verdict {
        let name = self.oracle.devices[target].1;
        let listed = list.devices.iter().any(|it| it.device == name.as_str());
        ensure(!listed, || format!("device: {target} is unlinked and listed to {link}: {list:?}"))?;
        self.coverage.mark("device: unlinked");
        // It may have heard so first, and have come back as another one.
        let linked = &mut self.oracle.linked[target];
        if linked.unlinking {
            linked.gone.get_or_insert((self.now, self.links.len()));
        }
        Ok(())
    }

    /// What leaves for a device that is unlinked, a welcome as well.
    pub fn may_still_get(&self, link: LinkId) -> Verdict {
        let device = self.links[link].device;
        let gone = self.oracle.linked[device].gone.filter(|(_, before)| link < *before);
        let late = gone.is_some_and(|(at, _)| self.now > at + self.oracle.under_way_us);
        ensure(!late, || format!("device: {device} is still served on {link}, and was unlinked: {gone:?}"))
    }

    /// The client of a device was told that it is none any more: it goes, or comes back as another one with nothing.
    pub fn device_was_unlinked(&mut self, device: usize, code: u16) -> bool {
        // A token that is not taken says so only if it is true: whoever asked may have been refused.
        if !matches!(code, 4501 | 4503) || !self.oracle.is_unlinked(&self.store, device) {
            return false;
        }
        let back = self.plan.is_steady() && self.dice.percent(50);
        let unsent = std::mem::take(&mut self.devices[device].unsent);
        for send in unsent {
            // What became of it nobody will hear.
            let cmid = ClientMessageId::from_bytes(&send.client_message_id);
            if let Some((cmid, sending)) = cmid.and_then(|cmid| self.oracle.sends.remove_entry(&cmid)) {
                let sending = Sending { asked: u32::MAX, ..sending };
                self.oracle.refused.insert(cmid, sending);
            }
        }
        let (unix_ms, life) = (self.clocks().unix_us / 1_000, self.devices[device].life + 1);
        let it = &mut self.devices[device];
        (it.away, it.gone, it.link, it.life) = (true, !back, None, life);
        it.unstored.clear();
        it.reads.iter_mut().for_each(|read| *read = 0);
        if back {
            (it.issued_ms, it.exp_ms, it.seed) = (unix_ms + 1, 0, it.seed | 2);
            self.coverage.mark("device: linked again");
            self.oracle.wiped(&self.store, device);
            self.at(self.now + 10 * MS, Event::Comeback { device, life });
        }
        true
    }
}

impl Oracle {
    /// Whether a device was asked to be unlinked and is not in its user's list.
    pub fn is_unlinked(&self, store: &FaultyStore, device: usize) -> bool {
        let (user, name) = self.devices[device];
        let key = DocumentKey::Devices(self.users[user].clone());
        let list = || match store.read(&StoreRequest::ReadDocument { tag: 0, key }) {
            Some(Outcome::Document(Some((_, bytes)))) => DeviceList::decode(&bytes).unwrap_or_default(),
            _ => DeviceList::default(),
        };
        self.linked[device].unlinking && list().find(name).is_none()
    }

    /// The last record of a conversation that a device has not to be told of.
    pub fn begin(&self, device: usize, peer: usize) -> Seq {
        self.linked[device].begins.get(peer).copied().unwrap_or(0)
    }

    /// Whether a device is linked, as far as is known, and was when this record came.
    pub fn is_linked_since(&self, device: usize, peer: usize, seq: Seq) -> bool {
        let linked = &self.linked[device];
        !linked.fresh && !linked.unlinking && linked.gone.is_none() && self.begin(device, peer) < seq
    }

    /// What an app stores after that is not the device's any more.
    pub fn is_gone(&self, device: usize) -> bool {
        self.linked[device].gone.is_some()
    }

    fn wiped(&mut self, store: &FaultyStore, device: usize) {
        let user = self.devices[device].0;
        for peer in 0..self.peers() {
            self.had[user][peer] = self.prefix(store, device, peer).max(self.had[user][peer]);
            self.held[device][peer] = Held::default();
        }
        self.linked[device] = Linked { fresh: true, unlinked_once: true, ..Linked::default() };
    }

    /// What the devices of this device's user are marked to have, at most.
    fn most_marked(&self, store: &FaultyStore, device: usize, peer: usize) -> Seq {
        let user = self.devices[device].0;
        let room = self.conversation(user, peer);
        let of = |(of, name): &(usize, _)| match *of == user {
            true => store.register(&RegisterKey::Delivered(room, self.users[user].clone(), *name)),
            false => 0,
        };
        self.devices.iter().map(of).max().unwrap_or(0)
    }

    fn begins(&mut self, store: &FaultyStore, device: usize, peer: usize) -> Verdict {
        let (user, name) = self.devices[device];
        let key = RegisterKey::Delivered(self.conversation(user, peer), self.users[user].clone(), name);
        let begin = store.register(&key);
        let (has, marked) = (self.delivered(store, user, peer), self.linked[device].marked[peer]);
        ensure(begin <= has, || format!("device: {device} begins at {begin} of {peer}, its user has {has}"))?;
        ensure(begin >= marked, || format!("device: {device} begins at {begin} of {peer}, its user had {marked}"))?;
        let begins = &mut self.linked[device].begins;
        begins.resize(begins.len().max(peer + 1), 0);
        begins[peer] = begin;
        let held = &mut self.held[device][peer];
        (held.kept, held.given, held.stored) = (0, begin, begin);
        Ok(())
    }
}
