//! What becomes of a send: once, whatever is retried, and whatever the store does.

use crate::world::{World, cmid, read, text, user, v7, wire};
use bytes::Bytes;
use ringpost_persist::faulty::Faults;
use ringpost_persist::{Body, ConversationKind, Outcome, Record, StoreRequest, content_hash_v1};
use ringpost_proto::id::{ClientMessageId, DeviceId};
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::details::Details;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};
use std::sync::Arc;

fn pair(faults: Faults) -> (World, ConnRef, ConnRef) {
    let mut world = World::new(2);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    world.store.set_faults(faults);
    (world, alice, bob)
}

fn log_len(world: &World) -> usize {
    world.store.log(&user("alice").direct_with(&user("bob"))).len()
}

/// 5,000 messages from bob: more than a conversation keeps in memory.
fn busy_day(world: &mut World, bob: ConnRef) {
    for n in 0..5_000_u32 {
        let mut id = [0x44; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        world.send(bob, text("alice", id, "x"));
        if n % 50 == 49 {
            world.settle();
        }
    }
}

#[test]
fn a_retry_gets_the_first_outcome_and_is_stored_and_pushed_once() {
    let (mut world, alice, bob) = pair(Faults::none());
    let id = v7(world.unix_ms(), 1);
    let first = world.sent(alice, text("bob", id, "hi")).unwrap();
    let again = world.sent(alice, text("bob", id, "hi")).unwrap();
    assert_eq!(again, v1::Sent { duplicate: true, ..first });
    assert_eq!((world.pushed(bob), log_len(&world)), (vec![1], 1));
    // The same while the first one is on its way.
    let id = v7(world.unix_ms(), 2);
    let both = [world.send(alice, text("bob", id, "ho")), world.send(alice, text("bob", id, "ho"))];
    world.settle();
    let outcomes = both.map(|id| world.outcome(alice, id).unwrap().unwrap());
    assert_eq!(outcomes[1], v1::Sent { duplicate: true, ..outcomes[0] });
    assert_eq!(log_len(&world), 2);
}

#[test]
fn a_retry_is_known_after_the_conversation_left_memory_and_by_another_process() {
    let (mut world, alice, _) = pair(Faults::none());
    let id = v7(world.unix_ms(), 1);
    let first = world.sent(alice, text("bob", id, "hi")).unwrap();
    world.advance(700_000);
    assert_eq!(world.routers.iter().map(|router| router.conversation_count()).sum::<usize>(), 0);
    assert_eq!(world.sent(alice, text("bob", id, "hi")).unwrap(), v1::Sent { duplicate: true, ..first });
}

#[test]
fn the_same_id_with_other_content_is_a_conflict_that_names_the_first_outcome() {
    let (mut world, alice, bob) = pair(Faults::none());
    let id = v7(world.unix_ms(), 1);
    let first = world.sent(alice, text("bob", id, "hi")).unwrap();
    let error = world.sent(alice, text("bob", id, "other")).unwrap_err();
    assert_eq!((error.code, error.retryable), (Code::Conflict as i32, false));
    let Some(Details::Conflict(outcome)) = error.details.unwrap().details else { panic!() };
    assert_eq!((outcome.seq, outcome.id), (first.seq, first.id));
    assert_eq!(log_len(&world), 1);
    // Another device or user may use the same id.
    let laptop = world.open("alice", "laptop");
    assert_eq!(world.sent(laptop, text("bob", id, "other")).unwrap().seq, 2);
    assert_eq!(world.sent(bob, text("alice", id, "other")).unwrap().seq, 3);
}

#[test]
fn a_retry_of_what_a_build_before_this_one_stored_gets_the_first_outcome() {
    let (mut world, alice, _) = pair(Faults::none());
    world.sent(alice, text("bob", [1; 16], "first")).unwrap();
    let body = Body::Text("hi".into());
    let content_hash = content_hash_v1(Kind::Text, 0, &body, None);
    let phone = DeviceId::new("phone").unwrap();
    let record = Record::new(user("alice"), phone, ClientMessageId([2; 16]), Kind::Text, body);
    assert_ne!(record.content_hash, content_hash);
    written_elsewhere(&mut world, vec![Record { content_hash, ..record }]);
    let retried = world.sent(alice, text("bob", [2; 16], "hi")).unwrap();
    assert_eq!((retried.seq, retried.duplicate, log_len(&world)), (2, true, 2));
    let error = world.sent(alice, text("bob", [2; 16], "ho")).unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
}

#[test]
fn an_id_older_than_a_day_is_expired_unless_it_is_in_the_log() {
    let (mut world, alice, _) = pair(Faults::none());
    let (kept, stale) = (v7(world.unix_ms(), 1), v7(world.unix_ms() - 24 * 3_600_000 - 1, 2));
    let first = world.sent(alice, text("bob", kept, "hi")).unwrap();
    let error = world.sent(alice, text("bob", stale, "late")).unwrap_err();
    assert_eq!((error.code, error.retryable), (Code::Expired as i32, false));
    world.step_us = 25 * 3_600_000_000;
    assert_eq!(world.sent(alice, text("bob", kept, "hi")).unwrap(), v1::Sent { duplicate: true, ..first });
    assert_eq!(log_len(&world), 1);
}

#[test]
fn an_id_that_left_the_memory_of_a_busy_conversation_is_found_in_the_log() {
    let (mut world, alice, bob) = pair(Faults::none());
    let id = [0x33; 16];
    let first = world.sent(alice, text("bob", id, "hi")).unwrap();
    busy_day(&mut world, bob);
    assert_eq!(log_len(&world), 5_001);
    assert_eq!(world.sent(alice, text("bob", id, "hi")).unwrap(), v1::Sent { duplicate: true, ..first });
    assert_eq!(log_len(&world), 5_001);
}

#[test]
fn sends_of_one_device_keep_their_order_whatever_has_to_be_searched() {
    let (mut world, alice, bob) = pair(Faults::none());
    busy_day(&mut world, bob);
    // Ids that may be in the whole log, mixed with ids that cannot.
    for n in 0..20_u8 {
        let id = if n % 3 == 0 { [n; 16] } else { v7(world.unix_ms() + 1_000_000_000, n) };
        world.send(alice, text("bob", id, &format!("{n}")));
    }
    world.settle();
    let log = world.store.log(&user("alice").direct_with(&user("bob")));
    let bodies: Vec<_> = log[5_000..].iter().map(|it| String::from_utf8_lossy(it.body.bytes()).into_owned()).collect();
    assert_eq!(bodies, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn an_append_with_an_unknown_outcome_is_neither_lost_nor_doubled() {
    for fault in ["landed", "lost", "late"] {
        let mut faults = Faults::none();
        match fault {
            "landed" => faults.unknown_landed = 5_000,
            "lost" => faults.unknown_lost = 5_000,
            _ => (faults.unknown_late, faults.late_us) = (5_000, 20_000),
        }
        let (mut world, alice, bob) = pair(faults);
        for n in 0..30 {
            let id = v7(world.unix_ms(), n);
            let sent = world.sent(alice, text("bob", id, "hi")).unwrap();
            assert_eq!((sent.seq, sent.duplicate), (u64::from(n) + 1, false), "{fault}");
        }
        world.advance(1_000);
        assert_eq!(log_len(&world), 30);
        assert_eq!(world.pushed(bob), (1..=30).collect::<Vec<_>>());
        assert!(world.routers.iter().map(|router| router.counters().append_unknown).sum::<u64>() > 5);
    }
}

#[test]
fn nothing_is_stored_where_the_store_says_no_and_the_client_may_try_again() {
    for (faults, code) in [
        (Faults { full: 10_000, ..Faults::none() }, Code::StorageFull),
        (Faults { unavailable: 10_000, ..Faults::none() }, Code::Unavailable),
    ] {
        let (mut world, alice, bob) = pair(faults);
        let id = v7(world.unix_ms(), 1);
        let error = world.sent(alice, text("bob", id, "hi")).unwrap_err();
        assert_eq!((error.code, error.retryable), (code as i32, true));
        assert!(error.retry_after_ms > 0);
        world.store.set_faults(Faults::none());
        world.advance(1_000);
        assert_eq!(log_len(&world), 0);
        assert!(!world.sent(alice, text("bob", id, "hi")).unwrap().duplicate);
        assert_eq!(world.pushed(bob), [1]);
    }
}

#[test]
fn ids_and_stamps_grow_with_the_position_whatever_the_wall_clock_does() {
    let (mut world, alice, _) = pair(Faults::none());
    for (n, step_us) in [0, 5_000_000_000, -9_000_000_000, 0].into_iter().enumerate() {
        world.step_us = step_us;
        world.sent(alice, text("bob", [n as u8 + 1; 16], "hi")).unwrap();
    }
    let log = world.store.log(&user("alice").direct_with(&user("bob")));
    for pair in log.windows(2) {
        assert!(pair[0].id < pair[1].id && pair[0].us < pair[1].us && pair[0].ordinal + 1 == pair[1].ordinal);
        assert_eq!(pair[1].previous_hash, pair[0].hash());
    }
}

#[test]
fn thirty_three_requests_stop_the_reading_until_one_is_answered_and_all_are_answered_once() {
    let (mut world, alice, _) = pair(Faults::none());
    world.hold_store = true;
    world.got(alice);
    let ids: Vec<_> = (0..33).map(|n| world.send(alice, text("bob", [n + 1; 16], "hi"))).collect();
    let reading = |world: &mut World| {
        let got = world.got(alice);
        let kept: Vec<bool> = got
            .iter()
            .filter_map(|got| if let crate::world::Got::Reading(on) = got { Some(*on) } else { None })
            .collect();
        (got, kept)
    };
    assert_eq!(reading(&mut world).1, [false]);
    world.hold_store = false;
    world.settle();
    let (got, switched) = reading(&mut world);
    assert_eq!(switched, [true]);
    let mut answered: Vec<u64> =
        got.iter().filter_map(|got| if let crate::world::Got::Sent(re, _) = got { Some(*re) } else { None }).collect();
    answered.sort_unstable();
    assert_eq!(answered, ids);
}

#[test]
fn a_queue_that_is_full_is_an_answer() {
    let (mut world, alice, bob) = pair(Faults::none());
    // More than a client may leave unanswered: the socket would not be read any more.
    let more = (1..5).map(|n| world.open("alice", &format!("device{n}")));
    let senders: Vec<_> = more.chain([alice]).collect();
    world.hold_store = true;
    let mut refused = 0;
    let mut asked = 0;
    for (at, sender) in senders.iter().enumerate() {
        for n in 0..250_u8 {
            let mut id = [n; 16];
            id[15] = at as u8;
            asked += 1;
            let id = world.send(*sender, text("bob", id, "hi"));
            world.settle();
            if let Some(Err(error)) = world.outcome(*sender, id) {
                assert_eq!((error.code, error.retryable), (Code::Overloaded as i32, true));
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    world.hold_store = false;
    world.settle();
    assert_eq!(log_len(&world), asked - refused);
    assert_eq!(world.pushed(bob).len(), 64);
}

#[test]
fn a_lookup_finds_what_this_device_sent_and_nothing_else() {
    let (mut world, alice, bob) = pair(Faults::none());
    let sent = world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    world.sent(bob, text("alice", [2; 16], "ho")).unwrap();
    let ids = |ids: &[u8]| ids.iter().map(|n| vec![*n; 16].into()).collect();
    let lookup = v1::Lookup { conversation: wire("bob"), client_message_ids: ids(&[3, 1, 2]) };
    match world.answer(alice, Request::Lookup(Box::new(lookup))) {
        Answer::LookupResult(result) => {
            assert_eq!(result.found.len(), 1);
            assert_eq!((result.found[0].client_message_id[0], result.found[0].seq), (1, sent.seq));
        }
        other => panic!("{other:?}"),
    }
    let none = v1::Lookup { conversation: wire("bob"), client_message_ids: Vec::new() };
    assert!(matches!(world.answer(alice, Request::Lookup(Box::new(none))), Answer::LookupResult(_)));
}

#[test]
fn a_retry_from_a_clock_that_is_ahead_is_not_stored_twice() {
    let (mut world, alice, bob) = pair(Faults::none());
    let id = v7(world.unix_ms() + 3_600_000, 1);
    let first = world.sent(alice, text("bob", id, "hi")).unwrap();
    busy_day(&mut world, bob);
    // At once, when the id's time has come, and from a conversation read anew.
    for wait_ms in [0, 3_700_000] {
        world.advance(wait_ms);
        let alice = if wait_ms == 0 { alice } else { world.open("alice", "phone") };
        let again = world.sent(alice, text("bob", id, "hi")).unwrap();
        assert_eq!((again, log_len(&world)), (v1::Sent { duplicate: true, ..first }, 5_001));
    }
}

#[test]
fn a_small_payload_does_not_keep_the_frame_that_it_came_in() {
    let (mut world, alice, _bob) = pair(Faults::none());
    // Bytes can tell whether anybody else holds their buffer.
    let frame = Bytes::from(vec![b'x'; 10_000]);
    let payload = Some(v1::send::Body::Payload(frame.slice(100..110)));
    let send = v1::Send { body: payload, kind: Kind::Data as i32, ..text("bob", [1; 16], "") };
    assert_eq!(world.sent(alice, send).unwrap().seq, 1);
    assert!(frame.is_unique(), "10 bytes keep 10,000");
}

#[test]
fn a_retry_from_a_clock_that_is_ahead_is_known_a_day_later_and_by_a_conversation_read_anew() {
    let (mut world, alice, bob) = pair(Faults::none());
    let id = v7(world.unix_ms() + 7_200_000, 1);
    let first = world.sent(alice, text("bob", id, "hi")).unwrap();
    for (after_ms, sends) in [(3_600_000, 300), (23 * 3_600_000 + 1_800_000, 1)] {
        world.advance(after_ms);
        let bob = world.open("bob", "phone");
        for _ in 0..sends {
            let made = v7(world.unix_ms(), 7);
            world.sent(bob, text("alice", made, "x")).unwrap();
            world.advance(1);
        }
    }
    let _ = bob;
    // Out of memory, and read again without the record.
    world.advance(700_000);
    let alice = world.open("alice", "phone");
    let again = world.sent(alice, text("bob", id, "hi")).unwrap();
    assert_eq!((again, log_len(&world)), (v1::Sent { duplicate: true, ..first }, 302));
}

#[test]
fn a_retry_is_known_by_a_conversation_that_was_read_anew_without_its_many_long_records() {
    let (mut world, alice, _) = pair(Faults::none());
    let long = |id: [u8; 16]| {
        let body = Some(v1::send::Body::Payload(vec![id[15]; 64 << 10].into()));
        v1::Send { body, kind: Kind::Data as i32, ..text("bob", id, "") }
    };
    // The first from a clock that is ahead: what is in memory names no later time.
    let ids: Vec<_> = (0..200).map(|n| v7(world.unix_ms() + if n == 0 { 3_600_000 } else { 0 }, n)).collect();
    let first: Vec<_> = ids.iter().map(|id| world.sent(alice, long(*id)).unwrap()).collect();
    world.advance(700_000);
    let conversation = user("alice").direct_with(&user("bob"));
    let loaded = world.store.read(&StoreRequest::LoadConversation { tag: 0, conversation });
    let Some(Outcome::Conversation(Some(state))) = loaded else { panic!("{loaded:?}") };
    assert!(state.tail.len() < 150, "{} records of 64 KiB", state.tail.len());
    let alice = world.open("alice", "phone");
    for n in [0, 1, 100, 199] {
        let again = world.sent(alice, long(ids[n])).unwrap();
        assert_eq!((again, log_len(&world)), (v1::Sent { duplicate: true, ..first[n] }, 200));
    }
    // Nor does what comes next hide it.
    let next = v7(world.unix_ms(), 7);
    assert_eq!(world.sent(alice, long(next)).unwrap().seq, 201);
    assert_eq!(world.sent(alice, long(ids[0])).unwrap(), v1::Sent { duplicate: true, ..first[0] });
}

/// A record of the store's own, as another process would have written it after the last one.
fn written_elsewhere(world: &mut World, records: Vec<Record>) {
    let (alice, bob) = (user("alice"), user("bob"));
    let conversation = alice.direct_with(&bob);
    let kind = Arc::new(ConversationKind::Direct([alice, bob]));
    for record in records {
        let last = world.store.log(&conversation).last().unwrap();
        let (seq, id, us, ordinal) = (last.seq + 1, last.id + 1, last.us + 1_000_000, last.ordinal + 1);
        let request = StoreRequest::Append {
            tag: 0,
            conversation,
            kind: Arc::clone(&kind),
            expected_head: last.seq,
            records: vec![Arc::new(Record { seq, id, us, ordinal, ..record })],
        };
        assert!(matches!(world.store.set_up(&request), Outcome::Appended { .. }));
    }
}

#[test]
fn that_an_id_is_not_in_the_log_is_asked_again_after_others_have_written_to_it() {
    let (mut world, _, bob) = pair(Faults::none());
    for n in 0..300_u32 {
        world.sent(bob, text("alice", cmid(n), "x")).unwrap();
        world.advance(1_000);
    }
    let alice = world.open("alice", "phone");
    // It names no time, so the whole log is asked, 2 ms; then it is to be appended, which another process is quicker to do.
    world.store.set_faults(Faults { latency_us: (1_000, 1_000), ..Faults::none() });
    let id = world.send(alice, text("bob", [0x33; 16], "hi"));
    world.advance(2);
    assert_eq!((world.outcome(alice, id), log_len(&world)), (None, 300));
    let record = |name, id, text: &'static str| {
        let phone = DeviceId::new("phone").unwrap();
        Record::new(user(name), phone, ClientMessageId(id), Kind::Text, Body::Text(text.into()))
    };
    // And so much comes after it that it is no longer in memory when the new records have been read.
    let more = (300..600).map(|n| record("bob", cmid(n), "x"));
    let records = std::iter::once(record("alice", [0x33; 16], "hi")).chain(more).collect();
    written_elsewhere(&mut world, records);
    world.settle();
    let sent = world.outcome(alice, id).unwrap().unwrap();
    assert_eq!((sent.seq, sent.duplicate, log_len(&world)), (301, true, 601));
    assert!(world.routers.iter().any(|router| router.counters().append_conflicts > 0), "it was to be appended");
}

#[test]
fn what_is_no_longer_kept_counts_for_what_is_unread_and_for_the_ids_that_follow() {
    let (mut world, alice, bob) = pair(Faults::none());
    for n in 0..3 {
        world.sent(alice, text("bob", [n; 16], "hi")).unwrap();
    }
    let pushed = world.pushed(bob).len() as u64;
    world.ack(bob, pushed);
    assert_eq!(world.answer(bob, read("alice", 3)), Answer::Ok(v1::Ok {}));
    // Out of memory; and a clock that was set back.
    world.advance(700_000);
    (world.expired, world.step_us) = (true, -600_000_000);
    let (alice, bob) = (world.open("alice", "phone"), world.open("bob", "phone"));
    world.sent(alice, text("bob", [9; 16], "ho")).unwrap();
    assert_eq!(unread(&mut world, bob), 1);
    let log = world.store.log(&user("alice").direct_with(&user("bob")));
    assert!(log[3].id > log[2].id && log[3].us > log[2].us && log[3].ordinal == 4, "{:?}", log[3]);
}

fn unread(world: &mut World, conn: ConnRef) -> u32 {
    match world.answer(conn, Request::Conversations(Box::default())) {
        Answer::ConversationPage(page) => page.entries[0].unread,
        other => panic!("{other:?}"),
    }
}
