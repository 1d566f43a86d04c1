//! Groups: who gets what and who may do what, whatever races. Here: what their tests ask and how they read it.

mod changes;
mod fan_out;
mod progress;
mod said;

use crate::world::{Got, World, cmid};
use bytes::Bytes;
use ringpost_proto::id::Seq;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::role::Value as Role;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};

fn id(n: u32) -> Bytes {
    Bytes::copy_from_slice(&cmid(n))
}

pub fn more(request: Wire) -> Request {
    Request::More(Box::new(request))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn create(n: u32, members: &[&str]) -> Request {
    let create = v1::GroupCreate { client_message_id: id(n), name: "climbing".into(), members: names(members) };
    more(Wire::GroupCreate(create))
}

fn users(n: u32, group: &Bytes, who: &[&str]) -> v1::GroupUsers {
    v1::GroupUsers { client_message_id: id(n), group: group.clone(), users: names(who) }
}

pub fn add(n: u32, group: &Bytes, who: &[&str]) -> Request {
    more(Wire::GroupAdd(users(n, group, who)))
}

fn remove(n: u32, group: &Bytes, who: &[&str]) -> Request {
    more(Wire::GroupRemove(users(n, group, who)))
}

pub fn leave(n: u32, group: &Bytes) -> Request {
    more(Wire::GroupLeave(v1::GroupLeave { client_message_id: id(n), group: group.clone() }))
}

fn role(n: u32, group: &Bytes, who: &str, role: Role) -> Request {
    let (user, role) = (who.to_owned(), role as i32);
    more(Wire::GroupRole(v1::GroupRole { client_message_id: id(n), group: group.clone(), user, role }))
}

fn get(group: &Bytes) -> Request {
    more(Wire::GroupGet(v1::GroupGet { group: group.clone() }))
}

pub fn to(group: &Bytes) -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(Peer::Group(group.clone())) })
}

pub fn say(n: u32, group: &Bytes, text: &str) -> v1::Send {
    let body = Some(v1::send::Body::Text(text.into()));
    v1::Send { to: to(group), client_message_id: id(n), body, ..Default::default() }
}

fn about(n: u32, group: &Bytes, kind: Kind, ref_seq: Seq, text: &str) -> v1::Send {
    v1::Send { kind: kind as i32, ref_seq, ..say(n, group, text) }
}

pub fn read(group: &Bytes, seq: Seq) -> Request {
    Request::Read(Box::new(v1::Read { conversation: to(group), seq }))
}

pub fn group_of(answer: Answer) -> v1::Group {
    match answer {
        Answer::Group(group) => group,
        other => panic!("no group: {other:?}"),
    }
}

fn members(group: &v1::Group) -> Vec<(&str, bool)> {
    group.members.iter().map(|member| (member.user.as_str(), member.role() == Role::Admin)).collect()
}

/// Alice, bob and carl, each with one device, in a group that alice made.
pub fn three(world: &mut World) -> (Bytes, [ConnRef; 3]) {
    let conns = ["alice", "bob", "carl"].map(|name| world.open(name, "phone"));
    let group = group_of(world.answer(conns[0], create(1, &["bob", "carl"]))).group;
    for conn in conns {
        world.got(conn);
    }
    (group, conns)
}

fn history(world: &mut World, conn: ConnRef, group: &Bytes) -> Vec<Seq> {
    let history = v1::History { conversation: to(group), before_seq: 0, limit: 100 };
    let re = world.ask(conn, Request::History(Box::new(history)));
    world.settle();
    let page = world.got(conn).into_iter().find_map(|got| match got {
        Got::Page(answered, page) if answered == re => Some(page),
        _ => None,
    });
    page.expect("a page").records.iter().map(|(record, _)| record.seq).collect()
}

pub fn unread(world: &mut World, conn: ConnRef) -> Vec<(u32, Seq)> {
    match world.answer(conn, Request::Conversations(Box::default())) {
        Answer::ConversationPage(page) => page.entries.iter().map(|entry| (entry.unread, entry.last_seq)).collect(),
        other => panic!("{other:?}"),
    }
}
