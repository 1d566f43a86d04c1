//! The groups of a crowd, and how they come to be.
//!
//! Owns: the id of each group and whether it was created. Guarantees: an id follows from the request (as the server makes
//! it), so that news of a group may come before the answer; only a few requests are on their way at a time. Never does: I/O.

use crate::load::worker::User;
use crate::verify::Room;
use crate::who::DEVICE;
use bytes::Bytes;
use ringpost_gateway::auth::DEFAULT_TENANT;
use ringpost_proto::id::{ClientMessageId, ConversationId};
use ringpost_proto::v1::{self, client_frame::Request};
use std::collections::HashMap;

/// Request numbers of the creations, apart from those of the clients: this and the index of the group.
const FIRST_REQUEST: u64 = 1 << 40;
/// No group.
const DIRECT: u32 = u32::MAX;
/// Members of the groups whose creation is on its way: each is told the names of all of its group.
const MEMBERS_AT_ONCE: usize = 4_096;
/// Creations on their way, of one founder too: the wire's most is 32.
const MOST_AT_ONCE: usize = 32;

#[derive(Debug)]
struct Group {
    room: Room,
    founder: User,
    absent: u32,
    members: usize,
    cmid: ClientMessageId,
    id: Bytes,
    created: bool,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Vec<Group>,
    by_id: HashMap<Bytes, Room>,
    /// Index of a room's group; direct conversations have [`DIRECT`].
    by_room: Vec<u32>,
    /// Groups whose creation was asked for, and of them those created and those refused.
    asked: usize,
    created: usize,
    refused: usize,
    /// Members who are to hear of their group, and those who have.
    listeners: u64,
    told: u64,
}

impl Groups {
    /// A group that `founder`, whose name this is, is to create with the id `cmid`. `listeners` members more will connect,
    /// and `absent` never do.
    pub fn add(
        &mut self,
        room: Room,
        (founder, name): (User, &str),
        listeners: u64,
        absent: u32,
        cmid: ClientMessageId,
    ) {
        let id = Bytes::copy_from_slice(&ConversationId::group(DEFAULT_TENANT, name, DEVICE, &cmid).0);
        self.by_room.resize(room as usize + 1, DIRECT);
        if let Some(index) = self.by_room.get_mut(room as usize) {
            *index = self.groups.len() as u32;
        }
        self.by_id.insert(id.clone(), room);
        self.listeners += listeners;
        let members = listeners as usize + absent as usize + 1;
        self.groups.push(Group { room, founder, absent, members, cmid, id, created: false });
    }

    /// Asks for the next groups to be created. `members` gives the names of a group's members, without its founder's. A group
    /// whose founder is not online counts as refused.
    pub fn create(
        &mut self,
        is_online: impl Fn(User) -> bool,
        members: impl Fn(Room, User, u32) -> Vec<String>,
        mut send: impl FnMut(User, &v1::ClientFrame),
    ) {
        while let Some(group) = self.groups.get(self.asked) {
            let at_once = (MEMBERS_AT_ONCE / group.members.max(1)).clamp(1, MOST_AT_ONCE);
            if self.asked >= self.created + self.refused + at_once {
                return;
            }
            if !is_online(group.founder) {
                (self.asked, self.refused) = (self.asked + 1, self.refused + 1);
                continue;
            }
            let create = v1::GroupCreate {
                client_message_id: group.cmid.to_bytes(),
                name: format!("flood {}", group.room),
                members: members(group.room, group.founder, group.absent),
            };
            let id = FIRST_REQUEST + self.asked as u64;
            send(group.founder, &v1::ClientFrame { id, request: Some(Request::GroupCreate(create)) });
            self.asked += 1;
        }
    }

    /// The answer to a creation. `false`: it names another group than the request makes.
    pub fn created(&mut self, re: u64, id: &[u8]) -> bool {
        let Some(group) = index(re).and_then(|index| self.groups.get_mut(index)) else { return false };
        self.created += usize::from(!std::mem::replace(&mut group.created, true));
        group.id == id
    }

    /// An error came; it counts where it answers a creation.
    pub fn refused(&mut self, re: u64) {
        self.refused += usize::from(index(re).is_some_and(|index| index < self.groups.len()));
    }

    /// A member has heard of its group.
    pub fn told(&mut self) {
        self.told += 1;
    }

    /// Every request is answered, and all who are to hear of a group that was created have, if none was refused.
    pub fn is_done(&self) -> bool {
        let answered = self.created + self.refused >= self.groups.len();
        answered && (self.refused > 0 || self.told >= self.listeners)
    }

    /// Groups that were not created, and members who have not heard of theirs.
    pub fn missing(&self) -> (u64, u64) {
        ((self.groups.len() - self.created) as u64, self.listeners.saturating_sub(self.told))
    }

    /// The wire's id of a room; `None`: it is no group.
    pub fn id(&self, room: Room) -> Option<Bytes> {
        self.groups.get(*self.by_room.get(room as usize)? as usize).map(|group| group.id.clone())
    }

    pub fn room(&self, id: &Bytes) -> Option<Room> {
        self.by_id.get(id).copied()
    }
}

fn index(re: u64) -> Option<usize> {
    re.checked_sub(FIRST_REQUEST).and_then(|index| usize::try_from(index).ok())
}
