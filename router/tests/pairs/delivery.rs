//! Push, windows, sync of a backlog.

use crate::world::{Got, World, cmid, read, send_all, text, user};
use ringpost_persist::faulty::Faults;
use ringpost_proto::v1;
use ringpost_proto::v1::push::Item;
use ringpost_proto::v1::server_frame::Answer;

#[test]
fn a_text_is_sent_pushed_acked_and_ticked_on_any_number_of_shards() {
    for (shards, swap) in [(1, 0), (2, 0), (3, 0), (5, 0), (2, 1)] {
        let mut world = World::new(shards);
        world.swap = swap;
        let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
        world.got(bob);
        let sent = world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
        assert_eq!((sent.seq, sent.duplicate), (1, false));
        match &world.got(bob)[..] {
            [Got::Record { n: 1, peer, record, own: false }] => {
                assert_eq!((peer.as_str(), record.seq, record.body.bytes()), ("alice", 1, &b"hi"[..]));
                assert_eq!(record.id, sent.id);
            }
            other => panic!("{other:?}"),
        }
        assert!(world.ticks(alice).is_empty());
        world.ack(bob, 1);
        world.settle();
        assert_eq!(world.ticks(alice), [(1, 0)]);
        assert!(matches!(world.answer(bob, read("alice", 1)), Answer::Ok(_)));
        assert!(world.ticks(alice).is_empty(), "one a second");
        world.advance(1_000);
        assert_eq!(world.ticks(alice), [(1, 1)]);
        world.ack(alice, 2);
        world.advance(5_000);
        assert_eq!(world.delivered("bob", "alice", "phone"), 1);
        assert_eq!(world.delivered("alice", "bob", "phone"), 1, "its own record is not addressed to it");
    }
}

#[test]
fn a_connection_on_another_shard_is_served_all_the_same() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let identity = world.identity("bob", "phone", 3_600_000);
    let bob = world.hello_at(1 - ringpost_router::home_of_user(&user("bob"), 2), identity, v1::Hello::default());
    world.settle();
    assert!(matches!(&world.got(bob)[..], [Got::Frame(1, Answer::Welcome(_)), Got::Established, ..]));
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    assert_eq!(world.pushed(bob), [1]);
}

#[test]
fn the_senders_other_device_gets_the_record_with_its_client_message_id_and_read_marks() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    let laptop = world.open("alice", "laptop");
    world.got(laptop);
    world.sent(alice, text("bob", cmid(1), "hi")).unwrap();
    assert!(matches!(&world.got(laptop)[..], [Got::Record { n: 1, own: true, .. }]));
    assert!(world.pushed(alice).is_empty());
    world.sent(bob, text("alice", cmid(2), "ho")).unwrap();
    world.ack(alice, 1);
    world.ack(laptop, 2);
    world.settle();
    world.got(laptop);
    assert!(matches!(world.answer(alice, read("bob", 2)), Answer::Ok(_)));
    let marks: Vec<_> = world.got(laptop);
    let mark = |got: &Got| match got {
        Got::Frame(_, Answer::Push(v1::Push { item: Some(Item::ReadMark(mark)), .. })) => Some(mark.seq),
        _ => None,
    };
    assert_eq!(marks.iter().filter_map(mark).collect::<Vec<_>>(), [2]);
}

#[test]
fn talking_to_oneself_reaches_the_other_device_and_ticks_nobody() {
    let mut world = World::new(2);
    let (phone, laptop) = (world.open("alice", "phone"), world.open("alice", "laptop"));
    world.sent(phone, text("alice", cmid(1), "note")).unwrap();
    assert_eq!((world.pushed(phone).len(), world.pushed(laptop)), (0, vec![1]));
    world.ack(laptop, 1);
    world.settle();
    assert!(world.ticks(phone).is_empty());
}

#[test]
fn a_window_is_never_exceeded_and_the_rest_follows_the_acks() {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    let identity = world.identity("bob", "tablet", 3_600_000);
    let window = Some(v1::Window { pushes: 4, bytes: 0 });
    let tablet = world.hello(identity, v1::Hello { window, ..Default::default() });
    world.settle();
    send_all(&mut world, alice, "bob", 1..101);
    assert_eq!(world.pushed(bob).len(), 64);
    let mut seqs = world.pushed(tablet);
    assert_eq!(seqs, [1, 2, 3, 4]);
    while seqs.len() < 100 {
        world.ack(tablet, seqs.len() as u64);
        world.settle();
        let more = world.pushed(tablet);
        assert!((1..=4).contains(&more.len()));
        seqs.extend(more);
    }
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
}

#[test]
fn bytes_count_in_the_window_and_a_large_record_goes_alone() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    let identity = world.identity("bob", "phone", 3_600_000);
    let window = Some(v1::Window { pushes: 0, bytes: 10_000 });
    let bob = world.hello(identity, v1::Hello { window, ..Default::default() });
    world.settle();
    for n in 1..4 {
        world.sent(alice, text("bob", cmid(n), &"x".repeat(6_000 * n as usize))).unwrap();
    }
    assert_eq!(world.pushed(bob), [1]);
    for push in 1..3 {
        world.ack(bob, push);
        world.settle();
        assert_eq!(world.pushed(bob), [push + 1]);
    }
}

#[test]
fn a_backlog_is_told_newest_conversation_first_and_its_end_once() {
    let mut world = World::new(2);
    let (alice, carol) = (world.open("alice", "phone"), world.open("carol", "phone"));
    send_all(&mut world, alice, "bob", 1..4);
    world.advance(10);
    send_all(&mut world, carol, "bob", 1..3);
    let bob = world.open("bob", "phone");
    let got = world.got(bob);
    let peers =
        got.iter().filter_map(|got| if let Got::Record { peer, .. } = got { Some(peer.as_str()) } else { None });
    let peers: Vec<&str> = peers.collect();
    assert_eq!(peers, ["carol", "carol", "alice", "alice", "alice"]);
    match got.last() {
        Some(Got::Frame(0, Answer::SyncDone(done))) => assert_eq!((done.conversations, done.records), (2, 5)),
        other => panic!("{other:?}"),
    }
    world.ack(bob, 5);
    world.settle();
    assert!(world.got(bob).is_empty());
}

#[test]
fn what_is_sent_while_a_backlog_is_pushed_comes_once_and_in_order() {
    let mut world = World::new(2);
    world.swap = 13;
    let alice = world.open("alice", "phone");
    send_all(&mut world, alice, "bob", 1..200);
    let identity = world.identity("bob", "phone", 3_600_000);
    let bob = world.hello(identity, v1::Hello::default());
    let mut seqs = Vec::new();
    let mut n = 200;
    while seqs.len() < 300 {
        for _ in 0..3 {
            if n <= 300 {
                world.send(alice, text("bob", cmid(n), "more"));
                n += 1;
            }
        }
        world.advance(1);
        seqs.extend(world.pushed(bob));
        world.ack(bob, seqs.len() as u64);
        assert!(world.mono_us < 600_000_000, "{} of 300", seqs.len());
    }
    assert_eq!(seqs, (1..=300).collect::<Vec<_>>());
}

#[test]
fn a_list_of_many_pages_that_moves_while_it_is_read_hides_nothing() {
    let mut world = World::new(2);
    let senders: Vec<_> = (0..2_300).map(|n| world.open(&format!("peer{n:04}"), "phone")).collect();
    for (n, sender) in senders.iter().enumerate() {
        world.send(*sender, text("bob", cmid(n as u32), "first"));
    }
    world.settle();
    let identity = world.identity("bob", "phone", 3_600_000);
    let bob = world.hello(identity, v1::Hello::default());
    // The oldest conversations move to the front while the list is read.
    let mut records = std::collections::BTreeMap::<String, Vec<u64>>::new();
    let mut pushed = 0;
    for round in 0..400_u32 {
        if let Some(sender) = senders.get(round as usize) {
            world.send(*sender, text("bob", cmid(10_000 + round), "second"));
        }
        world.advance(1);
        for got in world.got(bob) {
            if let Got::Record { n, peer, record, .. } = got {
                pushed = n;
                records.entry(peer).or_default().push(record.seq);
            }
        }
        world.ack(bob, pushed);
    }
    for _ in 0..200 {
        world.advance(100);
        for got in world.got(bob) {
            if let Got::Record { n, peer, record, .. } = got {
                pushed = n;
                records.entry(peer).or_default().push(record.seq);
            }
        }
        world.ack(bob, pushed);
    }
    assert_eq!(records.len(), 2_300);
    for (peer, mut seqs) in records {
        seqs.dedup();
        let number: usize = peer[4..].parse().unwrap();
        assert_eq!(seqs, if number < 400 { vec![1, 2] } else { vec![1] }, "{peer}");
    }
}

#[test]
fn a_rough_store_loses_and_doubles_nothing_and_no_router_that_is_written_out_and_read_back() {
    for (shards, swap) in [(1, 0), (2, 0), (1, 97), (2, 61)] {
        let mut world = World::with(shards, Faults::rough(), |_| {});
        world.swap = swap;
        let mut bob = None;
        for _ in 0..50 {
            let identity = world.identity("bob", "phone", 36_000_000);
            let conn = world.hello(identity, v1::Hello::default());
            world.advance(20_000);
            if world.got(conn).iter().any(|got| matches!(got, Got::Established)) {
                bob = Some(conn);
                break;
            }
            world.close(conn);
        }
        let bob = bob.expect("a session");
        let alice = world.open("alice", "phone");
        world.advance(20_000);
        let (mut seqs, mut pushed) = (Vec::new(), 0);
        for n in 0..200_u32 {
            for _try in 0..20 {
                let id = world.send(alice, text("bob", cmid(n), &format!("text {n}")));
                world.advance(10_000);
                for got in world.got(bob) {
                    if let Got::Record { n, record, .. } = got {
                        pushed = n;
                        seqs.push(record.seq);
                    }
                }
                world.ack(bob, pushed);
                let outcome = world.outcome(alice, id);
                for got in world.got(alice) {
                    if let Got::Frame(_, Answer::Push(push)) = got {
                        world.ack(alice, push.n);
                    }
                }
                match outcome {
                    Some(Ok(_)) => break,
                    Some(Err(error)) => assert!(error.retryable, "{error:?}"),
                    None => {}
                }
            }
        }
        world.store.set_faults(Faults::none());
        world.advance(60_000);
        for got in world.got(bob) {
            if let Got::Record { record, .. } = got {
                seqs.push(record.seq);
            }
        }
        let conversation = user("alice").direct_with(&user("bob"));
        let log = world.store.log(&conversation);
        let bodies: std::collections::BTreeSet<_> = log.iter().map(|record| record.body.bytes()).collect();
        assert_eq!((log.len(), bodies.len()), (200, 200));
        assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    }
}

/// Ids of a clock that was an hour ahead stay at the top of the list for that hour.
#[test]
fn a_long_list_from_a_clock_that_was_ahead_is_read_to_its_end() {
    let mut world = World::new(2);
    let senders: Vec<_> = (0..2_400).map(|n| world.open(&format!("peer{n:04}"), "phone")).collect();
    for (n, sender) in senders.iter().enumerate() {
        world.step_us = if n < 1_300 { 0 } else { 3_600_000_000 };
        world.send(*sender, text("bob", cmid(n as u32), "first"));
    }
    world.settle();
    world.step_us = 0;
    let devices: Vec<_> = (0..60).map(|round| format!("device{round}")).collect();
    world.link("bob", &devices.iter().map(String::as_str).collect::<Vec<_>>());
    // The deepest conversations move up while the list is read, each time some.
    for (round, deepest) in senders[..1_200].chunks(20).enumerate() {
        let bob = world.hello(world.identity("bob", &devices[round], 3_600_000), v1::Hello::default());
        for (n, sender) in deepest.iter().enumerate() {
            world.send(*sender, text("bob", cmid((10_000 + 20 * round + n) as u32), "second"));
            world.advance(1);
        }
        world.advance(200);
        assert!(world.got(bob).iter().any(|got| matches!(got, Got::Established)), "round {round}");
        world.close(bob);
    }
}

#[test]
fn one_that_never_stops_sending_does_not_keep_back_the_others() {
    let mut world = World::with(2, Faults::none(), |settings| settings.window_pushes = 4);
    let (carol, mallory) = (world.open("carol", "phone"), world.open("mallory", "phone"));
    send_all(&mut world, carol, "bob", 0..1);
    send_all(&mut world, mallory, "bob", 0..8);
    let bob = world.open("bob", "phone");
    let (mut pushed, mut first) = (0, None);
    for round in 0..200_u32 {
        for n in 0..4 {
            world.send(mallory, text("bob", cmid(100 + 4 * round + n), "x"));
        }
        world.advance(2);
        for got in world.got(bob) {
            if let Got::Record { n, peer, .. } = got {
                pushed = n;
                if peer == "carol" {
                    first = first.or(Some(round));
                }
            }
        }
        world.ack(bob, pushed);
    }
    assert!(first.is_some_and(|round| round < 20), "{first:?}");
}
