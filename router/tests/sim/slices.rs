//! Messages with a ciphertext for each device: whom an app encrypts for, and whether what became of it is right by the lists
//! of devices that there were.

use super::dice::Dice;
use super::fold::Meant;
use super::oracle::{Oracle, Sending, Verdict, ensure};
use super::world::World;
use prost::Message;
use ringpost_persist::faulty::FaultyStore;
use ringpost_persist::{Body, DocumentKey, Outcome, Record, StoreRequest};
use ringpost_proto::id::{DeviceId, Seq};
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::{self, details::Details};
use ringpost_router::DeviceList;
use std::collections::BTreeSet;

/// What is wrong with the slices of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    Missing,
    Extra,
    Stale,
}

/// The devices of a user, with their registration ids.
type Devices = Vec<(DeviceId, u32)>;

/// The lists of devices that there were.
#[derive(Default)]
pub struct Lists {
    /// By user: since when (microseconds) it was so.
    were: Vec<Vec<(u64, Devices)>>,
    /// Of the store, when they were looked at last.
    written: Option<u64>,
}

/// One user's part of what is wrong: missing, extra, stale; device and registration id.
type Part = [BTreeSet<(String, u32)>; 3];

impl World {
    pub fn app_sends_sliced(&mut self, device: usize, to: usize, key: bool, flaw: Flaw) -> Verdict {
        let (device, epoch) = self.group_sender(device, to);
        self.look_at_lists();
        let mut slices = self.slices_for(device, to);
        if key {
            let keep = self.dice.roll();
            let mut at = 0;
            slices.retain(|_| {
                at += 1;
                keep >> (at % 64) & 1 == 1
            });
        }
        spoil(&mut slices, flaw, &mut self.dice);
        let kind = if key { Kind::KeyDistribution } else { [Kind::Data, Kind::Text][self.dice.pick(2)] };
        self.dispatch_sliced(device, to, Meant { kind, ref_seq: 0, epoch }, slices)
    }

    /// For each device of everybody there but the one that sends, as the lists are now.
    fn slices_for(&mut self, device: usize, to: usize) -> Vec<v1::Slice> {
        let (user, name) = self.oracle.devices[device];
        let fold = self.oracle.fold(&self.store, user, to);
        let members: Vec<usize> = fold.members(fold.head).collect();
        let users = if self.oracle.is_group(to) { members } else { BTreeSet::from([user, to]).into_iter().collect() };
        let number = self.oracle.sends.len();
        let mut slices = Vec::new();
        for other in users {
            for (device, registration_id) in self.oracle.devices_of(other) {
                if (other, *device) != (user, name) {
                    let bytes = format!("{number} for u{other} on {}", device.as_str()).into();
                    let (user, device) = (format!("u{other}"), device.as_str().to_owned());
                    slices.push(v1::Slice { user, device, registration_id: *registration_id, bytes });
                }
            }
        }
        slices
    }

    fn dispatch_sliced(&mut self, device: usize, to: usize, meant: Meant, slices: Vec<v1::Slice>) -> Verdict {
        // Without any there is nothing to say, and nobody to say it to.
        if slices.is_empty() { Ok(()) } else { self.dispatch_all(device, to, meant, None, slices) }
    }

    /// An app that is told for which devices it has to encrypt does that, under a new id.
    pub fn slice_again(&mut self, device: usize, send: &v1::Send, error: &v1::Error) -> Verdict {
        let Some(mismatch) = mismatch_of(error) else { return Ok(()) };
        let of = |names: &[v1::DeviceName], it: &v1::Slice| {
            let found = names.iter().find(|name| (&name.user, &name.device) == (&it.user, &it.device));
            found.map(|name| name.registration_id)
        };
        let flaws = [
            (&mismatch.missing, "sliced: missing"),
            (&mismatch.extra, "sliced: extra"),
            (&mismatch.stale, "sliced: stale"),
        ];
        flaws.into_iter().filter(|(names, _)| !names.is_empty()).for_each(|(_, mark)| self.coverage.mark(mark));
        let mut slices = send.slices.clone();
        slices.retain(|it| of(&mismatch.extra, it).is_none());
        for slice in &mut slices {
            slice.registration_id = of(&mismatch.stale, slice).unwrap_or(slice.registration_id);
        }
        slices.extend(mismatch.missing.iter().map(|name| {
            let bytes = format!("again for {} on {}", name.user, name.device).into();
            let (user, device) = (name.user.clone(), name.device.clone());
            v1::Slice { user, device, registration_id: name.registration_id, bytes }
        }));
        let to = self.oracle.peer(&send.to)?;
        self.coverage.mark("sliced: again");
        self.dispatch_sliced(device, to, Meant { kind: send.kind(), ref_seq: 0, epoch: 0 }, slices)
    }

    /// Which devices there are is noted whenever it changes.
    pub fn look_at_lists(&mut self) {
        self.oracle.look_at_lists(&self.store, self.now);
    }

    /// What a page says that the device need not have: it has expired, or is not for it.
    pub fn skips_leave(&mut self, device: usize, page: &v1::Page, peer: usize) -> Verdict {
        let user = self.devices[device].user;
        self.oracle.fold(&self.store, user, peer);
        let log = self.store.log(&self.oracle.conversation(user, peer));
        for skip in &page.skips {
            for record in log.iter().filter(|record| (skip.from_seq..=skip.to_seq).contains(&record.seq)) {
                let passed = self.oracle.may_pass(&self.store, device, peer, record.seq);
                ensure(passed, || format!("I5: device {device} is to skip {} of {peer}, which is for it", record.seq))?;
                if matches!(record.body, Body::Slices(_)) && !self.oracle.is_own(device, record) {
                    self.coverage.mark("sliced: skipped");
                }
            }
        }
        Ok(())
    }
}

fn spoil(slices: &mut Vec<v1::Slice>, flaw: Flaw, dice: &mut Dice) {
    let at = dice.pick(slices.len().max(1));
    match flaw {
        Flaw::Missing if slices.len() > 1 => drop(slices.remove(at)),
        Flaw::Stale if !slices.is_empty() => slices[at].registration_id += 1,
        Flaw::Extra => {
            let (user, device) = (["u0", "u1", "nobody"][dice.pick(3)].into(), "ghost".into());
            slices.push(v1::Slice { user, device, registration_id: 0, bytes: "for nobody".into() });
        }
        _ => {}
    }
}

fn mismatch_of(error: &v1::Error) -> Option<&v1::DeviceMismatch> {
    match error.details.as_ref()?.details.as_ref()? {
        Details::DeviceMismatch(mismatch) => Some(mismatch),
        _ => None,
    }
}

/// The body that a record with these slices has.
pub fn body_of(slices: &[v1::Slice]) -> Vec<u8> {
    let mut slices = slices.to_vec();
    slices.sort_by(|a, b| (&a.user, &a.device).cmp(&(&b.user, &b.device)));
    v1::Slices { slices }.encode_to_vec()
}

impl Oracle {
    pub fn look_at_lists(&mut self, store: &FaultyStore, now: u64) {
        let written = store.documents();
        if self.lists.written.replace(written) == Some(written) {
            return;
        }
        self.lists.were.resize(self.users.len(), Vec::new());
        for (user, were) in self.users.iter().zip(&mut self.lists.were) {
            let request = StoreRequest::ReadDocument { tag: 0, key: DocumentKey::Devices(user.clone()) };
            let list = match store.read(&request) {
                Some(Outcome::Document(Some((_, bytes)))) => DeviceList::decode(&bytes).unwrap_or_default(),
                _ => DeviceList::default(),
            };
            let devices: Devices = list.devices().iter().map(|it| (it.device, it.registration_id)).collect();
            if were.last().is_none_or(|(_, last)| *last != devices) {
                were.push((now, devices));
            }
        }
    }

    fn devices_of(&self, user: usize) -> &[(DeviceId, u32)] {
        self.lists.were.get(user).and_then(|were| were.last()).map_or(&[], |(_, devices)| devices)
    }

    /// Every list of a user that somebody may have read since then.
    fn lists_since(&self, user: usize, since: u64) -> impl Iterator<Item = &[(DeviceId, u32)]> {
        let were = self.lists.were.get(user).map_or(&[][..], Vec::as_slice);
        let first = were.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        were[first..].iter().map(|(_, devices)| devices.as_slice())
    }

    /// The slices that a record has, or had before it was taken back.
    fn slices_of(&self, record: &Record) -> &[v1::Slice] {
        if !matches!(record.body, Body::Slices(_) | Body::Erased(_)) {
            return &[];
        }
        let sending = self.sends.get(&record.cmid).or_else(|| self.refused.get(&record.cmid));
        sending.map_or(&[], |sending| sending.slices.as_slice())
    }

    /// The slice for this device; `Err`: the record has none at all.
    pub fn slice_for(&self, device: usize, record: &Record) -> Result<Option<&v1::Slice>, ()> {
        let (user, name) = self.devices[device];
        let slices = self.slices_of(record);
        let user = self.users[user].user();
        let own = slices.iter().find(|it| it.user == user && it.device == name.as_str());
        if slices.is_empty() { Err(()) } else { Ok(own) }
    }

    /// Whether the record is nothing to a device because of its slices.
    pub fn has_no_slice(&self, device: usize, record: &Record) -> bool {
        matches!(self.slice_for(device, record), Ok(None))
    }

    /// Whether a message has a slice for no device of a user that is linked, or was taken back, and no app of the user has it: it
    /// may be told that the user will not get it. Of a key its sender leaves out whom it likes.
    pub fn left_out(&self, store: &FaultyStore, other: usize, user: usize, peer: usize, seq: Seq) -> bool {
        let log = store.log(&self.conversation(user, peer));
        let record = log.get(seq as usize - 1).filter(|record| record.kind != Kind::KeyDistribution);
        let devices = self.devices.iter().enumerate().filter(|(_, (of, _))| *of == other);
        record.is_some_and(|record| {
            let mut devices = devices.map(|(device, _)| device);
            let taken_back = matches!(record.body, Body::Erased(_));
            let theirs = if self.is_group(peer) { peer } else { user };
            let lacks = devices.all(|device| match self.slice_for(device, record) {
                Ok(Some(_)) => !self.is_linked_since(device, theirs, seq),
                Ok(None) => true,
                Err(()) => taken_back,
            });
            let has = !taken_back && self.received[self.room(user, peer)][other].contains(&seq);
            record.sender != self.users[other] && lacks && !has
        })
    }

    /// Whether a message has a slice for no device that a user ever has, so that the user never gets it: one that was taken back
    /// comes to every device as such.
    pub fn is_for_no_device(&self, store: &FaultyStore, other: usize, user: usize, peer: usize, seq: Seq) -> bool {
        let log = store.log(&self.conversation(user, peer));
        let record = log.get(seq as usize - 1).filter(|record| record.kind != Kind::KeyDistribution);
        let mut devices = self.devices.iter().enumerate().filter(|(_, (of, _))| *of == other);
        record.is_some_and(|record| {
            record.sender != self.users[other]
                && !matches!(record.body, Body::Erased(_))
                && self.folded(user, peer).sees(other, record)
                && devices.all(|(device, _)| self.has_no_slice(device, record))
        })
    }

    /// One user's part of what is wrong with slices, were its devices these; `None`: it is no member.
    fn part(&self, sending: &Sending, user: &str, devices: Option<&[(DeviceId, u32)]>) -> Part {
        let (from, own) = self.devices[sending.device];
        let own = (self.users[from].user() == user).then_some(own);
        let devices: Vec<_> =
            devices.unwrap_or_default().iter().filter(|(device, _)| Some(*device) != own).copied().collect();
        let slices: Vec<_> = sending.slices.iter().filter(|it| it.user == user).collect();
        let mut part = Part::default();
        for (device, id) in &devices {
            match slices.iter().find(|it| it.device == device.as_str()) {
                Some(slice) if slice.registration_id == *id => {}
                Some(_) => drop(part[2].insert((device.as_str().into(), *id))),
                None if sending.meant.kind == Kind::KeyDistribution => {}
                None => drop(part[0].insert((device.as_str().into(), *id))),
            }
        }
        let extra = slices.iter().filter(|it| !devices.iter().any(|(device, _)| it.device == device.as_str()));
        part[1] = extra.map(|it| (it.device.clone(), it.registration_id)).collect();
        part
    }

    /// Whether for each user one of its lists since the message was made gives what was told of it (`None`: nothing is wrong),
    /// with the members as of `upto`.
    fn parts_are(&self, sending: &Sending, upto: Seq, told: Option<&v1::DeviceMismatch>) -> bool {
        let from = self.devices[sending.device].0;
        let fold = self.folded(from, sending.to);
        let mut names: BTreeSet<&str> = sending.slices.iter().map(|it| it.user.as_str()).collect();
        names.extend(self.users.iter().map(|user| user.user()));
        names.into_iter().all(|name| {
            let user = self.user(name);
            let is_in = |user: usize| match self.is_group(sending.to) {
                true => fold.is_member(user, upto),
                false => user == from || user == sending.to,
            };
            let said = |names: &[v1::DeviceName]| {
                let of = names.iter().filter(|it| it.user == name);
                of.map(|it| (it.device.clone(), it.registration_id)).collect()
            };
            let told: Part =
                told.map(|told| [said(&told.missing), said(&told.extra), said(&told.stale)]).unwrap_or_default();
            match user.filter(|user| is_in(*user)) {
                None => self.part(sending, name, None) == told,
                Some(user) => {
                    let mut lists = self.lists_since(user, sending.made_us);
                    lists.any(|devices| self.part(sending, name, Some(devices)) == told)
                }
            }
        })
    }

    /// A record with slices has one for each device that there was of every member, and no other.
    pub fn slices_agree(&self, sending: &Sending, seq: Seq) -> Verdict {
        let right = sending.slices.is_empty() || self.parts_are(sending, seq - 1, None);
        ensure(right, || {
            let lists: Vec<_> = self.lists.were.iter().map(|were| were.last()).collect();
            format!("sliced: {:?} is stored at {seq}, the lists were {lists:?}", sending.slices)
        })
    }

    /// DEVICE_MISMATCH names what was wrong at some moment.
    pub fn mismatch_is_right(&mut self, store: &FaultyStore, sending: &Sending, error: &v1::Error) -> bool {
        let from = self.devices[sending.device].0;
        let head = self.fold(store, from, sending.to).head;
        let told =
            mismatch_of(error).filter(|it| !(it.missing.is_empty() && it.extra.is_empty() && it.stale.is_empty()));
        told.is_some_and(|told| (sending.made..=head).any(|upto| self.parts_are(sending, upto, Some(told))))
    }
}
