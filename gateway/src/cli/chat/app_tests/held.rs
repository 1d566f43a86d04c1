//! What is typed while a group is being made or changed, and more questions than can be asked at once.

use super::*;

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
    for lost in [false, true] {
        let mut world = World::empty();
        world.online();
        world.line("/group climbing bob");
        world.line("only for you");
        if lost {
            world.app.closed(world.now, None, "");
        } else {
            let re = creates(&world)[0];
            world.server(re, refused());
        }
        world.turn();
        let said = |seen: &Seen| matches!(seen, Seen::Noted(line) if line.starts_with("not sent: \"only for you\""));
        assert!(world.seen.iter().any(said), "{:?}", world.seen);
        world.online();
        assert_eq!(sent_to(&world), []);
        world.app.end_of_input(world.now);
        world.turn();
        world.app.closed(world.now, Some(1000), "");
        world.turn();
        let failed = |seen: &Seen| matches!(seen, Seen::Ended(Err(why)) if why.starts_with("1 message not sent"));
        assert!(world.seen.iter().any(failed), "{:?}", world.seen);
    }
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
