//! Groups: who sees what, whose list they are in, what counts as unread, and what is taken back.

use super::samples::*;
use super::{Driver, ask};
use crate::roster::change_body;
use crate::{Body, ConversationKind, Outcome, ReadRange, Record, RegisterKey, Role, StoreRequest};
use ringpost_proto::id::{ConversationId, Seq};
use ringpost_proto::v1::change::{Blocked, Change, Created, Left, RoleChange, Updated, Users};
use ringpost_proto::v1::kind::Value;
use ringpost_proto::v1::role;
use std::sync::Arc;

fn group() -> Room {
    Room { id: ConversationId([0x61; 16]), kind: Arc::new(ConversationKind::Group) }
}

fn users(names: &[&str]) -> Users {
    Users { users: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn created(members: &[&str]) -> Change {
    Change::Created(Created { name: "climbing".into(), members: users(members).users })
}

/// What one appends after the other, with ordinals as a room would give them.
struct Log {
    room: Room,
    head: Seq,
    ordinal: u64,
}

impl Log {
    fn of(room: Room) -> Self {
        Self { room, head: 0, ordinal: 0 }
    }

    fn add(&mut self, store: &mut dyn Driver, record: Record) -> Seq {
        self.ordinal += u64::from(record.counts());
        let record = Record { ordinal: self.ordinal, ..record };
        appended(store, append(&self.room, self.head, vec![Arc::new(record)]), self.head + 1);
        self.head += 1;
        self.head
    }

    fn say(&mut self, store: &mut dyn Driver, sender: &str) -> Seq {
        self.add(store, text(sender, self.head + 1))
    }

    fn change(&mut self, store: &mut dyn Driver, sender: &str, change: Change) -> Seq {
        let record = text(sender, self.head + 1);
        self.add(store, Record { kind: Value::Change, body: change_body(change, None, 0), ..record })
    }

    fn about(&mut self, store: &mut dyn Driver, sender: &str, kind: Value, ref_seq: Seq) -> Seq {
        let record = text(sender, self.head + 1);
        self.add(store, Record { kind, ref_seq, body: Body::Text("about".into()), ..record })
    }
}

/// What `viewer` sees of the whole log, read upwards three at a time and downwards, which must agree.
fn seen(store: &mut dyn Driver, room: &Room, viewer: &str) -> Vec<Seq> {
    let mut up = Vec::new();
    let mut from = 1;
    loop {
        let (head, reached, records) = view(store, room, viewer, ReadRange::From { from, to: Seq::MAX }, 3);
        assert!(records.iter().all(|record| (from..=reached).contains(&record.seq)));
        up.extend(seqs(&records));
        if reached >= head {
            break;
        }
        assert!(reached >= from, "a read that does not move");
        from = reached + 1;
    }
    let mut down = Vec::new();
    let mut before = Seq::MAX;
    loop {
        let (_, reached, records) = view(store, room, viewer, ReadRange::Before(before), 3);
        assert!(records.iter().all(|record| (reached..before).contains(&record.seq)));
        down.extend(seqs(&records));
        if records.is_empty() {
            break;
        }
        before = reached;
    }
    down.reverse();
    assert_eq!(up, down, "{viewer}");
    up
}

fn view(
    store: &mut dyn Driver,
    room: &Room,
    viewer: &str,
    range: ReadRange,
    records: u32,
) -> (Seq, Seq, Vec<Arc<Record>>) {
    let viewer = Some(user(viewer));
    let request = StoreRequest::ReadLog { tag: 5, conversation: room.id, viewer, range, records, bytes: u32::MAX };
    match ask(store, request) {
        Outcome::LogSlice { head, reached, records, .. } => (head, reached, records),
        other => unreachable!("no slice: {other:?}"),
    }
}

fn unread(store: &mut dyn Driver, name: &str) -> u64 {
    load_user(store, name, None, 1).entries.first().map_or(0, |entry| entry.unread)
}

/// What counts of the log up to `upto`.
fn counted(store: &mut dyn Driver, room: &Room, name: &str, upto: Seq) -> u64 {
    match ask(store, StoreRequest::CountRead { tag: 3, conversation: room.id, user: user(name), upto }) {
        Outcome::Counted(count) => count,
        other => unreachable!("not counted: {other:?}"),
    }
}

pub(super) fn membership(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob"]));
    log.say(store, "bob");
    log.change(store, "ann", Change::Added(users(&["carl"])));
    log.say(store, "ann");
    log.change(store, "ann", Change::Removed(users(&["bob"])));
    log.say(store, "ann");
    log.say(store, "carl");
    log.change(store, "ann", Change::Added(users(&["bob"])));
    log.say(store, "ann");
    let room = log.room.clone();
    for _ in 0..2 {
        assert_eq!(seen(store, &room, "ann"), (1..=9).collect::<Vec<_>>());
        assert_eq!(seen(store, &room, "carl"), (3..=9).collect::<Vec<_>>(), "from the record of its joining on");
        assert_eq!(seen(store, &room, "bob"), [1, 2, 3, 4, 5, 8, 9], "its removal, and nothing until it is back");
        store.reopen();
    }
    let request = StoreRequest::ReadLog {
        tag: 5,
        conversation: room.id,
        viewer: Some(user("eve")),
        range: ReadRange::Before(Seq::MAX),
        records: 9,
        bytes: 9_999,
    };
    assert!(matches!(ask(store, request), Outcome::NotMember));
    assert!(load_user(store, "eve", None, 1).entries.is_empty());
}

pub(super) fn roster(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob", "carl"]));
    log.change(
        store,
        "ann",
        Change::Updated(Updated { description: Some("on Tuesdays".into()), ..Updated::default() }),
    );
    log.change(store, "ann", Change::Role(RoleChange { user: "carl".into(), role: role::Value::Admin as i32 }));
    log.change(store, "carl", Change::Removed(users(&["ann"])));
    log.change(store, "carl", Change::Left(Left {}));
    let room = log.room.clone();
    for _ in 0..2 {
        let state = load(store, &room);
        assert!(state.is_some());
        if let Some(state) = state {
            let roster = &state.roster;
            assert_eq!((roster.name.as_str(), roster.description.as_str()), ("climbing", "on Tuesdays"));
            let current: Vec<_> = roster.current().map(|member| (member.user.user(), member.role)).collect();
            assert_eq!(current, [("bob", Role::Admin)], "the last admin has left, so the oldest member is one");
            assert_eq!(roster.epoch, 3, "raised by each of the two who are gone");
            let ann = roster.member(&user("ann"));
            assert!(ann.is_some_and(|ann| (ann.join, ann.leave) == (1, 4)));
        }
        store.reopen();
    }
}

pub(super) fn places_of_former_members(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob"]));
    log.change(store, "ann", Change::Removed(users(&["bob"])));
    let left = load_user(store, "bob", None, 9).entries;
    let other = room("bob", "carl");
    fill(store, &other, "bob", 1, 3);
    let places = |store: &mut dyn Driver| {
        let entries = load_user(store, "bob", None, 9).entries;
        entries.iter().map(|entry| (entry.conversation, entry.last_id)).collect::<Vec<_>>()
    };
    let before = places(store);
    assert_eq!((before.len(), left.len()), (2, 1));
    // The group goes on without him: he is told nothing of it, nor when.
    for _ in 0..2 {
        log.say(store, "ann");
        assert_eq!(places(store), before);
        store.reopen();
        assert_eq!(places(store), before);
    }
    for (last_id, id) in before.iter().map(|(id, last_id)| (*last_id, *id)) {
        let after: Vec<_> =
            load_user(store, "bob", Some((last_id, id)), 9).entries.iter().map(|it| it.last_id).collect();
        assert!(after.iter().all(|it| *it <= last_id), "{after:?} after {last_id}");
    }
    log.change(store, "ann", Change::Added(users(&["bob"])));
    let back = places(store);
    assert!(back.iter().any(|(id, last_id)| *id == log.room.id && !before.contains(&(*id, *last_id))));
}

pub(super) fn lists(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob"]));
    log.say(store, "ann");
    assert!(load_user(store, "carl", None, 9).entries.is_empty());
    log.change(store, "ann", Change::Added(users(&["carl"])));
    log.change(store, "ann", Change::Removed(users(&["bob"])));
    log.say(store, "ann");
    let room = log.room.clone();
    raise(
        store,
        vec![
            (RegisterKey::ToldDelivered(room.id, user("ann")), 4),
            (RegisterKey::ToldRead(room.id, user("ann")), 3),
            (RegisterKey::ToldDelivered(room.id, user("bob")), 2),
            (RegisterKey::Delivered(room.id, user("carl"), device("phone")), 2),
            (RegisterKey::Delivered(room.id, user("ann"), device("phone")), 5),
        ],
    );
    for _ in 0..2 {
        // What each is told is its own, whoever has what.
        for (name, head, join, peers) in [("ann", 5, 1, (4, 3)), ("bob", 4, 1, (2, 0)), ("carl", 5, 3, (0, 0))] {
            let entries = load_user(store, name, None, 9).entries;
            assert_eq!(entries.len(), 1, "{name}");
            for entry in entries {
                // Who has left does not learn of a new name.
                let title = if name == "bob" { "" } else { "climbing" };
                assert_eq!((entry.head, entry.join, entry.title.as_str()), (head, join, title), "{name}");
                assert_eq!(entry.last.map(|last| last.seq), Some(head), "{name} sees nothing newer");
                assert_eq!((entry.peer_delivered, entry.peer_read), peers, "{name}");
            }
        }
        store.reopen();
    }
}

pub(super) fn unread_counts(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob"]));
    log.say(store, "ann");
    log.say(store, "bob");
    log.change(store, "ann", Change::Added(users(&["carl"])));
    log.about(store, "bob", Value::Reaction, 2);
    log.say(store, "ann");
    let room = log.room.clone();
    assert_eq!(["ann", "bob", "carl"].map(|name| unread(store, name)), [1, 2, 1]);
    // Bob has read 2 of his 2 up to 6, but one when it was 5.
    raise(
        store,
        vec![(RegisterKey::Read(room.id, user("bob")), 5), (RegisterKey::ReadCounted(room.id, user("bob")), 1)],
    );
    assert_eq!(unread(store, "bob"), 1);
    log.change(store, "ann", Change::Removed(users(&["bob"])));
    log.say(store, "ann");
    assert_eq!(unread(store, "bob"), 1, "what comes after his removal is not for him");
    log.change(store, "ann", Change::Added(users(&["bob"])));
    log.say(store, "carl");
    for _ in 0..2 {
        assert_eq!(["ann", "bob", "carl"].map(|name| unread(store, name)), [2, 2, 2]);
        // Ann's 2 and 6, Carl's 10; 8 came while he was away.
        assert_eq!([1, 2, 5, 6, 9, 10].map(|upto| counted(store, &room, "bob", upto)), [0, 1, 1, 2, 2, 3]);
        assert_eq!([3, 6, 8, 10].map(|upto| counted(store, &room, "carl", upto)), [0, 1, 2, 2]);
        assert_eq!(counted(store, &room, "eve", 9), 0);
        store.reopen();
    }
}

pub(super) fn blocks(store: &mut dyn Driver) {
    let mut log = Log::of(room("ann", "bob"));
    log.say(store, "ann");
    log.change(store, "bob", Change::Blocked(Blocked { on: true }));
    log.say(store, "ann");
    log.say(store, "ann");
    log.change(store, "bob", Change::Blocked(Blocked { on: false }));
    log.say(store, "ann");
    let room = log.room.clone();
    for _ in 0..2 {
        assert_eq!(seen(store, &room, "ann"), [1, 3, 4, 6], "not that she was blocked");
        assert_eq!(seen(store, &room, "bob"), [1, 2, 5, 6], "not what came meanwhile, also when it is over");
        assert_eq!(unread(store, "bob"), 2);
        assert_eq!([0, 1, 4, 6].map(|upto| counted(store, &room, "bob", upto)), [0, 1, 1, 2]);
        store.reopen();
    }
}

pub(super) fn said_about(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob"]));
    log.say(store, "ann");
    log.change(store, "ann", Change::Added(users(&["carl"])));
    log.about(store, "ann", Value::Edit, 2);
    log.about(store, "bob", Value::Reaction, 2);
    log.say(store, "ann");
    log.about(store, "ann", Value::Edit, 6);
    let room = log.room.clone();
    assert_eq!(seen(store, &room, "bob"), (1..=7).collect::<Vec<_>>());
    assert_eq!(seen(store, &room, "carl"), [3, 6, 7], "an edit would show what was written before it came");
}

pub(super) fn erased(store: &mut dyn Driver) {
    let mut log = Log::of(group());
    log.change(store, "ann", created(&["bob"]));
    let original = text("ann", 2);
    log.say(store, "ann");
    let hash = whole(store, &log.room)[1].hash();
    log.say(store, "bob");
    log.about(store, "ann", Value::Erase, 2);
    let room = log.room.clone();
    for _ in 0..2 {
        let records = whole(store, &room);
        assert_eq!(seqs(&records), [1, 2, 3, 4]);
        assert_eq!(records[1].body, Body::Erased(hash), "the body is gone");
        assert_eq!((records[1].hash(), records[1].id, records[1].kind), (hash, original.id, original.kind));
        assert_eq!((&records[1].sender, records[1].content_hash), (&original.sender, original.content_hash));
        assert!(matches!(&records[2].body, Body::Text(text) if text == "message 3 of bob"));
        let tail = load(store, &room).map(|state| state.tail).unwrap_or_default();
        assert_eq!(tail.get(1).map(|record| record.body.clone()), Some(Body::Erased(hash)));
        let found = find(store, &room, "ann", "phone", original.cmid);
        assert_eq!(found.map(|record| record.body.clone()), Some(Body::Erased(hash)));
        store.reopen();
    }
}
