//! Registers.

use super::Driver;
use super::samples::*;
use crate::{RegisterKey, Shown};
use ringpost_proto::id::{Seq, UserKey};

fn delivered_of_ann(store: &mut dyn Driver) -> Vec<Seq> {
    load_user(store, "ann", None, 1).entries.iter().flat_map(|entry| &entry.delivered).map(|(_, seq)| *seq).collect()
}

pub(super) fn max_merge(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "bob", 1, 9);
    let key = RegisterKey::Delivered(room.id, user("ann"), device("phone"));
    assert!(delivered_of_ann(store).is_empty());
    for (value, expected) in [(3, 3), (2, 3), (3, 3), (7, 7), (1, 7), (0, 7)] {
        raise(store, vec![(key.clone(), value)]);
        assert_eq!(delivered_of_ann(store), [expected]);
    }
    // Within one request, too.
    raise(store, vec![(key.clone(), 9), (key, 8)]);
    assert_eq!(delivered_of_ann(store), [9]);
}

pub(super) fn durable(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "bob", 1, 9);
    let (ann, phone) = (user("ann"), device("phone"));
    raise(
        store,
        vec![
            (RegisterKey::Delivered(room.id, ann.clone(), phone), 8),
            (RegisterKey::Read(room.id, ann.clone()), 6),
            (RegisterKey::TickDelivered(room.id, ann.clone(), phone), 4),
            (RegisterKey::TickRead(room.id, ann.clone(), phone), 2),
        ],
    );
    store.reopen();
    raise(store, vec![(RegisterKey::Delivered(room.id, ann.clone(), phone), 5), (RegisterKey::Read(room.id, ann), 7)]);
    store.reopen();
    let entries = load_user(store, "ann", None, 1).entries;
    assert_eq!(entries.len(), 1);
    for entry in entries {
        assert_eq!(entry.delivered, [(phone, 8)]);
        assert_eq!(entry.read, 7);
        assert_eq!(entry.ticks, [(phone, 4, 2)]);
    }
}

pub(super) fn in_a_room(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "bob", 1, 9);
    let (ann, bob, phone) = (user("ann"), user("bob"), device("phone"));
    let told = [
        (RegisterKey::Delivered(room.id, ann.clone(), phone), 8),
        (RegisterKey::Delivered(room.id, ann.clone(), device("tablet")), 9),
        (RegisterKey::Delivered(room.id, bob.clone(), phone), 1),
        (RegisterKey::Read(room.id, ann.clone()), 6),
    ];
    let ticks = [
        (RegisterKey::TickDelivered(room.id, ann, phone), 4),
        (RegisterKey::TickRead(room.id, bob, device("tablet")), 2),
    ];
    raise(store, [told.as_slice(), ticks.as_slice()].concat());
    let registers = load(store, &room).map(|state| state.registers).unwrap_or_default();
    assert_eq!(registers.len(), told.len(), "{registers:?}");
    assert!(told.iter().all(|register| registers.contains(register)), "{registers:?}");
}

pub(super) fn peer_minima(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 9);
    let peer = |store: &mut dyn Driver| {
        let entries = load_user(store, "ann", None, 1).entries;
        entries.iter().map(|entry| (entry.peer_delivered, entry.peer_read)).collect::<Vec<_>>()
    };
    assert_eq!(peer(store), [(0, 0)]);
    for (device_name, value, expected) in [("phone", 3, 3), ("tablet", 5, 5), ("phone", 4, 5), ("phone", 9, 9)] {
        raise(store, vec![(RegisterKey::Delivered(room.id, user("bob"), device(device_name)), value)]);
        assert_eq!(peer(store), [(expected, 0)]);
    }
    raise(store, vec![(RegisterKey::Read(room.id, user("bob")), 9)]);
    // One's own progress is not the peer's.
    raise(store, vec![(RegisterKey::Read(room.id, user("ann")), 1)]);
    assert_eq!(peer(store), [(9, 9)]);
}

pub(super) fn shown_reads(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 9);
    let (ann, bob) = (user("ann"), user("bob"));
    let shown = |user: &UserKey, shown: Shown| (RegisterKey::ReadShown(room.id, user.clone()), shown.0);
    let read = |user: &UserKey, seq| (RegisterKey::Read(room.id, user.clone()), seq);
    let seen = |store: &mut dyn Driver| {
        let of = |store: &mut dyn Driver, name| {
            load_user(store, name, None, 1).entries.first().map(|it| (it.read, it.peer_read)).unwrap_or_default()
        };
        [of(store, "ann"), of(store, "bob")]
    };
    raise(store, vec![read(&bob, 4)]);
    raise(store, vec![shown(&bob, Shown::hidden_after(4)), read(&bob, 7)]);
    assert_eq!(seen(store), [(0, 4), (7, 0)]);
    raise(store, vec![shown(&bob, Shown::upto(7))]);
    assert_eq!(seen(store), [(0, 7), (7, 0)]);
    raise(store, vec![shown(&ann, Shown::hidden_after(0)), read(&ann, 9)]);
    assert_eq!(seen(store), [(9, 7), (7, 0)], "nothing was shown");
    let registers = load(store, &room).map(|state| state.registers).unwrap_or_default();
    assert!(registers.contains(&shown(&bob, Shown::upto(7))));
}
