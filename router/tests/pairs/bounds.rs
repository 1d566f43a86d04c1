//! What bad input gets, and what reads answer.

use crate::world::{Got, World, text, wire};
use ringpost_proto::v1;
use ringpost_proto::v1::code::Value as Code;
use ringpost_proto::v1::kind::Value as Kind;
use ringpost_proto::v1::peer::Peer;
use ringpost_proto::v1::server_frame::Answer;
use ringpost_router::{ConnRef, RecordPage, Request};

#[test]
fn what_is_out_of_bounds_is_refused_by_field_and_the_session_stays() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    let good = || text("bob", [1; 16], "hi");
    let group = || Some(v1::Peer { peer: Some(Peer::Group(vec![1; 16].into())) });
    let payload = |bytes: usize| Some(v1::send::Body::Payload(vec![0; bytes].into()));
    let cases = [
        (v1::Send { to: None, ..good() }, Code::Invalid, "to"),
        (v1::Send { to: wire(""), ..good() }, Code::Invalid, "to.user"),
        (v1::Send { to: wire("a\u{7}b"), ..good() }, Code::Invalid, "to.user"),
        (v1::Send { to: wire(&"x".repeat(65)), ..good() }, Code::Invalid, "to.user"),
        (v1::Send { to: group(), ..good() }, Code::NotFound, "group"),
        (v1::Send { client_message_id: vec![1; 15].into(), ..good() }, Code::Invalid, "clientMessageId"),
        (v1::Send { body: None, ..good() }, Code::Invalid, "text"),
        (text("bob", [1; 16], &"x".repeat((64 << 10) + 1)), Code::TooLarge, "text"),
        (v1::Send { body: payload((64 << 10) + 1), kind: Kind::Data as i32, ..good() }, Code::TooLarge, "payload"),
        (v1::Send { body: payload(3), ..good() }, Code::Invalid, "kind"),
        (v1::Send { kind: Kind::Data as i32, ..good() }, Code::Invalid, "kind"),
        (v1::Send { kind: Kind::Reaction as i32, ..good() }, Code::Invalid, "refSeq"),
        (v1::Send { kind: Kind::Edit as i32, ref_seq: 7, ..good() }, Code::NotFound, "refSeq"),
        (v1::Send { kind: Kind::Erase as i32, ref_seq: 7, ..good() }, Code::Invalid, "text"),
        (v1::Send { kind: Kind::KeyDistribution as i32, ..good() }, Code::Invalid, "kind"),
        (v1::Send { kind: Kind::Change as i32, ..good() }, Code::Invalid, "kind"),
        (v1::Send { media: Some(v1::Media::default()), ..good() }, Code::Invalid, "media"),
        (v1::Send { kind: Kind::Media as i32, body: None, ..good() }, Code::Invalid, "media"),
        (
            v1::Send { kind: Kind::Media as i32, media: Some(v1::Media::default()), ..good() },
            Code::Invalid,
            "media.mediaId",
        ),
        (v1::Send { trace: vec![1; 3].into(), ..good() }, Code::Invalid, "trace"),
    ];
    for (send, code, field) in cases {
        let error = world.sent(alice, send).unwrap_err();
        assert_eq!((error.code, error.field.as_str(), error.retryable), (code as i32, field, false));
    }
    assert_eq!(world.sent(alice, good()).unwrap().seq, 1);
    let media =
        v1::Send { body: payload(64 << 10), kind: Kind::Media as i32, client_message_id: vec![2; 16].into(), ..good() };
    assert_eq!(world.sent(alice, media).unwrap().seq, 2);
    // A picture without a word.
    let media = Some(v1::Media { media_id: "id".into(), ..Default::default() });
    let picture =
        v1::Send { body: None, kind: Kind::Media as i32, media, client_message_id: vec![3; 16].into(), ..good() };
    assert_eq!(world.sent(alice, picture).unwrap().seq, 3);
}

#[test]
fn other_requests_out_of_bounds_name_their_field_too() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    let history = |conversation| Request::History(Box::new(v1::History { conversation, ..Default::default() }));
    let fetch = |from_seq, to_seq| Request::Fetch(Box::new(v1::Fetch { conversation: wire("bob"), from_seq, to_seq }));
    let lookup = |ids: Vec<Vec<u8>>| {
        let client_message_ids = ids.into_iter().map(Into::into).collect();
        Request::Lookup(Box::new(v1::Lookup { conversation: wire("bob"), client_message_ids }))
    };
    let group = Some(v1::Peer { peer: Some(Peer::Group(vec![1; 16].into())) });
    let list = |cursor: &str| Request::Conversations(Box::new(v1::Conversations { cursor: cursor.into(), limit: 0 }));
    let read = |conversation| Request::Read(Box::new(v1::Read { conversation, seq: 1 }));
    let cases = [
        (history(None), Code::Invalid, "conversation"),
        (history(wire("")), Code::Invalid, "conversation.user"),
        (read(wire("")), Code::Invalid, "conversation.user"),
        (history(group), Code::NotFound, "conversation.group"),
        (fetch(5, 4), Code::Invalid, "toSeq"),
        (lookup(vec![vec![1; 3]]), Code::Invalid, "clientMessageIds"),
        (lookup(vec![vec![1; 16]; 101]), Code::TooLarge, "clientMessageIds"),
        (list("zzz"), Code::Invalid, "cursor"),
        (Request::Unexpected { hello: true }, Code::Invalid, "hello"),
        (Request::Unexpected { hello: false }, Code::Unimplemented, ""),
        (Request::Ack { push: 1, ranges: false }, Code::Invalid, "push"),
        (Request::Ack { push: 0, ranges: true }, Code::Invalid, "ranges"),
    ];
    for (request, code, field) in cases {
        let error = world.error(alice, request);
        assert_eq!((error.code, error.field.as_str()), (code as i32, field));
    }
    assert!(matches!(world.answer(alice, Request::Ping), Answer::Pong(_)));
}

#[test]
fn a_request_without_a_number_gets_no_answer_unless_it_is_an_error_of_an_ack() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    world.got(alice);
    for request in
        [Request::Ping, Request::Unexpected { hello: false }, Request::Send(Box::new(text("bob", [1; 16], "hi")))]
    {
        world.input(0, ringpost_router::Input::Request { conn: alice, id: 0, request });
    }
    world.settle();
    assert!(world.got(alice).is_empty());
    world.ack(alice, 5);
    assert!(matches!(&world.got(alice)[..], [Got::Frame(0, Answer::Error(_))]));
}

fn page(world: &mut World, conn: ConnRef, request: Request) -> RecordPage {
    let id = world.ask(conn, request);
    world.settle();
    let page = world.got(conn).into_iter().find_map(|got| match got {
        Got::Page(re, page) if re == id => Some(*page),
        _ => None,
    });
    page.expect("a page")
}

fn seqs(page: &RecordPage) -> Vec<(u64, bool)> {
    page.records.iter().map(|(record, own)| (record.seq, *own)).collect()
}

#[test]
fn fetch_skips_what_the_device_sent_and_history_shows_it_newest_first() {
    let mut world = World::new(2);
    let (alice, bob, laptop) =
        (world.open("alice", "phone"), world.open("bob", "phone"), world.open("alice", "laptop"));
    for (n, conn, to) in
        [(1, alice, "bob"), (2, alice, "bob"), (3, bob, "alice"), (4, laptop, "bob"), (5, alice, "bob")]
    {
        world.sent(conn, text(to, [n; 16], "hi")).unwrap();
    }
    let fetch = |from_seq, to_seq| Request::Fetch(Box::new(v1::Fetch { conversation: wire("bob"), from_seq, to_seq }));
    let found = page(&mut world, alice, fetch(1, 99));
    assert_eq!(seqs(&found), [(3, false), (4, true)]);
    let skip = |from_seq, to_seq| v1::Skip { from_seq, to_seq };
    assert_eq!(found.skips, [skip(1, 2), skip(5, 5)]);
    assert_eq!(found.peer.to_wire(), wire("bob").unwrap());
    assert!(seqs(&page(&mut world, alice, fetch(6, 9))).is_empty());
    let history =
        |before_seq, limit| Request::History(Box::new(v1::History { conversation: wire("bob"), before_seq, limit }));
    let first = page(&mut world, alice, history(0, 3));
    assert_eq!((seqs(&first), first.next_before_seq), (vec![(5, true), (4, true), (3, false)], 3));
    let rest = page(&mut world, alice, history(3, 0));
    assert_eq!((seqs(&rest), rest.next_before_seq), (vec![(2, true), (1, true)], 0));
}

#[test]
fn the_list_of_conversations_is_newest_first_in_pages_with_previews_of_text() {
    let mut world = World::new(2);
    let bob = world.open("bob", "phone");
    for (n, name) in ["ann", "ben", "cat"].into_iter().enumerate() {
        let conn = world.open(name, "phone");
        world.advance(5);
        world.sent(conn, text("bob", [n as u8 + 1; 16], &"é".repeat(150))).unwrap();
    }
    let ask = |cursor: &str| Request::Conversations(Box::new(v1::Conversations { cursor: cursor.into(), limit: 2 }));
    let mut names = Vec::new();
    let mut cursor = String::new();
    for _ in 0..2 {
        let Answer::ConversationPage(page) = world.answer(bob, ask(&cursor)) else { panic!() };
        for entry in &page.entries {
            assert_eq!((entry.preview.chars().count(), entry.last_seq), (100, 1));
            names.push(entry.conversation.clone());
        }
        cursor = page.cursor;
    }
    assert_eq!(names, [wire("cat"), wire("ben"), wire("ann")]);
    assert!(cursor.is_empty());
}

#[test]
fn a_session_without_room_for_the_next_record_waits_for_an_ack_and_does_not_read_the_log_meanwhile() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    for n in 1..=6 {
        world.sent(alice, text("bob", [n; 16], &"x".repeat(2_500))).unwrap();
    }
    // After one record a quarter of the window is free, and the next one does not fit.
    let window = Some(v1::Window { pushes: 64, bytes: 4_096 });
    let identity = world.identity("bob", "phone", 3_600_000);
    let bob = world.hello(identity, v1::Hello { window, ..Default::default() });
    for seq in 1..=6 {
        // Without end, were the log read again and again.
        world.settle();
        assert_eq!(world.pushed(bob), [seq]);
        world.ack(bob, seq);
    }
}

#[test]
fn pages_asked_for_at_once_fit_together_into_what_one_page_may_be_a_few_times() {
    let mut world = World::new(1);
    let alice = world.open("alice", "phone");
    for n in 1..=60 {
        world.sent(alice, text("bob", [n; 16], &"x".repeat(8_000))).unwrap();
    }
    let history = || Request::History(Box::new(v1::History { conversation: wire("bob"), before_seq: 0, limit: 100 }));
    world.got(alice);
    for _ in 0..31 {
        world.ask(alice, history());
    }
    world.settle();
    let pages =
        world.got(alice).into_iter().filter_map(|got| if let Got::Page(_, page) = got { Some(page) } else { None });
    let records: Vec<usize> = pages.map(|page| page.records.len()).collect();
    assert_eq!((records.len(), records.iter().max()), (31, Some(&24)), "{records:?}");
    assert!(records.iter().all(|records| *records > 0));
    assert!(records.iter().sum::<usize>() * 8_000 < 1 << 20, "{records:?}");
}

#[test]
fn names_that_nobody_wrote_to_leave_nothing_in_memory() {
    let mut world = World::new(2);
    let alice = world.open("alice", "phone");
    for n in 0..200 {
        world.ask(alice, Request::Read(Box::new(v1::Read { conversation: wire(&format!("nobody{n}")), seq: 1 })));
        world.settle();
    }
    let held: usize = world.routers.iter().map(|router| router.conversation_count()).sum();
    assert_eq!(held, 0);
}

#[test]
fn conversations_in_memory_stay_below_their_limit_and_one_that_left_still_knows_its_messages() {
    let mut world = World::with(1, ringpost_persist::faulty::Faults::none(), |settings| settings.conversations = 10);
    let alice = world.open("alice", "phone");
    let peer = |n: u8| format!("peer{n}");
    let mut most = 0;
    for n in 0..100 {
        assert_eq!(world.sent(alice, text(&peer(n), [n; 16], "hi")).unwrap().seq, 1);
        world.advance(2_000);
        most = most.max(world.routers[0].conversation_count());
    }
    // Ten, and those used within the last 10 s and 2 s.
    assert!(most <= 17, "{most}");
    for n in 0..100 {
        let sent = world.sent(alice, text(&peer(n), [n; 16], "hi")).unwrap();
        assert!(sent.duplicate && sent.seq == 1, "{n}: {sent:?}");
    }
}

#[test]
fn who_is_faster_than_allowed_is_told_when_to_come_again_and_loses_nothing() {
    let rate = |per_second, burst| ringpost_router::Rate { per_second, burst };
    let mut world = World::with(2, ringpost_persist::faulty::Faults::none(), |settings| {
        settings.device_sends = rate(10, 3);
        settings.user_sends = rate(10, 5);
        settings.requests = rate(10, 2);
    });
    let [phone, laptop, bob] =
        [("alice", "phone"), ("alice", "laptop"), ("bob", "phone")].map(|(user, device)| world.open(user, device));
    let say = |n: u8| text("bob", [n; 16], "hi");
    let welcome = world.got(bob).into_iter().find_map(|got| match got {
        Got::Frame(_, Answer::Welcome(welcome)) => welcome.limits,
        _ => None,
    });
    let limits = welcome.unwrap();
    assert_eq!((limits.sends_per_second, limits.sends_burst, limits.requests_per_second), (10, 3, 10));
    for n in 1..=3 {
        assert!(world.sent(phone, say(n)).is_ok());
    }
    let error = world.sent(phone, say(4)).unwrap_err();
    assert_eq!((error.code(), error.retryable), (Code::RateLimited, true));
    assert!((1..=100).contains(&error.retry_after_ms), "{}", error.retry_after_ms);
    // The user's other device has two left of five.
    assert!(world.sent(laptop, say(5)).is_ok() && world.sent(laptop, say(6)).is_ok());
    assert_eq!(world.sent(laptop, say(7)).unwrap_err().code(), Code::RateLimited);
    assert!(world.sent(bob, text("alice", [1; 16], "hi")).is_ok(), "bob has his own");
    world.advance(error.retry_after_ms);
    assert!(world.sent(phone, say(4)).is_ok());
    assert_eq!(world.pushed(bob).len(), 6);
    let list = || Request::Conversations(Box::default());
    assert!((0..2).all(|_| matches!(world.answer(bob, list()), Answer::ConversationPage(_))));
    assert_eq!(world.error(bob, list()).code(), Code::RateLimited);
    world.ack(bob, 6);
    assert!(matches!(world.answer(bob, Request::Ping), Answer::Pong(_)), "acks and pings are free");
}

#[test]
fn who_is_always_at_its_rate_and_reconnects_all_the_time_leaves_no_more_behind_each_time() {
    let rate = ringpost_router::Rate { per_second: 1, burst: 3 };
    let mut world = World::with(1, ringpost_persist::faulty::Faults::none(), |settings| settings.requests = rate);
    let list = || Request::Conversations(Box::default());
    let mut reconnect = |times: u32| {
        for _ in 0..times {
            let alice = world.open("alice", "phone");
            while matches!(world.answer(alice, list()), Answer::ConversationPage(_)) {}
            world.close(alice);
            world.advance(50);
        }
        world.routers[0].ledger()
    };
    let before = reconnect(100);
    assert_eq!(reconnect(400), before);
    world.advance(60_000);
    assert_eq!(world.routers[0].user_count(), 0);
}

#[test]
fn who_is_always_at_its_rate_and_takes_over_all_the_time_leaves_no_more_behind_each_time() {
    let rate = ringpost_router::Rate { per_second: 1, burst: 3 };
    let mut world = World::with(1, ringpost_persist::faulty::Faults::none(), |settings| settings.requests = rate);
    let list = || Request::Conversations(Box::default());
    let (mut alice, mut n) = (world.open("alice", "phone"), 0);
    let mut take_over = |times: u8| {
        for _ in 0..times {
            // Three a minute are allowed; all the while alice is at her rate.
            for _ in 0..200 {
                while matches!(world.answer(alice, list()), Answer::ConversationPage(_)) {}
                world.advance(110);
            }
            n += 1;
            let bob = world.open("bob", "phone");
            world.sent(bob, text("alice", [n; 16], "hi")).unwrap();
            world.close(bob);
            world.ack(alice, 1);
            alice = world.open("alice", "phone");
        }
        world.routers[0].lingering()
    };
    assert!(take_over(3) <= 2);
    assert!(take_over(20) <= 2);
}

#[test]
fn what_a_session_holds_at_work_is_in_the_ledger_as_long_as_it_is_there() {
    let mut world = World::new(1);
    let [alice, bob] = [("alice", "phone"), ("bob", "phone")].map(|(user, device)| world.open(user, device));
    let sessions = |world: &World| world.routers[0].ledger().sessions;
    world.advance(30_000);
    let idle = sessions(&world);
    world.sent(alice, text("bob", [1; 16], "hi")).unwrap();
    assert!(sessions(&world) > idle + 400, "a push waits for its ack");
    world.ack(bob, 1);
    world.advance(5_000);
    // The tick.
    world.ack(alice, 1);
    world.advance(30_000);
    assert_eq!(sessions(&world), idle);
    world.sent(alice, text("bob", [2; 16], "hi")).unwrap();
    let one_at_work = sessions(&world);
    world.close(bob);
    assert!(sessions(&world) < one_at_work - 400);
    world.close(alice);
    assert_eq!(sessions(&world), 0);
}
