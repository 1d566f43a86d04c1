//! Requests about groups, and what else asks a conversation's room: checked here, decided there.

use super::request::{Named, named};
use crate::Router;
use crate::boundary::{ConnRef, Proposal, Wants};
use crate::envelope::{Envelope, RoomAsk};
use crate::refusal;
use crate::slab::Key;
use bytes::Bytes;
use ringpost_persist::roster::{GROUP_MEMBERS, change_body};
use ringpost_persist::{ConversationKind, record};
use ringpost_proto::id::{ClientMessageId, ConversationId, DeviceId, UserKey};
use ringpost_proto::limits::{AVATAR_BYTES, GROUP_DESCRIPTION_BYTES, GROUP_NAME_BYTES};
use ringpost_proto::v1;
use ringpost_proto::v1::change::{Blocked, Change, Created, Left, RoleChange, Updated, Users};
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::kind::Value as Kind;
use std::sync::Arc;

/// Who asks for a change.
struct By {
    user: UserKey,
    device: DeviceId,
    /// An id for what has none of the client's.
    made: ClientMessageId,
}

impl Router {
    pub(crate) fn more(&mut self, key: Key, conn: ConnRef, id: u64, request: Wire) {
        let Some((user, device)) = self.identity_of(key) else { return };
        let random = u128::from(self.next_random()) << 64 | u128::from(self.next_random());
        let made = ClientMessageId::uuid_v7(self.now_ms(), random);
        let by = By { user, device, made };
        let proposed = match request {
            Wire::GroupCreate(create) => by.create(create),
            Wire::GroupUpdate(update) => by.update(update),
            Wire::GroupAdd(users) => by.users(users, Change::Added),
            Wire::GroupRemove(users) => by.users(users, Change::Removed),
            Wire::GroupLeave(leave) => by.change(&leave.client_message_id, &leave.group, Change::Left(Left {})),
            Wire::GroupRole(role) => by.role(role),
            Wire::Block(block) => by.block(&block.user, true),
            Wire::Unblock(block) => by.block(&block.user, false),
            Wire::GroupGet(get) => return self.ask_about(key, conn, id, by.group(&get.group), RoomAsk::Group),
            Wire::RecordInfo(info) => {
                let named = named(&by.user, info.conversation.as_ref(), "conversation");
                return self.ask_about(key, conn, id, named, RoomAsk::RecordInfo(info.seq));
            }
            Wire::Presence(presence) => return self.presence_request(key, conn, id, &presence),
            Wire::Watch(watch) => return self.watch(key, conn, id, &watch),
            Wire::Unwatch(watch) => return self.unwatch(key, conn, id, &watch),
            Wire::Settings(change) => return self.settings_request(key, conn, id, change),
            Wire::Devices(_) => return self.own_devices(key, id),
            Wire::DeviceUnlink(unlink) => return self.device_unlink(key, conn, id, &unlink.device),
            Wire::DeviceLists(users) => return self.device_lists(key, conn, id, &users.users),
            Wire::Typing(typing) => return self.types(key, conn, id, &by.user, &typing),
            _ if id == 0 => return,
            _ => Err(refusal::unimplemented("", "this server does not know the request")),
        };
        self.propose_or_refuse(key, conn, id, proposed);
    }

    pub(super) fn propose_or_refuse(
        &mut self,
        key: Key,
        conn: ConnRef,
        re: u64,
        proposed: Result<(ConversationId, Proposal), v1::Error>,
    ) {
        match proposed {
            Ok((conversation, proposal)) => {
                self.begin_request(key);
                let from = self.session_ref(key);
                self.post_to_conversation(conversation, Envelope::Propose { conversation, from, re, proposal });
            }
            Err(error) => {
                self.counters.sends_refused += 1;
                self.refuse_now(conn, re, error);
            }
        }
    }

    fn types(&mut self, key: Key, conn: ConnRef, id: u64, user: &UserKey, typing: &v1::Typing) {
        let composing = typing.state() == v1::typing::state::Value::Composing;
        match named(user, typing.conversation.as_ref(), "conversation") {
            Ok(Named { id: conversation, kind }) => {
                let user = user.clone();
                self.post_to_conversation(conversation, Envelope::Types { conversation, kind, user, composing });
                self.settle_session(key);
            }
            Err(error) => self.refuse_now(conn, id, error),
        }
    }

    fn ask_about(&mut self, key: Key, conn: ConnRef, re: u64, named: Result<Named, v1::Error>, ask: RoomAsk) {
        let (conversation, kind) = match named {
            Ok(named) => (named.id, named.kind),
            Err(error) => return self.refuse_now(conn, re, error),
        };
        let Some((user, _)) = self.identity_of(key) else { return };
        self.begin_request(key);
        let from = self.session_ref(key);
        self.post_to_conversation(conversation, Envelope::Ask { conversation, kind, user, from, re, ask });
    }
}

impl By {
    fn group(&self, id: &[u8]) -> Result<Named, v1::Error> {
        let id = id.try_into().map_err(|_| refusal::invalid("group", "must be 16 bytes"))?;
        Ok(Named { id: ConversationId(id), kind: Arc::new(ConversationKind::Group) })
    }

    fn create(&self, create: v1::GroupCreate) -> Result<(ConversationId, Proposal), v1::Error> {
        let cmid = cmid(&create.client_message_id)?;
        check_len("name", &create.name, GROUP_NAME_BYTES)?;
        if create.name.is_empty() {
            return Err(refusal::invalid("name", "a group needs a name"));
        }
        let members = self.names("members", create.members)?;
        let members = members.into_iter().filter(|name| name != self.user.user()).collect();
        let id = ConversationId::group(self.user.tenant(), self.user.user(), self.device.as_str(), &cmid);
        let kind = Arc::new(ConversationKind::Group);
        Ok((id, self.proposal(kind, cmid, Change::Created(Created { name: create.name, members }), Wants::Group)))
    }

    fn update(&self, update: v1::GroupUpdate) -> Result<(ConversationId, Proposal), v1::Error> {
        let v1::GroupUpdate { client_message_id, group, name, description, avatar } = update;
        let fields = [
            ("name", &name, GROUP_NAME_BYTES),
            ("description", &description, GROUP_DESCRIPTION_BYTES),
            ("avatar", &avatar, AVATAR_BYTES),
        ];
        for (field, text, most) in fields {
            check_len(field, text.as_deref().unwrap_or_default(), most)?;
        }
        if name.as_deref() == Some("") {
            return Err(refusal::invalid("name", "a group needs a name"));
        }
        self.change(&client_message_id, &group, Change::Updated(Updated { name, description, avatar }))
    }

    fn users(
        &self,
        request: v1::GroupUsers,
        change: fn(Users) -> Change,
    ) -> Result<(ConversationId, Proposal), v1::Error> {
        let users = self.names("users", request.users)?;
        if users.is_empty() {
            return Err(refusal::invalid("users", "names nobody"));
        }
        self.change(&request.client_message_id, &request.group, change(Users { users }))
    }

    fn role(&self, request: v1::GroupRole) -> Result<(ConversationId, Proposal), v1::Error> {
        let role = v1::role::Value::try_from(request.role).map_err(|_| refusal::invalid("role", "is none"))?;
        let user = self.names("user", vec![request.user])?.pop().unwrap_or_default();
        let change = Change::Role(RoleChange { user, role: role as i32 });
        self.change(&request.client_message_id, &request.group, change)
    }

    /// A block is a change of the direct conversation. It may be asked for again and again: it has no id of the client's.
    fn block(&self, name: &str, on: bool) -> Result<(ConversationId, Proposal), v1::Error> {
        let peer = self.user.sibling(name).map_err(|error| refusal::invalid("user", error.to_string()))?;
        if peer == self.user {
            return Err(refusal::invalid("user", "you cannot block yourself"));
        }
        let id = self.user.direct_with(&peer);
        let kind = Arc::new(super::request::direct(self.user.clone(), peer));
        Ok((id, self.proposal(kind, self.made, Change::Blocked(Blocked { on }), Wants::Ok)))
    }

    fn change(&self, id: &Bytes, group: &Bytes, change: Change) -> Result<(ConversationId, Proposal), v1::Error> {
        let (cmid, named) = (cmid(id)?, self.group(group)?);
        Ok((named.id, self.proposal(named.kind, cmid, change, Wants::Group)))
    }

    fn proposal(&self, kind: Arc<ConversationKind>, cmid: ClientMessageId, change: Change, wants: Wants) -> Proposal {
        let body = change_body(change, None, 0);
        Proposal {
            kind,
            sender: self.user.clone(),
            device: self.device,
            cmid,
            content_hash: record::content_hash(Kind::Change, 0, &body, None),
            message_kind: Kind::Change,
            ref_seq: 0,
            body,
            media: None,
            trace: None,
            group_epoch: 0,
            wants,
        }
    }

    /// Valid names of users of the same tenant, each once, in their order.
    fn names(&self, field: &str, names: Vec<String>) -> Result<Vec<String>, v1::Error> {
        if names.len() > GROUP_MEMBERS {
            return Err(refusal::group_full(format!("a group has at most {GROUP_MEMBERS} members")));
        }
        let check = |name: &String| self.user.sibling(name).map(drop);
        names.iter().try_for_each(check).map_err(|error| refusal::invalid(field, error.to_string()))?;
        let mut names = names;
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// That of a change is never missing: a change that is made twice is a second record.
fn cmid(id: &[u8]) -> Result<ClientMessageId, v1::Error> {
    ClientMessageId::from_bytes(id).ok_or_else(|| refusal::invalid("clientMessageId", "must be 16 bytes"))
}

fn check_len(field: &str, text: &str, most: usize) -> Result<(), v1::Error> {
    if text.len() > most {
        return Err(refusal::too_large(field, most));
    }
    Ok(())
}
