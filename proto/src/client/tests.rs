//! The client against a scripted server, in virtual time.

use super::*;
use crate::v1::code::Value as Code;

struct Bench {
    client: Client,
    now: u64,
}

fn bob() -> Peer {
    Peer::User("bob".into())
}

fn to_bob() -> Option<v1::Peer> {
    Some(v1::Peer { peer: Some(bob()) })
}

fn message(cmid: u8) -> v1::Send {
    let body = Some(v1::send::Body::Text(format!("message {cmid}")));
    v1::Send { to: to_bob(), client_message_id: vec![cmid; 16].into(), body, ..Default::default() }
}

fn record(seq: Seq) -> v1::Record {
    v1::Record { conversation: to_bob(), seq, from: "bob".into(), ..Default::default() }
}

impl Bench {
    fn new(auto_store: bool) -> Self {
        Self { client: Client::new(0, 1, auto_store), now: 0 }
    }

    fn online(auto_store: bool) -> Self {
        let mut bench = Self::new(auto_store);
        bench.open(v1::Welcome::default());
        bench
    }

    /// Waits for the client to connect, answers its hello, and gives that hello back.
    fn open(&mut self, welcome: v1::Welcome) -> v1::Hello {
        if let Some(at) = self.client.next_timeout_ms() {
            self.now = self.now.max(at);
        }
        self.client.timeout(self.now);
        assert_eq!(self.client.poll_event(), Some(Event::Connect));
        self.client.connected(self.now, String::new());
        let hello = self.client.poll_transmit(self.now).unwrap();
        assert_eq!(self.client.poll_transmit(self.now), None, "nothing follows hello before welcome");
        self.answer(hello.id, Answer::Welcome(v1::Welcome { heartbeat_ms: 30_000, ..welcome }));
        assert!(matches!(self.client.poll_event(), Some(Event::Welcome { .. })));
        match hello.request {
            Some(Request::Hello(hello)) => hello,
            other => panic!("{other:?} is no hello"),
        }
    }

    fn answer(&mut self, re: u64, answer: Answer) {
        self.client.frame(self.now, v1::ServerFrame { re, answer: Some(answer) });
    }

    fn push(&mut self, n: u64, record: v1::Record) {
        self.answer(0, Answer::Push(v1::Push { n, item: Some(push_item(record)) }));
    }

    fn frames(&mut self) -> Vec<v1::ClientFrame> {
        std::iter::from_fn(|| self.client.poll_transmit(self.now)).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// The seqs of the records that reach the app, in order.
    fn records(&mut self) -> Vec<Seq> {
        let seq_of = |event| match event {
            Event::Record { record, .. } => Some(record.seq),
            _ => None,
        };
        self.events().into_iter().filter_map(seq_of).collect()
    }

    fn acks(&mut self) -> Vec<u64> {
        let ack_of = |frame: v1::ClientFrame| match frame.request {
            Some(Request::Ack(ack)) => Some(ack.push),
            _ => None,
        };
        self.frames().into_iter().filter_map(ack_of).collect()
    }

    fn one_frame(&mut self) -> v1::ClientFrame {
        let mut frames = self.frames();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    fn cut(&mut self, code: u16) {
        self.client.disconnected(self.now, code);
    }
}

fn push_item(record: v1::Record) -> v1::push::Item {
    v1::push::Item::Record(record)
}

fn refusal(code: Code, retryable: bool, retry_after_ms: u64) -> Answer {
    Answer::Error(v1::Error { code: code as i32, retryable, retry_after_ms, ..Default::default() })
}

#[test]
fn a_send_is_repeated_with_the_same_id_and_bytes_until_its_outcome() {
    let mut bench = Bench::online(true);
    bench.client.send(message(1)).unwrap();
    let first = bench.one_frame();
    bench.now += 4_999;
    assert_eq!(bench.frames(), []);
    bench.now += 1;
    assert_eq!(bench.one_frame(), first);
    bench.cut(ABNORMAL);
    bench.open(v1::Welcome::default());
    assert_eq!(bench.one_frame(), first, "on the next connection at once");
    let sent = v1::Sent { seq: 1, duplicate: true, ..Default::default() };
    bench.answer(first.id, Answer::Sent(sent));
    bench.answer(first.id, Answer::Sent(sent));
    let outcome = Event::Outcome { send: Box::new(message(1)), outcome: Outcome::Sent(sent) };
    assert_eq!(bench.events(), [outcome], "one outcome, however many answers");
    bench.now += 60_000;
    assert_eq!(bench.frames(), []);
}

#[test]
fn what_is_refused_for_now_is_sent_again_when_told_and_what_is_refused_for_good_fails() {
    let mut bench = Bench::online(true);
    bench.client.send(message(1)).unwrap();
    let first = bench.one_frame();
    bench.answer(first.id, refusal(Code::RateLimited, true, 8_000));
    assert_eq!(bench.events(), []);
    bench.now += 7_999;
    assert_eq!(bench.frames(), []);
    bench.now += 4_001;
    assert_eq!(bench.one_frame(), first);
    bench.answer(first.id, refusal(Code::TooLarge, false, 0));
    assert!(
        matches!(&bench.events()[..], [Event::Outcome { outcome: Outcome::Failed(error), .. }] if error.code() == Code::TooLarge)
    );
    assert_eq!(bench.client.unsent(), 0);
}

#[test]
fn a_send_whose_id_is_too_old_is_looked_up() {
    for found in [true, false] {
        let mut bench = Bench::online(true);
        bench.client.send(message(1)).unwrap();
        let id = bench.one_frame().id;
        bench.answer(id, refusal(Code::Expired, false, 0));
        let lookup = bench.one_frame();
        assert!(matches!(lookup.request, Some(Request::Lookup(_))));
        let client_message_id = message(1).client_message_id;
        let hits = if found { vec![v1::Found { client_message_id, seq: 4, id: 5, server_time_ms: 6 }] } else { vec![] };
        bench.answer(lookup.id, Answer::LookupResult(v1::LookupResult { found: hits }));
        match (&bench.events()[..], found) {
            ([Event::Outcome { outcome: Outcome::Sent(sent), .. }], true) => assert_eq!(sent.seq, 4),
            ([Event::Outcome { outcome: Outcome::Failed(error), .. }], false) => {
                assert_eq!(error.code(), Code::Expired)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn at_most_24_sends_are_unanswered_and_the_rest_follow_in_order() {
    let mut bench = Bench::online(true);
    (0..100).for_each(|n| bench.client.send(message(n)).unwrap());
    let mut said = bench.frames();
    assert_eq!(said.len(), outbox::IN_FLIGHT);
    for at in 0..100 {
        bench.answer(said[at].id, Answer::Sent(v1::Sent { seq: at as u64 + 1, ..Default::default() }));
        said.extend(bench.frames());
    }
    let ids = said.iter().map(|frame| match &frame.request {
        Some(Request::Send(send)) => send.client_message_id[0],
        other => panic!("{other:?}"),
    });
    assert!(ids.eq(0..100));
}

#[test]
fn a_full_outbox_keeps_nothing_more() {
    let mut bench = Bench::new(true);
    (0..OUTBOX).for_each(|n| bench.client.send(message(n as u8)).unwrap());
    assert_eq!(bench.client.send(message(0)), Err(Full));
    assert_eq!(bench.client.unsent(), OUTBOX);
}

#[test]
fn acks_cover_what_the_app_has_stored_and_one_covers_many() {
    let mut bench = Bench::online(false);
    (1..=3).for_each(|n| bench.push(n, record(n)));
    assert_eq!(bench.acks(), [0; 0]);
    bench.client.stored(2);
    assert_eq!(bench.acks(), [2]);
    assert_eq!(bench.client.position(&bob()), Some((3, 2)));
    bench.client.stored(3);
    assert_eq!(bench.acks(), [3]);

    let mut bench = Bench::online(true);
    (1..=3).for_each(|n| bench.push(n, record(n)));
    assert_eq!(bench.acks(), [3]);
}

#[test]
fn a_gap_holds_back_what_follows_until_it_is_fetched() {
    let mut bench = Bench::online(true);
    bench.push(1, record(1));
    bench.push(2, record(4));
    bench.push(3, record(5));
    assert_eq!(bench.records(), [1]);
    let frames = bench.frames();
    let fetch = v1::Fetch { conversation: to_bob(), from_seq: 2, to_seq: 3 };
    assert_eq!(frames[0].request, Some(Request::Ack(v1::Ack { push: 1, ranges: vec![] })));
    assert_eq!(frames[1].request, Some(Request::Fetch(fetch)));
    let skips = vec![v1::Skip { from_seq: 2, to_seq: 2 }];
    bench.answer(frames[1].id, Answer::Page(v1::Page { records: vec![record(3)], skips, next_before_seq: 0 }));
    assert_eq!(bench.records(), [3, 4, 5]);
    assert_eq!(bench.acks(), [3]);
}

#[test]
fn the_seq_of_an_own_send_is_no_gap() {
    let mut bench = Bench::online(true);
    bench.client.send(message(1)).unwrap();
    let id = bench.one_frame().id;
    bench.answer(id, Answer::Sent(v1::Sent { seq: 2, ..Default::default() }));
    bench.push(1, record(1));
    bench.push(2, record(3));
    assert_eq!(bench.records(), [1, 3]);
    assert_eq!(bench.acks(), [2]);
}

#[test]
fn a_late_sent_fills_the_gap_that_it_left() {
    let mut bench = Bench::online(true);
    bench.client.send(message(1)).unwrap();
    let id = bench.one_frame().id;
    bench.push(1, record(1));
    bench.push(2, record(3));
    assert_eq!(bench.records(), [1]);
    bench.answer(id, Answer::Sent(v1::Sent { seq: 2, ..Default::default() }));
    assert_eq!(bench.records(), [3]);
}

#[test]
fn more_than_can_be_held_is_fetched_page_by_page() {
    let mut bench = Bench::online(true);
    bench.push(1, record(1));
    for n in 2..=300 {
        bench.push(n, record(n + 1));
    }
    let mut received = bench.records();
    for _ in 0..8 {
        for frame in bench.frames() {
            if let Some(Request::Fetch(fetch)) = frame.request {
                let records = (fetch.from_seq..=fetch.to_seq).map(record).collect();
                bench.answer(frame.id, Answer::Page(v1::Page { records, ..Default::default() }));
            }
        }
        received.extend(bench.records());
    }
    assert!(received.iter().copied().eq(1..=301));
    assert_eq!(bench.client.position(&bob()), Some((301, 301)));
}

#[test]
fn what_is_pushed_again_after_a_reconnect_is_dropped_and_acknowledged() {
    let mut bench = Bench::online(true);
    bench.push(1, record(1));
    bench.push(2, record(2));
    assert_eq!(bench.records(), [1, 2]);
    bench.cut(ABNORMAL);
    let hello = bench.open(v1::Welcome::default());
    assert_eq!(hello.have, [v1::Position { conversation: to_bob(), seq: 2 }]);
    bench.push(1, record(2));
    bench.push(2, record(3));
    assert_eq!(bench.records(), [3]);
    assert_eq!(bench.acks(), [2]);
}

#[test]
fn a_record_that_the_app_has_not_stored_is_not_acknowledged_on_the_next_connection_either() {
    let mut bench = Bench::online(false);
    bench.push(1, record(1));
    assert_eq!(bench.records(), [1]);
    bench.cut(ABNORMAL);
    assert_eq!(bench.open(v1::Welcome::default()).have, []);
    bench.push(1, record(1));
    assert_eq!(bench.records(), [0; 0], "the app has it");
    assert_eq!(bench.acks(), [0; 0]);
    bench.client.stored(1);
    assert_eq!(bench.acks(), [1]);
}

#[test]
fn a_client_without_state_begins_where_the_server_does_and_a_restored_one_where_it_was() {
    let mut bench = Bench::online(true);
    bench.push(1, record(57));
    assert_eq!(bench.records(), [57]);

    let mut bench = Bench { client: Client::new(0, 1, true).keeps_everything(), now: 0 };
    bench.open(v1::Welcome::default());
    bench.push(1, record(3));
    assert_eq!(bench.records(), [0; 0]);
    assert!(matches!(bench.one_frame().request, Some(Request::Fetch(v1::Fetch { from_seq: 1, to_seq: 2, .. }))));

    let mut bench = Bench::new(true);
    bench.client.restore(&bob(), 55);
    assert_eq!(bench.open(v1::Welcome::default()).have, [v1::Position { conversation: to_bob(), seq: 55 }]);
    bench.push(1, record(55));
    bench.push(2, record(57));
    assert_eq!(bench.records(), [0; 0]);
    assert!(matches!(
        bench.frames().pop().unwrap().request,
        Some(Request::Fetch(v1::Fetch { from_seq: 56, to_seq: 56, .. }))
    ));
}

#[test]
fn a_reset_drops_the_state_of_that_conversation() {
    let mut bench = Bench::new(true);
    bench.client.restore(&bob(), 90);
    bench.open(v1::Welcome { reset: vec![v1::Reset { conversation: to_bob(), head_seq: 40 }], ..Default::default() });
    assert_eq!(bench.events(), [Event::Reset { peer: bob(), head: 40 }]);
    bench.push(1, record(41));
    assert_eq!(bench.records(), [41]);
}

#[test]
fn a_store_that_was_restored_voids_every_position() {
    let store = |n: u8| v1::Welcome { store_incarnation: vec![n; 16].into(), ..Default::default() };
    let mut bench = Bench::new(true);
    bench.client.restore(&bob(), 90);
    bench.client.restore(&Peer::User("carol".into()), 7);
    bench.client.restore_store([1; 16], vec![4; 32].into());
    let hello = bench.open(v1::Welcome { reset: vec![v1::Reset { conversation: to_bob(), head_seq: 95 }], ..store(2) });
    assert_eq!(hello.resume_token[..], [4; 32]);
    let carol = Event::Reset { peer: Peer::User("carol".into()), head: 0 };
    assert_eq!(bench.events(), [Event::Reset { peer: bob(), head: 95 }, carol]);
    assert_eq!(bench.client.store().unwrap().0, [2; 16]);
    // Positions below those of before are taken: they are of other records.
    bench.push(1, record(41));
    assert_eq!(bench.records(), [41]);
    // The same store again, also for one that knew of none: nothing is void.
    bench.client.disconnected(bench.now, 1006);
    bench.open(store(2));
    assert_eq!(bench.events(), []);
    let mut fresh = Bench::new(true);
    fresh.client.restore(&bob(), 90);
    fresh.open(store(1));
    assert_eq!(fresh.events(), []);
}

#[test]
fn ticks_never_go_backwards_and_are_acknowledged_when_stored() {
    let mut bench = Bench::online(false);
    for (n, (delivered_seq, read_seq)) in [(1, (3, 1)), (2, (2, 2)), (3, (2, 1))] {
        let tick = v1::Tick { conversation: to_bob(), delivered_seq, read_seq, ..Default::default() };
        bench.answer(0, Answer::Push(v1::Push { n, item: Some(v1::push::Item::Tick(tick)) }));
    }
    let (first, second) = (
        Event::Tick { delivery: 1, peer: bob(), delivered: 3, read: 1 },
        Event::Tick { delivery: 2, peer: bob(), delivered: 3, read: 2 },
    );
    assert_eq!(bench.events(), [first, second]);
    bench.client.stored(1);
    assert_eq!(bench.acks(), [1]);
    bench.client.stored(2);
    assert_eq!(bench.acks(), [3]);
}

#[test]
fn a_read_is_repeated_until_it_is_durable_and_the_newest_counts() {
    let mut bench = Bench::online(true);
    bench.client.read(bench.now, &bob(), 3);
    bench.one_frame();
    bench.client.read(bench.now, &bob(), 5);
    bench.client.read(bench.now, &bob(), 4);
    let read = bench.one_frame();
    assert_eq!(read.request, Some(Request::Read(v1::Read { conversation: to_bob(), seq: 5 })));
    bench.cut(ABNORMAL);
    bench.open(v1::Welcome::default());
    assert_eq!(bench.one_frame(), read);
    bench.answer(read.id, Answer::Ok(v1::Ok {}));
    bench.now += 20_000;
    assert_eq!(bench.frames(), []);
    bench.cut(ABNORMAL);
    bench.open(v1::Welcome::default());
    assert_eq!(bench.one_frame(), read, "the server was not heard since: it may have crashed");
    bench.answer(read.id, Answer::Ok(v1::Ok {}));
    bench.now += 20_000;
    bench.client.activity(bench.now);
    bench.cut(ABNORMAL);
    bench.open(v1::Welcome::default());
    assert_eq!(bench.frames(), []);
}

#[test]
fn close_codes_decide_whether_and_when_to_come_back() {
    for code in CloseCode::ALL {
        let mut bench = Bench::online(true);
        bench.cut(code as u16);
        let events = bench.events();
        match code {
            CloseCode::TokenExpired => assert_eq!(events, [Event::TokenWanted { exp_ms: 0 }]),
            code if CloseCode::may_reconnect(code as u16) => {
                assert_eq!(events, []);
                assert!(bench.client.next_timeout_ms().unwrap() <= bench.now + 1_000);
                continue;
            }
            code => assert_eq!(events, [Event::Stopped { code: code as u16 }]),
        }
        assert_eq!(bench.client.next_timeout_ms(), None, "{code:?}");
        bench.client.renew(bench.now, "new".into());
        bench.client.reconnect(bench.now);
        bench.open(v1::Welcome::default());
    }
}

#[test]
fn a_drain_slot_is_kept_exactly() {
    let mut bench = Bench::online(true);
    bench.answer(0, Answer::Drain(v1::Drain { reconnect_after_ms: 7_000, deadline_ms: 9_000 }));
    bench.now += 3_000;
    bench.cut(CloseCode::Draining as u16);
    assert_eq!(bench.client.next_timeout_ms(), Some(bench.now + 4_000));
}

#[test]
fn a_session_that_was_drained_is_no_failure() {
    let mut bench = Bench::online(true);
    for _ in 0..8 {
        bench.answer(0, Answer::Drain(v1::Drain { reconnect_after_ms: 100, deadline_ms: 200 }));
        bench.cut(CloseCode::Draining as u16);
        bench.now += 100;
        bench.open(v1::Welcome::default());
    }
    bench.cut(CloseCode::Internal as u16);
    assert!(bench.client.next_timeout_ms().unwrap() <= bench.now + 1_000);
}

#[test]
fn a_refused_upgrade_waits_as_long_as_told() {
    let mut bench = Bench::new(true);
    bench.client.timeout(0);
    bench.client.refused(0, 20_000);
    assert_eq!(bench.client.next_timeout_ms(), Some(20_000));
}

#[test]
fn a_silent_connection_is_given_up_sooner_if_something_was_asked() {
    let mut idle = Bench::online(true);
    assert_eq!(idle.client.next_timeout_ms(), Some(65_000));
    idle.now = 40_000;
    idle.client.activity(idle.now);
    idle.now = 60_000;
    idle.client.send(message(1)).unwrap();
    idle.one_frame();
    idle.now = 74_999;
    idle.client.timeout(idle.now);
    assert_eq!(idle.events(), []);
    idle.now = 75_000;
    idle.client.timeout(idle.now);
    assert_eq!(idle.events(), [Event::Drop]);
    idle.cut(ABNORMAL);
    idle.open(v1::Welcome::default());
    assert_eq!(idle.frames().len(), 1);
}

#[test]
fn a_push_out_of_order_ends_the_connection() {
    let mut bench = Bench::online(true);
    bench.push(2, record(1));
    assert_eq!(bench.events(), [Event::Drop]);
    assert_eq!(bench.frames(), []);
}

#[test]
fn renewal_tells_the_session_the_new_token() {
    let mut bench = Bench::online(true);
    bench.answer(0, Answer::RenewSoon(v1::RenewSoon { exp_ms: 99 }));
    assert_eq!(bench.events(), [Event::TokenWanted { exp_ms: 99 }]);
    bench.client.renew(bench.now, "new".into());
    assert!(matches!(bench.one_frame().request, Some(Request::Renew(v1::Renew { token })) if token == "new"));
}

#[test]
fn an_idle_client_is_small() {
    let mut bench = Bench::online(true);
    bench.events();
    assert!(size_of::<Client>() <= 256, "{}", size_of::<Client>());
    let client = &bench.client;
    assert!(client.inbox.is_none() && client.outbox.is_none() && client.events.capacity() == 0);
}

#[test]
fn a_read_is_told_once_what_was_read_is_acknowledged() {
    let mut bench = Bench::online(false);
    bench.push(1, record(1));
    bench.client.read(bench.now, &bob(), 1);
    assert_eq!(bench.frames(), []);
    let delivery = bench.events().into_iter().find_map(|event| match event {
        Event::Record { delivery, .. } => Some(delivery),
        _ => None,
    });
    bench.client.stored(delivery.unwrap());
    let frames: Vec<_> = bench.frames().into_iter().filter_map(|frame| frame.request).collect();
    assert!(matches!(frames[..], [Request::Ack(_), Request::Read(v1::Read { seq: 1, .. })]), "{frames:?}");
}

#[test]
fn bye_while_the_connection_is_made_is_kept() {
    let mut bench = Bench::new(true);
    bench.now = bench.client.next_timeout_ms().unwrap();
    bench.client.timeout(bench.now);
    assert_eq!(bench.events(), [Event::Connect]);
    bench.client.bye();
    bench.client.connected(bench.now, String::new());
    assert_eq!((bench.frames(), bench.events()), (vec![], vec![Event::Drop]));
    bench.cut(ABNORMAL);
    assert_eq!(bench.client.next_timeout_ms(), None);
}
