//! Appends and what is read of a log.

use super::samples::*;
use super::{Driver, ask};
use crate::{Outcome, ReadRange, Record, StoreRequest};
use ringpost_proto::id::Seq;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn dense(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    appended(store, append(&room, 0, texts("ann", 1..=1)), 1);
    appended(store, append(&room, 1, texts("bob", 2..=65)), 65);
    appended(store, append(&room, 65, texts("ann", 66..=67)), 67);
    let expected = [texts("ann", 1..=1), texts("bob", 2..=65), texts("ann", 66..=67)].concat();
    assert_same(&whole(store, &room), &expected);
}

pub(super) fn conflict(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 3);
    for wrong in [0, 2, 4, 100] {
        let outcome = ask(store, append(&room, wrong, texts("bob", wrong + 1..=wrong + 2)));
        assert!(matches!(outcome, Outcome::Conflict { head: 3 }), "head {wrong}: {outcome:?}");
    }
    let empty = self::room("ann", "cid");
    let outcome = ask(store, append(&empty, 1, texts("ann", 2..=2)));
    assert!(matches!(outcome, Outcome::Conflict { head: 0 }), "{outcome:?}");
    assert_same(&whole(store, &room), &texts("ann", 1..=3));
    assert!(load(store, &empty).is_none());
}

pub(super) fn malformed(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    for records in [Vec::new(), texts("ann", 1..=65), texts("ann", 2..=3), texts("ann", [1, 3].into_iter())] {
        let outcome = ask(store, append(&room, 0, records));
        assert!(matches!(outcome, Outcome::Unimplemented), "{outcome:?}");
    }
    assert!(whole(store, &room).is_empty());
}

pub(super) fn ordered_answers(store: &mut dyn Driver) {
    let rooms: Vec<_> = (0..20).map(|n| room("ann", &format!("peer{n}"))).collect();
    let tag = |n: usize, step: u64| n as u64 * 1_000 + step;
    for step in 0..10_u64 {
        for (n, room) in rooms.iter().enumerate() {
            // Every third append is on a head that cannot be: its refusal keeps its place, too.
            let wrong = step % 3 == 2;
            let head = step - step / 3;
            let expected_head = if wrong { head + 50 } else { head };
            store.submit(StoreRequest::Append {
                tag: tag(n, step),
                conversation: room.id,
                kind: Arc::clone(&room.kind),
                expected_head,
                records: texts("ann", expected_head + 1..=expected_head + 1),
            });
        }
    }
    let mut next = vec![0; rooms.len()];
    for _ in 0..200 {
        let answer = store.answer();
        let (n, step) = ((answer.tag / 1_000) as usize, answer.tag % 1_000);
        assert_eq!(step, next[n], "an answer of conversation {n} came out of order");
        next[n] += 1;
        let appended = matches!(answer.outcome, Outcome::Appended { head } if head == step + 1 - step / 3);
        let refused = matches!(answer.outcome, Outcome::Conflict { .. });
        assert!(if step % 3 == 2 { refused } else { appended }, "step {step}: {:?}", answer.outcome);
    }
    for room in &rooms {
        assert_same(&whole(store, room), &texts("ann", 1..=7));
    }
}

pub(super) fn tags(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 1);
    let mut outstanding = BTreeMap::new();
    for tag in (0..60).map(|n| u64::MAX - n * 7) {
        let request = match tag % 3 {
            0 => StoreRequest::LoadConversation { tag, conversation: room.id },
            1 => StoreRequest::Raise { tag, raises: Vec::new() },
            _ => StoreRequest::Append {
                tag,
                conversation: room.id,
                kind: Arc::clone(&room.kind),
                expected_head: 0,
                records: texts("bob", 1..=1),
            },
        };
        outstanding.insert(tag, ());
        store.submit(request);
    }
    while !outstanding.is_empty() {
        let answer = store.answer();
        assert!(outstanding.remove(&answer.tag).is_some(), "answered twice or never asked: {}", answer.tag);
        let fits = match answer.tag % 3 {
            0 => matches!(answer.outcome, Outcome::Conversation(Some(_))),
            1 => matches!(answer.outcome, Outcome::Raised),
            _ => matches!(answer.outcome, Outcome::Conflict { head: 1 }),
        };
        assert!(fits, "{answer:?}");
    }
}

pub(super) fn durable(store: &mut dyn Driver) {
    let rooms = [room("ann", "bob"), room("ann", "cid"), room("dan", "dan")];
    fill(store, &rooms[0], "ann", 1, 130);
    fill(store, &rooms[1], "cid", 1, 2);
    store.reopen();
    fill(store, &rooms[1], "ann", 3, 4);
    fill(store, &rooms[2], "dan", 1, 1);
    store.reopen();
    assert_same(&whole(store, &rooms[0]), &texts("ann", 1..=130));
    assert_same(&whole(store, &rooms[1]), &[texts("cid", 1..=2), texts("ann", 3..=4)].concat());
    assert_same(&whole(store, &rooms[2]), &texts("dan", 1..=1));
    let outcome = ask(store, append(&rooms[0], 129, texts("ann", 130..=130)));
    assert!(matches!(outcome, Outcome::Conflict { head: 130 }), "{outcome:?}");
    let state = load(store, &rooms[1]);
    assert_eq!(state.map(|state| state.kind), Some(Arc::clone(&rooms[1].kind)));
    assert_eq!(load_user(store, "ann", None, 10).entries.len(), 2);
}

pub(super) fn read_upwards(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 100);
    let mut read = |from, to, most, bytes| {
        let (head, records) = read(store, &room, ReadRange::From { from, to }, most, bytes);
        assert_eq!(head, 100);
        seqs(&records)
    };
    let all = u32::MAX;
    assert!(read(1, Seq::MAX, all, all).into_iter().eq(1..=100));
    assert!(read(0, 3, all, all).into_iter().eq(1..=3));
    assert!(read(40, 60, all, all).into_iter().eq(40..=60));
    assert!(read(40, Seq::MAX, 5, all).into_iter().eq(40..=44));
    assert!(read(99, 200, all, all).into_iter().eq(99..=100));
    assert!(read(101, Seq::MAX, all, all).is_empty());
    assert!(read(Seq::MAX, Seq::MAX, all, all).is_empty());
    assert!(read(60, 40, all, all).is_empty());
    // Never less than one record; about so many bytes.
    assert_eq!(read(7, Seq::MAX, all, 0), [7]);
    assert_eq!(read(7, Seq::MAX, 0, all), [7]);
    let some = read(1, Seq::MAX, all, 2_000);
    assert!((2..30).contains(&some.len()), "{} records in 2,000 bytes", some.len());
    assert!(some.iter().copied().eq(1..=some.len() as Seq));
}

pub(super) fn read_downwards(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 100);
    let mut read = |before, most, bytes| {
        let (head, records) = read(store, &room, ReadRange::Before(before), most, bytes);
        assert_eq!(head, 100);
        seqs(&records)
    };
    let all = u32::MAX;
    assert!(read(Seq::MAX, all, all).into_iter().eq((1..=100).rev()));
    assert!(read(51, 10, all).into_iter().eq((41..=50).rev()));
    assert!(read(101, 2, all).into_iter().eq((99..=100).rev()));
    assert_eq!(read(2, all, all), [1]);
    assert!(read(1, all, all).is_empty());
    assert!(read(0, all, all).is_empty());
    assert_eq!(read(50, all, 0), [49]);
}

pub(super) fn find_cmid(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    // Short logs and long ones, before and after a reopening.
    for head in [1, 3, 40, 700] {
        let known = whole(store, &room).len() as Seq;
        fill(store, &room, "ann", known + 1, head);
        for seq in [1, head / 2 + 1, head] {
            let found = find(store, &room, "ann", "phone", cmid(seq));
            assert_same(found.as_slice(), &texts("ann", seq..=seq));
        }
        assert!(find(store, &room, "ann", "phone", cmid(head + 1)).is_none());
        store.reopen();
    }
}

pub(super) fn cmid_scope(store: &mut dyn Driver) {
    let (room, other) = (room("ann", "bob"), room("ann", "cid"));
    for to in [10, 50] {
        let known = whole(store, &room).len() as Seq;
        fill(store, &room, "ann", known + 1, to);
        assert!(find(store, &room, "ann", "phone", cmid(5)).is_some());
        assert!(find(store, &room, "bob", "phone", cmid(5)).is_none(), "another sender");
        assert!(find(store, &room, "ann", "tablet", cmid(5)).is_none(), "another device");
        assert!(find(store, &other, "ann", "phone", cmid(5)).is_none(), "another conversation");
    }
    // The same id of another sender is another message.
    appended(store, append(&room, 50, vec![Arc::new(Record { cmid: cmid(5), ..text("bob", 51) })]), 51);
    let found = |record: Option<Arc<Record>>| record.map(|record| record.seq);
    assert_eq!(found(find(store, &room, "ann", "phone", cmid(5))), Some(5));
    assert_eq!(found(find(store, &room, "bob", "phone", cmid(5))), Some(51));
}
