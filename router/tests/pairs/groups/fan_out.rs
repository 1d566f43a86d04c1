//! Who gets a record of a group, and in which order.

use super::{about, add, create, get, group_of, history, leave, read, say, three, to};
use crate::world::World;
use bytes::Bytes;
use ringpost_proto::id::Seq;
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_router::{ConnRef, Request};

#[test]
fn one_record_reaches_every_member_and_no_one_else() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    let laptop = world.open("alice", "laptop");
    let eve = world.open("eve", "phone");
    for conn in [laptop, eve] {
        world.got(conn);
    }
    assert_eq!(world.sent(alice, say(2, &group, "hi")).unwrap().seq, 2);
    assert_eq!([bob, carl, laptop].map(|conn| world.pushed(conn)), [[2]; 3]);
    assert!(world.pushed(alice).is_empty() && world.pushed(eve).is_empty());
    for request in [get(&group), read(&group, 1), leave(9, &group), add(9, &group, &["eve"])] {
        assert_eq!(world.error(eve, request).code(), Code::NotMember);
    }
    assert_eq!(world.sent(eve, say(9, &group, "let me in")).unwrap_err().code(), Code::NotMember);
    let history = v1::History { conversation: to(&group), ..Default::default() };
    assert_eq!(world.error(eve, Request::History(Box::new(history))).code(), Code::NotMember);
    let nothing = Bytes::from_static(&[7; 16]);
    for request in [get(&nothing), leave(9, &nothing)] {
        assert_eq!(world.error(eve, request).code(), Code::NotFound);
    }
    assert_eq!(world.error(eve, get(&Bytes::from_static(b"x"))).field, "group");
}

#[test]
fn a_joiner_gets_the_group_from_its_joining_on() {
    let mut world = World::new(2);
    let (group, [alice, ..]) = three(&mut world);
    world.sent(alice, say(2, &group, "before")).unwrap();
    let dave = world.open("dave", "phone");
    world.got(dave);
    world.answer(alice, add(3, &group, &["dave"]));
    world.sent(alice, say(4, &group, "after")).unwrap();
    assert_eq!(world.pushed(dave), [3, 4]);
    let late = world.open("dave", "tablet");
    assert_eq!(world.pushed(late), [3, 4], "another device from the store");
    assert_eq!(history(&mut world, dave, &group), [4, 3]);
    assert_eq!(world.sent(dave, about(5, &group, Kind::Reaction, 2, "+")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn a_large_group_is_pushed_in_turns_and_in_order() {
    let mut world = World::new(1);
    let all: Vec<String> = (0..600).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let alice = world.open("alice", "phone");
    let group = group_of(world.answer(alice, create(1, &all))).group;
    let conns: Vec<_> = all.iter().map(|name| world.open(name, "phone")).collect();
    for conn in &conns {
        assert_eq!(world.pushed(*conn), [1]);
    }
    for n in 2..5 {
        world.send(alice, say(n, &group, "all"));
    }
    world.advance(10);
    for conn in &conns {
        assert_eq!(world.pushed(*conn), [2, 3, 4]);
    }
}

/// A group of so many with their first record, and its members' sessions.
fn crowd(world: &mut World, name: &str, members: usize) -> (ConnRef, Bytes, Vec<ConnRef>) {
    let all: Vec<String> = (0..members).map(|n| format!("{name}{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let writer = world.open(&format!("{name}-writer"), "phone");
    let group = group_of(world.answer(writer, create(1, &all))).group;
    let conns: Vec<_> = all.iter().map(|name| world.open(name, "phone")).collect();
    world.pushes.clear();
    (writer, group, conns)
}

#[test]
fn what_is_committed_meanwhile_is_taken_along() {
    let mut world = World::new(1);
    let (writer, group, conns) = crowd(&mut world, "user", 100);
    world.hold_work = true;
    // Each is committed when the one before has reached some, and goes round from there.
    for n in 2..6 {
        world.send(writer, say(n, &group, "all"));
        world.settle();
        (0..2).for_each(|_| world.turn(0));
    }
    world.hold_work = false;
    world.advance(10);
    let order: Vec<_> = world.pushes.iter().filter(|(conn, _)| conns.contains(conn)).collect();
    assert_eq!(order.len(), 4 * conns.len());
    let changes = order.windows(2).filter(|two| two[0].0 != two[1].0).count();
    assert!(changes < 2 * conns.len(), "{changes} changes from one session to another");
    for conn in conns {
        assert_eq!(world.pushed(conn)[1..], [2, 3, 4, 5]);
    }
}

#[test]
fn a_group_that_is_written_to_without_end_lets_others_have_their_turn() {
    let mut world = World::new(1);
    // A record is nearly round when the next comes, so somebody always is on the way.
    let (busy, group, busy_conns) = crowd(&mut world, "busy", 66);
    let (calm, other, calm_conns) = crowd(&mut world, "calm", 66);
    world.hold_work = true;
    for n in 0..40 {
        world.send(busy, say(10 + n, &group, "more"));
        if n == 3 {
            world.send(calm, say(5, &other, "once"));
        }
        world.settle();
        (0..4).for_each(|_| world.turn(0));
    }
    world.hold_work = false;
    world.advance(10);
    let last_of = |conns: &[ConnRef]| world.pushes.iter().rposition(|(conn, _)| conns.contains(conn)).unwrap();
    assert!(last_of(&calm_conns) < last_of(&busy_conns) / 2, "{} of {}", last_of(&calm_conns), last_of(&busy_conns));
    for conn in busy_conns {
        assert_eq!(world.pushed(conn)[1..], (2..42).collect::<Vec<_>>());
    }
}

#[test]
fn a_flood_of_fan_outs_makes_sessions_fall_behind_and_loses_nothing() {
    let mut world = World::new(1);
    let all: Vec<String> = (0..200).map(|n| format!("user{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let alice = world.open("alice", "phone");
    let group = group_of(world.answer(alice, create(1, &all))).group;
    let conns: Vec<_> = all[..3].iter().map(|name| world.open(name, "phone")).collect();
    for conn in &conns {
        assert_eq!(world.pushed(*conn), [1]);
        world.ack(*conn, 1);
    }
    for n in 0..600 {
        world.send(alice, say(10 + n, &group, "more"));
    }
    for conn in &conns {
        let (mut got, mut acked) = (Vec::new(), 1);
        loop {
            world.advance(100);
            let fresh = world.pushed(*conn);
            if fresh.is_empty() {
                break;
            }
            acked += fresh.len() as u64;
            got.extend(fresh);
            world.ack(*conn, acked);
        }
        let head = world.log(&group).len() as Seq;
        assert!(head > 500, "{head}");
        assert_eq!(got, (2..=head).collect::<Vec<_>>());
    }
}
