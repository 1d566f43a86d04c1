//! Changes of a group: who may do what, and what races with it.

use super::{add, create, get, group_of, history, id, leave, members, more, names, remove, role, say, three, to};
use crate::world::{Got, World, cmid};
use bytes::Bytes;
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::role::Value as Role;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::Request;

#[test]
fn a_group_is_created_once_however_often_it_is_asked_for() {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
        world.got(bob);
        let group = group_of(world.answer(alice, create(1, &["bob", "carl", "alice", "bob"])));
        assert_eq!((group.name.as_str(), group.epoch), ("climbing", 1));
        assert_eq!(members(&group), [("alice", true), ("bob", false), ("carl", false)]);
        assert_eq!(
            group.group,
            ConversationId::group("default", "alice", "phone", &ringpost_proto::id::ClientMessageId(cmid(1)))
                .0
                .to_vec()
        );
        assert_eq!(world.pushed(bob), [1], "with the record that says so");
        assert_eq!(group_of(world.answer(alice, create(1, &["bob", "carl"]))), group);
        assert!(world.pushed(bob).is_empty());
        assert_eq!(world.error(alice, create(1, &["bob"])).code(), Code::Conflict);
        assert_eq!(group_of(world.answer(bob, get(&group.group))), group);
        let other = group_of(world.answer(bob, create(1, &["alice"])));
        assert_ne!(other.group, group.group, "another creator");
    }
}

#[test]
fn who_is_removed_hears_of_it_and_of_nothing_after() {
    let mut world = World::new(3);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "before")).unwrap();
    let after = group_of(world.answer(alice, remove(3, &group, &["bob"])));
    assert_eq!((members(&after), after.epoch), (vec![("alice", true), ("carl", false)], 2));
    world.sent(alice, say(4, &group, "after")).unwrap();
    assert_eq!(world.pushed(bob), [2, 3], "up to his removal");
    assert_eq!(world.pushed(carl), [2, 3, 4]);
    assert_eq!(world.sent(bob, say(5, &group, "hello?")).unwrap_err().code(), Code::NotMember);
    assert_eq!(history(&mut world, bob, &group), [3, 2, 1]);
    assert_eq!(world.error(bob, get(&group)).code(), Code::NotMember);
    // Away and back: nothing more either.
    world.close(bob);
    world.advance(10_000);
    let bob = world.open("bob", "tablet");
    assert_eq!(world.pushed(bob), [1, 2, 3]);
    // Back in the group: not what was said meanwhile.
    world.answer(alice, add(6, &group, &["bob"]));
    world.sent(alice, say(7, &group, "welcome back")).unwrap();
    assert_eq!(world.pushed(bob), [5, 6]);
    assert_eq!(history(&mut world, bob, &group), [6, 5, 3, 2, 1]);
}

#[test]
fn sends_that_race_with_a_removal_are_before_it_or_refused() {
    for n in 0..40 {
        let mut world = World::new(1 + n % 3);
        let (group, [alice, bob, carl]) = three(&mut world);
        // Nothing is answered in between: all are under way together.
        let mut asked = Vec::new();
        for k in 0..6 {
            asked.push(world.send(bob, say(10 + k, &group, "me")));
            if k == u32::from(n) % 6 {
                world.ask(alice, remove(3, &group, &["bob"]));
            }
        }
        world.settle();
        let outcomes: Vec<_> = asked.into_iter().map(|id| world.outcome(bob, id)).collect();
        let removal =
            world.log(&group).iter().find(|record| record.kind == Kind::Change && record.seq > 1).map(|it| it.seq);
        for outcome in outcomes.into_iter().flatten() {
            match outcome {
                Ok(sent) => assert!(Some(sent.seq) < removal),
                Err(error) => assert_eq!(error.code(), Code::NotMember),
            }
        }
        let head = world.log(&group).len() as Seq;
        let from_others: Vec<Seq> = (2..=head).collect();
        assert_eq!(world.pushed(carl), from_others, "one order, nothing missing");
        world.sent(alice, say(30, &group, "gone")).unwrap();
        assert!(world.pushed(bob).iter().all(|seq| Some(*seq) <= removal));
    }
}

#[test]
fn an_older_epoch_is_refused_and_names_who_came_and_went() {
    let mut world = World::new(2);
    let (group, [alice, bob, _]) = three(&mut world);
    let stale = |n, epoch| v1::Send { group_epoch: epoch, ..say(n, &group, "for whom?") };
    assert!(world.sent(bob, stale(2, 1)).is_ok());
    world.answer(alice, remove(3, &group, &["carl"]));
    world.answer(alice, add(4, &group, &["dave"]));
    let error = world.sent(bob, stale(5, 1)).unwrap_err();
    assert_eq!((error.code(), error.field.as_str()), (Code::StaleGroup, "groupEpoch"));
    let Some(v1::details::Details::StaleGroup(details)) = error.details.and_then(|it| it.details) else { panic!() };
    assert_eq!(details.epoch, 2);
    assert_eq!((details.added, details.removed), (names(&["dave"]), names(&["carl"])));
    assert!(world.sent(bob, stale(5, 2)).is_ok());
}

#[test]
fn only_admins_change_a_group_and_the_last_one_who_leaves_has_an_heir() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    for request in [add(2, &group, &["dave"]), remove(2, &group, &["carl"]), role(2, &group, "bob", Role::Admin)] {
        assert_eq!(world.error(bob, request).code(), Code::Forbidden);
    }
    assert_eq!(world.error(alice, role(2, &group, "alice", Role::Member)).code(), Code::Forbidden, "the last admin");
    assert_eq!(world.error(alice, role(2, &group, "eve", Role::Admin)).code(), Code::NotFound);
    let after = group_of(world.answer(alice, role(3, &group, "carl", Role::Admin)));
    assert_eq!(members(&after), [("alice", true), ("bob", false), ("carl", true)]);
    world.answer(alice, leave(4, &group));
    world.got(bob);
    world.answer(carl, leave(5, &group));
    let Some(Got::Record { record, .. }) = world.got(bob).pop() else { panic!("bob hears of it") };
    assert_eq!(record.to_wire().change.map(|change| change.promoted).as_deref(), Some("bob"));
    let after = group_of(world.answer(bob, get(&group)));
    assert_eq!(members(&after), [("bob", true)]);
    let update = v1::GroupUpdate {
        client_message_id: id(6),
        group: group.clone(),
        description: Some("x".into()),
        ..Default::default()
    };
    let after = group_of(world.answer(bob, more(Wire::GroupUpdate(update))));
    assert_eq!((after.name.as_str(), after.description.as_str()), ("climbing", "x"));
}

#[test]
fn a_group_has_at_most_1024_members() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let all: Vec<String> = (0..1_030).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(world.error(alice, create(1, &all[..1_024])).code(), Code::GroupFull);
    let group = group_of(world.answer(alice, create(2, &all[..1_023]))).group;
    assert_eq!(world.error(alice, add(3, &group, &["bob"])).code(), Code::GroupFull);
    world.answer(alice, remove(4, &group, &["user7"]));
    assert_eq!(group_of(world.answer(alice, add(5, &group, &["bob"]))).members.len(), 1_024);
}

#[test]
fn who_has_left_learns_nothing_more_of_the_group() {
    let mut world = World::new(2);
    let (group, [alice, bob, _]) = three(&mut world);
    world.answer(bob, leave(2, &group));
    world.sent(alice, say(3, &group, "without bob")).unwrap();
    let update = v1::GroupUpdate {
        client_message_id: id(4),
        group: group.clone(),
        name: Some("secret".into()),
        ..Default::default()
    };
    world.answer(alice, more(Wire::GroupUpdate(update)));
    // The same again, as after a lost answer.
    assert_eq!(world.error(bob, leave(2, &group)).code(), Code::NotMember);
    let Answer::ConversationPage(page) = world.answer(bob, Request::Conversations(Box::default())) else { panic!() };
    assert_eq!((page.entries[0].title.as_str(), page.entries[0].last_seq), ("", 2));
    let fetch = v1::Fetch { conversation: to(&group), from_seq: 2, to_seq: 50 };
    let re = world.ask(bob, Request::Fetch(Box::new(fetch)));
    world.settle();
    let page = world.got(bob).into_iter().find_map(|got| match got {
        Got::Page(answered, page) if answered == re => Some(page),
        _ => None,
    });
    let page = page.expect("a page");
    // His own leaving is skipped; that the log goes on he does not see.
    assert_eq!((page.records.len(), &page.skips[..]), (0, &[v1::Skip { from_seq: 2, to_seq: 2 }][..]));
    let info = more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq: 3 }));
    assert_eq!(world.error(bob, info).code(), Code::NotMember);
}

#[test]
fn a_direct_conversation_is_no_group_whoever_names_it_so() {
    let mut world = World::new(2);
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|name| world.open(name, "phone"));
    let direct = Bytes::copy_from_slice(&crate::world::user("alice").direct_with(&crate::world::user("bob")).0);
    // Asked for before there is one, while the first message is on its way.
    world.ask(eve, get(&direct));
    world.ask(eve, leave(1, &direct));
    let first = world.send(alice, crate::world::text("bob", cmid(1), "hi"));
    world.settle();
    assert_eq!(world.outcome(alice, first).unwrap().unwrap().seq, 1);
    for request in [leave(2, &direct), add(3, &direct, &["eve"]), get(&direct)] {
        assert_eq!(world.error(bob, request).code(), Code::NotFound);
    }
    assert_eq!(world.sent(bob, say(4, &direct, "as a group")).unwrap_err().code(), Code::NotFound);
    world.got(bob);
    assert_eq!(world.sent(alice, crate::world::text("bob", cmid(5), "still here")).unwrap().seq, 2);
    assert_eq!(world.pushed(bob), [2]);
}
