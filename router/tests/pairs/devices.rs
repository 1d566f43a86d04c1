//! Linking and unlinking: who is let in, where a device starts, what becomes of the one that is thrown out.

use crate::world::{Got, World, send_all, text, user, wire};
use ringpost_persist::faulty::Faults;
use ringpost_proto::close::CloseCode;
use ringpost_proto::id::DeviceId;
use ringpost_proto::v1;
use ringpost_proto::v1::client_frame::Request as Wire;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::envelope::{Envelope, SendOutcome, SessionRef};
use ringpost_router::{ConnRef, Identity, Input, Request, home_of_user};
use std::sync::Arc;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn unlink(name: &str) -> Request {
    Request::More(Box::new(Wire::DeviceUnlink(v1::DeviceUnlink { device: name.to_owned() })))
}

fn devices() -> Request {
    Request::More(Box::new(Wire::Devices(v1::Devices {})))
}

fn listed(answer: Answer) -> Vec<(String, bool)> {
    match answer {
        Answer::DeviceList(list) => list.devices.into_iter().map(|it| (it.device, it.primary)).collect(),
        other => panic!("{other:?}"),
    }
}

fn linked(world: &World, name: &str) -> Vec<String> {
    world.devices(name).devices().iter().map(|it| it.device.as_str().to_owned()).collect()
}

/// A token as it was `ago_ms` ago.
fn token(world: &World, name: &str, device: &str, ago_ms: u64) -> Arc<Identity> {
    let fresh = world.identity(name, device, 3_600_000);
    Arc::new(Identity { issued_ms: fresh.issued_ms - ago_ms, ..Identity::clone(&fresh) })
}

fn is_welcome(world: &mut World, conn: ConnRef) -> bool {
    world.got(conn).iter().any(|got| matches!(got, Got::Established))
}

#[test]
fn the_first_device_gets_everything_and_a_further_one_what_no_device_has_received() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..4);
    let phone = world.open("bob", "phone");
    assert_eq!(world.pushed(phone), [1, 2, 3]);
    world.ack(phone, 3);
    // What was acknowledged is not written yet.
    let laptop = world.open("bob", "laptop");
    assert!(world.pushed(laptop).is_empty());
    assert_eq!(world.delivered("bob", "alice", "laptop"), 3, "written before it is linked");
    assert_eq!(linked(&world, "bob"), ["phone", "laptop"]);
    send_all(&mut world, alice, "bob", 4..6);
    assert_eq!((world.pushed(phone), world.pushed(laptop)), (vec![4, 5], vec![4, 5]));
    world.close(laptop);
    let laptop = world.open("bob", "laptop");
    assert_eq!(world.pushed(laptop), [4, 5], "its own position counts from then on");
    // Nobody has acknowledged 4 and 5: they are not lost to a device that comes now.
    let tablet = world.open("bob", "tablet");
    assert_eq!(world.pushed(tablet), [4, 5]);
    let carol = world.open("carol", "phone");
    send_all(&mut world, carol, "bob", 1..2);
    assert_eq!(world.pushed(tablet), [1], "new conversations from their beginning");
}

#[test]
fn what_a_device_says_at_hello_that_it_has_counts_for_where_the_next_one_starts() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let laptop = world.open("bob", "laptop");
    send_all(&mut world, alice, "bob", 1..4);
    assert_eq!(world.pushed(laptop), [1, 2, 3]);
    world.close(laptop);
    // Its acks were lost; what it says instead is not written yet when it is unlinked, and linked anew with nothing.
    let have = vec![v1::Position { conversation: wire("alice"), seq: 3 }];
    let laptop = world.hello(world.identity("bob", "laptop", 3_600_000), v1::Hello { have, ..Default::default() });
    world.settle();
    world.answer(laptop, unlink("laptop"));
    world.advance(10);
    let laptop = world.open("bob", "laptop");
    assert!(world.pushed(laptop).is_empty(), "it starts behind what the user has");
    world.advance(5_000);
    world.close(laptop);
    send_all(&mut world, alice, "bob", 4..5);
    let laptop = world.open("bob", "laptop");
    assert_eq!(world.pushed(laptop), [4], "and misses nothing of what it was begun with");
}

#[test]
fn ticks_say_no_more_for_a_new_device_and_no_less_without_it() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let phone = world.open("bob", "phone");
    world.close(phone);
    send_all(&mut world, alice, "bob", 1..4);
    let laptop = world.open("bob", "laptop");
    world.advance(5_000);
    assert!(world.ticks(alice).is_empty(), "nothing was delivered");
    assert_eq!(world.pushed(laptop), [1, 2, 3]);
    world.ack(laptop, 3);
    world.advance(5_000);
    assert_eq!(world.ticks(alice), [(3, 0)]);
    let phone = world.open("bob", "phone");
    assert_eq!(listed(world.answer(phone, unlink("laptop"))), [("phone".to_owned(), true)]);
    assert_eq!(world.closed(laptop), Some(CloseCode::DeviceRevoked));
    world.ack(phone, 1);
    world.advance(5_000);
    world.close(alice);
    let alice = world.open("alice", "phone");
    assert!(world.ticks(alice).iter().all(|tick| *tick >= (3, 0)), "a tick does not go back");
}

#[test]
fn a_sixth_device_is_refused_until_one_of_the_five_is_unlinked() {
    let mut world = World::new(2);
    for name in ["a", "b", "c", "d", "e"] {
        let conn = world.open("alice", name);
        world.close(conn);
    }
    let sixth = world.open("alice", "f");
    let got = world.got(sixth);
    assert!(matches!(&got[0], Got::Frame(1, Answer::Error(error)) if error.code() == Code::DeviceLimit), "{got:?}");
    assert!(matches!(&got[1], Got::Closed(CloseCode::Unauthenticated)));
    let first = world.open("alice", "a");
    assert_eq!(listed(world.answer(first, unlink("c"))).len(), 4);
    let sixth = world.open("alice", "f");
    assert!(is_welcome(&mut world, sixth));
    assert_eq!(linked(&world, "alice"), ["a", "b", "d", "e", "f"]);
    let limits: u64 = world.routers.iter().map(|router| router.counters().device_limits).sum();
    assert_eq!(limits, 1);
}

#[test]
fn an_unlinked_device_is_closed_its_late_acks_move_nothing_and_its_token_is_burnt() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let phone = world.open("bob", "phone");
    let old = token(&world, "bob", "laptop", 0);
    let laptop = world.hello(old.clone(), v1::Hello::default());
    world.settle();
    send_all(&mut world, alice, "bob", 1..4);
    world.advance(10);
    world.answer(phone, unlink("laptop"));
    assert_eq!(world.closed(laptop), Some(CloseCode::DeviceRevoked));
    world.ack(laptop, 3);
    world.advance(5_000);
    assert_eq!(world.delivered("bob", "alice", "laptop"), 0);
    assert!(world.ticks(alice).is_empty());
    world.close(laptop);
    let again = world.hello(old.clone(), v1::Hello::default());
    world.settle();
    assert_eq!(world.closed(again), Some(CloseCode::Unauthenticated), "as any bad token");
    assert_eq!(linked(&world, "bob"), ["phone"]);
    world.ack(phone, 3);
    let fresh = world.open("bob", "laptop");
    assert!(world.pushed(fresh).is_empty(), "it is linked anew, behind what the user has");
    assert_eq!(linked(&world, "bob"), ["phone", "laptop"]);
    // The old token does not come back with the device, not as a renewal either.
    let renewal = Some(old.clone());
    world.input(fresh.shard, Input::Renewed { conn: fresh, id: 9, identity: renewal });
    assert_eq!(world.closed(fresh), Some(CloseCode::Unauthenticated));
    let again = world.hello(old, v1::Hello::default());
    world.settle();
    assert_eq!(world.closed(again), Some(CloseCode::Unauthenticated));
}

#[test]
fn a_token_of_an_issuer_whose_clock_is_ahead_is_burnt_with_its_device() {
    let mut world = World::new(2);
    let phone = world.open("bob", "phone");
    let fresh = world.identity("bob", "laptop", 3_600_000);
    let ahead = Arc::new(Identity { issued_ms: fresh.issued_ms + 3_000, ..Identity::clone(&fresh) });
    let laptop = world.hello(ahead.clone(), v1::Hello::default());
    world.settle();
    assert!(is_welcome(&mut world, laptop));
    assert_eq!(listed(world.answer(phone, unlink("laptop"))), [("phone".into(), true)]);
    assert_eq!(world.closed(laptop), Some(CloseCode::DeviceRevoked));
    let again = world.hello(ahead, v1::Hello::default());
    world.settle();
    assert_eq!(world.closed(again), Some(CloseCode::Unauthenticated));
}

#[test]
fn the_primary_device_unlinks_any_other_and_the_others_themselves() {
    let mut world = World::new(2);
    let [phone, laptop, tablet] = ["phone", "laptop", "tablet"].map(|name| world.open("alice", name));
    let names: Vec<_> = listed(world.answer(tablet, devices()));
    assert_eq!(names, [("phone".into(), true), ("laptop".into(), false), ("tablet".into(), false)]);
    assert_eq!(world.error(laptop, unlink("phone")).code(), Code::Forbidden);
    assert_eq!(world.error(laptop, unlink("tablet")).code(), Code::Forbidden);
    assert_eq!(world.error(phone, unlink("watch")).code(), Code::NotFound);
    let error = world.error(phone, unlink("no such name"));
    assert_eq!((error.code(), error.field.as_str()), (Code::Invalid, "device"));
    // The answer comes before the close.
    world.got(laptop);
    let id = world.ask(laptop, unlink("laptop"));
    world.settle();
    let got = world.got(laptop);
    assert!(matches!(&got[0], Got::Frame(re, Answer::DeviceList(_)) if *re == id));
    assert!(matches!(&got[1], Got::Closed(CloseCode::DeviceRevoked)));
    // Asked again, it is as asked for.
    assert_eq!(listed(world.answer(phone, unlink("laptop"))).len(), 2);
    world.answer(phone, unlink("phone"));
    assert_eq!(listed(world.answer(tablet, devices())), [("tablet".into(), true)], "one is always primary");
}

#[test]
fn a_token_that_says_primary_takes_that_over() {
    let mut world = World::new(2);
    world.open("alice", "old");
    let fresh = world.identity("alice", "new", 3_600_000);
    let primary = Arc::new(Identity { primary: Some(true), ..Identity::clone(&fresh) });
    let conn = world.hello(primary, v1::Hello::default());
    world.settle();
    assert_eq!(listed(world.answer(conn, devices())), [("old".into(), false), ("new".into(), true)]);
    assert_eq!(listed(world.answer(conn, unlink("old"))), [("new".into(), true)]);
}

#[test]
fn an_operator_unlinks_a_device_and_hears_what_became_of_it() {
    let mut world = World::new(2);
    let phone = world.open("alice", "phone");
    let home = home_of_user(&user("alice"), 2);
    let revoke = |name: &str, re| {
        let (user, device) = (user("alice"), device(name));
        Input::Envelope(Box::new(Envelope::Revoke { user, device, from: SessionRef::operator(), re }))
    };
    for (name, re) in [("watch", 1), ("phone", 2), ("phone", 3)] {
        world.input(home, revoke(name, re));
        world.settle();
    }
    assert_eq!(world.closed(phone), Some(CloseCode::DeviceRevoked));
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    world.input(home, revoke("phone", 4));
    world.settle();
    let told: Vec<_> = world.operator.values().collect();
    let refused = |outcome: &SendOutcome, code| matches!(outcome, SendOutcome::Refused(error) if error.code() == code);
    assert!(refused(told[0], Code::NotFound) && refused(told[3], Code::Unavailable));
    assert!(told[1..3].iter().all(|it| matches!(it, SendOutcome::Answer(_))), "done is done: {told:?}");
}

#[test]
fn who_is_linked_already_writes_nothing_and_is_seen_once_a_minute() {
    let mut world = World::new(2);
    let start_ms = world.unix_ms();
    let phone = world.open("alice", "phone");
    let version = |world: &World| world.device_document("alice").unwrap().0;
    assert_eq!(version(&world), 1);
    for _ in 0..3 {
        world.close(phone);
        let again = world.open("alice", "phone");
        world.close(again);
        world.settle();
    }
    assert_eq!(version(&world), 1, "seen when it was linked");
    let phone = world.open("alice", "phone");
    world.advance(2 * MINUTE_MS);
    assert_eq!(version(&world), 1);
    world.close(phone);
    world.settle();
    let list = world.devices("alice");
    assert_eq!((version(&world), list.version()), (2, 1), "no other device need know");
    assert!(list.last_seen_ms() >= start_ms + 2 * MINUTE_MS);
    let again = world.open("alice", "phone");
    world.close(again);
    world.settle();
    assert_eq!(version(&world), 2);
}

#[test]
fn a_device_that_nobody_saw_for_thirty_days_is_unlinked_and_one_that_is_here_is_not() {
    let mut world = World::new(2);
    let long = |world: &World, name: &str| world.identity("alice", name, 100 * DAY_MS);
    let [phone, tablet] = ["phone", "tablet"].map(|name| world.hello(long(&world, name), v1::Hello::default()));
    world.settle();
    let laptop = world.open("alice", "laptop");
    world.close(laptop);
    world.advance(29 * DAY_MS);
    assert_eq!(linked(&world, "alice").len(), 3);
    world.close(tablet);
    world.advance(2 * DAY_MS);
    let tablet = world.open("alice", "tablet");
    world.settle();
    assert_eq!(linked(&world, "alice"), ["phone", "tablet"]);
    assert!(!world.got(phone).iter().any(|got| matches!(got, Got::Closed(_))));
    let laptop = world.open("alice", "laptop");
    assert!(is_welcome(&mut world, laptop), "with a token of now it is linked anew");
    let dormant: u64 = world.routers.iter().map(|router| router.counters().devices_dormant).sum();
    assert_eq!((dormant, world.closed(tablet)), (1, None));
    // Off: nobody is unlinked.
    let mut world = World::with(1, Faults::none(), |settings| settings.dormant_ms = 0);
    let phone = world.open("alice", "phone");
    world.close(phone);
    world.advance(100 * DAY_MS);
    world.open("alice", "tablet");
    assert_eq!(linked(&world, "alice"), ["phone", "tablet"]);
}

/// At every moment a crash would leave a device that is not linked, or one whose start is written.
#[test]
fn at_no_moment_is_a_device_linked_without_its_start_whatever_the_store_does() {
    let mut linked_worlds = 0;
    for seed in 0..60 {
        let mut world = World::seeded(seed, 2, Faults::none());
        let peers: Vec<_> = (0..4).map(|n| world.open(&format!("peer{n}"), "phone")).collect();
        let phone = world.open("bob", "phone");
        for (n, peer) in peers.iter().enumerate() {
            world.sent(*peer, text("bob", [n as u8; 16], "hi")).unwrap();
        }
        world.ack(phone, 4);
        world.advance(5_000);
        world.store.set_faults(Faults { unavailable: 2_000, ..Faults::rough() });
        world.swap = 3;
        let laptop = world.hello(world.identity("bob", "laptop", 3_600_000), v1::Hello::default());
        for _ in 0..2_000 {
            world.advance(5);
            if world.devices("bob").find(device("laptop")).is_some() {
                let starts = (0..4).map(|n| world.delivered("bob", &format!("peer{n}"), "laptop"));
                assert_eq!(starts.collect::<Vec<_>>(), [1; 4], "seed {seed}");
            }
        }
        if is_welcome(&mut world, laptop) {
            assert!(world.devices("bob").find(device("laptop")).is_some(), "welcomed without being linked");
            linked_worlds += 1;
        }
    }
    assert!(linked_worlds > 40, "{linked_worlds}");
}

#[test]
fn two_devices_that_come_at_once_are_both_linked_and_start_right() {
    let mut world = World::new(2);
    world.swap = 1;
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..4);
    let [phone, laptop] =
        ["phone", "laptop"].map(|name| world.hello(world.identity("bob", name, 3_600_000), v1::Hello::default()));
    world.settle();
    assert_eq!(world.pushed(phone), [1, 2, 3]);
    assert_eq!(world.pushed(laptop), [1, 2, 3], "none of them has received anything");
    assert_eq!(linked(&world, "bob").len(), 2);
    let primaries = world.devices("bob").devices().iter().filter(|it| it.primary).count();
    assert_eq!(primaries, 1);
}

#[test]
fn the_other_devices_of_the_sender_and_of_the_reader_keep_up() {
    let mut world = World::new(2);
    let [phone, laptop] = ["phone", "laptop"].map(|name| world.open("alice", name));
    let [bob, tablet] = ["phone", "tablet"].map(|name| world.open("bob", name));
    send_all(&mut world, phone, "bob", 1..3);
    assert_eq!((world.pushed(laptop), world.pushed(phone)), (vec![1, 2], vec![]));
    world.ack(bob, 2);
    world.got(tablet);
    assert!(matches!(world.answer(bob, crate::world::read("alice", 2)), Answer::Ok(_)));
    let marks = world.got(tablet).into_iter().filter(|got| {
        matches!(got, Got::Frame(_, Answer::Push(v1::Push { item: Some(v1::push::Item::ReadMark(mark)), .. })) if mark.seq == 2)
    });
    assert_eq!(marks.count(), 1);
}
