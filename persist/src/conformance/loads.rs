//! What rooms and users are told when they are loaded.

use super::Driver;
use super::samples::*;
use crate::{Body, LastRecord, Record, RegisterKey};
use ringpost_proto::id::{ClientMessageId, ConversationId, RecordId};
use ringpost_proto::v1::kind::Value;
use std::sync::Arc;

pub(super) fn tail(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    // A day apart each, so that only the number counts.
    let spaced = |seq| Arc::new(Record { us: seq * 86_400_000_000, ..text("ann", seq) });
    for batch in 0..8_u64 {
        let from = batch * 64 + 1;
        appended(store, append(&room, from - 1, (from..from + 64).map(spaced).collect()), from + 63);
        let head = from + 63;
        let state = load(store, &room);
        assert!(state.is_some());
        if let Some(state) = state {
            assert_eq!(state.head, head);
            let Record { id, us, ordinal, .. } = *spaced(head);
            assert_eq!(state.last, LastRecord { id, us, ordinal });
            assert_eq!(state.kind, room.kind);
            let first = head.saturating_sub(255).max(1);
            assert!(state.tail.len() >= 256.min(head as usize));
            assert!(seqs(&state.tail).ends_with(&(first..=head).collect::<Vec<_>>()), "not the newest in order");
            let expected: Vec<_> = state.tail.iter().map(|record| spaced(record.seq)).collect();
            assert_same(&state.tail, &expected);
        }
    }
}

pub(super) fn tail_of_minutes(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    let (mut head, mut us) = (0, 1_764_000_000_000_000);
    // So many more, so many milliseconds apart.
    for (many, apart, expected) in [(300, 1_000, 256), (1_500, 100, 1_201), (4_600, 10, 4_096)] {
        let end = head + many;
        while head < end {
            let next = end.min(head + 64);
            let spaced = |seq| Arc::new(Record { us: us + (seq - head) * apart * 1_000, ..text("ann", seq) });
            appended(store, append(&room, head, (head + 1..=next).map(spaced).collect()), next);
            (head, us) = (next, us + (next - head) * apart * 1_000);
        }
        let tail = load(store, &room).map(|state| seqs(&state.tail)).unwrap_or_default();
        assert_eq!((tail.len(), tail.last()), (expected, Some(&head)), "{apart} ms apart");
        assert!(tail.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
}

pub(super) fn tail_of_bytes(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    let long = |seq: u64| {
        let body = Body::Payload(vec![seq as u8; 64 << 10].into());
        Arc::new(Record { us: 1_764_000_000_000_000 + seq, body, ..text("ann", seq) })
    };
    for head in (0..144).step_by(16) {
        appended(store, append(&room, head, (head + 1..=head + 16).map(long).collect()), head + 16);
    }
    let tail = load(store, &room).map(|state| state.tail).unwrap_or_default();
    // Of 64 KiB and 160 B each, beside the newest.
    assert_eq!(seqs(&tail), (144 - 127..=144).collect::<Vec<_>>());
    assert_same(&tail, &(144 - 127..=144).map(long).collect::<Vec<_>>());
    // What is no part of it is as easily found as before.
    assert_eq!(find(store, &room, "ann", "phone", cmid(1)).map(|record| record.seq), Some(1));
    // Short ones do not bring the long ones back, and one that was taken back is short.
    let erasure = Record { kind: Value::Erase, ref_seq: 144, body: Body::Text("".into()), ..text("ann", 145) };
    appended(store, append(&room, 144, vec![Arc::new(Record { us: long(145).us, ..erasure })]), 145);
    let tail = load(store, &room).map(|state| seqs(&state.tail)).unwrap_or_default();
    assert_eq!(tail, (145 - 128..=145).collect::<Vec<_>>());
}

pub(super) fn latest_cmid(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    // The latest comes early, and leaves the tail.
    let times = |seq| if seq == 2 { 9_000_000 } else { seq };
    let spaced = |seq| Arc::new(Record { us: seq * 86_400_000_000, cmid: uuid_v7(times(seq)), ..text("ann", seq) });
    for from in (0..320_u64).step_by(64) {
        appended(store, append(&room, from, (from + 1..from + 65).map(spaced).collect()), from + 64);
        assert_eq!(load(store, &room).map(|state| state.latest_cmid_ms), Some(9_000_000));
    }
    // Ids without a time have none.
    let room = super::samples::room("ann", "carl");
    appended(
        store,
        append(&room, 0, vec![Arc::new(Record { cmid: ClientMessageId([0x11; 16]), ..text("ann", 1) })]),
        1,
    );
    assert_eq!(load(store, &room).map(|state| state.latest_cmid_ms), Some(0));
}

pub(super) fn nothing(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    assert!(load(store, &room).is_none());
    assert!(whole(store, &room).is_empty());
    assert!(find(store, &room, "ann", "phone", cmid(1)).is_none());
    let page = load_user(store, "ann", None, 10);
    assert!(page.entries.is_empty() && !page.more);
}

pub(super) fn user_pages(store: &mut dyn Driver) {
    let mut expected: Vec<(RecordId, ConversationId)> = Vec::new();
    // Every third id is shared by several conversations, so that the second key counts.
    for n in 0..25_u64 {
        let room = room("ann", &format!("peer{n}"));
        let id = 5_000 + n / 3 + n % 2 * 100;
        appended(store, append(&room, 0, vec![Arc::new(Record { id, ..text("ann", 1) })]), 1);
        expected.push((id, room.id));
    }
    // One comes back to the top.
    let back = room("ann", "peer4");
    appended(store, append(&back, 1, vec![Arc::new(Record { id: 9_000, ..text("peer4", 2) })]), 2);
    expected.retain(|(_, id)| *id != back.id);
    expected.push((9_000, back.id));
    expected.sort_by(|a, b| b.cmp(a));

    for limit in [1, 7, 25, 100] {
        let mut listed = Vec::new();
        loop {
            let page = load_user(store, "ann", listed.last().copied(), limit);
            assert!(page.entries.len() <= limit as usize);
            assert!(!page.entries.is_empty(), "more was promised");
            listed.extend(page.entries.iter().map(|entry| (entry.last_id, entry.conversation)));
            if !page.more {
                break;
            }
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let end = expected.last().copied();
    assert!(load_user(store, "ann", end, 5).entries.is_empty());
    assert_eq!(load_user(store, "peer4", None, 5).entries.len(), 1);
}

pub(super) fn user_entry(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 4);
    fill(store, &room, "bob", 5, 7);
    let (ann, bob) = (user("ann"), user("bob"));
    let (phone, tablet) = (device("phone"), device("tablet"));
    raise(
        store,
        vec![
            (RegisterKey::Delivered(room.id, ann.clone(), phone), 7),
            (RegisterKey::Delivered(room.id, ann.clone(), tablet), 6),
            (RegisterKey::Read(room.id, ann.clone()), 5),
            (RegisterKey::Delivered(room.id, bob.clone(), phone), 3),
            (RegisterKey::Read(room.id, bob.clone()), 2),
            (RegisterKey::TickDelivered(room.id, ann.clone(), tablet), 3),
            (RegisterKey::TickRead(room.id, ann.clone(), tablet), 1),
            (RegisterKey::TickRead(room.id, bob, phone), 6),
        ],
    );
    let mut entries = load_user(store, "ann", None, 10).entries;
    assert_eq!(entries.len(), 1);
    for entry in &mut entries {
        assert_eq!((entry.conversation, entry.head), (room.id, 7));
        assert_eq!(entry.kind, room.kind);
        assert_same(entry.last.as_slice(), &texts("bob", 7..=7));
        assert_eq!((entry.last_own, entry.read), (4, 5));
        entry.delivered.sort();
        assert_eq!(entry.delivered, [(phone, 7), (tablet, 6)]);
        assert_eq!((entry.peer_delivered, entry.peer_read), (3, 2));
        assert_eq!(entry.ticks, [(tablet, 3, 1)]);
    }
    let peers = load_user(store, "bob", None, 10).entries;
    assert!(peers.iter().all(|entry| entry.last_own == 7 && entry.peer_delivered == 7 && entry.peer_read == 5));
}

pub(super) fn self_talk(store: &mut dyn Driver) {
    let room = room("ann", "ann");
    fill(store, &room, "ann", 1, 2);
    raise(store, vec![(RegisterKey::Delivered(room.id, user("ann"), device("phone")), 2)]);
    let entries = load_user(store, "ann", None, 10).entries;
    assert_eq!(entries.len(), 1);
    assert!(entries.iter().all(|entry| entry.head == 2 && entry.last_own == 2 && entry.peer_delivered == 0));
}
