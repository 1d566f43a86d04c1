//! What becomes of what is sent.

use super::*;

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
fn what_is_refused_for_hours_is_not_said_again_before_and_holds_up_nothing_else() {
    let mut bench = Bench::online(true);
    (0..30).for_each(|n| bench.client.send(message(n)).unwrap());
    let mut said = bench.frames();
    for at in 0..29 {
        bench.answer(said[at].id, refusal(Code::RateLimited, true, 7_200_000));
        said.extend(bench.frames());
    }
    assert_eq!(said.len(), 30);
    bench.answer(said[29].id, Answer::Sent(v1::Sent { seq: 1, ..Default::default() }));
    assert_eq!(bench.client.unsent(), 29);
    bench.now += 7_199_999;
    assert_eq!(bench.frames(), []);
    // Within the spread all are said again, and no more at once than ever.
    bench.now += 300_001;
    let again = bench.frames();
    assert_eq!(again.len(), outbox::IN_FLIGHT);
    bench.answer(again[0].id, Answer::Sent(v1::Sent { seq: 2, ..Default::default() }));
    assert_eq!(bench.frames().len(), 1);
    assert!(bench.client.next_timeout_ms().is_some_and(|at| at > bench.now), "nothing is due that cannot be said");
}

#[test]
fn a_full_outbox_keeps_nothing_more() {
    let mut bench = Bench::new(true);
    (0..OUTBOX).for_each(|n| bench.client.send(message(n as u8)).unwrap());
    assert_eq!(bench.client.send(message(0)), Err(Full));
    assert_eq!(bench.client.unsent(), OUTBOX);
}
