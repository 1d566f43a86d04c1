//! What is said about messages that were sent: ticks, edits, and that they are taken back.

use super::*;
use ringpost_proto::v1::kind::Value as Kind;

pub(super) fn bobs() -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(Peer::User("bob".to_owned())) })
}

/// Types a line, and gives it this place in the log.
pub(super) fn said(world: &mut World, line: &str, seq: u64) {
    world.line(line);
    let (id, _) = world.last_send();
    world.server(id, Answer::Sent(v1::Sent { seq, ..Default::default() }));
}

/// Kind and message of every send so far.
pub(super) fn sends(world: &World) -> Vec<(Kind, u64)> {
    let sends = world.seen.iter().filter_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { request: Some(Request::Send(send)), .. }) => Some((send.kind(), send.ref_seq)),
        _ => None,
    });
    sends.collect()
}

#[test]
fn a_tick_says_nothing_of_what_was_not_delivered() {
    let mut world = World::empty();
    world.online();
    ["one", "two", "three"].into_iter().zip(1..).for_each(|(line, seq)| said(&mut world, line, seq));
    world.seen.clear();
    let tick = |n, delivered_seq, excluded: (u64, u64)| {
        let excluded = vec![v1::Skip { from_seq: excluded.0, to_seq: excluded.1 }];
        let tick = v1::Tick { conversation: bobs(), delivered_seq, excluded, ..Default::default() };
        Answer::Push(v1::Push { n, item: Some(Item::Tick(tick)) })
    };
    // Bob blocks alice while she says two and three, and says something himself: 4.
    world.server(0, tick(1, 3, (2, 3)));
    assert_eq!(world.shown(), ["bob has received \"one\" \u{2713}\u{2713}"]);
    world.server(0, tick(2, 4, (2, 3)));
    assert_eq!(world.shown().len(), 1, "{:?}", world.shown());
    world.server(0, tick(3, 6, (5, 6)));
    world.seen.clear();
    world.server(0, tick(4, 7, (5, 7)));
    assert!(world.shown().is_empty(), "{:?}", world.shown());
}

#[test]
fn of_a_message_nothing_is_said_twice_and_nothing_less_than_before() {
    let mut world = World::empty();
    world.online();
    let mut pushes = 0;
    let mut tick = |world: &mut World, delivered_seq, read_seq| {
        world.seen.clear();
        pushes += 1;
        let tick = v1::Tick { conversation: bobs(), delivered_seq, read_seq, ..Default::default() };
        world.server(0, Answer::Push(v1::Push { n: pushes, item: Some(Item::Tick(tick)) }));
        world.shown().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let received = |text: &str| format!("bob has received \"{text}\" \u{2713}\u{2713}");
    let read = |text: &str| format!("bob has read \"{text}\" \u{2713}\u{2713} read");
    said(&mut world, "at noon", 1);
    assert_eq!(tick(&mut world, 1, 1), [read("at noon")]);
    // An edit has a place of its own in the log, and is received and read there.
    said(&mut world, "/edit at one", 2);
    assert_eq!(tick(&mut world, 2, 1), [""; 0]);
    assert_eq!(tick(&mut world, 2, 2), [""; 0]);
    said(&mut world, "where", 3);
    assert_eq!(tick(&mut world, 3, 2), [received("where")]);
    assert_eq!(tick(&mut world, 3, 3), [read("where")]);
    said(&mut world, "there", 4);
    said(&mut world, "hello?", 5);
    assert_eq!(tick(&mut world, 5, 4), [read("there"), received("hello?")]);
}

#[test]
fn who_takes_a_message_back_takes_its_edits_back() {
    let mut world = World::empty();
    world.online();
    said(&mut world, "at noon", 1);
    said(&mut world, "/edit at one", 2);
    // From another device of the same user.
    let edit = v1::Record {
        conversation: bobs(),
        seq: 3,
        from: "alice".to_owned(),
        kind: Kind::Edit as i32,
        ref_seq: 1,
        body: Some(Body::Text("at two".to_owned())),
        ..Default::default()
    };
    world.server(0, Answer::Push(v1::Push { n: 1, item: Some(Item::Record(edit)) }));
    world.seen.clear();
    world.line("/erase");
    assert_eq!(sends(&world), [(Kind::Erase, 1)]);
    // The server takes back the edits, which says nothing new; nor is there anything left to edit.
    for (n, seq, ref_seq) in [(2, 4, 2), (3, 5, 3)] {
        let taken = v1::Record {
            conversation: bobs(),
            seq,
            from: "alice".to_owned(),
            kind: Kind::Erase as i32,
            ref_seq,
            ..Default::default()
        };
        world.server(0, Answer::Push(v1::Push { n, item: Some(Item::Record(taken)) }));
    }
    assert!(!world.shown().iter().any(|line| line.contains("takes back message")), "{:?}", world.shown());
    world.seen.clear();
    world.line("/edit once more");
    assert_eq!(sends(&world), []);
}

#[test]
fn after_a_reset_no_command_names_a_message_of_the_log_before() {
    let mut world = World::empty();
    world.online();
    said(&mut world, "hi", 1);
    said(&mut world, "/edit hello", 2);
    world.push(1, 3, "hey");
    world.app.closed(world.now, None, "");
    world.turn();
    world.now.ms += 60_000;
    world.app.timeout(world.now);
    world.app.opened(world.now);
    world.turn();
    let hello = world.seen.iter().rev().find_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(Request::Hello(_)) }) => Some(*id),
        _ => None,
    });
    let reset = vec![v1::Reset { conversation: bobs(), head_seq: 1 }];
    let (user, device) = ("alice".to_owned(), "laptop".to_owned());
    world.server(hello.unwrap(), Answer::Welcome(v1::Welcome { user, device, reset, ..Default::default() }));
    world.server(0, Answer::SyncDone(v1::SyncDone::default()));
    world.seen.clear();
    ["/edit other", "/erase", "/react +"].into_iter().for_each(|line| world.line(line));
    assert!(sends(&world).is_empty(), "{:?}", world.seen);
}

#[test]
fn ticks_of_a_store_that_was_put_back_begin_anew() {
    let mut state = State::new("alice", "laptop");
    state.store = Some(([1; 16], vec![2; 32]));
    state.conversation(&Peer::User("bob".to_owned())).delivered = 9;
    let mut world = World::new(state, false);
    world.app.timeout(world.now);
    world.app.opened(world.now);
    world.turn();
    let (user, device) = ("alice".to_owned(), "laptop".to_owned());
    let store_incarnation = vec![3; 16].into();
    world.server(1, Answer::Welcome(v1::Welcome { user, device, store_incarnation, ..Default::default() }));
    said(&mut world, "hi", 1);
    world.seen.clear();
    let tick = v1::Tick { conversation: bobs(), delivered_seq: 1, ..Default::default() };
    world.server(0, Answer::Push(v1::Push { n: 1, item: Some(Item::Tick(tick)) }));
    assert_eq!(world.shown(), ["bob has received \"hi\" \u{2713}\u{2713}"]);
    world.app.closed(world.now, Some(4503), "unlinked");
    world.turn();
    assert_eq!(world.saved.store, None, "an unlinked device keeps nothing");
}
