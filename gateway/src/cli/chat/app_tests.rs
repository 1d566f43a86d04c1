//! The terminal client against a scripted server, in virtual time.

mod about;
mod around;
mod held;
mod own;

use super::app::{App, Now, Options, Output};
use super::state::State;
use bytes::Bytes;
use ringpost_proto::v1::{self, client_frame::Request, peer::Peer, push::Item, record::Body, server_frame::Answer};
use ringpost_proto::wire::{Encoding, encode_server};

/// What happened, in order.
#[allow(clippy::large_enum_variant)] // few at a time
#[derive(Debug, PartialEq)]
enum Seen {
    Shown(String),
    Noted(String),
    Saved,
    Sent(v1::ClientFrame),
    Ended(Result<(), String>),
}

struct World {
    app: App,
    now: Now,
    seen: Vec<Seen>,
    saved: State,
}

impl World {
    fn new(state: State, reads: bool) -> Self {
        let options = Options {
            user: "alice".to_owned(),
            device: "laptop".to_owned(),
            to: Some(Peer::User("bob".to_owned())),
            reads,
            interactive: reads,
            wait_ms: 60_000,
            kept_in: "the file".to_owned(),
            seed: 1,
        };
        // Noon of 2024-01-01.
        let now = Now { ms: 0, unix_ms: 1_704_110_400_000 };
        let mut count = 0;
        let fresh = move || {
            count += 1;
            count
        };
        let app = App::new(now, options, state.clone(), Box::new(fresh));
        Self { app, now, seen: Vec::new(), saved: state }
    }

    fn empty() -> Self {
        Self::new(State::new("alice", "laptop"), false)
    }

    fn turn(&mut self) {
        while let Some(output) = self.app.poll(self.now) {
            self.seen.push(match output {
                Output::Show(line) => Seen::Shown(line),
                Output::Note(line) => Seen::Noted(line),
                Output::Save => {
                    self.saved = self.app.state.clone();
                    self.app.saved();
                    Seen::Saved
                }
                Output::Transmit(frame) => Seen::Sent(*frame),
                Output::Exit(outcome) => Seen::Ended(outcome),
                Output::Connect | Output::Drop | Output::Token { .. } => continue,
            });
        }
    }

    fn server(&mut self, re: u64, answer: Answer) {
        let mut bytes = Vec::new();
        encode_server(Encoding::Protobuf, &v1::ServerFrame { re, answer: Some(answer) }, &mut bytes);
        self.app.message(self.now, Bytes::from(bytes));
        self.turn();
    }

    fn online(&mut self) {
        self.app.timeout(self.now);
        self.turn();
        self.app.opened(self.now);
        self.turn();
        let welcome = v1::Welcome {
            user: "alice".to_owned(),
            device: "laptop".to_owned(),
            heartbeat_ms: 30_000,
            ..Default::default()
        };
        self.server(1, Answer::Welcome(welcome));
        self.server(0, Answer::SyncDone(v1::SyncDone::default()));
    }

    fn line(&mut self, line: &str) {
        self.app.line(self.now, line);
        self.turn();
    }

    fn push(&mut self, n: u64, seq: u64, text: &str) {
        let record = v1::Record {
            conversation: Some(v1::Peer { peer: Some(Peer::User("bob".to_owned())) }),
            seq,
            from: "bob".to_owned(),
            body: Some(Body::Text(text.to_owned())),
            server_time_ms: self.now.unix_ms,
            ..Default::default()
        };
        self.server(0, Answer::Push(v1::Push { n, item: Some(Item::Record(record)) }));
    }

    /// The last send and its request number.
    fn last_send(&self) -> (u64, v1::Send) {
        let sends = self.seen.iter().rev().find_map(|seen| match seen {
            Seen::Sent(v1::ClientFrame { id, request: Some(Request::Send(send)) }) => Some((*id, send.clone())),
            _ => None,
        });
        sends.expect("a send")
    }

    fn shown(&self) -> Vec<&str> {
        let lines = self.seen.iter().filter_map(|seen| match seen {
            Seen::Shown(line) if !line.starts_with("-- ") => Some(line.as_str()),
            _ => None,
        });
        lines.collect()
    }

    fn place(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().position(wanted).unwrap_or_else(|| panic!("not in {:#?}", self.seen))
    }

    fn ended(&self) -> &Result<(), String> {
        match self.seen.last() {
            Some(Seen::Ended(outcome)) => outcome,
            other => panic!("not ended but {other:?}"),
        }
    }
}

fn is_send(seen: &Seen) -> bool {
    matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Send(_)), .. }))
}

fn is_ack(seen: &Seen) -> bool {
    matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Ack(_)), .. }))
}

#[test]
fn a_message_is_saved_before_it_is_sent_and_has_its_tick_after_sent() {
    let mut world = World::empty();
    world.online();
    world.seen.clear();
    world.line("hi");
    assert!(world.place(|seen| *seen == Seen::Saved) < world.place(is_send));
    let (id, send) = world.last_send();
    assert_eq!(world.saved.outbox, [send]);
    world.server(id, Answer::Sent(v1::Sent { seq: 1, server_time_ms: world.now.unix_ms, ..Default::default() }));
    assert_eq!(world.shown(), ["12:00:00Z alice to bob: hi \u{2713}"]);
    assert_eq!(world.saved.outbox, []);
}

#[test]
fn a_message_without_a_tick_goes_out_with_the_same_id_after_a_restart() {
    let mut world = World::empty();
    world.online();
    world.line("hi");
    let (_, first) = world.last_send();
    let mut world = World::new(world.saved, false);
    world.online();
    assert_eq!(world.last_send().1, first);
}

#[test]
fn what_came_is_shown_then_saved_then_acknowledged_and_not_shown_again_after_a_restart() {
    let mut world = World::empty();
    world.online();
    world.seen.clear();
    world.push(1, 1, "hello");
    assert_eq!(world.shown(), ["12:00:00Z bob: hello"]);
    let shown = world.place(|seen| matches!(seen, Seen::Shown(line) if line.contains("hello")));
    let saved = world.place(|seen| *seen == Seen::Saved);
    assert!(shown < saved && saved < world.place(is_ack));
    let mut world = World::new(world.saved, false);
    world.online();
    // The ack was lost with the connection.
    world.push(1, 1, "hello");
    world.push(2, 2, "again?");
    assert_eq!(world.shown(), ["12:00:00Z bob: again?"]);
}

#[test]
fn control_characters_of_a_peer_do_not_reach_the_terminal() {
    let mut world = World::empty();
    world.online();
    world.push(1, 1, "\x1b]0;owned\x07");
    assert_eq!(world.shown(), ["12:00:00Z bob: \u{241b}]0;owned\u{2407}"]);
}

#[test]
fn ticks_name_the_message_and_never_go_back() {
    let mut world = World::empty();
    world.online();
    world.line("hi");
    let (id, _) = world.last_send();
    world.server(id, Answer::Sent(v1::Sent { seq: 1, ..Default::default() }));
    world.seen.clear();
    for (n, delivered, read) in [(1, 1, 0), (2, 1, 0), (3, 1, 1), (4, 1, 0)] {
        let conversation = Some(v1::Peer { peer: Some(Peer::User("bob".to_owned())) });
        let tick = v1::Tick { conversation, delivered_seq: delivered, read_seq: read, ..Default::default() };
        world.server(0, Answer::Push(v1::Push { n, item: Some(Item::Tick(tick)) }));
    }
    let lines = ["bob has received \"hi\" \u{2713}\u{2713}", "bob has read \"hi\" \u{2713}\u{2713} read"];
    assert_eq!(world.shown(), lines);
}

#[test]
fn the_end_of_input_waits_for_the_tick() {
    let mut world = World::empty();
    world.line("hi");
    world.app.end_of_input(world.now);
    world.online();
    let (id, _) = world.last_send();
    assert!(!world.seen.iter().any(|seen| matches!(seen, Seen::Ended(_))));
    world.server(id, Answer::Sent(v1::Sent { seq: 1, ..Default::default() }));
    assert!(matches!(world.seen.last(), Some(Seen::Sent(v1::ClientFrame { request: Some(Request::Bye(_)), .. }))));
    world.app.closed(world.now, Some(1000), "");
    world.turn();
    assert_eq!(world.ended(), &Ok(()));
}

#[test]
fn the_end_of_input_waits_for_what_is_missing_and_acknowledges_it() {
    let mut world = World::empty();
    world.app.end_of_input(world.now);
    world.app.timeout(world.now);
    world.turn();
    world.app.opened(world.now);
    world.turn();
    let (user, device) = ("alice".to_owned(), "laptop".to_owned());
    world.server(1, Answer::Welcome(v1::Welcome { user, device, heartbeat_ms: 30_000, ..Default::default() }));
    world.push(1, 1, "one");
    world.push(2, 3, "three");
    world.server(0, Answer::SyncDone(v1::SyncDone::default()));
    let bye = |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Bye(_)), .. }));
    assert!(!world.seen.iter().any(bye), "a record is held back by a gap");
    let fetch = world.seen.iter().find_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(Request::Fetch(_)) }) => Some(*id),
        _ => None,
    });
    let skips = vec![v1::Skip { from_seq: 2, to_seq: 2 }];
    world.server(fetch.unwrap(), Answer::Page(v1::Page { skips, ..Default::default() }));
    let last = |seen: &Seen| matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Ack(ack)), .. }) if ack.push == 2);
    assert!(world.place(last) < world.place(bye), "{:#?}", world.seen);
}

#[test]
fn what_could_not_be_sent_is_the_reason_of_a_bad_end() {
    let mut world = World::empty();
    world.line("hi");
    world.app.end_of_input(world.now);
    world.online();
    let (id, _) = world.last_send();
    let error =
        v1::Error { code: v1::code::Value::TooLarge as i32, message: "too long".to_owned(), ..Default::default() };
    world.server(id, Answer::Error(error));
    world.app.closed(world.now, Some(1000), "");
    world.turn();
    assert!(world.ended().as_ref().unwrap_err().contains("TOO_LARGE too long"));
}

#[test]
fn without_a_server_it_gives_up_in_time_and_says_where_the_message_is() {
    let mut world = World::empty();
    world.line("hi");
    world.app.end_of_input(world.now);
    world.app.timeout(world.now);
    world.app.refused(world.now, "connection refused", None, None);
    world.turn();
    assert!(world.seen.iter().any(|seen| matches!(seen, Seen::Noted(line) if line.starts_with("reconnecting in "))));
    world.now.ms = 60_000;
    world.app.timeout(world.now);
    world.turn();
    assert!(world.ended().as_ref().unwrap_err().contains("1 message not sent yet, kept in the file"));
    assert_eq!(world.saved.outbox.len(), 1);
}

#[test]
fn a_close_code_that_forbids_to_come_back_ends_it() {
    let mut world = World::empty();
    world.online();
    world.app.closed(world.now, Some(4500), "another connection of this device");
    world.turn();
    let why = world.ended().as_ref().unwrap_err();
    assert!(why.contains("4500 replaced") && why.contains("another connection"), "{why}");
}

#[test]
fn a_token_of_somebody_else_is_noticed() {
    let mut world = World::empty();
    world.app.timeout(world.now);
    world.turn();
    world.app.opened(world.now);
    let welcome = v1::Welcome { user: "mallory".to_owned(), device: "laptop".to_owned(), ..Default::default() };
    world.server(1, Answer::Welcome(welcome));
    assert!(world.seen.iter().any(|seen| matches!(seen, Seen::Ended(Err(why)) if why.contains("mallory"))));
}

#[test]
fn shown_messages_count_as_read_only_where_somebody_looks() {
    for reads in [false, true] {
        let mut world = World::new(State::new("alice", "laptop"), reads);
        world.online();
        world.push(1, 1, "hello");
        let read = world.seen.iter().any(|seen| {
            matches!(seen, Seen::Sent(v1::ClientFrame { request: Some(Request::Read(v1::Read { seq: 1, .. })), .. }))
        });
        assert_eq!(read, reads);
    }
}

#[test]
fn the_list_and_history_are_asked_and_shown() {
    let mut world = World::empty();
    world.online();
    world.line("/list");
    let Some(Seen::Sent(ask)) = world.seen.last() else { panic!("{:?}", world.seen) };
    assert!(matches!(ask.request, Some(Request::Conversations(_))));
    let entry = v1::ConversationEntry {
        conversation: Some(v1::Peer { peer: Some(Peer::User("bob".to_owned())) }),
        unread: 2,
        preview: "hel\x1blo".to_owned(),
        ..Default::default()
    };
    let id = ask.id;
    world.server(id, Answer::ConversationPage(v1::ConversationPage { entries: vec![entry], ..Default::default() }));
    assert!(world.shown().iter().any(|line| line.contains("2 unread") && line.contains("hel\u{241b}lo")));
    world.line("/history 2");
    let Some(Seen::Sent(ask)) = world.seen.last() else { panic!("{:?}", world.seen) };
    assert!(matches!(ask.request, Some(Request::History(v1::History { limit: 2, .. }))));
}

#[test]
fn a_group_is_made_written_to_and_edited_in() {
    let mut world = World::empty();
    world.online();
    world.line("/group climbing bob carl");
    let created = world.seen.iter().rev().find_map(|seen| match seen {
        Seen::Sent(v1::ClientFrame { id, request: Some(Request::GroupCreate(create)) }) => Some((*id, create.clone())),
        _ => None,
    });
    let (re, create) = created.expect("a request");
    assert_eq!(
        (create.name.as_str(), create.members, create.client_message_id.len()),
        ("climbing", vec!["bob".to_owned(), "carl".to_owned()], 16)
    );
    let group = Bytes::from_static(&[0xab; 16]);
    let admin = v1::GroupMember { user: "alice".to_owned(), role: v1::role::Value::Admin as i32, join_seq: 1 };
    let made =
        v1::Group { group: group.clone(), name: "climbing".to_owned(), members: vec![admin], ..Default::default() };
    world.server(re, Answer::Group(made));
    assert_eq!(world.shown().last(), Some(&format!("g:{} (climbing): alice (admin)", "ab".repeat(16)).as_str()));
    world.line("at noon");
    let (re, send) = world.last_send();
    assert_eq!(send.to.and_then(|to| to.peer), Some(Peer::Group(group.clone())));
    world.server(re, Answer::Sent(v1::Sent { seq: 2, ..Default::default() }));
    world.line("/edit at one");
    let (_, edit) = world.last_send();
    assert_eq!((edit.kind(), edit.ref_seq), (v1::kind::Value::Edit, 2));
    world.line("/react +");
    assert!(matches!(world.seen.last(), Some(Seen::Noted(line)) if line.contains("nobody else")));
    let change = v1::Change {
        change: Some(v1::change::Change::Added(v1::change::Users { users: vec!["da\x1bve".to_owned()] })),
        ..Default::default()
    };
    let record = v1::Record {
        conversation: Some(v1::Peer { peer: Some(Peer::Group(group)) }),
        seq: 3,
        from: "bob".to_owned(),
        kind: v1::kind::Value::Change as i32,
        change: Some(change),
        ..Default::default()
    };
    world.server(0, Answer::Push(v1::Push { n: 1, item: Some(Item::Record(record)) }));
    assert!(world.shown().last().is_some_and(|line| line.ends_with("[added da\u{241b}ve]")), "{:?}", world.shown());
}
