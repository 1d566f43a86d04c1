//! What the operator does for a user: erasing what it sent, leaving its groups, forgetting it.

use crate::groups::{create, group_of, leave};
use crate::world::{World, cmid, text, user, v7};
use bytes::Bytes;
use ringpost_persist::faulty::Faults;
use ringpost_persist::{ConversationKind, DocumentKey, Outcome, Record, StoreRequest};
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::{ClientMessageId, ConversationId};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::envelope::{Envelope, SendOutcome};
use ringpost_router::{Input, Request, home_of_conversation, home_of_user, operator};
use std::sync::Arc;

fn made(world: &World, n: u8) -> ClientMessageId {
    ClientMessageId(v7(world.unix_ms(), n))
}

/// Asks a shard and waits for what it answers.
fn ask(world: &mut World, shard: u16, re: u64, envelope: Envelope) -> Result<Option<v1::Sent>, Code> {
    world.input(shard, Input::Envelope(Box::new(envelope)));
    world.settle();
    match world.operator.remove(&re).expect("an answer") {
        SendOutcome::Sent(sent) => Ok(Some(sent)),
        SendOutcome::Answer(answer) => {
            assert!(matches!(*answer, Answer::Ok(_)), "{answer:?}");
            Ok(None)
        }
        SendOutcome::Refused(error) => Err(error.code()),
    }
}

/// Erases one record; the seq of the erasure, 0 where nothing was to be done.
fn erase(
    world: &mut World,
    id: ConversationId,
    kind: &Arc<ConversationKind>,
    who: &str,
    seq: u64,
) -> Result<u64, Code> {
    let made = made(world, seq as u8);
    let envelope = operator::erase(id, Arc::clone(kind), &user(who), seq, made, seq).unwrap();
    let home = home_of_conversation(id, world.routers.len() as u16);
    Ok(ask(world, home, seq, envelope)?.expect("SENT").seq)
}

fn direct(a: &str, b: &str) -> (ConversationId, Arc<ConversationKind>) {
    let (a, b) = (user(a), user(b));
    (a.direct_with(&b), Arc::new(ConversationKind::Direct([a, b])))
}

fn log(world: &World, id: ConversationId) -> Vec<Arc<Record>> {
    world.store.log(&id).to_vec()
}

fn group_id(group: &Bytes) -> (ConversationId, Arc<ConversationKind>) {
    (ConversationId(group[..].try_into().unwrap()), Arc::new(ConversationKind::Group))
}

#[test]
fn whatever_a_user_sent_is_erased_however_old_and_everybody_hears_of_it() {
    let mut world = World::new(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    let (id, kind) = direct("alice", "bob");
    world.sent(alice, text("bob", cmid(1), "helo")).unwrap();
    let about = |n, kind: Kind, body: &str| v1::Send { kind: kind as i32, ref_seq: 1, ..text("bob", cmid(n), body) };
    world.sent(alice, about(2, Kind::Edit, "hello")).unwrap();
    world.sent(bob, text("alice", cmid(3), "hi")).unwrap();
    let reaction = v1::Send { kind: Kind::Reaction as i32, ref_seq: 3, ..text("bob", cmid(4), "+") };
    world.sent(alice, reaction).unwrap();
    world.advance(40 * 24 * 3_600_000);
    let [_, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    world.pushed(bob);
    let before = log(&world, id);
    for seq in [1, 2, 4] {
        assert!(operator::is_erasable(&before[seq as usize - 1], &user("alice")));
        assert!(erase(&mut world, id, &kind, "alice", seq).unwrap() > 4);
    }
    assert_eq!(world.pushed(bob), [5, 6, 7], "a session that is there hears of each");
    let after = log(&world, id);
    for (old, new) in before.iter().zip(&after) {
        let kept = (new.seq, new.id, &new.sender, new.kind, new.hash(), new.ref_seq);
        assert_eq!(kept, (old.seq, old.id, &old.sender, old.kind, old.hash(), old.ref_seq));
        assert_eq!(new.to_wire().erased, new.sender == user("alice"));
    }
    assert!(after.iter().all(|record| !operator::is_erasable(record, &user("alice"))));
    // Again: nothing is stored, and what others said is not the user's.
    for seq in [1, 2, 4] {
        assert_eq!(erase(&mut world, id, &kind, "alice", seq), Ok(0));
    }
    for seq in [3, 5, 99] {
        assert!(erase(&mut world, id, &kind, "alice", seq).is_err(), "{seq}");
    }
    assert_eq!(log(&world, id).len(), 7);
}

#[test]
fn a_group_is_left_once_its_heir_is_named_and_what_was_said_there_can_be_erased_afterwards() {
    let mut world = World::new(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    let group = group_of(world.answer(alice, create(1, &["bob"]))).group;
    let (id, kind) = group_id(&group);
    let peer = v1::Peer { peer: Some(v1::peer::Peer::Group(group.clone())) };
    world.sent(alice, v1::Send { to: Some(peer), ..text("", cmid(2), "hello") }).unwrap();
    world.got(bob);
    let home = home_of_conversation(id, 2);
    let envelope = operator::leave(id, &user("alice"), made(&world, 1), 7).unwrap();
    assert_eq!(ask(&mut world, home, 7, envelope).unwrap().expect("SENT").seq, 3);
    assert_eq!(world.pushed(bob), [3]);
    let get = Request::More(Box::new(Wire::GroupGet(v1::GroupGet { group: group.clone() })));
    let members = group_of(world.answer(bob, get)).members;
    let members: Vec<_> = members.iter().map(|member| (member.user.as_str(), member.role())).collect();
    assert_eq!(members, [("bob", v1::role::Value::Admin)]);
    let again = operator::leave(id, &user("alice"), made(&world, 2), 8).unwrap();
    assert_eq!(ask(&mut world, home, 8, again).unwrap_err(), Code::NotMember);
    assert_eq!(erase(&mut world, id, &kind, "alice", 2), Ok(4));
    assert!(log(&world, id)[1].to_wire().erased);
    assert_eq!(world.pushed(bob), [4]);
    // A session that says the same is still refused.
    assert_eq!(world.error(alice, leave(9, &group)).code(), Code::NotMember);
}

#[test]
fn a_user_that_is_forgotten_has_no_session_no_settings_and_no_device_and_its_old_tokens_do_not_count() {
    let mut world = World::new(2);
    world.link("alice", &["phone", "laptop"]);
    let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("alice", device));
    let profile = v1::settings::Profile { name: Some("Alice".into()), ..Default::default() };
    let settings = v1::Settings { profile: Some(profile), ..Default::default() };
    world.answer(phone, Request::More(Box::new(Wire::Settings(settings))));
    let home = home_of_user(&user("alice"), 2);
    assert_eq!(ask(&mut world, home, 1, operator::forget(user("alice"), 1)), Ok(None));
    for conn in [phone, laptop] {
        assert_eq!(world.closed(conn), Some(CloseCode::DeviceRevoked));
    }
    assert_eq!(document(&world, DocumentKey::Settings(user("alice"))).1, Bytes::new());
    let devices = world.devices("alice");
    let now_ms = world.unix_ms();
    assert!(devices.devices().is_empty() && devices.last_seen_ms() == 0);
    let phone = ringpost_proto::id::DeviceId::new("phone").unwrap();
    assert_eq!(devices.admission(phone, now_ms - 10_000, None), ringpost_router::Admission::Revoked);
    assert_eq!(devices.admission(phone, now_ms + 10_000, None), ringpost_router::Admission::Further);
    // Again: nothing changes.
    let versions = |world: &World| {
        [DocumentKey::Settings(user("alice")), DocumentKey::Devices(user("alice"))].map(|key| document(world, key).0)
    };
    let before = versions(&world);
    assert_eq!(ask(&mut world, home, 2, operator::forget(user("alice"), 2)), Ok(None));
    assert_eq!(versions(&world), before);
    // Nobody that ever was: nothing to forget.
    let nobody = user("nobody");
    let home = home_of_user(&nobody, 2);
    assert_eq!(ask(&mut world, home, 3, operator::forget(nobody, 3)), Ok(None));
}

#[test]
fn a_user_is_not_forgotten_before_what_it_said_last_is_in_the_log() {
    let mut world = World::new(3);
    let alice = world.open("alice", "phone");
    let (id, kind) = direct("alice", "bob");
    let home = home_of_user(&user("alice"), 3);
    // Its room is still being read.
    world.store.set_faults(Faults { latency_us: (1_000_000, 1_000_000), ..Faults::none() });
    world.send(alice, text("bob", cmid(1), "a secret"));
    world.advance(1);
    world.store.set_faults(Faults::none());
    assert_eq!(ask(&mut world, home, 1, operator::forget(user("alice"), 1)), Err(Code::Unavailable));
    assert_eq!(world.closed(alice), Some(CloseCode::DeviceRevoked));
    assert_eq!(ask(&mut world, home, 2, operator::forget(user("alice"), 2)), Ok(None));
    assert_eq!(log(&world, id).len(), 1, "who looks now finds it");
    assert_eq!(erase(&mut world, id, &kind, "alice", 1), Ok(2));
}

#[test]
fn a_store_that_cannot_is_told_as_such_and_asked_again() {
    let faults = Faults { unavailable: 10_000, ..Faults::none() };
    let mut world = World::with(1, faults, |_| {});
    let (id, kind) = direct("alice", "bob");
    assert_eq!(erase(&mut world, id, &kind, "alice", 1), Err(Code::Unavailable));
    assert_eq!(ask(&mut world, 0, 1, operator::forget(user("alice"), 1)), Err(Code::Unavailable));
}

fn document(world: &World, key: DocumentKey) -> (u64, Bytes) {
    match world.store.read(&StoreRequest::ReadDocument { tag: 0, key }) {
        Some(Outcome::Document(found)) => found.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}
