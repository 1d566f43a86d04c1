//! What is typed while a group is being made or changed, and more questions than can be asked at once.

use super::*;
use ringpost_proto::v1::kind::Value as Kind;

const GROUP: [u8; 16] = [0xab; 16];

fn creates(world: &World) -> Vec<u64> {
    let id = |seen: &Seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(Request::GroupCreate(_)) }) => Some(*id),
        _ => None,
    };
    world.seen.iter().filter_map(id).collect()
}

/// To whom messages were sent.
fn sent_to(world: &World) -> Vec<Peer> {
    let peer = |seen: &Seen| match seen {
        Seen::Sent(v1::ClientFrame { request: Some(Request::Send(send)), .. }) => send.to.clone()?.peer,
        _ => None,
    };
    world.seen.iter().filter_map(peer).collect()
}

fn group() -> Answer {
    Answer::Group(v1::Group { group: GROUP.to_vec().into(), name: "climbing".to_owned(), ..Default::default() })
}

fn refused() -> Answer {
    Answer::Error(v1::Error { message: "no".to_owned(), ..Default::default() })
}

#[test]
fn what_follows_a_group_that_is_being_made_is_for_that_group_and_nobody_else() {
    let mut world = World::empty();
    world.online();
    world.line("/members");
    world.line("/group climbing bob carl");
    world.line("only for you");
    world.line("/add dave");
    assert_eq!(sent_to(&world), []);
    let re = creates(&world)[0];
    world.server(re, group());
    assert_eq!(sent_to(&world), [Peer::Group(GROUP.to_vec().into())]);
    let added = |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::GroupAdd(_)), .. }));
    assert!(world.seen.iter().any(added));
}

#[test]
fn what_is_for_a_group_that_was_not_made_is_said_to_be_lost_and_goes_to_nobody() {
    let mut world = World::empty();
    world.online();
    world.line("/group climbing bob");
    world.line("only for you");
    let re = creates(&world)[0];
    world.server(re, refused());
    let said = |seen: &Seen| matches!(seen, Seen::Noted(line) if line.starts_with("not sent: \"only for you\""));
    assert!(world.seen.iter().any(said), "{:?}", world.seen);
    assert_eq!(sent_to(&world), []);
    world.app.end_of_input(world.now);
    world.turn();
    world.app.closed(world.now, Some(1000), "");
    world.turn();
    assert!(world.ended().as_ref().unwrap_err().starts_with("1 message not sent and 1 line not obeyed"));
}

#[test]
fn what_was_asked_when_the_connection_broke_is_asked_again_and_what_waits_for_it_goes_on_waiting() {
    let mut world = World::empty();
    world.online();
    ["/devices", "/group climbing bob", "only for you"].into_iter().for_each(|line| world.line(line));
    let asked = |world: &World| {
        let create = |seen: &Seen| match seen {
            Seen::Sent(v1::ClientFrame { request: Some(Request::GroupCreate(create)), .. }) => Some(create.clone()),
            _ => None,
        };
        world.seen.iter().filter_map(create).collect::<Vec<_>>()
    };
    world.app.closed(world.now, None, "");
    world.turn();
    assert_eq!(sent_to(&world), []);
    world.now.ms += 60_000;
    world.online();
    assert_eq!(asked(&world).len(), 2);
    assert_eq!(asked(&world)[0], asked(&world)[1], "the same id: the server makes one group");
    let devices = |seen: &&Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Devices(_)), .. }));
    assert_eq!(world.seen.iter().filter(devices).count(), 2);
    let re = creates(&world)[1];
    world.server(re, group());
    assert_eq!(sent_to(&world), [Peer::Group(GROUP.to_vec().into())]);
}

#[test]
fn who_leaves_a_pipe_before_an_answer_is_told_so() {
    let mut world = World::empty();
    world.online();
    ["/group climbing bob", "/quit"].into_iter().for_each(|line| world.line(line));
    assert!(world.ended().as_ref().unwrap_err().starts_with("1 line not obeyed: what was asked for last"));
}

#[test]
fn how_the_connection_ends_after_bye_does_not_matter() {
    let mut world = World::empty();
    world.online();
    world.app.end_of_input(world.now);
    world.turn();
    world.app.closed(world.now, None, "the connection broke");
    world.turn();
    assert_eq!(world.ended(), &Ok(()));
}

#[test]
fn what_is_said_after_a_removal_waits_until_it_is_made() {
    let removal = |world: &World| {
        let id = |seen: &Seen| match seen {
            Seen::Sent(v1::ClientFrame { id, request: Some(Request::GroupRemove(_)) }) => Some(*id),
            _ => None,
        };
        world.seen.iter().find_map(id)
    };
    for refuses in [false, true] {
        let mut world = World::empty();
        // Without a connection, too, nothing overtakes it.
        world.line(&format!("/to g:{}", "ab".repeat(16)));
        world.line("/remove carl");
        world.line("now that carl is gone");
        world.line("/to bob");
        world.online();
        assert_eq!(sent_to(&world), []);
        let re = removal(&world).unwrap();
        world.server(re, if refuses { refused() } else { group() });
        let expected = if refuses { Vec::new() } else { vec![Peer::Group(GROUP.to_vec().into())] };
        assert_eq!(sent_to(&world), expected);
    }
}

#[test]
fn what_is_asked_after_a_change_that_is_refused_is_asked_all_the_same() {
    let mut world = World::empty();
    world.online();
    world.line(&format!("/to g:{}", "ab".repeat(16)));
    world.line("/admin carl");
    let role = world.seen.iter().find_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(Request::GroupRole(_)) }) => Some(*id),
        _ => None,
    });
    ["/devices", "for a group with two admins", "/settings"].into_iter().for_each(|line| world.line(line));
    world.seen.clear();
    world.server(role.unwrap(), refused());
    assert_eq!(sent_to(&world), []);
    let devices = |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Devices(_)), .. }));
    let settings =
        |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Settings(_)), .. }));
    assert!(world.place(devices) < world.place(settings));
}

#[test]
fn what_is_said_after_an_unblock_waits_for_it() {
    let mut world = World::empty();
    world.online();
    world.line("/unblock bob");
    world.line("hello again");
    assert_eq!(sent_to(&world), []);
    let re = world.seen.iter().find_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(Request::Unblock(_)) }) => Some(*id),
        _ => None,
    });
    world.server(re.unwrap(), Answer::Ok(v1::Ok {}));
    assert_eq!(sent_to(&world), [Peer::User("bob".to_owned())]);
}

#[test]
fn a_group_that_waits_for_a_connection_keeps_what_is_typed_for_it() {
    let mut world = World::empty();
    world.line("/group climbing bob");
    world.line("only for you");
    world.app.refused(world.now, "nobody there", None, None);
    world.turn();
    world.now.ms += 60_000;
    world.online();
    let re = creates(&world)[0];
    world.server(re, group());
    assert_eq!(sent_to(&world), [Peer::Group(GROUP.to_vec().into())]);
}

#[test]
fn an_answer_waits_for_what_it_answers_and_is_not_sent_without_it() {
    let mut world = World::empty();
    ["/reply at one", "/react +", "bye"].into_iter().for_each(|line| world.line(line));
    world.app.end_of_input(world.now);
    world.app.timeout(world.now);
    world.turn();
    world.app.opened(world.now);
    world.turn();
    let (user, device) = ("alice".to_owned(), "laptop".to_owned());
    world.server(1, Answer::Welcome(v1::Welcome { user, device, ..Default::default() }));
    assert_eq!(sent_to(&world), []);
    world.push(1, 7, "when?");
    world.server(0, Answer::SyncDone(v1::SyncDone::default()));
    assert_eq!(about::sends(&world), [(Kind::Text, 7), (Kind::Reaction, 7), (Kind::Text, 0)]);
    assert!(world.place(|seen| matches!(seen, Seen::Shown(line) if line.contains("when?"))) < world.place(is_send));
    assert!(world.saved.outbox.len() == 3, "{:?}", world.saved);

    let mut world = World::empty();
    world.line("/reply at one");
    world.app.end_of_input(world.now);
    world.online();
    assert_eq!(sent_to(&world), []);
    world.app.closed(world.now, Some(1000), "");
    world.turn();
    assert!(world.ended().as_ref().unwrap_err().starts_with("1 message not sent: \"at one\": nobody else"));
}

#[test]
fn a_pipe_is_told_at_the_end_what_was_not_obeyed_and_who_types_at_once() {
    for types in [false, true] {
        let mut world = World::new(State::new("alice", "laptop"), types);
        world.online();
        ["/members", "/no-such-command", "/unblock bob"].into_iter().for_each(|line| world.line(line));
        let re = world.seen.iter().find_map(|seen| match seen {
            Seen::Sent(v1::ClientFrame { id, request: Some(Request::Unblock(_)) }) => Some(*id),
            _ => None,
        });
        world.server(re.unwrap(), refused());
        world.app.end_of_input(world.now);
        world.turn();
        world.app.closed(world.now, Some(1000), "");
        world.turn();
        match world.ended() {
            Ok(()) => assert!(types),
            Err(why) => assert!(!types && why.starts_with("3 lines not obeyed: "), "{why}"),
        }
    }
}

#[test]
fn every_question_of_a_pipe_is_asked_eight_at_a_time() {
    let mut world = World::empty();
    for _ in 0..40 {
        world.line("/devices");
    }
    world.online();
    let ids = |world: &World| {
        let id = |seen: &Seen| match seen {
            Seen::Sent(v1::ClientFrame { id, request: Some(Request::Devices(_)) }) => Some(*id),
            _ => None,
        };
        world.seen.iter().filter_map(id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&world).len(), 8);
    for at in 0..40 {
        let id = ids(&world)[at];
        world.server(id, Answer::DeviceList(v1::DeviceList::default()));
    }
    assert_eq!(ids(&world).len(), 40);
}
