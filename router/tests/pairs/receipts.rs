//! Who hides what it reads: to others it has received it, and no more; to itself nothing changes.

use crate::groups::{more, read as read_group, say, three, to, unread};
use crate::settings::set;
use crate::world::{World, cmid, read, text, wire};
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
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
        assert_eq!(world.ticks(carl), [(3, 3)]);
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
