//! What is around the messages: presence, typing, settings, devices.

use super::*;

/// The last request, whatever it is.
fn last_request(world: &World) -> (u64, Request) {
    let requests = world.seen.iter().rev().find_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(request) }) => Some((*id, request.clone())),
        _ => None,
    });
    requests.expect("a request")
}

fn noted(world: &World) -> Vec<&str> {
    let notes = world.seen.iter().filter_map(|seen| match seen {
        Seen::Noted(line) => Some(line.as_str()),
        _ => None,
    });
    notes.collect()
}

fn bobs() -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(Peer::User("bob".to_owned())) })
}

#[test]
fn typing_of_a_peer_is_said_once_and_is_over_by_itself() {
    let mut world = World::new(State::new("alice", "laptop"), true);
    world.online();
    let composing = v1::typing::state::Value::Composing as i32;
    let event = v1::TypingEvent { conversation: bobs(), user: "bob".to_owned(), state: composing };
    let lines = |world: &World| noted(world).iter().filter(|line| **line == "bob is typing").count();
    for _ in 0..3 {
        world.server(0, Answer::TypingEvent(event.clone()));
    }
    assert_eq!(lines(&world), 1);
    world.now.ms = 6_000;
    world.app.timeout(world.now);
    world.server(0, Answer::TypingEvent(event.clone()));
    assert_eq!(lines(&world), 2);
    // What was typed has come: what is typed next is news.
    world.push(1, 1, "hello");
    world.server(0, Answer::TypingEvent(event.clone()));
    assert_eq!(lines(&world), 3);
    let mut piped = World::empty();
    piped.online();
    piped.server(0, Answer::TypingEvent(event));
    assert_eq!(lines(&piped), 0);
}

#[test]
fn keys_tell_that_one_is_typing_now_and_then_and_that_one_has_stopped() {
    let mut world = World::new(State::new("alice", "laptop"), true);
    world.online();
    world.seen.clear();
    let told = |world: &World| {
        let states = world.seen.iter().filter_map(|seen| match seen {
            Seen::Sent(v1::ClientFrame { id: 0, request: Some(Request::Typing(typing)) }) => Some(typing.state),
            _ => None,
        });
        states.collect::<Vec<_>>()
    };
    for ms in [0, 1_000, 2_000, 3_000] {
        world.now.ms = ms;
        world.app.key(world.now, true);
        world.turn();
    }
    assert_eq!(told(&world), [1, 1]);
    world.now.ms = 8_000;
    world.app.timeout(world.now);
    world.turn();
    assert_eq!(told(&world), [1, 1, 0]);
    // A command is nobody's business; what is sent says by itself that it is typed.
    world.app.key(world.now, false);
    world.app.key(world.now, true);
    world.line("hi");
    world.app.timeout(Now { ms: 20_000, ..world.now });
    world.turn();
    assert_eq!(told(&world), [1, 1, 0, 1]);
}

#[test]
fn whoever_one_writes_to_at_a_terminal_is_watched_and_again_after_a_reconnect() {
    let mut world = World::new(State::new("alice", "laptop"), true);
    world.online();
    let watches = |world: &World| {
        let users = world.seen.iter().filter_map(|seen| match seen {
            Seen::Sent(v1::ClientFrame { request: Some(Request::Watch(watch)), .. }) => Some(watch.users.join(" ")),
            Seen::Sent(v1::ClientFrame { request: Some(Request::Unwatch(watch)), .. }) => {
                Some(format!("not {}", watch.users.join(" ")))
            }
            _ => None,
        });
        users.collect::<Vec<_>>()
    };
    assert_eq!(watches(&world), ["bob"]);
    let online = v1::PresenceState { user: "bob".to_owned(), online: true, ..Default::default() };
    world.server(0, Answer::PresenceState(online));
    assert!(noted(&world).contains(&"bob is online"));
    let seen = v1::PresenceState { user: "bob".to_owned(), last_seen_ms: world.now.unix_ms, ..Default::default() };
    world.server(0, Answer::PresenceState(seen));
    assert!(noted(&world).contains(&"bob was last seen 2024-01-01 12:00:00Z"));
    world.line("/to carl");
    world.line("/watch dave");
    assert_eq!(watches(&world), ["bob", "not bob", "carl", "dave"]);
    world.app.closed(world.now, Some(4000), "");
    world.turn();
    world.seen.clear();
    world.now.ms = 60_000;
    world.app.timeout(world.now);
    world.app.opened(world.now);
    world.turn();
    let (id, _) = last_request(&world);
    let welcome = v1::Welcome { user: "alice".to_owned(), device: "laptop".to_owned(), ..Default::default() };
    world.server(id, Answer::Welcome(welcome));
    assert_eq!(watches(&world), ["dave carl"]);
}

#[test]
fn a_server_that_knows_no_presence_disturbs_nobody() {
    let mut world = World::new(State::new("alice", "laptop"), true);
    world.online();
    let Some((id, Request::Watch(_))) = Some(last_request(&world)) else { panic!("{:?}", world.seen) };
    world.seen.clear();
    let error = v1::Error { code: v1::code::Value::Unimplemented as i32, ..Default::default() };
    world.server(id, Answer::Error(error));
    assert_eq!(noted(&world), [] as [&str; 0]);
}

#[test]
fn only_what_is_unread_is_listed_where_that_is_asked() {
    let mut world = World::empty();
    world.online();
    world.line("/unread");
    let (id, _) = last_request(&world);
    let entry = |user: &str, unread| v1::ConversationEntry {
        conversation: Some(v1::Peer { peer: Some(Peer::User(user.to_owned())) }),
        unread,
        ..Default::default()
    };
    let entries = vec![entry("bob", 2), entry("carl", 0)];
    world.server(id, Answer::ConversationPage(v1::ConversationPage { entries, ..Default::default() }));
    assert!(matches!(world.shown()[..], [line] if line.contains("bob") && line.contains("2 unread")));
}

#[test]
fn settings_and_devices_are_shown_and_changed() {
    let mut world = World::empty();
    world.online();
    world.line("/settings last-seen nobody");
    let (id, Request::Settings(change)) = last_request(&world) else { panic!("{:?}", world.seen) };
    assert_eq!(change.last_seen(), v1::privacy::Value::Nobody);
    world.server(id, Answer::Settings(change));
    assert_eq!(world.shown().last(), Some(&"name: none; last seen: nobody; read receipts: everyone; muted: none"));
    world.line("/mute 1h");
    let (_, Request::Settings(change)) = last_request(&world) else { panic!("{:?}", world.seen) };
    assert_eq!(change.mute[0].until_ms, world.now.unix_ms + 3_600_000);
    world.line("/unlink old");
    let (id, Request::DeviceUnlink(unlink)) = last_request(&world) else { panic!("{:?}", world.seen) };
    assert_eq!(unlink.device, "old");
    let laptop = v1::Device { device: "laptop".to_owned(), primary: true, ..Default::default() };
    let phone = v1::Device { device: "phone".to_owned(), last_seen_ms: world.now.unix_ms, ..Default::default() };
    world.server(id, Answer::DeviceList(v1::DeviceList { devices: vec![laptop, phone], version: 1 }));
    let lines = ["laptop, primary (this one)", "phone, last seen 2024-01-01 12:00:00Z"];
    assert!(world.shown().ends_with(&lines), "{:?}", world.shown());
}

#[test]
fn an_unlinked_device_keeps_nothing_and_says_so() {
    let mut world = World::empty();
    world.online();
    world.push(1, 1, "hello");
    world.line("hi");
    assert_eq!((world.saved.conversations.len(), world.saved.outbox.len()), (1, 1));
    world.app.closed(world.now, Some(4503), "unlinked");
    world.turn();
    assert_eq!((world.saved.conversations.len(), world.saved.outbox.len()), (0, 0));
    let why = world.ended().as_ref().unwrap_err();
    assert!(why.contains("was unlinked") && why.contains("1 message not sent, and not kept"), "{why}");
}
