//! When the client connects, stays, gives up and leaves.

use super::*;

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
