//! What arrives: records in order, gaps, acks, ticks, reads, positions.

use super::*;

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
fn own_messages_and_ticks_of_a_store_that_was_restored_hide_nothing_of_the_new_one() {
    let store = |n: u8| v1::Welcome { store_incarnation: vec![n; 16].into(), ..Default::default() };
    let tick = |delivered_seq| v1::Tick { conversation: to_bob(), delivered_seq, ..Default::default() };
    let mut bench = Bench::new(true);
    bench.open(store(1));
    // Nothing was received of it, so hello does not name it.
    bench.client.send(message(1)).unwrap();
    let id = bench.one_frame().id;
    bench.answer(id, Answer::Sent(v1::Sent { seq: 5, ..Default::default() }));
    bench.answer(0, Answer::Push(v1::Push { n: 1, item: Some(v1::push::Item::Tick(tick(5))) }));
    bench.events();
    bench.cut(ABNORMAL);
    assert_eq!(bench.open(store(2)).have, []);
    assert_eq!(bench.events(), [Event::Reset { peer: bob(), head: 0 }]);
    (1..=2).for_each(|n| bench.push(n, record(3 + n)));
    assert_eq!(bench.records(), [4, 5], "the place of a message that the store has lost is of another one now");
    bench.answer(0, Answer::Push(v1::Push { n: 3, item: Some(v1::push::Item::Tick(tick(1))) }));
    assert!(matches!(bench.events()[..], [Event::Tick { delivered: 1, .. }]));
}

#[test]
fn ticks_never_go_backwards_and_are_acknowledged_when_stored() {
    let mut bench = Bench::online(false);
    for (n, (delivered_seq, read_seq)) in [(1, (3, 1)), (2, (2, 2)), (3, (2, 1))] {
        let tick = v1::Tick { conversation: to_bob(), delivered_seq, read_seq, ..Default::default() };
        bench.answer(0, Answer::Push(v1::Push { n, item: Some(v1::push::Item::Tick(tick)) }));
    }
    let (first, second) = (
        Event::Tick { delivery: 1, peer: bob(), delivered: 3, read: 1, excluded: Vec::new() },
        Event::Tick { delivery: 2, peer: bob(), delivered: 3, read: 2, excluded: Vec::new() },
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
fn a_tick_names_what_was_not_delivered() {
    let mut bench = Bench::online(true);
    let excluded = vec![v1::Skip { from_seq: 2, to_seq: 4 }];
    let tick = v1::Tick { conversation: to_bob(), delivered_seq: 5, excluded, ..Default::default() };
    bench.answer(0, Answer::Push(v1::Push { n: 1, item: Some(v1::push::Item::Tick(tick)) }));
    let event = Event::Tick { delivery: 1, peer: bob(), delivered: 5, read: 0, excluded: vec![(2, 4)] };
    assert_eq!(bench.events(), [event]);
}

#[test]
fn ticks_take_back_nothing_of_what_others_have_said_was_not_delivered() {
    let mut bench = Bench::online(true);
    let mut n = 0;
    let mut told = |bench: &mut Bench, delivered_seq, read_seq, excluded: &[(u64, u64)]| {
        n += 1;
        let excluded = excluded.iter().map(|&(from_seq, to_seq)| v1::Skip { from_seq, to_seq }).collect();
        let tick = v1::Tick { conversation: to_bob(), delivered_seq, read_seq, excluded, ..Default::default() };
        bench.answer(0, Answer::Push(v1::Push { n, item: Some(v1::push::Item::Tick(tick)) }));
        let tick = |event| match event {
            Event::Tick { delivered, read, excluded, .. } => Some((delivered, read, excluded)),
            _ => None,
        };
        bench.events().into_iter().filter_map(tick).collect::<Vec<_>>()
    };
    let bench = &mut bench;
    assert_eq!(told(bench, 9, 0, &[(2, 3), (7, 8)]), [(9, 0, vec![(2, 3), (7, 8)])]);
    // One of before, which covers less, brings a read.
    assert_eq!(told(bench, 5, 4, &[(2, 3)]), [(9, 4, vec![(2, 3), (7, 8)])]);
    // One that names nothing.
    assert_eq!(told(bench, 10, 0, &[]), [(10, 4, vec![(2, 3), (7, 8)])]);
    // One that goes no further, and names what none did; the same again is no news.
    assert_eq!(told(bench, 4, 0, &[(4, 4)]), [(10, 4, vec![(2, 4), (7, 8)])]);
    assert_eq!(told(bench, 4, 0, &[(3, 4)]), []);
    // What a restored store says counts alone.
    let reset = vec![v1::Reset { conversation: to_bob(), head_seq: 1 }];
    bench.cut(ABNORMAL);
    bench.open(v1::Welcome { reset, ..Default::default() });
    let tick = v1::Tick { conversation: to_bob(), delivered_seq: 1, ..Default::default() };
    bench.answer(0, Answer::Push(v1::Push { n: 1, item: Some(v1::push::Item::Tick(tick)) }));
    let last = bench.events().pop();
    assert!(matches!(last, Some(Event::Tick { delivered: 1, excluded, .. }) if excluded.is_empty()));
}
