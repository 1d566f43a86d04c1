//! Takeover, tokens, slow consumers, closing, drain.

use crate::world::{Got, World, text};
use ringpost_persist::faulty::Faults;
use ringpost_proto::close::CloseCode;
use ringpost_proto::v1;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{Input, Request};

#[test]
fn welcome_answers_hello_and_tells_what_holds_here() {
    let mut world = World::new(2);
    let bob = world.open("bob", "phone");
    let got = world.got(bob);
    let [Got::Frame(1, Answer::Welcome(welcome)), Got::Established, Got::Frame(0, Answer::SyncDone(_))] = &got[..]
    else {
        panic!("{got:?}")
    };
    assert_eq!((welcome.user.as_str(), welcome.device.as_str()), ("bob", "phone"));
    assert_eq!(welcome.window, Some(v1::Window { pushes: 64, bytes: 256 << 10 }));
    assert_eq!(welcome.store_incarnation[..], [7; 16]);
    assert!(!welcome.resumed && !welcome.resume_token.is_empty() && welcome.limits.is_some());
    let hello = v1::Hello { resume_token: welcome.resume_token.clone(), ..Default::default() };
    world.close(bob);
    let again = world.hello(world.identity("bob", "phone", 3_600_000), hello);
    world.settle();
    assert!(matches!(&world.got(again)[0], Got::Frame(1, Answer::Welcome(welcome)) if welcome.resumed));
}

#[test]
fn positions_of_another_store_are_void_and_of_a_log_that_is_shorter_as_well() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    let welcome = |got: &[Got]| match got.first() {
        Some(Got::Frame(1, Answer::Welcome(welcome))) => welcome.clone(),
        other => panic!("{other:?}"),
    };
    let token = welcome(&world.got(bob)).resume_token;
    crate::world::send_all(&mut world, alice, "bob", 0..5);
    world.ack(bob, 2);
    world.advance(5_000);
    world.close(bob);
    let back = |world: &mut World, token: &[u8], seq: u64| {
        let have = vec![v1::Position { conversation: crate::world::wire("alice"), seq }];
        let hello = v1::Hello { resume_token: token.to_vec().into(), have, ..Default::default() };
        let conn = world.hello(world.identity("bob", "phone", 3_600_000), hello);
        world.settle();
        let got = world.got(conn);
        world.close(conn);
        let pushed =
            got.iter().filter_map(|got| if let Got::Record { record, .. } = got { Some(record.seq) } else { None });
        let reset: Vec<_> = welcome(&got).reset.iter().map(|reset| reset.head_seq).collect();
        (reset, pushed.collect::<Vec<_>>(), welcome(&got).resumed)
    };
    // Another incarnation: what the client believes to have counts for nothing, and is no ack.
    let mut other = token.to_vec();
    other[0] ^= 1;
    for seq in [1, 4, 5, 9] {
        assert_eq!(back(&mut world, &other, seq), (vec![5], vec![3, 4, 5], false), "{seq}");
    }
    assert_eq!(world.delivered("bob", "alice", "phone"), 2);
    // The same one: only what is beyond the log is void.
    assert_eq!(back(&mut world, &token, 9), (vec![5], vec![3, 4, 5], false));
    assert_eq!(back(&mut world, b"", 9), (vec![5], vec![3, 4, 5], false));
    assert_eq!(back(&mut world, b"0123456789abcdef", 4), (vec![], vec![5], false));
    world.advance(5_000);
    assert_eq!(back(&mut world, &token, 5), (vec![], vec![], true));
}

#[test]
fn a_second_connection_of_a_device_replaces_the_first_whose_acks_still_count() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let old = world.open("bob", "phone");
    world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    let new = world.open("bob", "phone");
    assert_eq!(world.closed(old), Some(CloseCode::Replaced));
    assert_eq!(world.pushed(new), [1]);
    world.ack(old, 1);
    world.settle();
    assert_eq!(world.ticks(alice), [(1, 0)]);
    // The late clean-up of the old one removes nothing of the new one.
    world.close(old);
    world.sent(alice, text("bob", [2; 16], "ho")).unwrap();
    assert_eq!(world.pushed(new), [2]);
    world.close(new);
    assert_eq!(world.routers.iter().map(|router| router.session_count()).sum::<usize>(), 1);
}

#[test]
fn the_fourth_takeover_within_a_minute_is_turned_away_and_a_later_one_is_not() {
    let mut world = World::new(1);
    let mut live = world.open("bob", "phone");
    for _ in 0..3 {
        let next = world.open("bob", "phone");
        assert_eq!(world.closed(live), Some(CloseCode::Replaced));
        world.close(live);
        live = next;
    }
    world.got(live);
    let late = world.open("bob", "phone");
    assert_eq!(world.closed(late), Some(CloseCode::DeviceInUse));
    assert_eq!(world.closed(live), None);
    world.advance(61_000);
    let next = world.open("bob", "phone");
    assert!(world.got(next).iter().any(|got| matches!(got, Got::Established)));
}

#[test]
fn two_clients_of_one_device_that_never_give_up_take_turns_three_times_a_minute_at_most() {
    let mut world = World::new(1);
    let tablet = world.open("bob", "tablet");
    let mut live = world.open("bob", "phone");
    let mut at_ms = Vec::new();
    for _ in 0..3_000 {
        world.advance(200);
        let next = world.open("bob", "phone");
        match world.closed(live) {
            Some(code) => {
                assert_eq!((code, world.closed(next)), (CloseCode::Replaced, None));
                at_ms.push(world.unix_ms());
                world.close(std::mem::replace(&mut live, next));
            }
            None => {
                assert_eq!(world.closed(next), Some(CloseCode::DeviceInUse));
                world.close(next);
            }
        }
    }
    assert!(at_ms.windows(4).all(|four| four[3] - four[0] >= 60_000), "{at_ms:?}");
    assert!((27..=33).contains(&at_ms.len()), "in ten minutes: {}", at_ms.len());
    assert_eq!(world.closed(tablet), None, "another device is another");
}

#[test]
fn a_token_that_ends_is_announced_and_enforced_even_on_an_idle_session() {
    let mut world = World::new(1);
    let bob = world.hello(world.identity("bob", "phone", 300_000), v1::Hello::default());
    world.settle();
    world.got(bob);
    world.advance(179_000);
    assert!(world.got(bob).is_empty());
    world.advance(2_000);
    assert!(matches!(&world.got(bob)[..], [Got::Frame(0, Answer::RenewSoon(_))]));
    world.advance(123_000);
    assert!(world.got(bob).is_empty());
    world.advance(2_000);
    assert_eq!(world.closed(bob), Some(CloseCode::TokenExpired));
}

#[test]
fn a_step_of_the_wall_clock_neither_ends_a_session_nor_keeps_it() {
    for step_us in [3_600_000_000_i64, -3_600_000_000] {
        let mut world = World::new(1);
        let bob = world.hello(world.identity("bob", "phone", 300_000), v1::Hello::default());
        world.settle();
        world.step_us = step_us;
        world.advance(290_000);
        assert_eq!(world.closed(bob), None);
        world.advance(20_000);
        assert_eq!(world.closed(bob), Some(CloseCode::TokenExpired));
    }
}

#[test]
fn a_renewal_counts_for_the_same_user_and_device_only() {
    let mut world = World::new(1);
    let bob = world.hello(world.identity("bob", "phone", 60_000), v1::Hello::default());
    world.settle();
    assert!(world.got(bob).iter().any(|got| matches!(got, Got::Frame(0, Answer::RenewSoon(_)))), "told at once");
    let identity = Some(world.identity("bob", "phone", 600_000));
    world.input(bob.shard, Input::Renewed { conn: bob, id: 9, identity });
    assert!(matches!(&world.got(bob)[..], [Got::Frame(9, Answer::Ok(_))]));
    world.advance(120_000);
    assert_eq!(world.closed(bob), None);
    for other in [None, Some(world.identity("bob", "laptop", 600_000)), Some(world.identity("eve", "phone", 600_000))] {
        let bob = world.open("carol", "phone");
        world.got(bob);
        world.input(bob.shard, Input::Renewed { conn: bob, id: 9, identity: other });
        let got = world.got(bob);
        assert!(
            matches!(&got[..], [Got::Frame(9, Answer::Error(_)), Got::Closed(CloseCode::Unauthenticated)]),
            "{got:?}"
        );
        world.close(bob);
    }
}

#[test]
fn a_device_that_does_not_ack_is_closed_and_one_that_makes_progress_is_not() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    let (slow, fair) = (world.open("bob", "slow"), world.open("bob", "fair"));
    for n in 1..4 {
        world.sent(alice, text("bob", [n; 16], "hi")).unwrap();
    }
    world.advance(20_000);
    world.ack(fair, 1);
    world.advance(11_000);
    assert_eq!(world.closed(slow), Some(CloseCode::SlowConsumer));
    assert_eq!(world.closed(fair), None);
    world.ack(fair, 3);
    world.advance(300_000);
    assert_eq!(world.closed(fair), None);
}

#[test]
fn nothing_follows_a_close() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    world.hold_store = true;
    world.send(bob, text("alice", [1; 16], "hi"));
    let history = v1::History { conversation: crate::world::wire("alice"), ..Default::default() };
    world.ask(bob, Request::History(Box::new(history)));
    world.got(bob);
    world.ask(bob, Request::Bye);
    assert!(matches!(&world.got(bob)[..], [Got::Closed(CloseCode::Normal)]));
    world.hold_store = false;
    world.sent(alice, text("bob", [2; 16], "ho")).unwrap();
    world.ask(bob, Request::Ping);
    world.ask(bob, Request::Ack { push: 77, ranges: false });
    world.advance(40_000);
    let got = world.got(bob);
    assert!(got.is_empty(), "{got:?}");
}

#[test]
fn an_idle_session_stays_open_and_its_conversation_leaves_memory() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    let bob = world.open("bob", "phone");
    world.advance(5_000);
    world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    world.ack(bob, 1);
    world.settle();
    world.ack(alice, 1);
    world.got(alice);
    world.advance(700_000);
    assert!(world.got(alice).is_empty());
    let router = &world.routers[0];
    assert_eq!(router.session_count(), 2);
    assert_eq!((router.conversation_count(), router.pending_count()), (0, 0));
}

#[test]
fn a_drain_closes_everybody_and_writes_what_was_acknowledged() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    world.ack(bob, 1);
    world.settle();
    for shard in 0..2 {
        world.input(shard, Input::Drain);
    }
    world.settle();
    assert_eq!((world.closed(alice), world.closed(bob)), (Some(CloseCode::Draining), Some(CloseCode::Draining)));
    assert_eq!(world.delivered("bob", "alice", "phone"), 1);
}

#[test]
fn a_store_that_does_not_answer_at_hello_is_asked_again_and_then_the_client_is_sent_away() {
    let mut world = World::new(1);
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    let bob = world.hello(world.identity("bob", "phone", 3_600_000), v1::Hello::default());
    world.advance(200);
    world.store.set_faults(Faults::none());
    world.advance(5_000);
    assert!(world.got(bob).iter().any(|got| matches!(got, Got::Established)));
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    let carol = world.hello(world.identity("carol", "phone", 3_600_000), v1::Hello::default());
    world.advance(60_000);
    assert_eq!(world.closed(carol), Some(CloseCode::Overloaded));
}

#[test]
fn an_ack_that_comes_while_the_store_is_away_is_not_forgotten() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    let bob = world.open("bob", "phone");
    world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    // The conversation leaves memory while the push has no ack: a slow, but not too slow device.
    let identity = world.identity("bob", "laptop", 3_600_000);
    world.ack(bob, 1);
    world.advance(700_000);
    let laptop = world.hello(identity, v1::Hello::default());
    world.settle();
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    world.ack(laptop, 1);
    world.advance(2_000);
    world.store.set_faults(Faults::none());
    world.advance(60_000);
    assert_eq!(world.delivered("bob", "alice", "laptop"), 1);
}

#[test]
fn who_is_not_read_has_time_for_its_acks_until_it_is() {
    let mut world = World::new(1);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    world.hold_store = true;
    for n in 0..32_u8 {
        world.send(bob, text("alice", [n; 16], "ho"));
    }
    world.advance(40_000);
    assert_eq!(world.closed(bob), None, "its ack may wait in the socket that is not read");
    world.hold_store = false;
    world.advance(29_000);
    assert_eq!(world.closed(bob), None);
    world.advance(2_000);
    assert_eq!(world.closed(bob), Some(CloseCode::SlowConsumer));
}
