//! The device of a session that is loading: is it one of its user's, and if not, may it become one?
//!
//! Guarantees: nobody is welcomed whose device is not linked; a device that is linked beside others is so only after it is
//! written where it starts in each conversation, so that a crash in between leaves it unlinked; who is linked already writes
//! nothing. Where a new device starts: behind what any device of the user has. What none of them has received it gets, too,
//! for otherwise its acks would claim that the user has it.

use super::State;
use crate::Router;
use crate::acked::Lingering;
use crate::frozen::frozen_enum;
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use crate::user::devices::{Admission, DeviceList};
use crate::user::linking::DeviceChange;
use ringpost_persist::{DocumentKey, Outcome, Raise, RegisterKey, StoreRequest, UserEntry};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{DeviceId, Seq};
use ringpost_proto::limits::DEVICES;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// The list is to be read.
    #[default]
    Unknown,
    /// It is being read, or changed.
    Asked,
    /// Where the device starts is to be written, as soon as every conversation was read.
    Starting,
    /// That is being written; what is left of it is in the loading.
    Raising,
    Linked,
}

impl super::Loading {
    /// Where a device starts that was not linked before: behind what any of its user's devices has.
    pub(super) fn start(entry: &UserEntry, acked: &Lingering) -> Seq {
        let (first, last) = ((entry.conversation, DeviceId::FIRST), (entry.conversation, DeviceId::LAST));
        let late = acked.range(first..=last).map(|(_, (seq, _))| *seq);
        let written = entry.delivered.iter().map(|(_, seq)| *seq);
        late.chain(written).max().unwrap_or(0)
    }
}

impl Router {
    pub(super) fn read_devices(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let document = DocumentKey::Devices(session.user.clone());
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        if loading.link == Link::Unknown {
            loading.link = Link::Asked;
            let pending = Pending::Devices { session: key };
            self.ask(pending, |tag| StoreRequest::ReadDocument { tag, key: document });
        }
    }

    pub(crate) fn devices_read(&mut self, key: Key, outcome: Outcome) {
        let dormant_ms = self.settings.dormant_ms;
        let now_ms = self.now_ms();
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.state == State::Loading) else {
            return;
        };
        let loading = session.work.as_ref().and_then(|work| work.loading.as_ref());
        let Some(identity) = loading.and_then(|loading| loading.identity.clone()) else { return };
        let Some(mut list) = self.devices_in(outcome) else { return self.link_failed(key, true) };
        let here = self.devices_here(&identity.user);
        let dormant = list.unlink_dormant(dormant_ms, &here, now_ms) > 0;
        match list.admission(identity.device, identity.issued_ms, identity.primary) {
            Admission::Known => {
                self.start_as_written(key);
                self.device_linked(key, &list);
                if dormant {
                    self.edit_devices(&identity.user, DeviceChange::Seen { device: identity.device });
                }
            }
            Admission::Promoted | Admission::First => {
                let change = DeviceChange::Link { session: key, identity: identity.clone(), raised: false };
                self.edit_devices(&identity.user, change);
            }
            Admission::Further => self.start_further(key),
            Admission::Revoked => {
                self.end(key, CloseCode::Unauthenticated, "a token of before the device was unlinked")
            }
            Admission::Full => self.refuse_device(key),
        }
    }

    fn refuse_device(&mut self, key: Key) {
        self.counters.device_limits += 1;
        let Some(session) = self.sessions.get(key) else { return };
        let hello_id = session.work.as_ref().and_then(|it| it.loading.as_ref()).map_or(0, |it| it.hello_id);
        let error = refusal::device_limit(format!("a user has at most {DEVICES} devices"));
        let conn = session.conn;
        self.refuse_now(conn, hello_id, error);
        self.end(key, CloseCode::Unauthenticated, "too many devices");
    }

    /// The conversations are read from the beginning, now for where the device starts.
    fn start_further(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        loading.link = Link::Starting;
        if !std::mem::replace(&mut loading.further, true) {
            loading.list_anew();
            self.load(key);
        } else {
            self.raise_starts(key);
        }
    }

    /// A hello of before has linked the device after all: it starts where that one wrote, not where this one was about to.
    fn start_as_written(&mut self, key: Key) {
        let work = self.sessions.get_mut(key).and_then(|session| session.work.as_mut());
        let Some(loading) = work.and_then(|work| work.loading.as_mut()).filter(|loading| loading.further) else {
            return;
        };
        loading.further = false;
        loading.starts.clear();
        loading.list_anew();
        self.load(key);
    }

    /// Writes where the device starts, once that is known.
    pub(super) fn raise_starts(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (user, device) = (session.user.clone(), session.device);
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        if loading.link != Link::Starting || !loading.listed {
            return;
        }
        loading.link = Link::Raising;
        let starts = loading.read.iter().filter(|(_, behind)| behind.next > 1);
        let register = |conversation| RegisterKey::Delivered(conversation, user.clone(), device);
        let starts = starts.map(|(id, behind)| Raise::new(register(*id), behind.next - 1));
        // Last, so that none of them is written after the start that is beyond it.
        let missed = loading.missed.iter().flat_map(|(id, missed)| missed.iter().map(move |range| (*id, range)));
        let missed = missed.map(|(id, (from, to))| Raise::new(RegisterKey::Missed(id, user.clone(), *from), *to));
        loading.starts = starts.chain(missed).collect();
        self.raise_more_starts(key);
    }

    fn raise_more_starts(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        if loading.starts.is_empty() {
            loading.link = Link::Asked;
            let Some(identity) = loading.identity.clone() else { return };
            let change = DeviceChange::Link { session: key, identity: identity.clone(), raised: true };
            return self.edit_devices(&identity.user, change);
        }
        let raises = loading.starts.split_off(loading.starts.len().saturating_sub(self.settings.raises));
        self.ask(Pending::Starts { session: key }, |tag| StoreRequest::Raise { tag, raises });
    }

    pub(crate) fn starts_raised(&mut self, key: Key, outcome: Outcome) {
        match outcome {
            Outcome::Raised => self.raise_more_starts(key),
            _ => self.link_failed(key, true),
        }
    }

    /// The device of the session is linked.
    pub(crate) fn device_linked(&mut self, key: Key, list: &DeviceList) {
        let (now_ms, unix_ms) = (self.now.mono_ms, self.now_ms());
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.state == State::Loading) else {
            return;
        };
        let device = session.device;
        session.floor_ms = list.floor_of(device);
        let seen_ms = list.find(device).map_or(unix_ms, |it| it.seen_ms);
        session.seen_ms = now_ms.saturating_sub(unix_ms.saturating_sub(seen_ms));
        if let Some(work) = session.work.as_mut() {
            work.others = Some(list.devices().iter().map(|it| it.device).filter(|it| *it != device).collect());
            work.loading.iter_mut().for_each(|loading| loading.link = Link::Linked);
        }
        self.welcome_if_loaded(key);
    }

    /// It could not be linked: `later`, because the store does not answer, or at once, because the list is another one now.
    pub(crate) fn link_failed(&mut self, key: Key, later: bool) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.state == State::Loading) else {
            return;
        };
        let Some(loading) = session.work.as_mut().and_then(|work| work.loading.as_mut()) else { return };
        loading.link = Link::Unknown;
        if later { self.load_again(key) } else { self.read_devices(key) }
    }
}

frozen_enum!(Link { 0 = Unknown {}, 1 = Asked {}, 2 = Starting {}, 3 = Raising {}, 4 = Linked {} });
