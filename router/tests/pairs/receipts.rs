//! Who hides what it reads: to others it has received it, and no more; to itself nothing changes.

use crate::groups::{leave, more, read as read_group, say, three, to, unread};
use crate::settings::set;
use crate::world::{Got, World, cmid, read, text, wire};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::member_state::state::Value as State;
use ringpost_proto::v1::privacy::Value as Privacy;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};

fn receipts(to: Privacy) -> Request {
    set(v1::Settings { read_receipts: to as i32, ..Default::default() })
}

fn states(world: &mut World, conn: ConnRef, conversation: Option<v1::Peer>, seq: u64) -> Vec<State> {
    match world.answer(conn, more(Wire::RecordInfo(v1::RecordInfo { conversation, seq }))) {
        Answer::RecordInfo(result) => result.members.iter().map(|member| member.state()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reading_is_hidden_from_then_on_and_shown_with_the_next_that_is_read_after_that() {
    let mut world = World::new(2);
    world.swap = 3;
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    for n in 1..=4 {
        world.sent(alice, text("bob", cmid(n), "hi")).unwrap();
    }
    world.ack(bob, 4);
    world.answer(bob, read("alice", 1));
    world.advance(3_000);
    assert_eq!(world.ticks(alice).last(), Some(&(4, 1)));
    world.answer(bob, receipts(Privacy::Nobody));
    world.answer(bob, read("alice", 3));
    world.advance(3_000);
    assert_eq!(world.ticks(alice), []);
    let seen = |world: &mut World| (1..=4).flat_map(|seq| states(world, alice, wire("bob"), seq)).collect::<Vec<_>>();
    assert_eq!(seen(&mut world), [State::Read, State::Hidden, State::Hidden, State::Hidden]);
    assert_eq!(unread(&mut world, bob), [(1, 4)], "itself it knows what it has read");
    // Nor after everything was written down and read back.
    for conn in [alice, bob] {
        world.close(conn);
    }
    world.advance(700_000);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    assert_eq!(world.ticks(alice), [(4, 1)], "what it did not acknowledge");
    world.answer(bob, receipts(Privacy::Everyone));
    world.advance(3_000);
    assert_eq!(world.ticks(alice), []);
    world.answer(bob, read("alice", 4));
    world.advance(3_000);
    assert_eq!(world.ticks(alice), [(4, 4)]);
    world.sent(alice, text("bob", cmid(5), "hi")).unwrap();
    world.ack(bob, 1);
    world.answer(bob, read("alice", 5));
    world.advance(3_000);
    assert_eq!(world.ticks(alice).last(), Some(&(5, 5)));
}

#[test]
fn contacts_are_those_to_whom_one_has_written() {
    let mut world = World::new(2);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    world.answer(bob, receipts(Privacy::Contacts));
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    world.ack(bob, 1);
    world.answer(bob, read("alice", 1));
    world.advance(3_000);
    assert_eq!(world.ticks(alice), [(1, 0)]);
    world.sent(bob, text("alice", cmid(2), "who are you?")).unwrap();
    world.ack(alice, 2);
    world.sent(alice, text("bob", cmid(3), "alice")).unwrap();
    world.ack(bob, 3);
    world.answer(bob, read("alice", 3));
    world.advance(3_000);
    assert_eq!(world.ticks(alice).last(), Some(&(3, 3)));
}

#[test]
fn a_group_counts_those_who_show_it_and_nobody_learns_who_hides_has_read() {
    for swap in [0, 1] {
        let mut world = World::new(3);
        world.swap = swap;
        let (group, [alice, bob, carl]) = three(&mut world);
        world.answer(carl, receipts(Privacy::Nobody));
        world.sent(alice, say(2, &group, "one")).unwrap();
        for conn in [bob, carl] {
            world.ack(conn, 2);
        }
        world.advance(3_000);
        world.ticks(alice);
        world.answer(carl, read_group(&group, 2));
        world.advance(3_000);
        assert_eq!(world.ticks(alice), [], "nothing to be seen of it");
        world.answer(bob, read_group(&group, 2));
        world.advance(3_000);
        assert_eq!(world.ticks(alice), [(2, 2)]);
        assert_eq!(states(&mut world, alice, to(&group), 2), [State::Read, State::Hidden]);
        // The one who hides hears of all the others.
        world.sent(carl, say(3, &group, "two")).unwrap();
        world.ack(bob, 3);
        world.answer(bob, read_group(&group, 3));
        world.advance(3_000);
        assert!(world.ticks(carl).iter().all(|(_, read)| *read < 3), "alice has not read it");
        world.ack(alice, 3);
        world.answer(alice, read_group(&group, 3));
        world.advance(3_000);
        assert_eq!(world.ticks(carl).last(), Some(&(3, 3)));
    }
}

#[test]
fn where_all_others_hide_nothing_is_shown() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    for conn in [bob, carl] {
        world.answer(conn, receipts(Privacy::Nobody));
    }
    world.sent(alice, say(2, &group, "one")).unwrap();
    for conn in [bob, carl] {
        world.ack(conn, 2);
        world.answer(conn, read_group(&group, 2));
    }
    world.answer(alice, read_group(&group, 2));
    world.advance(3_000);
    assert!(world.ticks(alice).iter().all(|(_, read)| *read == 0));
    world.close(alice);
    world.advance(10_000);
    let alice = world.open("alice", "tablet");
    assert!(world.ticks(alice).iter().all(|(_, read)| *read == 0));
}

/// Acknowledges everything that came, and drops it.
fn ack_all(world: &mut World, conn: ConnRef) {
    let push = |got: Got| match got {
        Got::Record { n, .. } | Got::Frame(_, Answer::Push(v1::Push { n, .. })) => Some(n),
        _ => None,
    };
    if let Some(last) = world.got(conn).into_iter().filter_map(push).max() {
        world.ack(conn, last);
    }
}

#[test]
fn who_shows_again_in_a_group_makes_no_tick_go_back_and_hears_of_no_reading_that_was_none() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.answer(carl, receipts(Privacy::Nobody));
    for (conn, n) in [(carl, 2), (alice, 3), (bob, 4), (alice, 5), (carl, 6), (alice, 7)] {
        world.sent(conn, say(n, &group, "x")).unwrap();
    }
    [alice, bob, carl].iter().for_each(|conn| ack_all(&mut world, *conn));
    for (conn, seq) in [(carl, 1), (alice, 4), (bob, 7)] {
        world.answer(conn, read_group(&group, seq));
    }
    world.advance(5_000);
    let mut told = world.ticks(alice);
    assert_eq!(told.last(), Some(&(7, 7)), "bob is the only other one who shows it");
    world.answer(carl, receipts(Privacy::Everyone));
    world.answer(carl, read_group(&group, 3));
    world.advance(5_000);
    world.close(carl);
    world.advance(10_000);
    let carl = world.open("carl", "phone");
    assert!(world.ticks(carl).iter().all(|(_, read)| *read <= 4), "alice has read no more");
    world.sent(alice, say(8, &group, "y")).unwrap();
    for conn in [bob, carl] {
        ack_all(&mut world, conn);
        world.answer(conn, read_group(&group, 8));
    }
    world.advance(5_000);
    told.extend(world.ticks(alice));
    assert!(told.is_sorted() && told.last() == Some(&(8, 8)), "{told:?}");
}

#[test]
fn a_sender_is_told_no_less_when_the_last_other_one_hides_too_wherever_it_is_told() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    for conn in [alice, carl] {
        world.answer(conn, receipts(Privacy::Nobody));
    }
    world.sent(alice, say(2, &group, "one")).unwrap();
    for conn in [bob, carl] {
        ack_all(&mut world, conn);
    }
    world.answer(bob, read_group(&group, 2));
    world.advance(5_000);
    assert_eq!(world.ticks(alice).last(), Some(&(2, 2)), "bob shows it");
    world.answer(bob, receipts(Privacy::Nobody));
    world.answer(alice, receipts(Privacy::Everyone));
    world.sent(alice, say(3, &group, "two")).unwrap();
    world.answer(alice, read_group(&group, 3));
    for conn in [bob, carl] {
        ack_all(&mut world, conn);
        world.answer(conn, read_group(&group, 3));
    }
    world.advance(5_000);
    assert_eq!(world.ticks(alice).last(), Some(&(3, 2)), "no less than before, and nothing of who hides");
    // The room is gone from memory: a hello is told what is written, and then the room, from that on.
    for conn in [alice, bob, carl] {
        world.close(conn);
    }
    world.advance(700_000);
    let [alice, bob, carl] = ["alice", "bob", "carl"].map(|name| world.open(name, "phone"));
    assert_eq!(world.ticks(alice), [(3, 2)]);
    world.sent(alice, say(4, &group, "three")).unwrap();
    for conn in [bob, carl] {
        ack_all(&mut world, conn);
    }
    world.advance(5_000);
    assert_eq!(world.ticks(alice).last(), Some(&(4, 2)));
}

#[test]
fn the_info_of_a_record_that_memory_does_not_hold_names_its_sender_as_little_as_that_of_a_new_one() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(bob, say(2, &group, "old")).unwrap();
    [alice, carl].iter().for_each(|conn| ack_all(&mut world, *conn));
    for n in 3..300 {
        world.sent(bob, say(n, &group, "newer")).unwrap();
        [alice, carl].iter().for_each(|conn| ack_all(&mut world, *conn));
    }
    for conn in [alice, bob, carl] {
        world.close(conn);
    }
    // More than a day later, the room is read from the store as far as it holds it in memory.
    world.advance(25 * 3_600_000);
    let [alice, bob] = ["alice", "bob"].map(|name| world.open(name, "phone"));
    world.sent(bob, say(300, &group, "a day later")).unwrap();
    let named = |world: &mut World, seq| match world
        .answer(alice, more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq })))
    {
        Answer::RecordInfo(info) => info.members.into_iter().map(|member| member.user).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for seq in [2, 299] {
        assert_eq!(named(&mut world, seq), ["alice", "carl"], "of {seq}");
    }
}

#[test]
fn who_has_left_learns_nothing_of_how_those_who_stay_are_getting_on() {
    let mut world = World::new(2);
    let (group, [alice, bob, carl]) = three(&mut world);
    world.sent(bob, say(2, &group, "one")).unwrap();
    world.answer(bob, leave(3, &group));
    for n in 4..10 {
        world.sent(alice, say(n, &group, "later")).unwrap();
    }
    [alice, carl].iter().for_each(|conn| ack_all(&mut world, *conn));
    for conn in [alice, carl] {
        world.answer(conn, read_group(&group, 9));
    }
    world.advance(5_000);
    let info = more(Wire::RecordInfo(v1::RecordInfo { conversation: to(&group), seq: 2 }));
    assert_eq!(world.error(bob, info).code(), Code::NotMember);
    world.close(bob);
    world.advance(10_000);
    let bob = world.open("bob", "phone");
    assert!(world.ticks(bob).iter().all(|(delivered, read)| *delivered <= 3 && *read <= 3));
}
