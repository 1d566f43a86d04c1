//! Commands about the last message of this user, typed while that has no outcome yet.

use super::about::{bobs, said, sends};
use super::*;
use ringpost_proto::v1::kind::Value as Kind;

fn sent(seq: u64) -> Answer {
    Answer::Sent(v1::Sent { seq, ..Default::default() })
}

fn too_large() -> Answer {
    Answer::Error(v1::Error { code: v1::code::Value::TooLarge as i32, ..Default::default() })
}

fn is_noted(world: &World, part: &str) -> bool {
    world.seen.iter().any(|seen| matches!(seen, Seen::Noted(line) if line.contains(part)))
}

/// One has its place, two has none yet: the request number of two.
fn one_and_two() -> (World, u64) {
    let mut world = World::empty();
    world.online();
    said(&mut world, "one", 1);
    world.line("two");
    let (id, _) = world.last_send();
    world.seen.clear();
    (world, id)
}

#[test]
fn what_is_about_the_last_line_waits_for_its_place_and_what_follows_stays_behind_it() {
    for (line, kind) in [("/erase", Kind::Erase), ("/edit deux", Kind::Edit)] {
        let (mut world, id) = one_and_two();
        world.line(line);
        world.line("three");
        assert_eq!(sends(&world), [], "{line}");
        world.server(id, sent(2));
        assert_eq!(sends(&world), [(kind, 2), (Kind::Text, 0)], "{line}");
        let shown = world.place(|seen| matches!(seen, Seen::Shown(line) if line.contains("two")));
        let saved = world.place(|seen| *seen == Seen::Saved);
        assert!(shown < saved && saved < world.place(is_send), "{:#?}", world.seen);
    }
    let (mut world, id) = one_and_two();
    world.line("/info");
    let infos = |world: &World| {
        let seqs = world.seen.iter().filter_map(|seen| match seen {
            Seen::Sent(v1::ClientFrame { request: Some(Request::RecordInfo(info)), .. }) => Some(info.seq),
            _ => None,
        });
        seqs.collect::<Vec<_>>()
    };
    assert_eq!(infos(&world), [] as [u64; 0]);
    world.server(id, sent(2));
    assert_eq!(infos(&world), [2]);
}

#[test]
fn what_is_about_a_line_that_was_refused_does_nothing_to_the_line_before_it() {
    for line in ["/erase", "/edit deux", "/info"] {
        for waits in [true, false] {
            let (mut world, id) = one_and_two();
            if waits {
                world.line(line);
            }
            world.server(id, too_large());
            if !waits {
                world.line(line);
            }
            let asked =
                |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::RecordInfo(_)), .. }));
            assert!(sends(&world).is_empty() && !world.seen.iter().any(asked), "{line}: {:?}", world.seen);
            assert!(is_noted(&world, "was not sent"), "{line}: {:?}", world.seen);
        }
    }
    // It is passed over as one that was sent.
    let (mut world, id) = one_and_two();
    ["/erase", "/erase"].into_iter().for_each(|line| world.line(line));
    world.server(id, too_large());
    assert_eq!(sends(&world), [(Kind::Erase, 1)]);
}

#[test]
fn the_last_line_is_the_one_that_was_typed_last_whichever_has_its_place_first() {
    let mut world = World::empty();
    world.online();
    world.line("one");
    let (one, _) = world.last_send();
    world.line("two");
    let (two, _) = world.last_send();
    world.line("/edit deux");
    // What another device says meanwhile is not what was typed here.
    let other = v1::Record {
        conversation: bobs(),
        seq: 1,
        from: "alice".to_owned(),
        body: Some(Body::Text("elsewhere".to_owned())),
        ..Default::default()
    };
    world.server(0, Answer::Push(v1::Push { n: 1, item: Some(Item::Record(other)) }));
    world.seen.clear();
    world.server(two, sent(2));
    assert_eq!(sends(&world), [(Kind::Edit, 2)]);
    world.server(one, sent(3));
    world.line("/erase");
    assert_eq!(sends(&world), [(Kind::Edit, 2), (Kind::Erase, 2)]);
}

#[test]
fn what_waits_for_a_tick_goes_on_waiting_after_a_connection_is_lost() {
    let (mut world, _) = one_and_two();
    world.line("/erase");
    world.app.closed(world.now, None, "");
    world.turn();
    world.now.ms += 60_000;
    world.online();
    let (id, again) = world.last_send();
    assert_eq!((again.kind(), again.body), (Kind::Text, Some(v1::send::Body::Text("two".to_owned()))));
    world.server(id, sent(2));
    assert_eq!(sends(&world), [(Kind::Text, 0), (Kind::Erase, 2)]);
}

#[test]
fn the_end_of_input_waits_for_what_waits_for_a_tick() {
    let mut world = World::empty();
    ["one", "/erase"].into_iter().for_each(|line| world.line(line));
    world.app.end_of_input(world.now);
    world.online();
    let bye = |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Bye(_)), .. }));
    for (kind, seq) in [(Kind::Text, 1), (Kind::Erase, 2)] {
        let (id, send) = world.last_send();
        assert_eq!(send.kind(), kind);
        assert!(!world.seen.iter().any(bye));
        world.server(id, sent(seq));
    }
    assert!(world.seen.iter().any(bye));
}

#[test]
fn a_command_about_a_message_kept_from_last_time_waits_for_it_too() {
    let mut world = World::empty();
    world.line("one");
    let mut world = World::new(world.saved, false);
    world.online();
    let (id, _) = world.last_send();
    world.line("/edit un");
    world.server(id, sent(1));
    assert_eq!(sends(&world), [(Kind::Text, 0), (Kind::Edit, 1)]);
}

#[test]
fn who_leaves_is_told_of_what_still_waits() {
    let (mut world, _) = one_and_two();
    ["/erase", "three", "/quit"].into_iter().for_each(|line| world.line(line));
    assert!(is_noted(&world, "/erase: the message before it has no tick yet"), "{:?}", world.seen);
    assert!(is_noted(&world, "not sent: \"three\": the message before it has no tick yet"), "{:?}", world.seen);
    assert!(world.ended().is_err());
}
