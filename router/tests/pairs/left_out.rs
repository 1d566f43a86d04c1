//! Messages with a ciphertext for each device that have none for any device of a receiver: nobody is told that it has them.

use crate::expiry::{told, undelivered};
use crate::groups::{add, leave, say, three, to};
use crate::slices::{payloads, sliced};
use crate::world::{Got, World, cmid, text, wire};
use ringpost_persist::MISSED_RANGES;
use ringpost_persist::faulty::Faults;
use ringpost_proto::id::DeviceId;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::member_state::state::Value as State;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};

/// How far bob is with a record of alice's.
fn state(world: &mut World, conn: ConnRef, seq: u64) -> State {
    let info = v1::RecordInfo { conversation: wire("bob"), seq };
    match world.answer(conn, Request::More(Box::new(Wire::RecordInfo(info)))) {
        Answer::RecordInfo(info) => info.members[0].state(),
        other => panic!("{other:?}"),
    }
}

/// It is no longer in the list; its session, if there is one, has not heard of it.
fn unlink_phone(world: &mut World, user: &str) {
    let mut list = world.devices(user);
    list.unlink(DeviceId::new("phone").unwrap(), world.unix_ms());
    world.put_devices(user, &list);
}

/// The device has all that it is pushed.
fn take_all(world: &mut World, conn: ConnRef) {
    let number = |got: &Got| if let Got::Record { n, .. } = got { Some(*n) } else { None };
    while let Some(n) = world.got(conn).iter().filter_map(number).max() {
        world.ack(conn, n);
        world.settle();
    }
}

#[test]
fn what_was_sent_before_its_receiver_had_a_device_is_not_shown_as_delivered() {
    for swap in [0, 1] {
        let mut world = World::new(2);
        world.swap = swap;
        world.link("alice", &["phone", "laptop"]);
        let alice = world.open("alice", "phone");
        world.sent(alice, sliced("bob", 1, &[("alice", "laptop")])).unwrap();
        world.sent(alice, text("bob", cmid(2), "hi")).unwrap();
        world.sent(alice, sliced("bob", 3, &[("alice", "laptop")])).unwrap();
        let bob = world.open("bob", "phone");
        assert_eq!(world.pushed(bob), [2]);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), None, "nothing is acknowledged yet");
        world.ack(bob, 1);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((3, vec![(1, 1), (3, 3)])));
        let states = [1, 2, 3].map(|seq| state(&mut world, alice, seq));
        assert_eq!(states, [State::Sent, State::Delivered, State::Sent]);
        // The same from the registers, when everybody was gone for long.
        [alice, bob].into_iter().for_each(|conn| world.close(conn));
        world.advance(1_400_000);
        let alice = world.open("alice", "phone");
        let states = [1, 2, 3].map(|seq| state(&mut world, alice, seq));
        assert_eq!(states, [State::Sent, State::Delivered, State::Sent]);
        // From now on there is a device to encrypt for.
        world.sent(alice, sliced("bob", 4, &[("alice", "laptop"), ("bob", "phone")])).unwrap();
        let bob = world.open("bob", "phone");
        assert_eq!(payloads(&mut world, bob), [(4, "for bob on phone".to_owned())]);
        world.ack(bob, 1);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((4, vec![(1, 1), (3, 3)])));
    }
}

#[test]
fn a_sender_who_was_away_is_told_at_its_return() {
    for swap in [0, 1] {
        let mut world = World::new(2);
        world.swap = swap;
        world.link("alice", &["phone", "laptop"]);
        let alice = world.open("alice", "phone");
        world.sent(alice, sliced("bob", 1, &[("alice", "laptop")])).unwrap();
        world.sent(alice, text("bob", cmid(2), "hi")).unwrap();
        world.close(alice);
        let bob = world.open("bob", "phone");
        assert_eq!(world.pushed(bob), [2]);
        world.ack(bob, 1);
        world.advance(10_000);
        let alice = world.open("alice", "phone");
        assert_eq!(told(&mut world, alice), Some((2, vec![(1, 1)])));
    }
}

#[test]
fn nothing_that_was_shown_as_received_is_taken_back_however_much_is_missed() {
    let mut world = World::new(2);
    world.link("alice", &["phone", "laptop"]);
    let alice = world.open("alice", "phone");
    let pairs = MISSED_RANGES as u64 + 8;
    for n in 1..=pairs as u32 {
        world.sent(alice, sliced("bob", 2 * n, &[("alice", "laptop")])).unwrap();
        world.sent(alice, text("bob", cmid(2 * n + 1), "hi")).unwrap();
    }
    let bob = world.open("bob", "phone");
    let mut shown = vec![State::Sent; 2 * pairs as usize];
    for acked in (1..=pairs).step_by(9).chain([pairs]) {
        world.ack(bob, acked);
        world.advance(3_000);
        let now: Vec<_> = (1..=2 * pairs).map(|seq| state(&mut world, alice, seq)).collect();
        let fell = shown.iter().zip(&now).any(|(before, now)| *before == State::Delivered && *now != State::Delivered);
        assert!(!fell, "{now:?}");
        assert!(now.iter().step_by(2).all(|state| *state == State::Sent), "{now:?}");
        shown = now;
    }
    // From the last one that there is room for nothing more is shown as received.
    let received = shown.iter().skip(1).step_by(2).map(|state| *state == State::Delivered);
    assert!(received.eq((1..=pairs).map(|n| n < MISSED_RANGES as u64)), "{shown:?}");
    let (delivered, excluded) = told(&mut world, alice).unwrap();
    assert_eq!((delivered, excluded.len()), (2 * pairs, MISSED_RANGES));
    assert_eq!(undelivered(&world), pairs);
}

#[test]
fn what_is_passed_while_its_receiver_is_here_is_not_shown_as_delivered() {
    let mut world = World::with(2, Faults::none(), |settings| settings.window_pushes = 1);
    world.link("alice", &["phone", "laptop"]);
    let alice = world.open("alice", "phone");
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    world.sent(alice, sliced("bob", 2, &[("alice", "laptop")])).unwrap();
    let bob = world.open("bob", "phone");
    assert_eq!(world.pushed(bob), [1]);
    // What is behind it was not read yet for want of room.
    world.ack(bob, 1);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((2, vec![(2, 2)])));
    world.ack(alice, 1);
    // His phone was unlinked, and its session has not ended yet.
    unlink_phone(&mut world, "bob");
    world.sent(alice, sliced("bob", 3, &[("alice", "laptop")])).unwrap();
    world.advance(3_000);
    assert!(world.pushed(bob).is_empty());
    assert_eq!(told(&mut world, alice), Some((3, vec![(2, 3)])));
    assert_eq!(undelivered(&world), 2);
    assert_eq!([1, 2, 3].map(|seq| state(&mut world, alice, seq)), [State::Delivered, State::Sent, State::Sent]);
}

#[test]
fn who_has_left_a_group_misses_nothing_of_it() {
    let mut world = World::new(2);
    world.link("alice", &["phone"]);
    let (group, [alice, bob, carl]) = three(&mut world);
    assert!(matches!(world.answer(carl, leave(2, &group)), Answer::Group(_)));
    // Her last ack comes after what was encrypted for the others.
    let send = v1::Send { to: to(&group), ..sliced("", 3, &[("bob", "phone")]) };
    assert_eq!(world.sent(alice, send).unwrap().seq, 3);
    world.ack(carl, 1);
    world.ack(bob, 3);
    world.advance(3_000);
    assert_eq!(told(&mut world, alice), Some((3, vec![])));
}

#[test]
fn what_a_member_missed_keeps_nobody_back_when_it_has_left() {
    for swap in [0, 1] {
        let mut world = World::new(2);
        world.swap = swap;
        world.link("alice", &["phone"]);
        let (group, [alice, bob, carl]) = three(&mut world);
        world.close(carl);
        unlink_phone(&mut world, "carl");
        for n in 0..MISSED_RANGES as u32 + 1 {
            let send = v1::Send { to: to(&group), ..sliced("", 10 + 2 * n, &[("bob", "phone")]) };
            world.sent(alice, send).unwrap();
            world.sent(alice, say(11 + 2 * n, &group, "hi")).unwrap();
        }
        let carl = world.open("carl", "tablet");
        let last = world.log(&group).len() as u64;
        [bob, carl].into_iter().for_each(|conn| take_all(&mut world, conn));
        world.advance(3_000);
        let (delivered, excluded) = told(&mut world, alice).unwrap();
        assert_eq!((delivered, excluded.len()), (last, MISSED_RANGES));
        assert!(matches!(world.answer(carl, leave(2, &group)), Answer::Group(_)));
        let after = world.sent(alice, say(3, &group, "after carl")).unwrap().seq;
        take_all(&mut world, bob);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((after, vec![])));
        // The same from the store, where the sender was away.
        [alice, bob, carl].into_iter().for_each(|conn| world.close(conn));
        world.advance(1_400_000);
        let tablet = world.open("alice", "tablet");
        assert_eq!(told(&mut world, tablet), Some((after, vec![])));
    }
}

#[test]
fn who_comes_back_to_a_group_takes_back_nothing_that_was_shown_as_received() {
    for swap in [0, 1] {
        let mut world = World::new(2);
        world.swap = swap;
        world.link("alice", &["phone"]);
        let (group, [alice, bob, carl]) = three(&mut world);
        world.close(carl);
        unlink_phone(&mut world, "carl");
        let send = v1::Send { to: to(&group), ..sliced("", 10, &[("bob", "phone")]) };
        let missed = world.sent(alice, send).unwrap().seq;
        let carl = world.open("carl", "tablet");
        [bob, carl].into_iter().for_each(|conn| take_all(&mut world, conn));
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((missed, vec![(missed, missed)])));
        assert!(matches!(world.answer(carl, leave(2, &group)), Answer::Group(_)));
        let without = world.sent(alice, say(3, &group, "without carl")).unwrap().seq;
        take_all(&mut world, bob);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((without, vec![])));
        assert!(matches!(world.answer(alice, add(4, &group, &["carl"])), Answer::Group(_)));
        let with = world.sent(alice, say(5, &group, "carl again")).unwrap().seq;
        [bob, carl].into_iter().for_each(|conn| take_all(&mut world, conn));
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((with, vec![])));
        // The same from the store, where the sender was away.
        [alice, bob, carl].into_iter().for_each(|conn| world.close(conn));
        world.advance(1_400_000);
        let tablet = world.open("alice", "tablet");
        assert_eq!(told(&mut world, tablet), Some((with, vec![])));
    }
}

#[test]
fn what_was_for_a_device_that_was_unlinked_before_it_had_it_is_not_shown_as_delivered() {
    for swap in [0, 1] {
        let mut world = World::new(2);
        world.swap = swap;
        world.link("alice", &["phone"]);
        world.link("bob", &["phone"]);
        let alice = world.open("alice", "phone");
        world.sent(alice, sliced("bob", 1, &[("bob", "phone")])).unwrap();
        world.sent(alice, text("bob", cmid(2), "hi")).unwrap();
        unlink_phone(&mut world, "bob");
        let tablet = world.open("bob", "tablet");
        assert_eq!(world.pushed(tablet), [2]);
        world.ack(tablet, 1);
        world.advance(3_000);
        assert_eq!(told(&mut world, alice), Some((2, vec![(1, 1)])));
        assert_eq!([1, 2].map(|seq| state(&mut world, alice, seq)), [State::Sent, State::Delivered]);
    }
}

#[test]
fn what_another_device_of_the_user_has_or_will_get_is_not_told_to_be_lost() {
    let mut world = World::new(2);
    world.link("alice", &["phone"]);
    world.link("bob", &["phone"]);
    let alice = world.open("alice", "phone");
    world.sent(alice, sliced("bob", 1, &[("bob", "phone")])).unwrap();
    // Linked while the phone is away; the phone comes back, and is still one of bob's.
    let tablet = world.open("bob", "tablet");
    world.sent(alice, sliced("bob", 2, &[("bob", "phone"), ("bob", "tablet")])).unwrap();
    assert_eq!(payloads(&mut world, tablet), [(2, "for bob on tablet".to_owned())]);
    world.ack(tablet, 1);
    world.advance(3_000);
    let phone = world.open("bob", "phone");
    assert_eq!(payloads(&mut world, phone), [(1, "for bob on phone".into()), (2, "for bob on phone".into())]);
    world.ack(phone, 2);
    world.advance(3_000);
    assert!(world.wire_ticks(alice).iter().all(|tick| tick.excluded.is_empty()));
    assert_eq!([1, 2].map(|seq| state(&mut world, alice, seq)), [State::Delivered; 2]);
}
