//! A router that is written out and read back goes on as if nothing had been.

use crate::world::{Got, World, settings, text, wire};
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{Request, Router};

/// A world in which every kind of thing is under way.
fn busy() -> World {
    let mut world = World::new(1);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    for n in 1..100 {
        world.sent(alice, text("bob", [n; 16], "hi")).unwrap();
    }
    world.ack(bob, 10);
    world.open("bob", "phone");
    world.settle();
    world.hold_store = true;
    let conversation = wire("bob");
    let lookup = v1::Lookup { conversation: conversation.clone(), client_message_ids: vec![vec![1; 16].into()] };
    let requests = [
        Request::Lookup(Box::new(lookup)),
        Request::History(Box::new(v1::History { conversation: conversation.clone(), ..Default::default() })),
        Request::Read(Box::new(v1::Read { conversation, seq: 1 })),
        Request::Conversations(Box::default()),
        Request::Send(Box::new(text("carol", [7; 16], "ho"))),
        Request::Send(Box::new(text("bob", [7; 16], "hi"))),
        Request::Send(Box::new(text("bob", [200; 16], "hey"))),
    ];
    for request in requests {
        world.ask(alice, request);
    }
    let identity = world.identity("carol", "phone", 3_600_000);
    let carol = world.hello(identity, v1::Hello::default());
    world.ask(carol, Request::Ping);
    world
}

#[test]
fn what_is_under_way_is_answered_by_the_router_that_was_read_back() {
    let mut world = busy();
    world.swap = 1;
    world.hold_store = false;
    world.settle();
    world.advance(1_000);
    let carol = world.got(ringpost_router::ConnRef { shard: 0, slot: 4, generation: 0 });
    assert!(matches!(carol[0], Got::Frame(1, Answer::Welcome(_))), "{carol:?}");
    assert!(carol.iter().any(|got| matches!(got, Got::Frame(_, Answer::Pong(_)))));
    assert!(carol.iter().any(|got| matches!(got, Got::Record { record, .. } if record.seq == 1)));
    let first = world.got(ringpost_router::ConnRef { shard: 0, slot: 1, generation: 0 });
    let answers = first.iter().filter(|got| match got {
        Got::Sent(re, _) | Got::Page(re, _) => *re > 0,
        Got::Frame(re, Answer::LookupResult(_) | Answer::ConversationPage(_) | Answer::Ok(_)) => *re > 0,
        _ => false,
    });
    assert_eq!(answers.count(), 7, "{first:?}");
}

#[test]
fn deadlines_and_takeovers_are_kept() {
    let mut world = World::new(1);
    world.swap = 1;
    let mut live = world.hello(world.identity("bob", "phone", 200_000), v1::Hello::default());
    for _ in 0..3 {
        let identity = world.identity("bob", "phone", 200_000);
        live = world.hello(identity, v1::Hello::default());
        world.settle();
    }
    let late = world.open("bob", "phone");
    assert_eq!(world.closed(late), Some(CloseCode::DeviceInUse));
    world.got(live);
    world.advance(90_000);
    assert!(matches!(&world.got(live)[..], [Got::Frame(0, Answer::RenewSoon(_))]));
    world.advance(120_000);
    assert_eq!(world.closed(live), Some(CloseCode::TokenExpired));
}

#[test]
fn bytes_that_are_no_snapshot_are_refused_and_never_crash() {
    let world = busy();
    let (now, good) = (world.now(), world.routers[0].snapshot());
    assert!(Router::restore(settings(0, 1), now, &good).is_ok());
    for len in (0..good.len()).step_by(7) {
        assert!(Router::restore(settings(0, 1), now, &good[..len]).is_err(), "{len}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(Router::restore(settings(0, 1), now, &longer).is_err());
    let mut other = good.clone();
    other[15] = 1;
    assert!(Router::restore(settings(0, 1), now, &other).is_err(), "another version");
    // Garbled in one place: refused, or some router; it does not matter which.
    for at in (17..good.len()).step_by(11) {
        let mut garbled = good.clone();
        garbled[at] ^= 0xff;
        drop(Router::restore(settings(0, 1), now, &garbled));
    }
}
