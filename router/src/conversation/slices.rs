//! Bodies with a ciphertext for each device: compared with the device lists of those who get them, before the append.
//!
//! Guarantees: a sliced message that is stored names every device of every member but the sending one, once, with its
//! registration id, and no other; a KEY_DISTRIBUTION names a part of them. The lists are as read from the store after the
//! message was proposed: a device that is linked while it is on its way may miss it. Never does: look into a slice.

use super::allow::No;
use super::{Conversation, Waiting};
use crate::Router;
use crate::frozen::{Frozen, Read, Reader, RestoreError};
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use crate::user::devices::DeviceList;
use bytes::Bytes;
use ringpost_persist::{Body, DocumentKey, Outcome, StoreRequest};
use ringpost_proto::id::UserKey;
use ringpost_proto::limits::SLICES;
use ringpost_proto::v1;
use ringpost_proto::v1::kind::Value as Kind;
use std::collections::BTreeSet;

/// The device lists that a proposal is compared with, as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    /// Of the reads under way or done; 0: none was asked for.
    ticket: u64,
    left: u32,
    read: Vec<(UserKey, DeviceList)>,
}

impl Lists {
    pub fn are_asked(&self) -> bool {
        self.ticket != 0 && self.left > 0
    }

    fn of(&self, user: &UserKey) -> Option<&DeviceList> {
        self.read.iter().find(|(other, _)| other == user).map(|(_, list)| list)
    }
}

impl Conversation {
    /// Whether the slices of a proposal are for those that they must be for.
    pub(super) fn allows_slices(&self, waiting: &Waiting) -> Result<(), No> {
        let proposal = &waiting.proposal;
        let Body::Slices(bytes) = &proposal.body else { return Ok(()) };
        let slices = slices_of(bytes);
        let subset = proposal.message_kind == Kind::KeyDistribution;
        let users = if subset { self.named_members(&proposal.sender, &slices) } else { self.recipients()? };
        if !users.iter().all(|user| waiting.lists.of(user).is_some()) {
            return Err(No::Lists(users));
        }
        let mut mismatch = v1::DeviceMismatch::default();
        let mut expected = BTreeSet::new();
        for user in &users {
            let own = *user == proposal.sender;
            for device in waiting.lists.of(user).map_or(&[][..], DeviceList::devices) {
                if own && device.device == proposal.device {
                    continue;
                }
                let (name, id) = (device.device.as_str(), device.registration_id);
                expected.insert((user.user(), name));
                match slices.iter().find(|it| it.user == user.user() && it.device == name) {
                    Some(slice) if slice.registration_id == id => {}
                    Some(_) => mismatch.stale.push(device_name(user.user(), name, id)),
                    None if subset => {}
                    None => mismatch.missing.push(device_name(user.user(), name, id)),
                }
            }
        }
        let extra = slices.iter().filter(|it| !expected.contains(&(it.user.as_str(), it.device.as_str())));
        mismatch.extra = extra.map(|it| device_name(&it.user, &it.device, it.registration_id)).collect();
        let agrees = mismatch == v1::DeviceMismatch::default();
        if agrees { Ok(()) } else { Err(refusal::device_mismatch(mismatch).into()) }
    }

    /// The members, none of whom may be left out.
    fn recipients(&self) -> Result<Vec<UserKey>, No> {
        // Those without a device aside, more could not be named; and each is a read of the store.
        if self.roster.current_len() > SLICES + 1 {
            let message = format!("at most {SLICES} members; beyond, distribute a key and send one payload");
            return Err(refusal::too_many_members(message).into());
        }
        Ok(self.roster.current().map(|member| member.user.clone()).collect())
    }

    /// Of the users that slices name, those who are members.
    fn named_members(&self, sibling: &UserKey, slices: &[v1::Slice]) -> Vec<UserKey> {
        let names: BTreeSet<&str> = slices.iter().map(|slice| slice.user.as_str()).collect();
        let users = names.into_iter().filter_map(|name| sibling.sibling(name).ok());
        users.filter(|user| self.roster.is_member(user)).collect()
    }
}

pub(crate) fn slices_of(bytes: &Bytes) -> Vec<v1::Slice> {
    <v1::Slices as prost::Message>::decode(bytes.clone()).map(|it| it.slices).unwrap_or_default()
}

fn device_name(user: &str, device: &str, registration_id: u32) -> v1::DeviceName {
    v1::DeviceName { user: user.to_owned(), device: device.to_owned(), registration_id }
}

impl Router {
    /// Reads the lists of these users for the proposal with this ticket.
    pub(super) fn ask_lists(&mut self, conversation: Key, ticket: u64, users: Vec<UserKey>) {
        for user in users {
            let key = DocumentKey::Devices(user.clone());
            let pending = Pending::Lists { conversation, ticket, user };
            self.ask(pending, |tag| StoreRequest::ReadDocument { tag, key });
        }
    }

    pub(crate) fn list_read(&mut self, key: Key, ticket: u64, user: UserKey, outcome: Outcome) {
        let list = self.devices_in(outcome);
        let Some(room) = self.conversations.get_mut(key) else { return };
        let Some(at) = room.queue.iter().position(|waiting| waiting.lists.ticket == ticket) else { return };
        let Some(list) = list else {
            if let Some(waiting) = room.queue.remove(at) {
                self.refuse(&waiting, refusal::unavailable());
            }
            return self.append_next(key);
        };
        let lists = &mut room.queue[at].lists;
        lists.read.push((user, list));
        lists.left = lists.left.saturating_sub(1);
        if lists.left == 0 {
            self.append_next(key);
        }
    }
}

impl Waiting {
    /// From here on the answers for `users` are awaited under this ticket.
    pub(super) fn await_lists(&mut self, ticket: u64, users: &[UserKey]) {
        self.lists = Lists { ticket, left: users.len() as u32, read: Vec::new() };
    }
}

impl Frozen for Lists {
    fn write(&self, out: &mut Vec<u8>) {
        self.ticket.write(out);
        self.left.write(out);
        let read: Vec<_> = self.read.iter().map(|(user, list)| (user.clone(), list.encode())).collect();
        read.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Read<Self> {
        let (ticket, left) = (Frozen::read(from)?, Frozen::read(from)?);
        let stored: Vec<(UserKey, Bytes)> = Frozen::read(from)?;
        let list = |(user, bytes): (UserKey, Bytes)| DeviceList::decode(&bytes).map(|list| (user, list));
        let read: Result<_, _> = stored.into_iter().map(list).collect();
        Ok(Self { ticket, left, read: read.map_err(|_| RestoreError("a list of devices"))? })
    }
}
