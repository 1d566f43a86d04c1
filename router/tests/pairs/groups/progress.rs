//! How far the members of a group are, and what the senders hear of it.

use super::{about, add, create, group_of, leave, more, read, remove, say, three, to, unread};
use crate::world::World;
use ringpost_persist::RegisterKey;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::member_state::state::Value as State;
use ringpost_proto::v1::server_frame::Answer;

#[test]
fn the_tick_of_a_group_is_that_of_its_last_member() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    // Everybody has the record of the creation.
    for conn in [bob, carl] {
        world.ack(conn, 1);
    }
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.sent(alice, say(3, &group, "two")).unwrap();
    world.advance(2_000);
    assert!(world.ticks(alice).iter().all(|(delivered, _)| *delivered < 2));
    world.ack(bob, 3);
    world.advance(2_000);
    assert!(world.ticks(alice).is_empty(), "carl has neither");
    world.ack(carl, 2);
    world.advance(2_000);
    assert_eq!(world.ticks(alice), [(2, 0)]);
    world.answer(bob, read(&group, 3));
    world.ack(carl, 3);
    world.advance(2_000);
    assert_eq!(world.ticks(alice), [(3, 0)]);
    // Who leaves keeps nobody back.
    world.answer(alice, remove(4, &group, &["carl"]));
    world.advance(2_000);
    assert_eq!(world.ticks(alice).last(), Some(&(3, 3)));
}

#[test]
fn whoever_creates_a_group_hears_that_all_have_it() {
    let mut world = World::new(2);
    let (_, [alice, bob, carl]) = three(&mut world);
    for conn in [bob, carl] {
        world.ack(conn, 1);
    }
    world.advance(2_000);
    assert_eq!(world.ticks(alice), [(1, 0)]);
}

#[test]
fn who_has_left_is_told_of_no_reader_that_there_is_not() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(carl, say(2, &group, "read me")).unwrap();
    for conn in [alice, bob] {
        world.ack(conn, 2);
    }
    world.answer(carl, leave(3, &group));
    world.answer(alice, read(&group, 2));
    world.advance(10_000);
    world.close(carl);
    let carl = world.open("carl", "phone");
    assert!(world.ticks(carl).iter().all(|(_, read)| *read == 0), "bob has not read it");
}

#[test]
fn a_sender_who_was_away_hears_at_its_next_sync_how_far_the_group_is() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.close(alice);
    for conn in [bob, carl] {
        world.ack(conn, 2);
    }
    world.answer(bob, read(&group, 2));
    world.advance(10_000);
    let alice = world.open("alice", "phone");
    assert_eq!(world.ticks(alice), [(2, 0)]);
}

#[test]
fn a_record_tells_its_sender_how_far_each_member_is() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.ack(bob, 2);
    world.answer(bob, read(&group, 2));
    let dave = world.open("dave", "phone");
    world.got(dave);
    world.answer(alice, add(3, &group, &["dave"]));
    let info = |seq| more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq }));
    let Answer::RecordInfo(result) = world.answer(alice, info(2)) else { panic!() };
    let states: Vec<_> = result.members.iter().map(|it| (it.user.as_str(), it.state(), it.at_ms > 0)).collect();
    assert_eq!(states, [("bob", State::Read, true), ("carl", State::Sent, false)], "dave was not there yet");
    world.ack(carl, 2);
    world.settle();
    let Answer::RecordInfo(result) = world.answer(bob, info(2)) else { panic!() };
    assert_eq!(result.members[1].state(), State::Delivered);
    assert_eq!(world.error(dave, info(2)).code(), Code::NotFound);
    assert_eq!(world.error(alice, info(99)).code(), Code::NotFound);
}

#[test]
fn unread_is_what_others_said_since_one_read() {
    let mut world = World::new(2);
    let (group, [alice, bob, _]) = three(&mut world);
    world.sent(alice, say(2, &group, "one")).unwrap();
    world.sent(bob, say(3, &group, "mine")).unwrap();
    world.sent(alice, say(4, &group, "two")).unwrap();
    assert_eq!(unread(&mut world, bob), [(2, 4)]);
    world.ack(bob, 2);
    world.answer(bob, read(&group, 2));
    world.advance(3_000);
    assert_eq!(unread(&mut world, bob), [(1, 4)]);
    world.answer(alice, remove(5, &group, &["bob"]));
    world.sent(alice, say(6, &group, "three")).unwrap();
    assert_eq!(unread(&mut world, bob), [(1, 5)]);
    // Longer than what is in memory: counted in the log.
    for n in 0..400 {
        world.sent(alice, say(100 + n, &group, "more")).unwrap();
    }
    let carl = world.open("carl", "tablet");
    let mut n = 0;
    loop {
        let pushed = world.pushed(carl).len() as u64;
        if pushed == 0 {
            break;
        }
        n += pushed;
        world.ack(carl, n);
        world.settle();
    }
    world.answer(carl, read(&group, 4));
    world.advance(5_000);
    assert_eq!(unread(&mut world, carl), [(401, 406)]);
}

#[test]
fn whoever_may_not_see_an_edit_keeps_its_sender_waiting_for_no_tick() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(alice, say(2, &group, "helo")).unwrap();
    let dave = world.open("dave", "phone");
    world.answer(alice, add(3, &group, &["dave"]));
    for (conn, seq) in [(bob, 3), (carl, 3), (dave, 1)] {
        assert_eq!(world.pushed(conn).last(), Some(&3));
        world.ack(conn, seq);
    }
    world.sent(alice, about(4, &group, Kind::Edit, 2, "hello")).unwrap();
    assert!(world.pushed(dave).is_empty(), "it is about what was said before he came");
    world.ack(bob, 4);
    world.ack(carl, 4);
    world.advance(3_000);
    assert_eq!(world.ticks(alice).last(), Some(&(4, 0)));
}

#[test]
fn whoever_was_away_is_not_named_for_what_came_meanwhile() {
    let mut world = World::new(2);
    let (group, [alice, _, _]) = three(&mut world);
    world.answer(alice, remove(2, &group, &["bob"]));
    world.sent(alice, say(3, &group, "without bob")).unwrap();
    world.answer(alice, add(4, &group, &["bob"]));
    let info = more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq: 3 }));
    let Answer::RecordInfo(result) = world.answer(alice, info) else { panic!() };
    assert_eq!(result.members.iter().map(|it| it.user.as_str()).collect::<Vec<_>>(), ["carl"]);
}

/// A message that is sent meanwhile waits in the store for no more than a part of them.
#[test]
fn what_many_members_have_is_written_in_parts_and_its_sender_is_told_once() {
    let mut world = World::new(2);
    let all: Vec<String> = (0..600).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let alice = world.open("alice", "phone");
    let group = group_of(world.answer(alice, create(1, &all))).group;
    let conns: Vec<_> = all.iter().map(|name| world.open(name, "phone")).collect();
    world.sent(alice, say(2, &group, "all")).unwrap();
    world.advance(3_000);
    world.raises.clear();
    world.got(alice);
    for conn in &conns {
        world.ack(*conn, 2);
    }
    world.advance(5_000);
    assert_eq!(world.ticks(alice), [(2, 0)]);
    let parts: Vec<_> = world.raises.iter().map(Vec::len).collect();
    assert_eq!(parts, [128, 128, 128, 128, 89], "600 devices, and what alice was told");
    // A crash may leave the first ones of them. Who has acknowledged does not again, so nobody would tell her.
    assert!(matches!(world.raises[0][0].key, RegisterKey::ToldDelivered(..)), "{:?}", world.raises[0][0]);
    // Her device has not said that it has it; the store knows what it was.
    [alice].iter().chain(&conns).for_each(|conn| world.close(*conn));
    world.advance(1_400_000);
    let alice = world.open("alice", "phone");
    assert_eq!(world.ticks(alice), [(2, 0)]);
}
