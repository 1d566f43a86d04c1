//! Questions about devices: one's own, and those that a message with a slice for each must name.

use crate::Router;
use crate::boundary::ConnRef;
use crate::frozen::frozen;
use crate::pending::Pending;
use crate::refusal;
use crate::slab::Key;
use crate::user::devices::Device;
use crate::user::linking::{DeviceChange, Unlinker};
use ringpost_persist::{DocumentKey, Outcome, StoreRequest};
use ringpost_proto::id::{DeviceId, UserKey};
use ringpost_proto::limits::DEVICE_LIST_USERS;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;

/// A deviceLists request on its way: users are asked for one after the other, so one request never floods the store.
#[derive(Debug)]
pub(crate) struct ListsRead {
    session: Key,
    re: u64,
    /// Who asks: that device a message need not be for.
    user: UserKey,
    device: DeviceId,
    left: Vec<UserKey>,
    asked: UserKey,
    lists: Vec<v1::UserDevices>,
}

impl Router {
    pub(super) fn own_devices(&mut self, key: Key, re: u64) {
        let Some((user, _)) = self.identity_of(key) else { return };
        self.begin_request(key);
        let document = DocumentKey::Devices(user);
        self.ask(Pending::OwnDevices { session: key, re }, |tag| StoreRequest::ReadDocument { tag, key: document });
    }

    pub(crate) fn own_devices_read(&mut self, key: Key, re: u64, outcome: Outcome) {
        let Some((user, _)) = self.identity_of(key) else { return };
        let answer = match self.devices_in(outcome) {
            Some(list) => Answer::DeviceList(self.wire_devices(&user, &list)),
            None => Answer::Error(refusal::unavailable()),
        };
        self.answer(key, re, answer);
    }

    pub(super) fn device_unlink(&mut self, key: Key, conn: ConnRef, re: u64, name: &str) {
        let Some((user, own)) = self.identity_of(key) else { return };
        let device = match DeviceId::new(name) {
            Ok(device) => device,
            Err(error) => {
                return self.refuse_now(conn, re, refusal::invalid("device", error.to_string()));
            }
        };
        self.begin_request(key);
        let by = Unlinker::Session { session: key, re, device: own };
        self.edit_devices(&user, DeviceChange::Unlink { device, by });
    }

    pub(super) fn device_lists(&mut self, key: Key, conn: ConnRef, re: u64, names: &[String]) {
        let Some((user, device)) = self.identity_of(key) else { return };
        if names.len() > DEVICE_LIST_USERS {
            return self.refuse_now(conn, re, refusal::too_many("users", DEVICE_LIST_USERS as u32));
        }
        let users: Result<Vec<_>, _> = names.iter().map(|name| user.sibling(name)).collect();
        let mut left = match users {
            Ok(users) => users,
            Err(error) => {
                return self.refuse_now(conn, re, refusal::invalid("users", error.to_string()));
            }
        };
        left.reverse();
        let Some(asked) = left.pop() else {
            return self.frame(conn, re, Answer::DeviceLists(v1::DeviceLists::default()));
        };
        self.begin_request(key);
        self.ask_list(Box::new(ListsRead { session: key, re, user, device, left, asked, lists: Vec::new() }));
    }

    fn ask_list(&mut self, read: Box<ListsRead>) {
        let key = DocumentKey::Devices(read.asked.clone());
        self.ask(Pending::DeviceLists(read), |tag| StoreRequest::ReadDocument { tag, key });
    }

    pub(crate) fn device_list_read(&mut self, mut read: Box<ListsRead>, outcome: Outcome) {
        let Some(list) = self.devices_in(outcome) else {
            return self.answer(read.session, read.re, Answer::Error(refusal::unavailable()));
        };
        let asks = |device: &&Device| read.asked == read.user && device.device == read.device;
        read.lists.push(v1::UserDevices {
            user: read.asked.user().to_owned(),
            version: list.version(),
            devices: list.devices().iter().filter(|it| !asks(it)).map(named).collect(),
        });
        if let Some(user) = read.left.pop() {
            read.asked = user;
            return self.ask_list(read);
        }
        let lists = v1::DeviceLists { lists: read.lists };
        self.answer(read.session, read.re, Answer::DeviceLists(lists));
    }
}

/// What another user is told of a device: not when it was seen.
fn named(device: &Device) -> v1::Device {
    v1::Device {
        device: device.device.as_str().to_owned(),
        registration_id: device.registration_id,
        ..v1::Device::default()
    }
}

frozen!(ListsRead { session, re, user, device, left, asked, lists });
