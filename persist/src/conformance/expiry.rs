//! What has expired: no answer shows it, and every answer says that it is gone. And what members missed, of that or of what is
//! kept.
#![allow(clippy::panic)] // a suite of tests: whoever runs it wants the panic

use super::samples::{append, appended, device, fill, load, load_user, raise, room, seqs, text, user};
use super::{Driver, ask};
use crate::ranges::OPEN;
use crate::{MISSED_RANGES, Outcome, Ranges, ReadRange, RegisterKey, StoreRequest};
use ringpost_proto::id::{Seq, UserKey};
use std::sync::Arc;

const DAY_US: u64 = 86_400_000_000;
/// 62 days after the first of the samples' texts.
const NOW_MS: u64 = 1_764_000_000_000 + 62 * 86_400_000;

/// Ann's texts 1 ... 3 to Bob have expired, 4 ... 6 have not. `None`: here nothing expires.
fn half_expired(store: &mut dyn Driver) -> Option<super::samples::Room> {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 3);
    let later = |seq| {
        let text = text("ann", seq);
        Arc::new(crate::Record { us: text.us + 60 * DAY_US, ..text })
    };
    appended(store, append(&room, 3, (4..=6).map(later).collect()), 6);
    raise(store, vec![(RegisterKey::Delivered(room.id, user("bob"), device("phone")), 1)]);
    store.expire(&room.id, 3, NOW_MS).then_some(room)
}

/// Records, how far was looked, and what is gone.
fn looked(
    store: &mut dyn Driver,
    room: &super::samples::Room,
    viewer: Option<UserKey>,
    range: ReadRange,
) -> (Vec<Seq>, Seq, Ranges) {
    let (records, bytes) = (2, u32::MAX);
    match ask(store, StoreRequest::ReadLog { tag: 5, conversation: room.id, viewer, range, records, bytes }) {
        Outcome::LogSlice { head: 6, reached, records, gone } => (seqs(&records), reached, gone),
        other => panic!("no slice: {other:?}"),
    }
}

fn ranges(of: &[(Seq, Seq)]) -> Ranges {
    of.iter().copied().collect()
}

/// Whoever reads is told where a log begins, right after it has expired and after a restart.
pub(super) fn told(store: &mut dyn Driver) {
    let Some(room) = half_expired(store) else { return };
    let up = |from| ReadRange::From { from, to: Seq::MAX };
    for _ in 0..2 {
        for viewer in [None, Some(user("bob"))] {
            let mut look = |range| looked(store, &room, viewer.clone(), range);
            assert_eq!(look(up(1)), (vec![4, 5], 5, ranges(&[(1, 3)])));
            assert_eq!(look(up(3)), (vec![4, 5], 5, ranges(&[(3, 3)])));
            assert_eq!(look(up(5)), (vec![5, 6], 6, ranges(&[])));
            assert_eq!(look(ReadRange::From { from: 2, to: 2 }), (vec![], 2, ranges(&[(2, 2)])));
            assert_eq!(look(ReadRange::Before(Seq::MAX)), (vec![6, 5], 5, ranges(&[])));
            assert_eq!(look(ReadRange::Before(5)), (vec![4], 1, ranges(&[(1, 3)])));
        }
        let entries = load_user(store, "bob", None, 10).entries;
        assert!(entries.iter().all(|entry| entry.gone == ranges(&[(1, 3)]) && entry.head == 6));
        assert_eq!(load(store, &room).map(|state| seqs(&state.tail)), Some(vec![4, 5, 6]));
        store.reopen();
    }
}

/// What has expired is nothing to read any more, whatever was read before.
pub(super) fn unread(store: &mut dyn Driver) {
    let Some(room) = half_expired(store) else { return };
    let mut unread = || load_user(store, "bob", None, 10).entries.iter().map(|entry| entry.unread).sum::<u64>();
    assert_eq!(unread(), 3);
    let counted =
        match ask(store, StoreRequest::CountRead { tag: 5, conversation: room.id, user: user("bob"), upto: 4 }) {
            Outcome::Counted(counted) => counted,
            other => panic!("not counted: {other:?}"),
        };
    let bob = || user("bob");
    raise(store, vec![(RegisterKey::Read(room.id, bob()), 4), (RegisterKey::ReadCounted(room.id, bob()), counted)]);
    let entries = load_user(store, "bob", None, 10).entries;
    assert!(entries.iter().all(|entry| (entry.read, entry.unread) == (4, 2)));
}

/// What a member missed is a register as others are, and its senders are told of it.
pub(super) fn missed(store: &mut dyn Driver) {
    let Some(room) = half_expired(store) else { return };
    missed_of(store, &room);
}

/// Also where nothing has expired.
pub(super) fn missed_and_kept(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    fill(store, &room, "ann", 1, 6);
    raise(store, vec![(RegisterKey::Delivered(room.id, user("bob"), device("phone")), 1)]);
    missed_of(store, &room);
}

/// From the last of as many ranges as there may be nothing is shown as received.
pub(super) fn missed_too_often(store: &mut dyn Driver) {
    let room = room("ann", "bob");
    let head = 2 * MISSED_RANGES as Seq + 10;
    fill(store, &room, "ann", 1, head);
    let kept = MISSED_RANGES as Seq - 1;
    let mut apart: Vec<_> = (0..kept).map(|n| (2 * n + 1, 2 * n + 1)).collect();
    let missed = |from| RegisterKey::Missed(room.id, user("bob"), from);
    raise(store, (0..kept + 5).map(|n| (missed(2 * n + 1), 2 * n + 1)).collect());
    raise(store, vec![(RegisterKey::Delivered(room.id, user("bob"), device("phone")), head)]);
    apart.push((2 * kept + 1, head));
    listed(store, &room, head, &apart);
    let registers = load(store, &room).map(|state| state.registers).unwrap_or_default();
    assert!(registers.contains(&(missed(2 * kept + 1), OPEN)), "{registers:?}");
}

fn missed_of(store: &mut dyn Driver, room: &super::samples::Room) {
    let missed = |from| RegisterKey::Missed(room.id, user("bob"), from);
    let phone = RegisterKey::Delivered(room.id, user("bob"), device("phone"));
    listed(store, room, 1, &[]);
    for (raises, missed_now) in [
        (vec![(missed(2), 3), (phone, 6)], &[(2, 3)][..]),
        (vec![(missed(2), 2)], &[(2, 3)]),
        (vec![(missed(3), 4), (missed(6), 6)], &[(2, 4), (6, 6)]),
    ] {
        raise(store, raises);
        listed(store, room, 6, missed_now);
        let registers = load(store, room).map(|state| state.registers).unwrap_or_default();
        let all = missed_now.iter().all(|(from, to)| registers.contains(&(missed(*from), *to)));
        assert!(all, "{registers:?}");
    }
}

/// What ann's list says of bob, before and after a restart.
fn listed(store: &mut dyn Driver, room: &super::samples::Room, delivered: Seq, missed: &[(Seq, Seq)]) {
    for _ in 0..2 {
        let entries = load_user(store, "ann", None, 10).entries;
        assert!(entries.iter().any(|entry| entry.conversation == room.id));
        assert!(entries.iter().all(|entry| entry.peer_delivered == delivered));
        assert!(entries.iter().all(|entry| entry.peer_excluded == ranges(missed)), "{entries:?}");
        let own = load_user(store, "bob", None, 10).entries;
        assert!(own.iter().all(|entry| entry.peer_excluded.is_empty()), "what bob missed is not for bob");
        store.reopen();
    }
}
