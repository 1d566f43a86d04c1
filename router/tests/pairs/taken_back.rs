//! Messages that are taken back, with their edits: nothing that was said in them can be read any more.

use crate::groups::{say, three, to};
use crate::world::{Got, World, cmid, text, user, wire};
use ringpost_persist::Record;
use ringpost_persist::faulty::Faults;
use ringpost_proto::id::Seq;
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, Request};
use std::sync::Arc;

fn about(n: u32, kind: Kind, ref_seq: Seq, body: &str) -> v1::Send {
    v1::Send { kind: kind as i32, ref_seq, ..text("bob", cmid(n), body) }
}

/// The log of alice and bob.
fn direct(world: &World) -> Vec<Arc<Record>> {
    world.log(&user("alice").direct_with(&user("bob")).0)
}

/// (kind, what it is about, text) of each.
fn said(records: &[Arc<Record>]) -> Vec<(Kind, Seq, Option<String>)> {
    let text = |record: &Record| match record.to_wire().body {
        Some(v1::record::Body::Text(text)) if record.kind != Kind::Erase => Some(text),
        _ => None,
    };
    records.iter().map(|record| (record.kind, record.ref_seq, text(record))).collect()
}

fn records(got: Vec<Got>) -> Vec<Arc<Record>> {
    let records = got.into_iter().flat_map(|got| match got {
        Got::Record { record, .. } => vec![record],
        Got::Page(_, page) => page.records.into_iter().map(|(record, _)| record).collect(),
        _ => Vec::new(),
    });
    records.collect()
}

/// What a device is shown of the conversation with `peer`, wherever it asks; and what its list shows of it.
fn read_everywhere(world: &mut World, conn: ConnRef, peer: &str) -> (Vec<Arc<Record>>, Vec<String>) {
    world.got(conn);
    let fetch = v1::Fetch { conversation: wire(peer), from_seq: 1, to_seq: 100 };
    let history = v1::History { conversation: wire(peer), ..Default::default() };
    world.ask(conn, Request::Fetch(Box::new(fetch)));
    world.ask(conn, Request::History(Box::new(history)));
    world.settle();
    let read = records(world.got(conn));
    match world.answer(conn, Request::Conversations(Box::default())) {
        Answer::ConversationPage(page) => (read, page.entries.into_iter().map(|entry| entry.preview).collect()),
        other => panic!("{other:?}"),
    }
}

fn code(world: &mut World, conn: ConnRef, id: u64) -> Result<(), Code> {
    world.outcome(conn, id).expect("an answer").map(|_| ()).map_err(|error| error.code())
}

#[test]
fn an_edit_that_lands_before_its_message_is_taken_back_goes_with_it() {
    // What is in memory, or in the batch; with a router that is written out and read back in between.
    for (swap, in_one) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut world = World::new(2);
        world.swap = swap;
        world.link("alice", &["phone", "laptop"]);
        let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("alice", device));
        let bob = world.open("bob", "phone");
        world.sent(phone, text("bob", cmid(1), "helo")).unwrap();
        world.sent(phone, about(2, Kind::Edit, 1, "hello")).unwrap();
        world.pushed(bob);
        // Neither device knows of what the other one asks for.
        world.hold_store = true;
        let first = in_one.then(|| world.send(bob, text("alice", cmid(9), "hm?")));
        let edit = world.send(phone, about(3, Kind::Edit, 1, "hello, secret"));
        let erase = world.send(laptop, about(4, Kind::Erase, 1, ""));
        world.hold_store = false;
        world.settle();
        first.into_iter().for_each(|id| assert_eq!(code(&mut world, bob, id), Ok(())));
        assert_eq!(code(&mut world, phone, edit), Ok(()));
        assert_eq!(code(&mut world, laptop, erase), Ok(()));
        let at = if in_one { 4 } else { 3 };
        let expected = [(Kind::Erase, 2, None), (Kind::Erase, at, None), (Kind::Erase, 1, None)];
        let log = direct(&world);
        assert_eq!(said(&log)[at as usize..], expected);
        assert!([1, 2, at].iter().all(|seq| log[*seq as usize - 1].to_wire().erased));
        // Who was there hears of each, in order, and both devices of alice know where they are.
        assert_eq!(said(&records(world.got(bob)))[1..], expected);
        // Wherever one looks afterwards, whoever looks.
        for (conn, peer) in [(bob, "alice"), (phone, "bob"), (laptop, "bob")] {
            let (read, previews) = read_everywhere(&mut world, conn, peer);
            assert!(read.len() > 8 && read.iter().all(|it| !format!("{:?}", it.to_wire()).contains("hel")), "{read:?}");
            assert!(previews.iter().all(String::is_empty), "{previews:?}");
        }
        world.link("bob", &["phone", "tablet"]);
        let tablet = world.open("bob", "tablet");
        let pushed = said(&records(world.got(tablet)));
        let texts: Vec<_> = pushed.iter().filter_map(|(.., text)| text.as_deref()).collect();
        assert!(pushed.len() > 4 && texts.iter().all(|text| *text == "hm?"), "{pushed:?}");
        // The same message again is still known, and so is the same erasure.
        assert!(world.sent(phone, text("bob", cmid(1), "helo")).unwrap().duplicate);
        assert!(world.sent(laptop, about(4, Kind::Erase, 1, "")).unwrap().duplicate);
        assert_eq!(direct(&world).len(), log.len());
    }
}

#[test]
fn an_edit_behind_an_erasure_is_refused() {
    let mut world = World::new(2);
    world.link("alice", &["phone", "laptop"]);
    let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("alice", device));
    world.sent(phone, text("bob", cmid(1), "helo")).unwrap();
    world.hold_store = true;
    let erase = world.send(laptop, about(2, Kind::Erase, 1, ""));
    let edit = world.send(phone, about(3, Kind::Edit, 1, "hello"));
    world.hold_store = false;
    world.settle();
    assert_eq!(code(&mut world, laptop, erase), Ok(()));
    assert_eq!(code(&mut world, phone, edit), Err(Code::NotFound));
    assert_eq!(direct(&world).len(), 2);
}

/// So that every answer of the store takes so long, twice.
fn slow(us: u64) -> Faults {
    Faults { latency_us: (us, us), ..Faults::none() }
}

#[test]
fn an_edit_that_looked_at_its_message_before_that_was_taken_back_is_refused_as_well() {
    let mut world = World::new(1);
    world.link("alice", &["phone", "laptop"]);
    let [phone, laptop] = ["phone", "laptop"].map(|device| world.open("alice", device));
    world.sent(phone, text("bob", cmid(1), "helo")).unwrap();
    for n in 100..500 {
        world.sent(phone, text("bob", cmid(n), "more")).unwrap();
    }
    // What it is about is read at once, and the answer is long under way.
    world.store.set_faults(slow(1_000));
    let edit = world.send(phone, about(2, Kind::Edit, 1, "hello"));
    world.store.set_faults(slow(5_000_000));
    world.advance(2);
    assert!(world.outcome(phone, edit).is_none(), "it waits");
    world.store.set_faults(slow(1_000));
    let erase = world.send(laptop, about(3, Kind::Erase, 1, ""));
    world.advance(1_000);
    assert_eq!(code(&mut world, laptop, erase), Ok(()));
    world.advance(10_000);
    assert_eq!(code(&mut world, phone, edit), Err(Code::NotFound));
    assert_eq!(direct(&world).len(), 402);
}

#[test]
fn edits_of_a_message_that_is_older_than_memory_are_searched_for() {
    for (swap, edits) in [(0, 3), (1, 3), (0, 150)] {
        let mut world = World::new(1);
        let (group, [alice, bob, carl]) = three(&mut world);
        let edit = |n: u32, seq| v1::Send { kind: Kind::Edit as i32, ref_seq: seq, ..say(n, &group, "secret") };
        world.sent(bob, say(2, &group, "secret")).unwrap();
        world.sent(bob, say(3, &group, "another")).unwrap();
        let mut number = 10;
        for n in 0..edits {
            world.sent(bob, edit(number, 2)).unwrap();
            world.sent(bob, edit(number + 1, 3)).unwrap();
            number += 2;
            for _ in 0..if n == 0 { 400 } else { 1 } {
                world.sent(alice, say(number, &group, "more")).unwrap();
                number += 1;
            }
        }
        for _ in 0..400 {
            world.sent(alice, say(number, &group, "more")).unwrap();
            number += 1;
        }
        let before = world.log(&group).len();
        world.got(carl);
        world.swap = swap;
        // An admin takes it back, a day later.
        world.advance(24 * 3_600_000);
        let [alice, carl] = ["alice", "carl"].map(|name| world.open(name, "phone"));
        let erase = v1::Send { kind: Kind::Erase as i32, ref_seq: 2, ..say(4, &group, "") };
        let sent = world.sent(alice, erase).unwrap();
        let log = world.log(&group);
        assert_eq!(log.len(), before + edits as usize + 1);
        assert_eq!((sent.seq, log.last().unwrap().ref_seq), (log.len() as u64, 2), "its own is the last");
        for record in &log {
            let of = |seq| record.seq == seq || record.kind == Kind::Edit && record.ref_seq == seq;
            assert_eq!(record.to_wire().erased, of(2), "{record:?}");
        }
        // What comes to a device of it is in order and complete, as everything.
        let fetch = v1::Fetch { conversation: to(&group), from_seq: before as u64 + 1, to_seq: log.len() as u64 };
        world.got(carl);
        world.ask(carl, Request::Fetch(Box::new(fetch)));
        world.settle();
        let seqs: Vec<_> = records(world.got(carl)).iter().map(|record| record.seq).collect();
        assert!(seqs.len() >= 4 && seqs.iter().zip(before as u64 + 1..).all(|(seq, expected)| *seq == expected));
    }
}

#[test]
fn others_have_their_turn_while_many_edits_are_taken_back_and_who_asked_keeps_its_order() {
    let mut world = World::new(1);
    let (group, [alice, bob, _]) = three(&mut world);
    world.sent(bob, say(2, &group, "secret")).unwrap();
    for n in 0..100 {
        world.sent(bob, v1::Send { kind: Kind::Edit as i32, ref_seq: 2, ..say(1_000 + n, &group, "secret") }).unwrap();
    }
    let before = world.log(&group).len();
    world.hold_store = true;
    let erase = world.send(bob, v1::Send { kind: Kind::Erase as i32, ref_seq: 2, ..say(3, &group, "") });
    let behind = world.send(bob, say(4, &group, "behind it"));
    let others: Vec<_> = (0..20).map(|n| world.send(alice, say(100 + n, &group, "beside it"))).collect();
    world.hold_store = false;
    world.settle();
    let log = world.log(&group);
    let said = said(&log);
    let at = |wanted: &str| said.iter().position(|(.., text)| text.as_deref() == Some(wanted)).unwrap();
    // Two appends were made before the others' turn came; from then on there is one of them in each.
    let runs = said[before..].split(|(kind, ..)| *kind != Kind::Erase).map(<[_]>::len);
    assert!(runs.enumerate().all(|(n, many)| many <= if n == 0 { 32 } else { 16 }), "{said:?}");
    let erased = said.iter().position(|(kind, about, _)| *kind == Kind::Erase && *about == 2).unwrap();
    assert!(at("behind it") > erased);
    assert_eq!(log.len(), before + 100 + 1 + 1 + 20);
    assert!(log[1..before].iter().all(|record| record.to_wire().erased));
    for (conn, id) in others.into_iter().map(|id| (alice, id)).chain([(bob, erase), (bob, behind)]) {
        assert_eq!(code(&mut world, conn, id), Ok(()));
    }
}

#[test]
fn no_two_records_of_a_log_have_one_id() {
    let mut world = World::new(1);
    let (group, [_, bob, _]) = three(&mut world);
    let edit = |n| v1::Send { kind: Kind::Edit as i32, ref_seq: 2, ..say(n, &group, "secret") };
    let erase = || v1::Send { kind: Kind::Erase as i32, ref_seq: 2, ..say(9, &group, "") };
    world.sent(bob, say(2, &group, "secret")).unwrap();
    world.sent(bob, edit(3)).unwrap();
    world.sent(bob, edit(4)).unwrap();
    world.sent(bob, erase()).unwrap();
    let log = world.log(&group);
    let ids: std::collections::BTreeSet<_> = log.iter().map(|record| record.cmid).collect();
    assert_eq!(ids.len(), log.len());
    // Who has learned one of them and uses it is told of the conflict, and nothing is stored.
    let made = log.iter().find(|record| record.kind == Kind::Erase && record.ref_seq == 3).unwrap();
    let taken = v1::Send { client_message_id: made.cmid.to_bytes(), ..say(5, &group, "mine") };
    assert_eq!(world.sent(bob, taken).unwrap_err().code(), Code::Conflict);
    assert_eq!(world.log(&group).len(), log.len());
    // In a conversation with the same beginning they are others: nobody can use one before it is made.
    let mut other = World::new(1);
    let (group, [alice, bob, _]) = three(&mut other);
    other.sent(alice, say(90, &group, "something else")).unwrap();
    let before = other.log(&group).len() as u64;
    other.sent(bob, say(2, &group, "secret")).unwrap();
    other.sent(bob, v1::Send { kind: Kind::Edit as i32, ref_seq: before + 1, ..say(3, &group, "secret") }).unwrap();
    other.sent(bob, v1::Send { kind: Kind::Erase as i32, ref_seq: before + 1, ..say(9, &group, "") }).unwrap();
    assert!(other.log(&group).iter().all(|record| record.cmid != made.cmid));
}

#[test]
fn a_store_that_does_not_answer_takes_nothing_back_and_is_asked_again() {
    let mut world = World::new(1);
    let (group, [alice, bob, _]) = three(&mut world);
    world.sent(bob, say(2, &group, "secret")).unwrap();
    world.sent(bob, v1::Send { kind: Kind::Edit as i32, ref_seq: 2, ..say(3, &group, "secret") }).unwrap();
    for n in 0..300 {
        world.sent(alice, say(100 + n, &group, "more")).unwrap();
    }
    let erase = || v1::Send { kind: Kind::Erase as i32, ref_seq: 2, ..say(4, &group, "") };
    world.store.set_faults(Faults { unavailable: 10_000, ..Faults::none() });
    let refused = world.sent(bob, erase()).unwrap_err();
    assert_eq!((refused.code(), refused.retryable), (Code::Unavailable, true));
    assert!(world.log(&group).iter().all(|record| !record.to_wire().erased));
    world.store.set_faults(Faults::none());
    world.sent(bob, erase()).unwrap();
    assert!(world.log(&group)[1..3].iter().all(|record| record.to_wire().erased));
}

/// An erasure of so many edits waits for the first part of them.
#[test]
fn an_erasure_whose_first_part_is_refused_is_refused_with_it() {
    for (faults, expected) in [
        (Faults { full: 10_000, ..Faults::none() }, Code::StorageFull),
        (Faults { unavailable: 10_000, ..Faults::none() }, Code::Unavailable),
    ] {
        let mut world = World::new(1);
        let (group, [alice, bob, _]) = three(&mut world);
        world.sent(bob, say(2, &group, "secret")).unwrap();
        for n in 0..20 {
            world.sent(bob, v1::Send { kind: Kind::Edit as i32, ref_seq: 2, ..say(10 + n, &group, "secret") }).unwrap();
        }
        let erase = || v1::Send { kind: Kind::Erase as i32, ref_seq: 2, ..say(4, &group, "") };
        world.store.set_faults(faults);
        let asked = world.send(bob, erase());
        let behind = world.send(bob, say(5, &group, "behind it"));
        world.settle();
        assert_eq!(code(&mut world, bob, asked), Err(expected));
        assert_eq!(code(&mut world, bob, behind), Err(expected));
        assert!(world.log(&group).iter().all(|record| !record.to_wire().erased));
        world.store.set_faults(Faults::none());
        world.sent(alice, say(6, &group, "others go on")).unwrap();
        world.sent(bob, erase()).unwrap();
        assert!(world.log(&group)[1..22].iter().all(|record| record.to_wire().erased));
    }
}
