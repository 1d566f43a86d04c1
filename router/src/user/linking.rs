//! Changes of a user's list of devices: linking, unlinking, and when a device was seen.
//!
//! Guarantees: a change that is made twice is as one; a device that is unlinked loses its session with the answer; devices that
//! nobody saw for long go with the next change. Never does: write that a device was seen more often than once in
//! [`SEEN_MS`], wait for that to be written.

use super::Edit;
use super::devices::{Admission, DeviceList};
use crate::Router;
use crate::boundary::Identity;
use crate::envelope::{Envelope, SendOutcome, SessionRef};
use crate::frozen::{frozen, frozen_enum};
use crate::refusal;
use crate::session::{Session, State};
use crate::slab::Key;
use bytes::Bytes;
use ringpost_persist::Outcome;
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{DeviceId, UserKey};
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use smallvec::SmallVec;
use std::sync::Arc;

/// Within this time it is not written again that a device was seen, milliseconds.
pub(crate) const SEEN_MS: u64 = 60_000;

/// A change that is under way.
#[derive(Debug)]
pub(crate) struct DeviceEdit {
    change: DeviceChange,
    /// Devices with a session when it was asked for.
    here: SmallVec<[DeviceId; 2]>,
    dormant_ms: u64,
    /// Of an unlinking: when the newest token of the device's session was issued, by a clock that may be ahead.
    issued_ms: u64,
    /// Whether the change itself is made by what is written, and how many dormant devices go with it.
    made: bool,
    dropped: u32,
}

#[derive(Debug)]
pub(crate) enum DeviceChange {
    /// The device of a session that is loading. `raised`: where it starts in each conversation is written.
    Link {
        session: Key,
        identity: Arc<Identity>,
        raised: bool,
    },
    Unlink {
        device: DeviceId,
        by: Unlinker,
    },
    Seen {
        device: DeviceId,
    },
    /// Somebody wrote back to the user.
    Answered,
}

/// Who unlinks a device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unlinker {
    /// Another device of the user, or the device itself, in its request `re`.
    Session { session: Key, re: u64, device: DeviceId },
    /// The operator of the server.
    Operator { by: SessionRef, re: u64 },
}

impl DeviceEdit {
    /// The document with the change; `None`: it is as asked for.
    pub(super) fn apply(&mut self, bytes: &Bytes, now_ms: u64) -> Result<Option<Bytes>, v1::Error> {
        let mut list = DeviceList::decode(bytes).map_err(|_| refusal::unavailable())?;
        self.dropped = list.unlink_dormant(self.dormant_ms, &self.here, now_ms) as u32;
        let changes = match &self.change {
            DeviceChange::Link { identity, raised, .. } => link(&mut list, identity, *raised, now_ms)?,
            DeviceChange::Unlink { device, by } => {
                // The token that its session has must not count any more.
                unlink(&mut list, *device, *by, now_ms.max(self.issued_ms))?
            }
            DeviceChange::Answered => list.answer(),
            DeviceChange::Seen { device } => {
                let due = !list.was_seen(*device, SEEN_MS, now_ms);
                list.seen(*device, now_ms);
                due
            }
        };
        self.made = changes;
        if !changes && self.dropped == 0 {
            return Ok(None);
        }
        self.here.iter().for_each(|device| list.seen(*device, now_ms));
        Ok(Some(list.encode()))
    }
}

/// A refusal sends the session back to the list, to see what it is there.
fn link(list: &mut DeviceList, identity: &Identity, raised: bool, now_ms: u64) -> Result<bool, v1::Error> {
    match list.admission(identity.device, identity.issued_ms, identity.primary) {
        Admission::Known => return Ok(false),
        Admission::Promoted | Admission::First => {}
        Admission::Further if raised => {}
        Admission::Further | Admission::Full | Admission::Revoked => {
            return Err(refusal::device_limit("the devices are others now"));
        }
    }
    list.link(identity.device, identity.primary, now_ms);
    Ok(true)
}

fn unlink(list: &mut DeviceList, device: DeviceId, by: Unlinker, now_ms: u64) -> Result<bool, v1::Error> {
    if let Unlinker::Session { device: own, .. } = by
        && !list.may_unlink(own, device)
    {
        return Err(refusal::forbidden("only the primary device may unlink another one"));
    }
    if list.unlink(device, now_ms) {
        return Ok(true);
    }
    if list.was_unlinked(device) { Ok(false) } else { Err(refusal::not_found("device", "there is no such device")) }
}

impl Router {
    pub(crate) fn edit_devices(&mut self, user: &UserKey, change: DeviceChange) {
        let here = self.devices_here(user);
        let issued_ms = match &change {
            DeviceChange::Unlink { device, .. } => self.newest_token(user, *device),
            _ => 0,
        };
        let dormant_ms = self.settings.dormant_ms;
        let edit = DeviceEdit { change, here, dormant_ms, issued_ms, made: false, dropped: 0 };
        self.edit(user.clone(), Edit::Devices(Box::new(edit)));
    }

    /// The list of a user's devices that the store has; `None`: it could not be read.
    pub(crate) fn devices_in(&mut self, outcome: Outcome) -> Option<DeviceList> {
        let Outcome::Document(found) = outcome else { return None };
        let list = DeviceList::decode(&found.unwrap_or_default().1);
        self.counters.devices_unreadable += u64::from(list.is_err());
        list.ok()
    }

    /// Devices of a user that have a session.
    pub(crate) fn devices_here(&self, user: &UserKey) -> SmallVec<[DeviceId; 2]> {
        let sessions = self.users.get(user).into_iter().flat_map(|entry| entry.sessions.iter());
        sessions.filter_map(|key| self.sessions.get(key)).map(|session| session.device).collect()
    }

    /// When the newest token was issued that a session of the device has; 0: it has none.
    fn newest_token(&self, user: &UserKey, device: DeviceId) -> u64 {
        let sessions = self.users.get(user).into_iter().flat_map(|entry| entry.sessions.iter());
        let sessions = sessions.filter_map(|key| self.sessions.get(key));
        sessions.filter(|it| it.device == device).map(|it| it.issued_ms).max().unwrap_or(0)
    }

    /// The list is this now.
    pub(super) fn devices_edited(&mut self, user: &UserKey, edit: DeviceEdit, bytes: &[u8], wrote: bool) {
        let list = DeviceList::decode(bytes).unwrap_or_default();
        if wrote {
            self.counters.devices_dormant += u64::from(edit.dropped);
        }
        match edit.change {
            DeviceChange::Link { session, .. } => {
                self.counters.devices_linked += u64::from(wrote && edit.made);
                self.device_linked(session, &list);
            }
            DeviceChange::Unlink { device, by } => {
                self.counters.devices_unlinked += u64::from(wrote && edit.made);
                match by {
                    Unlinker::Session { session, re, .. } => {
                        let list = self.wire_devices(user, &list);
                        self.answer(session, re, Answer::DeviceList(list));
                    }
                    Unlinker::Operator { by, re } => {
                        let outcome = SendOutcome::Answer(Box::new(Answer::Ok(v1::Ok {})));
                        self.post(by.shard, Envelope::Outcome { to: by, re, outcome });
                    }
                }
                self.revoke(user, device, &list);
            }
            DeviceChange::Seen { .. } | DeviceChange::Answered => {}
        }
    }

    pub(super) fn devices_edit_failed(&mut self, edit: DeviceEdit, error: v1::Error) {
        match edit.change {
            DeviceChange::Link { session, .. } => self.link_failed(session, error.retryable),
            DeviceChange::Unlink { by: Unlinker::Session { session, re, .. }, .. } => {
                self.answer(session, re, Answer::Error(error));
            }
            DeviceChange::Unlink { by: Unlinker::Operator { by, re }, .. } => {
                let outcome = SendOutcome::Refused(Box::new(error));
                self.post(by.shard, Envelope::Outcome { to: by, re, outcome });
            }
            // It is written the next time.
            DeviceChange::Seen { .. } | DeviceChange::Answered => {}
        }
    }

    /// Closes the sessions that the device has on tokens of before.
    fn revoke(&mut self, user: &UserKey, device: DeviceId, list: &DeviceList) {
        let sessions = self.users.get(user).map(|entry| entry.sessions.list()).unwrap_or_default();
        for key in sessions {
            let is_it = |it: &Session| it.device == device && it.issued_ms <= list.floor_of(device);
            if !self.sessions.get(key).is_some_and(is_it) {
                continue;
            }
            self.end(key, CloseCode::DeviceRevoked, "the device was unlinked");
            // Acks that come now are of a device that is none any more.
            if let Some(session) = self.sessions.get_mut(key).filter(|it| it.state == State::Ended) {
                session.stop_work(&mut self.work_bytes);
            }
        }
    }

    /// The user's own list; who has a session is seen now.
    pub(crate) fn wire_devices(&self, user: &UserKey, list: &DeviceList) -> v1::DeviceList {
        let (here, now_ms) = (self.devices_here(user), self.now_ms());
        let devices = list.devices().iter().map(|it| v1::Device {
            device: it.device.as_str().to_owned(),
            primary: it.primary,
            registration_id: it.registration_id,
            last_seen_ms: if here.contains(&it.device) { now_ms } else { it.seen_ms },
        });
        v1::DeviceList { devices: devices.collect(), version: list.version() }
    }

    /// A device goes, or is here for long: that is written, unless it was lately.
    pub(crate) fn note_seen(&mut self, key: Key) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if now_ms < session.seen_ms.saturating_add(SEEN_MS) {
            return;
        }
        session.seen_ms = now_ms;
        let (user, device) = (session.user.clone(), session.device);
        self.edit_devices(&user, DeviceChange::Seen { device });
    }
}

frozen!(DeviceEdit { change, here, dormant_ms, issued_ms, made, dropped });
frozen_enum!(DeviceChange {
    0 = Link { session: session, identity: identity, raised: raised },
    1 = Unlink { device: device, by: by },
    2 = Seen { device: device },
    3 = Answered {},
});
frozen_enum!(Unlinker {
    0 = Session { session: session, re: re, device: device },
    1 = Operator { by: by, re: re },
});
