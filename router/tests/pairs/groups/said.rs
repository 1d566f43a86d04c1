//! What is said about messages that are there, and who is not heard.

use super::{about, more, say, three};
use crate::world::{World, cmid, text};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::Request;

#[test]
fn messages_are_edited_by_their_senders_and_erased_by_them_or_an_admin() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(bob, say(2, &group, "helo")).unwrap();
    world.got(carl);
    assert!(world.sent(bob, about(3, &group, Kind::Edit, 2, "hello")).is_ok());
    assert!(world.sent(carl, about(4, &group, Kind::Reaction, 2, "\u{1f44d}")).is_ok());
    assert_eq!(world.pushed(carl), [3]);
    assert_eq!(world.sent(carl, about(5, &group, Kind::Edit, 2, "x")).unwrap_err().code(), Code::Forbidden);
    assert_eq!(world.sent(carl, about(5, &group, Kind::Erase, 2, "")).unwrap_err().code(), Code::Forbidden);
    assert!(world.sent(alice, about(6, &group, Kind::Erase, 2, "")).is_ok(), "an admin may");
    let wire = world.log(&group)[1].to_wire();
    assert!(wire.erased && wire.body.is_none());
    assert_eq!(world.sent(bob, about(7, &group, Kind::Edit, 2, "hello")).unwrap_err().code(), Code::NotFound);
    // A retry of what was erased is still known.
    assert!(world.sent(bob, say(2, &group, "helo")).unwrap().duplicate);
    let old = world.sent(bob, say(8, &group, "old")).unwrap().seq;
    world.advance(16 * 60_000);
    let bob = world.open("bob", "phone");
    assert_eq!(
        world.sent(bob, about(9, &group, Kind::Edit, old, "new")).unwrap_err().code(),
        Code::Forbidden,
        "too late"
    );
    assert!(world.sent(bob, about(10, &group, Kind::Erase, old, "")).is_ok());
}

#[test]
fn what_is_older_than_memory_can_be_erased_all_the_same() {
    let mut world = World::new(1);
    let (group, [alice, bob, _]) = three(&mut world);
    world.sent(bob, say(2, &group, "early")).unwrap();
    for n in 0..4_200 {
        world.sent(alice, say(100 + n, &group, "more")).unwrap();
    }
    assert!(world.sent(bob, about(3, &group, Kind::Erase, 2, "")).is_ok());
    assert!(world.log(&group)[1].to_wire().erased);
    assert_eq!(world.sent(bob, about(4, &group, Kind::Erase, 3, "")).unwrap_err().code(), Code::Forbidden);
}

#[test]
fn who_is_blocked_is_not_told_and_is_not_heard() {
    let mut world = World::new(2);
    world.link("bob", &["phone", "tablet"]);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    let hi = |n: u32, to: &str| crate::world::text(to, cmid(n), "hi");
    world.sent(alice, hi(1, "bob")).unwrap();
    world.ack(bob, 1);
    let block = |on| {
        let block = v1::Block { user: "alice".into() };
        more(if on { Wire::Block(block) } else { Wire::Unblock(block) })
    };
    for _ in 0..2 {
        assert!(matches!(world.answer(bob, block(true)), Answer::Ok(_)), "as often as one likes");
    }
    world.got(bob);
    world.got(alice);
    assert_eq!(world.sent(alice, hi(2, "bob")).unwrap().seq, 3);
    assert!(world.pushed(bob).is_empty() && world.pushed(alice).is_empty());
    assert_eq!(world.sent(bob, hi(3, "alice")).unwrap_err().code(), Code::Forbidden);
    let tablet = world.open("bob", "tablet");
    assert_eq!(world.pushed(tablet), [1, 2], "his other device learns of the block, and no more");
    assert!(matches!(world.answer(bob, block(false)), Answer::Ok(_)));
    world.sent(alice, hi(4, "bob")).unwrap();
    assert_eq!(world.pushed(bob), [5]);
    world.ack(bob, 2);
    world.advance(3_000);
    let ticks: Vec<v1::Tick> = world.wire_ticks(alice);
    let last = ticks.last().expect("a tick");
    assert_eq!(last.delivered_seq, 5);
    assert_eq!(last.excluded, [v1::Skip { from_seq: 3, to_seq: 3 }], "what came meanwhile was not delivered");
    assert_eq!(world.pushed(tablet), [4, 5]);
}

#[test]
fn what_a_blocked_user_sends_moves_nothing_in_the_list_of_who_blocks() {
    let mut world = World::new(2);
    let [alice, bob, carl] = ["alice", "bob", "carl"].map(|name| world.open(name, "phone"));
    let list = |world: &mut World| match world.answer(bob, Request::Conversations(Box::default())) {
        Answer::ConversationPage(page) => {
            let entry =
                |it: &v1::ConversationEntry| (it.conversation.clone(), it.last_seq, it.unread, it.preview.clone());
            page.entries.iter().map(entry).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    world.answer(bob, more(Wire::Block(v1::Block { user: "alice".into() })));
    world.advance(10);
    world.sent(carl, text("bob", cmid(2), "hello")).unwrap();
    let before = list(&mut world);
    assert_eq!(before.iter().map(|it| &it.3[..]).collect::<Vec<_>>(), ["hello", ""], "the block is the newest there");
    for n in 3..6 {
        world.advance(10);
        world.sent(alice, text("bob", cmid(n), "hello?")).unwrap();
    }
    assert_eq!(list(&mut world), before);
    world.answer(bob, more(Wire::Unblock(v1::Block { user: "alice".into() })));
    world.advance(10);
    world.sent(carl, text("bob", cmid(6), "again")).unwrap();
    let after = list(&mut world);
    assert_eq!(after.iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(), [(2, 2), (6, 1)], "nor later");
}

#[test]
fn where_it_is_set_so_who_is_blocked_is_refused_and_may_still_take_back_what_it_said() {
    let mut world = World::with(2, Faults::none(), |settings| settings.refuse_blocked = true);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    let block = |user: &str| v1::Block { user: user.into() };
    world.answer(bob, more(Wire::Block(block("alice"))));
    let refused = world.sent(alice, text("bob", cmid(2), "hello?")).unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);
    let erase = v1::Send { kind: Kind::Erase as i32, ref_seq: 1, body: None, ..text("bob", cmid(3), "") };
    world.sent(alice, erase).unwrap();
    world.answer(bob, more(Wire::Unblock(block("alice"))));
    world.sent(alice, text("bob", cmid(2), "hello?")).unwrap();
}
