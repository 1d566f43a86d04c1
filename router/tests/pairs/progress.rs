//! How far devices and readers are: acks, read positions, and the ticks that tell of them; also over a reconnect.

use crate::world::{Got, World, cmid, read, send_all, text, user, wire};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::envelope::Envelope;
use ringpost_router::{Input, Request};

#[test]
fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..11);
    assert_eq!(world.pushed(bob), (1..=10).collect::<Vec<_>>());
    world.ack(bob, 5);
    world.settle();
    world.close(bob);
    world.advance(5_000);
    let bob = world.open("bob", "phone");
    assert_eq!(world.pushed(bob), (6..=10).collect::<Vec<_>>());
    world.ack(bob, 2);
    world.ack(bob, 2);
    let error = world.error(bob, Request::Ack { push: 99, ranges: false });
    assert_eq!(error.code, v1::code::Value::Invalid as i32);
    let error = world.error(bob, Request::Ack { push: 5, ranges: true });
    assert!(error.field.contains("ranges"));
    world.close(bob);
    world.advance(5_000);
    let bob = world.open("bob", "phone");
    assert_eq!(world.pushed(bob), (8..=10).collect::<Vec<_>>());
    assert_eq!(world.delivered("bob", "alice", "phone"), 7);
}

#[test]
fn another_device_of_the_user_has_its_own_position() {
    let mut world = World::new(2);
    world.link("bob", &["phone", "laptop"]);
    let alice = world.open("alice", "phone");
    let bob = world.open("bob", "phone");
    send_all(&mut world, alice, "bob", 1..4);
    world.ack(bob, 3);
    world.advance(5_000);
    let laptop = world.open("bob", "laptop");
    assert_eq!(world.pushed(laptop), [1, 2, 3]);
}

#[test]
fn a_sender_that_was_away_hears_its_ticks_at_the_next_sync_and_once() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..3);
    world.close(alice);
    world.ack(bob, 2);
    assert!(matches!(world.answer(bob, read("alice", 1)), Answer::Ok(_)));
    world.advance(5_000);
    let alice = world.open("alice", "phone");
    assert_eq!(world.ticks(alice), [(2, 1)]);
    world.ack(alice, 1);
    world.advance(5_000);
    world.close(alice);
    let alice = world.open("alice", "phone");
    assert!(world.ticks(alice).is_empty());
}

#[test]
fn a_sender_that_returns_before_the_registers_are_written_hears_its_tick_too() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..2);
    world.close(alice);
    world.ack(bob, 1);
    world.settle();
    let alice = world.open("alice", "phone");
    world.advance(5_000);
    assert_eq!(world.ticks(alice), [(1, 0)]);
}

#[test]
fn a_read_position_is_clamped_to_what_was_delivered_and_never_goes_back() {
    let mut world = World::new(1);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    send_all(&mut world, alice, "bob", 1..6);
    world.ack(bob, 3);
    world.settle();
    world.got(alice);
    assert!(matches!(world.answer(bob, read("alice", 99)), Answer::Ok(_)));
    world.advance(1_000);
    assert_eq!(world.ticks(alice), [(3, 3)]);
    assert!(matches!(world.answer(bob, read("alice", 1)), Answer::Ok(_)));
    assert!(world.ticks(alice).is_empty());
}

#[test]
fn what_the_client_says_it_has_counts_as_an_ack_and_too_much_is_reset() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..6);
    let identity = world.identity("bob", "phone", 3_600_000);
    let have = |peer: &str, seq| v1::Position { conversation: wire(peer), seq };
    let hello = v1::Hello { have: vec![have("alice", 3), have("nobody", 2)], ..Default::default() };
    let bob = world.hello(identity.clone(), hello);
    world.settle();
    let got = world.got(bob);
    let Some(Got::Frame(1, Answer::Welcome(welcome))) = got.first() else { panic!("{got:?}") };
    assert!(!welcome.resumed);
    assert_eq!(welcome.reset, [v1::Reset { conversation: wire("nobody"), head_seq: 0 }]);
    assert!(matches!(got[2], Got::Record { n: 1, ref record, .. } if record.seq == 4));
    world.advance(5_000);
    assert_eq!(world.delivered("bob", "alice", "phone"), 3);
    world.ack(bob, 2);
    world.advance(5_000);
    world.close(bob);
    let bob = world.hello(identity, v1::Hello { have: vec![have("alice", 5)], ..Default::default() });
    world.settle();
    let got = world.got(bob);
    let Some(Got::Frame(1, Answer::Welcome(welcome))) = got.first() else { panic!("{got:?}") };
    assert!(welcome.resumed);
}

#[test]
fn reading_beyond_the_log_does_not_read_what_comes_later() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    world.sent(alice, text("bob", [1; 16], "one")).unwrap();
    world.ack(bob, 1);
    let read = v1::Read { conversation: wire("alice"), seq: u64::MAX };
    world.answer(bob, Request::Read(Box::new(read)));
    world.advance(1_000);
    assert_eq!(world.ticks(alice).last(), Some(&(1, 1)));
    world.sent(alice, text("bob", [2; 16], "two")).unwrap();
    world.ack(bob, 2);
    world.advance(1_000);
    assert_eq!(world.ticks(alice).last(), Some(&(2, 1)));
}

#[test]
fn what_was_read_before_the_append_was_known_to_have_landed_is_read() {
    let landed = Faults { unknown_landed: 10_000, slow: 10_000, slow_us: 1_000_000, ..Faults::none() };
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    world.sent(alice, text("bob", [1; 16], "one")).unwrap();
    world.store.set_faults(landed);
    world.send(alice, text("bob", [2; 16], "two"));
    while world.routers[0].counters().append_unknown == 0 {
        world.advance(1);
    }
    // The log is being asked, and takes its time; bob finds the record there first.
    world.store.set_faults(Faults::none());
    let identity = world.identity("bob", "phone", 3_600_000);
    let bob = world.hello(identity, v1::Hello::default());
    world.advance(100);
    assert_eq!((world.pushed(bob), world.ticks(alice)), (vec![1, 2], vec![]));
    world.ask(bob, Request::Read(Box::new(v1::Read { conversation: wire("alice"), seq: 2 })));
    world.ack(bob, 2);
    world.advance(100);
    assert_eq!(world.ticks(alice).last(), Some(&(2, 2)));
    world.advance(10_000);
    let read = ringpost_persist::RegisterKey::Read(user("alice").direct_with(&user("bob")), user("bob"));
    assert_eq!(world.store.register(&read), 2);
}

#[test]
fn what_was_acknowledged_does_not_come_again_however_soon_the_device_is_back() {
    for shards in [1, 2] {
        let mut world = World::new(shards);
        let alice = world.open("alice", "phone");
        let carol = world.open("carol", "phone");
        let mut bob = world.open("bob", "phone");
        world.open("bob", "tablet");
        for round in 0..6 {
            for n in 0..5 {
                world.sent(alice, text("bob", cmid(10 * round + n), "text")).unwrap();
                world.sent(carol, text("bob", cmid(10 * round + n), "text")).unwrap();
            }
            let last = world
                .got(bob)
                .iter()
                .filter_map(|got| if let Got::Record { n, .. } = got { Some(*n) } else { None })
                .max();
            world.ack(bob, last.unwrap());
            // Closed, taken over, or told to go, at once.
            if round % 2 == 0 {
                world.close(bob);
            }
            bob = world.open("bob", "phone");
            assert_eq!(world.pushed(bob), [] as [u64; 0], "round {round}");
            world.advance(if round == 3 { 10_000 } else { 30 });
        }
        // Another device of the user has its own.
        let tablet = world.open("bob", "tablet");
        assert_eq!(world.pushed(tablet).len(), 60);
        for conn in [alice, bob, carol, tablet] {
            world.close(conn);
        }
        world.advance(10_000);
    }
}

#[test]
fn what_was_read_before_it_was_delivered_is_told_to_the_other_devices_when_it_is() {
    let mut world = World::new(2);
    let (alice, phone) = (world.open("alice", "phone"), world.open("bob", "phone"));
    let laptop = world.open("bob", "laptop");
    send_all(&mut world, alice, "bob", 1..2);
    let marks = |world: &mut World| {
        let mark = |got| match got {
            Got::Frame(_, Answer::Push(v1::Push { item: Some(v1::push::Item::ReadMark(mark)), .. })) => Some(mark.seq),
            _ => None,
        };
        world.got(laptop).into_iter().filter_map(mark).collect::<Vec<_>>()
    };
    assert!(matches!(world.answer(phone, read("alice", 1)), Answer::Ok(_)));
    assert!(marks(&mut world).is_empty());
    world.ack(phone, 1);
    world.settle();
    assert_eq!(marks(&mut world), [1]);
}

#[test]
fn a_tick_that_comes_late_takes_nothing_back() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let (name, peer) = (user("alice"), user("bob"));
    let conversation = name.direct_with(&peer);
    let kind = std::sync::Arc::new(ringpost_persist::ConversationKind::Direct([name.clone(), peer]));
    for delivered in [2, 1, 3, 3] {
        let (kind, user) = (kind.clone(), name.clone());
        let tick = Envelope::Tick {
            conversation,
            kind,
            user,
            delivered,
            read: 0,
            excluded: Default::default(),
            opened_since_ms: 0,
        };
        world.input(alice.shard, Input::Envelope(Box::new(tick)));
    }
    assert_eq!(world.ticks(alice), [(2, 0), (3, 0)]);
    world.ack(alice, 2);
    let tick = Envelope::Tick {
        conversation,
        kind,
        user: name,
        delivered: 2,
        read: 0,
        excluded: Default::default(),
        opened_since_ms: 0,
    };
    world.input(alice.shard, Input::Envelope(Box::new(tick)));
    assert_eq!(world.ticks(alice), []);
}

#[test]
fn a_conversation_stays_in_memory_until_its_registers_are_in_the_store() {
    for refused in [false, true] {
        let mut world = World::with(1, Faults::none(), |settings| settings.conversations = 1);
        let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
        let carol = world.open("carol", "phone");
        send_all(&mut world, alice, "bob", 1..2);
        world.close(alice);
        world.ack(bob, 1);
        // Opened after the tick, and before what it tells is in the store.
        let alice = world.open("alice", "phone");
        let _ = world.got(alice);
        if refused {
            world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
        }
        world.hold_store = true;
        world.advance(12_000);
        world.ask(carol, read("dave", 1));
        world.advance(1);
        world.store.set_faults(Faults::none());
        world.hold_store = false;
        world.advance(10_000);
        assert_eq!(world.ticks(alice), [(1, 0)], "refused: {refused}");
        assert_eq!(world.delivered("bob", "alice", "phone"), 1, "refused: {refused}");
    }
}
